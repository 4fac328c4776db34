"""What a law is, how one is judged, and how it says that it is broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
FLOOR = 2.0
"""How many eps of its dtype, relative to what is large, a reference is always taken to err."""


class LawBroken(AssertionError):  # noqa: N818 - reads as what happened, and pytest shows it so
    """A part breaks a law of its kind; the message is one line: which law, where, and by how much."""


def judge(laws: Mapping[str, Callable[[T], None]], make: Callable[[], T], law: str | None) -> None:
    """Hold what `make` makes against one law by its name, or against all; a law's docstring is its sentence.

    Raises:
        LawBroken: the first law that is broken; an exception inside the part counts as that.
        ValueError: there is no such law.
    """
    if law is not None and law not in laws:
        raise ValueError(f"law: wanted one of {', '.join(laws)}, got {law!r}")
    for name in laws if law is None else [law]:
        sentence = str(laws[name].__doc__).splitlines()[0].rstrip(".")
        try:
            laws[name](make())
        except LawBroken as broken:
            raise LawBroken(f"{name}: {sentence}. {broken}") from None
        except Exception as error:
            line = next(iter(str(error).splitlines()), "")
            raise LawBroken(f"{name}: {sentence}. It raised {type(error).__name__}: {line}") from error


def same(what: str, got: Tensor, wanted: Tensor, tolerance: float) -> None:
    """Demand equal shapes, dtypes and, within a tolerance relative to what is large, values."""
    for name in ("shape", "dtype"):
        if (given := getattr(got, name)) != (right := getattr(wanted, name)):
            raise LawBroken(f"{what}: wanted {name} {_plain(right)}, got {_plain(given)}")
    if not wanted.numel() or torch.equal(got, wanted):
        return
    if not wanted.is_floating_point():
        raise LawBroken(f"{what}: {int((got != wanted).sum())} of {wanted.numel()} values differ")
    off = ((got - wanted).abs().max() / wanted.abs().max().clamp(min=1)).item()
    if not off <= tolerance:
        raise LawBroken(f"{what}: off by {off:.1e}, wanted at most {tolerance:.0e}")


def within(what: str, got: Tensor, plain: Tensor, exact: Tensor, factor: float) -> float:
    """Demand that `got` is at most `factor` times as far from `exact` as `plain` is, each by its largest difference.

    Args:
        what: what the message calls it.
        got: what a fast path computes.
        plain: the same by the plain reference in the dtype of the fast path.
        exact: the same by the plain reference in float64.
        factor: how many times the reference's error is allowed. An error of less than `FLOOR` eps of plain's dtype,
            relative to the largest value, counts as that much: a reference that is exact by luck condemns nobody.

    Returns:
        How many times the reference's error it is.

    Raises:
        LawBroken: the error is larger, or the shape another. Values that are no numbers are compared as they are, those
            that only `plain` cannot represent are left out; for integers the error is the number of values that differ.
    """
    if got.shape != exact.shape:
        raise LawBroken(f"{what}: wanted shape {list(exact.shape)}, got {list(got.shape)}")
    got, right = got.detach().to("cpu", torch.float64), exact.detach().to("cpu", torch.float64)
    near = plain.detach().to("cpu", torch.float64)
    known = right.isfinite()
    odd = int((~known & (got != right) & ~(got.isnan() & right.isnan())).sum())
    demand(not odd, f"{what}: {odd} values are not the infinities and NaNs of the reference")
    known &= near.isfinite()
    if not known.any():
        return 0.0
    got, near, right = got[known], near[known], right[known]
    demand(got.isfinite().all(), f"{what}: {int((~got.isfinite()).sum())} of {got.numel()} values are not finite")
    if not plain.is_floating_point():
        error, least, allowed = float((got != right).sum()), 0.0, float((near != right).sum())
    else:
        error, allowed = ((each - right).abs().max().item() for each in (got, near))
        least = FLOOR * torch.finfo(plain.dtype).eps * right.abs().max().item()
    base = max(allowed, least)
    times = error / base if base else float("inf") if error else 0.0
    demand(
        times <= factor,
        f"{what}: error {error:.1e}, the reference's {allowed:.1e}; {times:.3g} times as much as counts, "
        f"wanted at most {factor:g} ({factor * base:.1e})",
    )
    return times


def demand(condition: object, otherwise: str) -> None:
    """Break the law with a sentence unless a condition holds."""
    if not condition:
        raise LawBroken(otherwise)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, torch.Size) else value
