"""The laws of kernels: fast functions that answer to a plain reference."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from seqtoolkit.flow.core import map_state
from seqtoolkit.testing.comparison import EVERYTHING, Arguments, Call, Comparison, Found, Function, rounding
from seqtoolkit.testing.law import demand, judge, same, within
from seqtoolkit.testing.nest import Nest, named, tensors

__all__ = ["KERNEL_LAWS", "check_kernel", "within"]

DRAWS = 4


def shapes(trial: Comparison) -> None:
    """Outputs are the reference's nest, in its shapes, dtypes and devices."""
    for draw in range(len(trial.draws)):
        wanted = named("output", trial.reference(*trial.arguments(draw, trial.dtype)))
        got = named("output", trial.kernel(*trial.arguments(draw, trial.dtype)))
        demand(got.keys() == wanted.keys(), f"wanted {', '.join(wanted)}, got {', '.join(got)}")
        for name, right in wanted.items():
            given = got[name]
            if not isinstance(right, Tensor) or not isinstance(given, Tensor):
                demand(type(given) is type(right) and given == right, f"{name}: wanted {right!r}, got {given!r}")
                continue
            for what in ("shape", "dtype", "device"):
                one, other = getattr(given, what), getattr(right, what)
                demand(one == other, f"{name}: wanted {what} {other}, got {one}")


def values(trial: Comparison) -> None:
    """Outputs err at most a few times as much as the plain reference's in the same dtype."""
    trial.hold(trial.each(), only="output")


def gradients(trial: Comparison) -> None:
    """Gradients err at most a few times as much as the plain reference's in the same dtype."""
    gots, exacts = trial.each(), [trial.exact(draw) for draw in range(len(trial.draws))]
    for name in exacts[0]:
        some = any(got[name].count_nonzero() for got in gots) or not any(exact[name].any() for exact in exacts)
        demand(some or not name.startswith("gradient"), f"{name}: zero everywhere")
    trial.hold(gots, only="gradient")


def partial(trial: Comparison) -> None:
    """Gradients are right where only some are wanted, or only some outputs are used; without any, outputs are."""
    usual = trial.each()
    with torch.no_grad():
        trial.hold(trial.each(), where=", under no_grad", only="output", usual=usual)
    for source in trial.floating(0):
        call = Call(sources=source)
        trial.hold(trial.each(call), call, ", the only one wanted", "gradient", usual)
    outputs = [name for name in trial.exact(0) if name.startswith("output")]
    for target in outputs if len(outputs) > 1 else ():
        call = Call(target=target)
        trial.hold(trial.each(call), call, f", of {target} alone", "gradient")


def repeatable(trial: Comparison) -> None:
    """The same call gives the same bits."""
    for wanted, got in zip(trial.each(), trial.each(), strict=True):
        _same_found("the second time", got, wanted)


def in_place(trial: Comparison) -> None:
    """Nothing that a kernel was given, or gave, is changed by it, forward or backward."""
    for draw in range(len(trial.draws)):
        arguments = trial.arguments(draw, trial.dtype)
        before = _copies(trial.leaves(arguments))
        outputs = tensors("output", trial.kernel(*arguments))
        given = _copies(outputs)
        ways = [each for each in outputs.values() if each.requires_grad]
        incoming = [trial.incoming(each) for each in ways]
        after = {f"gradient given for an output, {index}": each for index, each in enumerate(incoming)}
        before |= _copies(after)
        sources = [leaf for leaf in trial.leaves(arguments).values() if leaf.requires_grad]
        if ways and sources:
            torch.autograd.grad(ways, sources, incoming, allow_unused=True)
        trial.kernel(*trial.arguments((draw + 1) % len(trial.draws), trial.dtype))
        after |= trial.leaves(arguments)
        for name, wanted in before.items():
            _same_bits(f"{name}, afterwards", after[name], wanted)
        for name, wanted in given.items():
            _same_bits(f"{name}, after another call", outputs[name], wanted)


def calls(trial: Comparison) -> None:
    """What a kernel is called with before, or between a call and its gradients, does not matter."""
    sizes = [sum(leaf.numel() for leaf in trial.leaves(arguments).values()) for arguments in trial.draws]
    small, large = sizes.index(min(sizes)), sizes.index(max(sizes))
    large = large if large != small else (small + 1) % len(sizes)

    def other() -> Found:
        return trial.outcome(trial.kernel, large, trial.dtype)

    _, wanted = (trial.outcome(trial.kernel, small, trial.dtype) for _ in range(2))
    other()
    _same_found("after a larger call", trial.outcome(trial.kernel, small, trial.dtype), wanted)
    got = trial.outcome(trial.kernel, small, trial.dtype, Call(between=other))
    _same_found("with another call between it and its gradients", got, wanted)


