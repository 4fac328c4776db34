"""What runs along an edge of the graph: a dtype and named axes, and their unification."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

DTYPES = ("f16", "bf16", "f32", "f64", "i64", "i32", "u8", "bool")
_AXIS = r"[^\W\d]\w*|\d+"
_NOTATION = re.compile(
    rf"\s*(?P<dtype>[a-z]+\d*)\s*(?:<\s*(?P<bound>{_AXIS})\s*>)?\s*\[\s*(?P<axes>(?:(?:{_AXIS})(?:\s+|(?=\])))*)\]\s*"
)

Axis = str | int
Bindings = dict[str, Axis]


class SpecError(ValueError):
    """Two specs do not fit, or a spec is not written as one."""


@dataclass(frozen=True)
class Spec:
    """A dtype and named axes, written `f32[T B D]`; class ids carry their exclusive bound, `i64<37>[T B]`.

    An axis is a name (`T`), which stands for a size not known yet, or a size (`128`).
    """

    dtype: str
    axes: tuple[Axis, ...]
    bound: Axis | None = None

    @classmethod
    def parse(cls, text: str | Spec) -> Spec:
        """Read the notation. Raises SpecError, which quotes the text, where it is not one."""
        if isinstance(text, Spec):
            return text
        match = _NOTATION.fullmatch(text)
        if match is None or match["dtype"] not in DTYPES:
            wanted = "wanted a dtype and named axes such as 'f32[T B D]' or 'i64<V>[T B]'"
            raise SpecError(f"{text!r} is not a spec: {wanted}, the dtype one of {', '.join(DTYPES)}")
        bound = match["bound"]
        return cls(match["dtype"], tuple(map(_axis, match["axes"].split())), None if bound is None else _axis(bound))

    def substitute(self, bindings: Mapping[str, Axis]) -> Spec:
        """The same spec with each bound name replaced by what it is bound to."""
        axes = tuple(bindings.get(axis, axis) if isinstance(axis, str) else axis for axis in self.axes)
        bound = bindings.get(self.bound, self.bound) if isinstance(self.bound, str) else self.bound
        return Spec(self.dtype, axes, bound)

    def __str__(self) -> str:
        bound = "" if self.bound is None else f"<{self.bound}>"
        return f"{self.dtype}{bound}[{' '.join(map(str, self.axes))}]"


Record = Mapping[str, Spec]
"""The fields that travel together along one edge, by name."""


def record(**fields: str | Spec) -> dict[str, Spec]:
    """A Record from the notation: `record(inputs="i64<V>[T B]")`."""
    return {name: Spec.parse(text) for name, text in fields.items()}


def unify(wanted: Spec | str, given: Spec | str, bindings: Mapping[str, Axis] | None = None) -> Bindings:
    """Fit `given` to the pattern `wanted`; return the bindings of the pattern's names, the earlier ones included.

    Raises SpecError that shows both where the dtype, the number of axes, or a size differs, or where one name would
    have to stand for two things.
    """
    wanted, given = Spec.parse(wanted), Spec.parse(given)
    found: Bindings = dict(bindings or {})
    if wanted.dtype != given.dtype:
        raise SpecError(f"wants {wanted}, gets {given}: the dtype is {given.dtype}, not {wanted.dtype}")
    if len(wanted.axes) != len(given.axes):
        raise SpecError(f"wants {wanted}, gets {given}: {len(given.axes)} axes, not {len(wanted.axes)}")
    pairs = list(zip(wanted.axes, given.axes, strict=True))
    if wanted.bound is not None:
        if given.bound is None:
            raise SpecError(f"wants {wanted}, gets {given}: how many classes the ids have is not known")
        pairs.append((wanted.bound, given.bound))
    for name, value in pairs:
        expected = found.setdefault(name, value) if isinstance(name, str) else name
        if expected != value:
            what = f"{name} is {expected}" if isinstance(name, str) else f"{name} is wanted"
            raise SpecError(f"wants {wanted.substitute(found)}, gets {given}: {what}, not {value}")
    return found


def at_least(name: str, value: int, least: int) -> None:
    """Raises ValueError, which names the size, where it is below the least."""
    if value < least:
        raise ValueError(f"{name}: wanted at least {least}, got {value}")


def known(size: int | str, what: str) -> int:
    """A size; raises ValueError where only its name is known."""
    if isinstance(size, str):
        raise ValueError(f"{what} is not known here: the stage before it has to declare it")
    return size


def _axis(word: str) -> Axis:
    return int(word) if word.isdecimal() else word
