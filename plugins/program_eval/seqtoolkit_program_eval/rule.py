"""Rule: the alternatives and terminals of a grammar, read from lark's own rules and the marks beside them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any, NamedTuple

import lark
from lark.grammar import Rule

from seqtoolkit_program_eval import meaning
from seqtoolkit_program_eval.mark import GrammarError, Mark, Marks, Range

INDENT, DEDENT = "\x0e", "\x0f"
LAYOUT = {"_INDENT": INDENT, "_DEDENT": DEDENT}
"""How the terminals that a grammar declares for indented lines stand in a text before it is laid out."""


class Slot(NamedTuple):
    """A part of an alternative that stands in the tree."""

    symbol: str
    terminal: bool = False
    repeated: bool = False
    before: str = ""
    """The text before each part but the first ones, where `repeated` parts follow one another with text between."""


@dataclass(frozen=True)
class Alternative:
    """One way to write what `origin` stands for; trees have its `name`, texts are its parts one after another."""

    name: str
    origin: str
    parts: tuple[str | Slot, ...]
    meaning: ast.expr
    mark: Mark

    @property
    def slots(self) -> list[Slot]:
        """The parts that stand in the tree."""
        return [part for part in self.parts if isinstance(part, Slot)]

    @property
    def operands(self) -> list[str]:
        """Their names in the meaning."""
        return list(ascii_lowercase[: len(self.slots)])

    @property
    def variadic(self) -> bool:
        """Whether a part is repeated, so that the number of operands is not known."""
        return any(slot.repeated for slot in self.slots)


@dataclass(frozen=True)
class Terminal:
    """A word of the language: a fixed text, or a pattern of numbers or names."""

    name: str
    kind: str
    """text, number or name"""
    text: str = ""
    pattern: str = ""
    drawn: Range | None = None
    where: str = ""


Parts = tuple[str | Slot, ...]


class Rules:
    """`alternatives` by name, `passages` by rule (alternatives that leave no node in the tree), `terminals` by name."""

    def __init__(self, parser: lark.Lark, marks: Marks, path: Path) -> None:
        self.path, self.marks = path, marks
        ignored = set(parser.ignore_tokens)
        self.terminals = {
            each.name: self._terminal(each) for each in parser.terminals if each.name not in {*ignored, *LAYOUT}
        }
        self.alternatives: dict[str, Alternative] = {}
        self.passages: dict[str, list[Parts]] = {}
        self._helpers: dict[str, list[Rule]] = {}
        for rule in parser.rules:
            if rule.origin.name.startswith("__"):
                self._helpers.setdefault(str(rule.origin.name), []).append(rule)
        for rule in parser.rules:
            if not rule.origin.name.startswith("__"):
                self._add(rule)
        self._check(ignored)

    def _terminal(self, definition: Any) -> Terminal:
        name, mark = definition.name, self.marks.of.get(definition.name)
        fixed = definition.pattern.type == "str"
        said = "" if mark is None else mark.meaning
        where = self._where(name)
        if said[:1] in ("'", '"'):
            try:
                return Terminal(name, "text", ast.literal_eval(said), where=where)
            except (SyntaxError, ValueError) as error:
                raise GrammarError(f"{where}: {said} is not a text in quotes") from error
        if fixed:
            return Terminal(name, "text", definition.pattern.value, where=where)
        kind, _, drawn = said.partition(" in ")
        low, dots, high = drawn.partition("..")
        if kind not in ("number", "name") or bool(drawn) != bool(dots):
            raise GrammarError(
                f"{where}: {name} is a pattern: wanted `{name}: ... //= number in LOW..HIGH` "
                f"(or name in a..z, or the text in quotes that is printed for it)"
            )
        limits = Range(low.strip(), high.strip()) if dots else None
        return Terminal(name, kind, pattern=definition.pattern.to_regexp(), drawn=limits, where=where)

    def _add(self, rule: Rule) -> None:
        origin = str(rule.origin.name)
        if origin.startswith("_"):
            raise GrammarError(f"{self._where(origin)}: {origin}: the names of rules begin with a letter or `?`")
        parts = tuple(_spread(self._part(symbol, rule) for symbol in rule.expansion))
        slots = [part for part in parts if isinstance(part, Slot)]
        if rule.alias is None and rule.options.expand1 and len(slots) == 1 and not slots[0].repeated:
            known = self.passages.setdefault(origin, [])
            known.append(parts)
            known.sort(key=len)
            return
        self._name(rule.alias or origin, origin, parts)

    def _name(self, name: str, origin: str, parts: Parts) -> None:
        mark, known = self.marks.of.get(name), self.alternatives.get(name)
        if mark is None:
            raise GrammarError(
                f"{self._where(name)}: {name} has no meaning: wanted `... -> {name} //= meaning` beside it"
            )
        slots = [part for part in parts if isinstance(part, Slot)]
        if known is not None:
            if known.slots != slots or known.origin != origin:
                raise GrammarError(f"{mark.where}: {name} names two alternatives: give each its own name")
            if len(known.parts) <= len(parts):
                return
        if len(slots) > len(ascii_lowercase) or sum(slot.repeated for slot in slots) > 1:
            raise GrammarError(f"{mark.where}: {name} has more than 26 parts, or more than one repeated part")
        try:
            read = meaning.parse(mark.meaning, ascii_lowercase[: len(slots)])
        except ValueError as error:
            raise GrammarError(f"{mark.where}: {error}") from error
        self.alternatives[name] = Alternative(name, origin, parts, read, mark)

    def _part(self, symbol: Any, rule: Rule) -> str | Slot:
        name = symbol.name
        if symbol.is_term:
            if name in LAYOUT:
                return LAYOUT[name]
            terminal = self.terminals.get(name)
            if terminal is None:
                raise GrammarError(
                    f"{self.path}: {rule.origin.name}: {name} is ignored, and so can be no part of a rule"
                )
            if symbol.filter_out and not rule.options.keep_all_tokens and terminal.kind == "text":
                return terminal.text
            return Slot(name, terminal=True)
        if not name.startswith("__"):
            return Slot(name)
        bodies = [each.expansion for each in self._helpers[name]]
        body = min(bodies, key=len)
        inner = tuple(_spread(self._part(each, rule) for each in body))
        slots = [part for part in inner if isinstance(part, Slot)]
        if len(slots) != 1 or not isinstance(inner[-1], Slot) or slots[0].repeated:
            raise GrammarError(
                f'{self._where(rule.origin.name)}: {rule.origin.name}: only `part+` and `("text" part)+` can be repeated'
            )
        before = "".join(part for part in inner if isinstance(part, str))
        return Slot(slots[0].symbol, slots[0].terminal, repeated=True, before=before)

    def _where(self, name: str) -> str:
        return self.marks.places.get(name, str(self.path))

    def _check(self, ignored: set[str]) -> None:
        for name, mark in self.marks.of.items():
            if name not in {*self.alternatives, *self.terminals, *ignored}:
                raise GrammarError(f"{mark.where}: no alternative and no terminal is called {name}")


def _spread(parts: Iterable[str | Slot]) -> Iterator[str | Slot]:
    """The parts, with the text that stands before the first of the repeated ones."""
    for part in parts:
        if isinstance(part, Slot) and part.repeated and part.before:
            yield part.before
        yield part
