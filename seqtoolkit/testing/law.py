"""What a law is, how one is judged, and how it says that it is broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


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


def demand(condition: object, otherwise: str) -> None:
    """Break the law with a sentence unless a condition holds."""
    if not condition:
        raise LawBroken(otherwise)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, torch.Size) else value
