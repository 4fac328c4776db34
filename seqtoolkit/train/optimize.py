"""Optimize: backward, clip, step, at a chosen precision and a scheduled rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

Precision = Literal["auto", "f32", "bf16", "f16"]

_HERE = ("fused", "foreach", "capturable")
"""What of an optimizer's options is how it computes, not what."""


def adam(
    parameters: Iterable[nn.Parameter],
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Adam (Kingma & Ba 2015).

    Args:
        parameters: What to train.
        lr: The learning rate.
        betas: The decay of the averages of gradient and squared gradient.
        eps: What is added to the root of the squared average.
        weight_decay: The factor of the L2 penalty, added to the gradient.
    """
    parameters = list(parameters)
    return Adam(parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=_fusible(parameters))


def adamw(
    parameters: Iterable[nn.Parameter],
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019).

    Args:
        parameters: What to train.
        lr: The learning rate.
        betas: The decay of the averages of gradient and squared gradient.
        eps: What is added to the root of the squared average.
        weight_decay: The share of each weight taken off at a step, times the learning rate.
    """
    parameters = list(parameters)
    return AdamW(parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=_fusible(parameters))


def sgd(
    parameters: Iterable[nn.Parameter],
    lr: float = 0.1,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,  # noqa: FBT001, FBT002  a pipeline names it
) -> Optimizer:
    """Stochastic gradient descent.

    Args:
        parameters: What to train.
        lr: The learning rate.
        momentum: The share of the last step that is taken again.
        weight_decay: The factor of the L2 penalty, added to the gradient.
        nesterov: Whether the gradient is taken ahead of the momentum's step.
    """
    parameters = list(parameters)
    fused = _fusible(parameters)
    return SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, fused=fused)


