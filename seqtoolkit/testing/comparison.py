"""Comparison: a kernel, its plain reference, and what both are fed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from seqtoolkit.flow.core import map_state
from seqtoolkit.testing.law import demand, within
from seqtoolkit.testing.nest import Nest, named, tensors

Function = Callable[..., Nest]
Arguments = tuple[Any, ...]
Arrange = Callable[[Tensor], Tensor]
Found = dict[str, Tensor]


def cosines(output: Tensor, rounded: torch.dtype) -> Tensor:
    """Weights in which no two elements of an output can stand for each other."""
    return torch.arange(output.numel()).mul(1.7).cos().view(output.shape).to(rounded).to(output)


def as_is(tensor: Tensor) -> Tensor:
    """The tensor."""
    return tensor


@dataclass(frozen=True)
class Call:
    """One way to call a function and to ask for gradients."""

    sources: str | None = None
    """The one argument whose gradient is wanted; all of them where None."""
    target: str | None = None
    """The one output whose gradient is taken; all of them where None."""
    weigh: Callable[[Tensor, torch.dtype], Tensor] = cosines
    """From an output, and the dtype to round to, to the gradient that comes into it."""
    arrange: Arrange = as_is
    """How arguments and incoming gradients lie in memory."""
    between: Callable[[], object] = field(default=lambda: None)
    """What happens before the gradients are computed."""


EVERYTHING = Call()


@dataclass
class Comparison:
    """What a law is given. Every number in it follows from the seed."""

    kernel: Function
    reference: Function
    draws: Sequence[Arguments]
    """Arguments with float64 values that the dtype can represent (that float32 can, where it is float64)."""
    dtype: torch.dtype
    device: torch.device
    factor: float

    @property
    def names(self) -> list[str]:
        """What the arguments are called."""
        count = max(map(len, self.draws))
        try:
            parameters = inspect.signature(self.reference).parameters.values()
        except (TypeError, ValueError):
            parameters = ()  # type: ignore[assignment]  # a builtin has no signature
        found = [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
        return found[:count] if len(found) >= count else [f"argument {index}" for index in range(count)]

    def arguments(self, draw: int, dtype: torch.dtype, call: Call = EVERYTHING) -> Arguments:
        """Fresh arguments, arranged as the call says, whose floating tensors want a gradient where it says so."""
        arguments = []
        for name, argument in zip(self.names, self.draws[draw], strict=False):
            wanted = {id(leaf) for path, leaf in named(name, argument).items() if call.sources in (None, path)}
            arguments.append(map_state(lambda leaf, wanted=wanted: self._leaf(leaf, dtype, call, wanted), argument))
        return tuple(arguments)

    def leaves(self, arguments: Arguments) -> Found:
        """The tensors among arguments."""
        return {
            path: leaf
            for name, each in zip(self.names, arguments, strict=False)
            for path, leaf in tensors(name, each).items()
        }

    def floating(self, draw: int) -> list[str]:
        """The arguments that can have a gradient."""
        return [path for path, leaf in self.leaves(self.draws[draw]).items() if leaf.is_floating_point()]

    def outcome(self, function: Function, draw: int, dtype: torch.dtype, call: Call = EVERYTHING) -> Found:
        """Outputs, and the gradients of a weighted sum of them in the arguments; zeros where there is no way."""
        arguments = self.arguments(draw, dtype, call)
        outputs = tensors("output", function(*arguments))
        call.between()
        ways = [each for name, each in outputs.items() if each.requires_grad and call.target in (None, name)]
        incoming = [self.incoming(each, call) for each in ways]
        sources = {name: leaf for name, leaf in self.leaves(arguments).items() if leaf.requires_grad}
        gradients: Iterable[Tensor] = [torch.zeros_like(leaf) for leaf in sources.values()]
        if ways and sources:
            gradients = torch.autograd.grad(
                ways, list(sources.values()), incoming, allow_unused=True, materialize_grads=True
            )
        named_gradients = {f"gradient of {name}": each for name, each in zip(sources, gradients, strict=True)}
        return {name: each.detach().clone() for name, each in outputs.items()} | named_gradients

    def incoming(self, output: Tensor, call: Call = EVERYTHING) -> Tensor:
        """The gradient that comes into an output, rounded as the arguments are."""
        return call.arrange(call.weigh(output, self._rounding))

    def exact(self, draw: int, call: Call = EVERYTHING) -> Found:
        """What the reference says in float64, its arguments laid out plainly."""
        return self.outcome(self.reference, draw, torch.float64, _plainly(call))

    def plain(self, draw: int, call: Call = EVERYTHING) -> Found:
        """What the reference says in the dtype; in float64, the exact with the errors of float32 scaled down to it."""
        plain = self.outcome(self.reference, draw, self._rounding, _plainly(call))
        if self._rounding == self.dtype:
            return plain
        shrink = torch.finfo(self.dtype).eps / torch.finfo(self._rounding).eps
        return {
            name: wanted + shrink * (plain[name] - wanted) if wanted.is_floating_point() else plain[name]
            for name, wanted in self.exact(draw, call).items()
        }

    def hold(
        self,
        gots: Sequence[Found],
        call: Call = EVERYTHING,
        where: str = "",
        only: str = "",
        usual: Sequence[Found] = (),
    ) -> None:
        """Hold what the kernel found in each draw against the reference, all draws of one name together.

        `usual` is what it finds when called plainly: an error that is there as well is no other law's.
        """
        plains = [self.plain(draw, call) for draw in range(len(gots))]
        exacts = [self.exact(draw, call) for draw in range(len(gots))]
        for name in exacts[0]:
            if not name.startswith(only):
                continue
            for found, wanted in zip(gots, exacts, strict=True):
                demand(name in found, f"{name}{where}: missing")
                given, right = list(found[name].shape), list(wanted[name].shape)
                demand(given == right, f"{name}{where}: wanted shape {right}, got {given}")
            got, plain, exact = (_joined(found, name) for found in (gots, plains, exacts))
            if usual:
                known = _joined(usual, name).to(plain.dtype)
                plain = torch.where((known - exact).abs() <= (plain - exact).abs(), plain, known)
            within(f"{name}{where}", got, plain, exact, self.factor)

    def each(self, call: Call = EVERYTHING) -> list[Found]:
        """What the kernel finds in each draw."""
        return [self.outcome(self.kernel, draw, self.dtype, call) for draw in range(len(self.draws))]

    @property
    def _rounding(self) -> torch.dtype:
        return rounding(self.dtype)

    def _leaf(self, leaf: Any, dtype: torch.dtype, call: Call, wanted: set[int]) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        floating = leaf.is_floating_point()
        fresh = leaf.detach().to(self.device, dtype if floating else leaf.dtype, copy=True)
        return call.arrange(fresh).detach().requires_grad_(floating and id(leaf) in wanted)


def rounding(dtype: torch.dtype) -> torch.dtype:
    """The dtype to whose values inputs are rounded, and in which the plain reference errs."""
    return torch.float32 if dtype == torch.float64 else dtype


def _joined(founds: Sequence[Found], name: str) -> Tensor:
    return torch.cat([found[name].flatten() for found in founds])


def _plainly(call: Call) -> Call:
    return Call(sources=call.sources, target=call.target, weigh=call.weigh)