def layout(trial: Comparison) -> None:
    """The layout in memory of arguments and incoming gradients does not matter."""
    for where, call, usual in (
        ("every other number in memory", Call(arrange=_every_other), EVERYTHING),
        ("the last axis first in memory", Call(arrange=_reversed), EVERYTHING),
        ("an incoming gradient of one number expanded", Call(weigh=_expanded), Call(weigh=_ones)),
    ):
        trial.hold(trial.each(call), call, f", {where}", usual=trial.each(usual))


def memory(trial: Comparison) -> None:
    """Nothing is read from memory before it is written: NaN there changes nothing."""
    usual = trial.each()
    with _poisoned():
        found = trial.each()
    trial.hold(found, where=", NaN in uninitialised memory", usual=usual)


_LAWS: dict[str, Callable[[Comparison], None]] = {
    law.__name__: law for law in (shapes, values, gradients, partial, repeatable, in_place, calls, layout, memory)
}
KERNEL_LAWS: tuple[str, ...] = tuple(_LAWS)
"""The names of the laws, in the order in which `check_kernel` tries them."""


def check_kernel(
    kernel: Function,
    reference: Function,
    make_inputs: Callable[[torch.Generator], Arguments],
    law: str | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    factor: float = 2.0,
    seed: int = 0,
) -> None:
    """Hold a kernel against one of `KERNEL_LAWS`, or against all.

    In pytest: `@pytest.mark.parametrize("law", KERNEL_LAWS)` over
    `def test_laws(law): check_kernel(fast, plain, make_inputs, law)`.

    Args:
        kernel: the function to judge; takes and returns nests of tensors.
        reference: the same in plain PyTorch, in any dtype; the truth is what it says in float64.
        make_inputs: from a generator to the tuple of positional arguments: nests of tensors, None and plain values,
            whose floating tensors are float64 on the CPU. Drawn a few times; may draw the sizes as well.
        law: a name in `KERNEL_LAWS`; all of them where None.
        dtype: of the floating arguments that the kernel gets.
        device: where the kernel and the reference compute.
        factor: how many times the reference's error, in the same dtype, the kernel's may be.
        seed: of the generator.

    Raises:
        LawBroken: an AssertionError of one line: the law, which output or gradient, and by how much.
        ValueError: there is no such law, or the inputs are not as they have to be.
    """
    if not dtype.is_floating_point:
        raise ValueError(f"dtype: wanted a floating one, got {dtype}")
    if not factor > 0:
        raise ValueError(f"factor: wanted more than 0, got {factor}")
    generator = torch.Generator().manual_seed(seed)
    draws = [_rounded(make_inputs(generator), dtype) for _ in range(DRAWS)]
    judge(_LAWS, lambda: Comparison(kernel, reference, draws, dtype, torch.device(device), factor), law)


def _rounded(arguments: Arguments, dtype: torch.dtype) -> Arguments:
    """Arguments whose values the dtype can represent, so that rounding them is nobody's error."""
    if not isinstance(arguments, tuple):
        raise ValueError(f"make_inputs: wanted a tuple of arguments, got {type(arguments).__name__}")

    def round_off(leaf: Nest) -> Nest:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            return leaf
        if leaf.dtype != torch.float64:
            raise ValueError(f"make_inputs: wanted floating tensors in float64, got {leaf.dtype}")
        return leaf.detach().to(rounding(dtype)).double()

    return tuple(map_state(round_off, argument) for argument in arguments)


def _same_bits(what: str, got: Tensor, wanted: Tensor) -> None:
    """Demand the same values, NaN where it was NaN."""
    same(what, got.detach().nan_to_num(nan=0.1), wanted.nan_to_num(nan=0.1), 0.0)


def _same_found(where: str, got: Found, wanted: Found) -> None:
    for name, right in wanted.items():
        _same_bits(f"{name}, {where}", got[name], right)


def _copies(found: Found) -> Found:
    return {name: each.detach().clone() for name, each in found.items()}


def _every_other(leaf: Tensor) -> Tensor:
    """The same values with something between them in memory."""
    other = torch.full_like(leaf, float("nan")) if leaf.is_floating_point() else ~leaf
    return torch.stack([leaf, other], -1)[..., 0]


def _reversed(leaf: Tensor) -> Tensor:
    """The same values, contiguous only when the axes are turned around."""
    axes = tuple(range(leaf.dim()))[::-1]
    return leaf.permute(axes).contiguous().permute(axes)


def _ones(output: Tensor, rounded: torch.dtype) -> Tensor:  # noqa: ARG001  one needs no rounding
    return torch.ones_like(output)


def _expanded(output: Tensor, rounded: torch.dtype) -> Tensor:  # noqa: ARG001  one needs no rounding
    return output.new_ones(()).expand(output.shape)


@contextlib.contextmanager
def _poisoned() -> Iterator[None]:
    """Uninitialised memory holds NaN, and the largest number where it holds integers."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filling = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]  # set by a property
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of operations that have no deterministic way: it is not asked for here
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
        try:
            yield
        finally:
            torch.utils.deterministic.fill_uninitialized_memory = filling  # type: ignore[attr-defined]
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