def rmsprop(
    parameters: Iterable[nn.Parameter],
    lr: float = 7e-4,
    alpha: float = 0.99,
    eps: float = 1e-5,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> Optimizer:
    """RMSprop (Tieleman & Hinton 2012), its defaults those usual for A2C, which differ from torch's.

    Args:
        parameters: What to train.
        lr: The learning rate.
        alpha: The decay of the average of the squared gradient.
        eps: What is added to the root of the squared average.
        momentum: The share of the last step that is taken again.
        weight_decay: The factor of the L2 penalty, added to the gradient.
    """
    return RMSprop(parameters, lr=lr, alpha=alpha, eps=eps, momentum=momentum, weight_decay=weight_decay, foreach=True)


def _fusible(parameters: Sequence[nn.Parameter]) -> bool:
    """Whether torch has one kernel for the whole step: a fifth of the time on a CPU."""
    return all(each.device.type in ("cpu", "cuda") and each.is_floating_point() for each in parameters)


class Update:
    """One model's updates: gradients in, a clipped and scheduled step out.

    Args:
        model: What is trained.
        optimizer: Its optimizer.
        schedule: From the update to come to the factor of the learning rate.
        clip: The greatest L2 norm of all gradients together; None leaves them.
        device: Where the model is.
        precision: `auto` is bf16 on a GPU that has it, f32 elsewhere.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        schedule: Callable[[int], float],
        clip: float | None,
        device: torch.device,
        precision: Precision,
    ) -> None:
        if clip is not None and clip <= 0:
            raise ValueError(f"clip: wanted a norm above 0, or null for no clipping, got {clip}")
        self.model, self.optimizer, self.schedule, self.clip = model, optimizer, schedule, clip
        self.device, self.precision = device, choose_precision(precision, device)
        self.rates = [float(group["lr"]) for group in optimizer.param_groups]
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision == "f16")
        self.taken = 0
        if device.type == "cuda":
            self.hold_rates()
        schedule(0)  # one that cannot be is refused here, not at the first update

    def autocast(self) -> AbstractContextManager[None]:
        """The context in which the model computes at the chosen precision."""
        if self.precision == "f32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16 if self.precision == "bf16" else torch.float16)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss, or of a part of one."""
        self.scaler.scale(loss).backward()

    def begin(self) -> float:
        """Set the learning rate of the update to come, the only part that changes from one to the next; return it."""
        factor = self.schedule(self.taken)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * factor)
            else:
                group["lr"] = rate * factor
        self.taken += 1
        return self.rates[0] * factor

    def apply(self) -> Tensor:
        """Clip, step, and clear the gradients; return their norm before clipping."""
        self.scaler.unscale_(self.optimizer)
        parameters = [each for each in self.model.parameters() if each.grad is not None]
        norm = nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])
        if self.clip is not None:
            nn.utils.clip_grads_with_norm_(parameters, self.clip, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.clear()
        return norm

    def clear(self) -> None:
        """Drop the gradients: the next backward pass allocates its own, in a capture's memory where it is captured."""
        self.optimizer.zero_grad(set_to_none=True)

    def step(self) -> dict[str, Any]:
        """A whole update from gradients that are there; return their norm before clipping, and the learning rate."""
        rate = self.begin()
        return {"gradient_norm": self.apply(), "learning_rate": rate}

    def hold_rates(self) -> None:
        """Keep learning rates on the device, where a fused optimizer reads them: a replay sees what is there by then."""
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            if group.get("fused") or group.get("capturable"):
                group["lr"] = torch.tensor(rate, device=self.device)

    def uncapturable(self) -> str | None:
        """What a CUDA graph of `apply` would want and does not find here, in a few words; None where it can be."""
        if self.device.type != "cuda":
            return f"a CUDA device, got the device {self.device.type}"
        if self.precision == "f16":
            return "the precision bf16 or f32, got f16, whose scale is looked up at each update"
        if not all(group.get("fused") or "capturable" in group for group in self.optimizer.param_groups):
            return f"an optimizer that torch can capture, such as adam, got {type(self.optimizer).__name__}"
        return None

    def make_capturable(self) -> None:
        """Have the optimizer keep all that changes on the device."""
        for group in self.optimizer.param_groups:
            if "capturable" in group:
                group["capturable"] = True
        self.optimizer._warned_capturable_if_run_uncaptured = True  # noqa: SLF001  of updates before the capture torch warns as of a mistake
        self.hold_rates()

    def state_dict(self) -> dict[str, Any]:
        """Everything of the optimizer that moves, fit for any device."""
        state = self.optimizer.state_dict()
        groups = [{**group, "lr": float(group["lr"])} for group in state["param_groups"]]
        return {
            "optimizer": {**state, "param_groups": groups},
            "scaler": self.scaler.state_dict(),
            "taken": self.taken,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned, on whatever device; how a step is computed stays as it is here."""
        own = [{name: each[name] for name in _HERE if name in each} for each in self.optimizer.param_groups]
        rates = [group["lr"] for group in self.optimizer.param_groups]
        saved = state["optimizer"]["param_groups"]
        groups = [{**theirs, **mine} for theirs, mine in zip(saved, own, strict=False)] + saved[len(own) :]
        self.optimizer.load_state_dict({**state["optimizer"], "param_groups": groups})
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(rate, Tensor):  # what is captured reads this one
                group["lr"] = rate.fill_(group["lr"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.taken = state["taken"]


def choose_precision(precision: Precision, device: torch.device) -> Literal["f32", "bf16", "f16"]:
    """What `auto` stands for on a device; raises ValueError where a device lacks what is asked for."""
    if precision == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "f32"
    if precision == "f16" and device.type == "cpu":
        raise ValueError("precision: f16 wants a GPU, got the device cpu; use bf16 or f32")
    return precision


def exact(device: torch.device) -> torch.dtype:
    """The dtype in which sums are kept on a device: float64, but for mps, which has none."""
    return torch.float32 if device.type == "mps" else torch.float64


def choose_device(device: str) -> torch.device:
    """What `auto` stands for on this machine: cuda, else mps, else cpu; ValueError for a device that is not there."""
    if device == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return torch.device("cpu") if accelerator is None else torch.device(accelerator.type)
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"device: wanted auto or a device of this machine, got {device!r}: {reason}") from None
    return chosen
