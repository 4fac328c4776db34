"""Optimize: backward, clip, step, schedule, at a chosen precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

Precision = Literal["auto", "f32", "bf16", "f16"]


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


def _fusible(parameters: Sequence[nn.Parameter]) -> bool:
    """Whether torch has one kernel for the whole step: a fifth of the time on a CPU."""
    return all(each.device.type in ("cpu", "cuda") and each.is_floating_point() for each in parameters)


def constant(step: int, steps: int, warmup: int = 0) -> float:  # noqa: ARG001  a schedule's signature
    """The learning rate stays as it is.

    Args:
        step: The update to come, from 0.
        steps: How many there are.
        warmup: Over how many updates the rate rises from 0 in a line.
    """
    _at_least("warmup", warmup, 0)
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def linear(step: int, steps: int, warmup: int = 0, final: float = 0.0) -> float:
    """The learning rate falls in a line.

    Args:
        step: The update to come, from 0.
        steps: How many there are.
        warmup: Over how many updates the rate first rises from 0 in a line.
        final: The factor at the last update.
    """
    return constant(step, steps, warmup) * (1 - (1 - final) * _progress(step, steps, warmup))


def cosine(step: int, steps: int, warmup: int = 0, final: float = 0.0) -> float:
    """The learning rate falls along half a cosine (Loshchilov & Hutter 2017).

    Args:
        step: The update to come, from 0.
        steps: How many there are.
        warmup: Over how many updates the rate first rises from 0 in a line.
        final: The factor at the last update.
    """
    falling = (1 + math.cos(math.pi * _progress(step, steps, warmup))) / 2
    return constant(step, steps, warmup) * (final + (1 - final) * falling)


def exponential(step: int, steps: int, decay: float = 0.9, every: int = 10_000, floor: float = 0.8) -> float:  # noqa: ARG001  a schedule's signature
    """The learning rate falls by a factor each so many updates, to a floor (the published RMC examples).

    Args:
        step: The update to come, from 0.
        steps: How many there are.
        decay: The factor.
        every: After how many updates it applies once more.
        floor: The least factor in all.
    """
    _at_least("every", every, 1)
    return max(floor, decay ** (step // every))


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"schedule.{name}: wanted at least {least}, got {value}")


def _progress(step: int, steps: int, warmup: int) -> float:
    return min(1.0, max(0, step - warmup) / max(1, steps - warmup - 1))


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
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision == "f16")
        self.taken = 0
        schedule(0)  # one that cannot be is refused here, not at the first update

    def autocast(self) -> AbstractContextManager[None]:
        """The context in which the model computes at the chosen precision."""
        if self.precision == "f32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16 if self.precision == "bf16" else torch.float16)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss, or of a part of one."""
        self.scaler.scale(loss).backward()

    def step(self) -> dict[str, Any]:
        """Clip, step, and clear the gradients; return their norm before clipping, and the learning rate."""
        factor = self.schedule(self.taken)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        self.scaler.unscale_(self.optimizer)
        parameters = [each for each in self.model.parameters() if each.grad is not None]
        norm = nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])
        if self.clip is not None:
            nn.utils.clip_grads_with_norm_(parameters, self.clip, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.taken += 1
        return {"gradient_norm": norm, "learning_rate": self.rates[0] * factor}

    def state_dict(self) -> dict[str, Any]:
        """Everything of the optimizer that moves."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict(), "taken": self.taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
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
