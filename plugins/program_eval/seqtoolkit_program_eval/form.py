"""Form: the shapes that one step of a sampled program can take, with holes for what is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from seqtoolkit_program_eval import meaning
from seqtoolkit_program_eval.mark import Range
from seqtoolkit_program_eval.rule import Alternative


@dataclass(frozen=True, eq=False)
class Hole:
    """What a form leaves open: an operand (fresh number, or the program so far), a number, or a name."""

    kind: Literal["operand", "number", "name"]
    drawn: Range
    before: str = ""
    after: str = ""


@dataclass(frozen=True, eq=False)
class Term:
    """An alternative with a term or a hole for each part."""

    alternative: Alternative
    parts: tuple[Term | Hole, ...]
    before: str = ""
    after: str = ""

    def pieces(self) -> Iterator[str | Hole]:
        """The text, piece by piece."""
        yield self.before
        rest = iter(self.parts)
        for part in self.alternative.parts:
            if isinstance(part, str):
                yield part
                continue
            inner = next(rest)
            if isinstance(inner, Term):
                yield from inner.pieces()
            else:
                yield inner.before
                yield inner
                yield inner.after
        yield self.after

    def holes(self) -> list[Hole]:
        """The holes, from left to right."""
        return [piece for piece in self.pieces() if isinstance(piece, Hole)]

    def names(self, call: str) -> set[Hole]:
        """The names that the meaning, or a meaning inside, gives to `call`."""
        wanted = meaning.names_in(self.alternative.meaning, call)
        pairs = zip(self.alternative.operands, self.parts, strict=True)
        found = {part for name, part in pairs if name in wanted and isinstance(part, Hole)}
        return found.union(*(part.names(call) for part in self.parts if isinstance(part, Term)))


@dataclass(frozen=True, eq=False)
class Form:
    """One shape of a step: its terms one after another (statements), or its one term (an expression)."""

    weight: float
    terms: tuple[Term, ...]
    nested: Hole
    """The operand that is the program so far."""
    result: Hole | None = None
    """The variable that holds the result of a form of statements."""
