"""Grammar: one language, read from its `.lark` file: its alternatives, terminals, parser and printer."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from string import ascii_lowercase
from typing import Any, NamedTuple

import lark
from lark.grammar import Rule
from lark.indenter import Indenter

from seqtoolkit_program_eval import meaning
from seqtoolkit_program_eval.mark import GrammarError, Mark, Marks, Range, read
from seqtoolkit_program_eval.resource import find

__all__ = ["Alternative", "Grammar", "GrammarError", "ProgramError", "Slot"]

MAX_CHARACTERS = 100_000
INDENT, DEDENT = "\x0e", "\x0f"
_LAYOUT = {"_INDENT": INDENT, "_DEDENT": DEDENT}
_READABLE = {
    "$END": "the end of the text",
    "_INDENT": "an indented line",
    "_DEDENT": "the end of the indentation",
    "_NEWLINE": "a new line",
}


class ProgramError(ValueError):
    """A program is not one of the language, or cannot be run to its end."""


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


class _Indenter(Indenter):
    NL_type = "_NEWLINE"
    OPEN_PAREN_types = ["LPAR", "LSQB"]  # noqa: RUF012  lark reads it so
    CLOSE_PAREN_types = ["RPAR", "RSQB"]  # noqa: RUF012  lark reads it so
    INDENT_type = "_INDENT"
    DEDENT_type = "_DEDENT"
    tab_len = 8


class Grammar:
    """A language: `alternatives` by name, `passages` (alternatives that leave no node in the tree), `terminals`."""

    def __init__(self, text: str, path: Path) -> None:
        self.path = path
        self.marks: Marks = read(text, path)
        indented = "_INDENT" in text
        try:
            self._lark = lark.Lark(
                text, parser="lalr", maybe_placeholders=False, postlex=_Indenter() if indented else None
            )
        except (lark.exceptions.LarkError, AssertionError, ValueError, TypeError, RecursionError) as error:
            raise GrammarError(_no_grammar(error, path)) from error
        self.terminals = {each.name: self._terminal(each) for each in self._lark.terminals if self._spoken(each.name)}
        self.alternatives: dict[str, Alternative] = {}
        self.passages: dict[str, list[tuple[str | Slot, ...]]] = {}
        self._helpers: dict[str, list[Rule]] = {}
        for rule in self._lark.rules:
            if rule.origin.name.startswith("__"):
                self._helpers.setdefault(rule.origin.name, []).append(rule)
        for rule in self._lark.rules:
            if not rule.origin.name.startswith("__"):
                self._add(rule)
        self._check_marks()

    @classmethod
    def load(cls, name: str) -> Grammar:
        """The grammar of this name, or at this path. Raises GrammarError where there is none or it does not compile."""
        path = find(name)
        return _load(path, path.stat().st_mtime_ns)

    @property
    def start(self) -> str:
        """The rule of whole programs."""
        return "start"

    @property
    def statements(self) -> bool:
        """Whether programs are statements, rather than one expression."""
        start = self.alternatives.get(self.start)
        return start is not None and start.variadic

    @cached_property
    def _newline(self) -> bool:
        return "_NEWLINE" in self.terminals

    def parse(self, text: str) -> lark.Tree[Any] | lark.Token:
        """The tree of a program. Raises ProgramError with line, column and what was expected."""
        if len(text) > MAX_CHARACTERS:
            raise ProgramError(f"the program has {len(text):,} characters; at most {MAX_CHARACTERS:,} are read")
        if self._newline:
            text = text.rstrip() + "\n"
            _check_first(text)
        try:
            return self._lark.parse(text)
        except lark.exceptions.UnexpectedInput as error:
            raise ProgramError(self._unexpected(error, text)) from error
        except lark.indenter.DedentError as error:
            raise ProgramError("a line's indentation matches none of the lines above it") from error

    def _unexpected(self, error: lark.exceptions.UnexpectedInput, text: str) -> str:
        if isinstance(error, lark.exceptions.UnexpectedToken):
            wanted: set[str] = set(error.accepts or error.expected)
            got = _READABLE.get(error.token.type, repr(str(error.token)))
        else:
            wanted = set(getattr(error, "allowed", None) or ())
            got = repr(text[error.pos_in_stream or 0])
        line, column = (error.line, error.column) if error.line > 0 else (text.count("\n") + 1, 1)
        readable = sorted({self.readable(name) for name in wanted}, key=lambda word: (word[0] == "'", word))
        return f"line {line}, column {column}: expected {' or '.join(readable)}, got {got}"

    def readable(self, terminal: str) -> str:
        """A terminal as a person calls it."""
        if terminal in _READABLE:
            return _READABLE[terminal]
        found = self.terminals.get(terminal)
        if found is None:
            return terminal
        return repr(found.text.strip()) if found.kind == "text" else f"a {found.kind}"

    def print(self, tree: lark.Tree[Any] | lark.Token) -> str:
        """The program of a tree, as the sampler writes it: `parse(print(tree)) == tree`."""
        pieces: list[str] = []
        todo: list[Any] = [(self.start, tree)]
        while todo:
            item = todo.pop()
            if isinstance(item, str):
                pieces.append(item)
                continue
            symbol, node = item
            before, after = self.passage(symbol, node.type if isinstance(node, lark.Token) else str(node.data))
            pieces.append(before)
            todo.append(after)
            if isinstance(node, lark.Token):
                pieces.append(str(node))
            else:
                todo.extend(reversed(list(self._items(self.alternatives[str(node.data)], node.children))))
        return layout("".join(pieces))

    def _items(self, alternative: Alternative, children: list[Any]) -> Iterator[Any]:
        spare = len(children) - len(alternative.slots)
        rest = iter(children)
        for part in alternative.parts:
            if isinstance(part, str):
                yield part
                continue
            yield part.symbol, next(rest)
            for _ in range(spare if part.repeated else 0):
                yield part.before
                yield part.symbol, next(rest)

    def passage(self, symbol: str, name: str) -> tuple[str, str]:
        """The text before and after the alternative or terminal `name` where `symbol` is wanted."""
        return self.reachable(symbol)[name]

    def reachable(self, symbol: str) -> dict[str, tuple[str, str]]:
        """The alternatives and terminals that can stand for `symbol`, with the text before and after each."""
        if symbol not in self._reachable:
            found: dict[str, tuple[str, str]] = {}
            seen, todo = {symbol}, [(symbol, "", "")]
            while todo:
                at, before, after = todo.pop(0)
                names = [each.name for each in self.alternatives.values() if each.origin == at]
                for name in [at] if at in self.terminals else names:
                    found.setdefault(name, (before, after))
                for parts in self.passages.get(at, ()):
                    place = next(index for index, part in enumerate(parts) if isinstance(part, Slot))
                    inner = parts[place].symbol  # type: ignore[union-attr]  it is the slot
                    if inner not in seen:
                        seen.add(inner)
                        head, tail = "".join(map(str, parts[:place])), "".join(map(str, parts[place + 1 :]))
                        todo.append((inner, before + head, tail + after))
            self._reachable[symbol] = found
        return self._reachable[symbol]

    @cached_property
    def _reachable(self) -> dict[str, dict[str, tuple[str, str]]]:
        return {}

    def option(self, name: str) -> str | None:
        """What the file says in `//@ name ...`."""
        return self.marks.options[name][0] if name in self.marks.options else None

    def _spoken(self, name: str) -> bool:
        return name not in self._lark.ignore_tokens and name not in _LAYOUT

    def _terminal(self, definition: Any) -> Terminal:
        name, mark = definition.name, self.marks.of.get(definition.name)
        fixed = definition.pattern.type == "str"
        said = "" if mark is None else mark.meaning
        where = str(self.path) if mark is None else mark.where
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
        origin = rule.origin.name
        parts = tuple(self._merge(self._part(symbol, rule) for symbol in rule.expansion))
        slots = [part for part in parts if isinstance(part, Slot)]
        if rule.alias is None and rule.options.expand1 and len(slots) == 1 and not slots[0].repeated:
            known = self.passages.setdefault(origin, [])
            known.append(parts)
            known.sort(key=len)
            return
        name = rule.alias or origin
        mark = self.marks.of.get(name)
        if mark is None:
            raise GrammarError(f"{self.path}: {name} has no meaning: wanted `... -> {name} //= meaning` beside it")
        known_one = self.alternatives.get(name)
        if known_one is not None:
            if known_one.slots != slots or known_one.origin != origin:
                raise GrammarError(f"{mark.where}: {name} names two alternatives: give each its own name")
            if sum(map(len, map(str, known_one.parts))) <= sum(map(len, map(str, parts))):
                return
        names = [*ascii_lowercase[: len(slots)]]
        try:
            read_meaning = meaning.parse(mark.meaning, names)
        except ValueError as error:
            raise GrammarError(f"{mark.where}: {error}") from error
        self.alternatives[name] = Alternative(name, origin, parts, read_meaning, mark)

    def _part(self, symbol: Any, rule: Rule) -> str | Slot:
        name = symbol.name
        if symbol.is_term:
            if name in _LAYOUT:
                return _LAYOUT[name]
            terminal = self.terminals[name]
            if symbol.filter_out and not rule.options.keep_all_tokens and terminal.kind == "text":
                return terminal.text
            return Slot(name, terminal=True)
        if not name.startswith("__"):
            return Slot(name)
        bodies = [each.expansion for each in self._helpers[name]]
        body = min(bodies, key=len)
        inner = tuple(self._merge(self._part(each, rule) for each in body))
        slots = [part for part in inner if isinstance(part, Slot)]
        if len(slots) != 1 or not isinstance(inner[-1], Slot) or slots[0].repeated:
            raise GrammarError(f'{self.path}: {rule.origin.name}: only `part+` and `("text" part)+` can be repeated')
        before = "".join(part for part in inner if isinstance(part, str))
        return Slot(slots[0].symbol, slots[0].terminal, repeated=True, before=before)

    @staticmethod
    def _merge(parts: Iterator[str | Slot]) -> Iterator[str | Slot]:
        for part in parts:
            if isinstance(part, Slot) and part.repeated and part.before:
                yield part.before
            yield part

    def _check_marks(self) -> None:
        known = {*self.alternatives, *(each.name for each in self._lark.terminals)}
        for name, mark in self.marks.of.items():
            if name not in known:
                raise GrammarError(f"{mark.where}: no alternative and no terminal is called {name}")


def layout(text: str) -> str:
    """`text` with the marks INDENT and DEDENT turned into spaces at the beginnings of its lines, and no last break."""
    text = text.rstrip("\n" + DEDENT)
    if INDENT not in text:
        return text
    lines, level = [], 0
    for line in text.split("\n"):
        bare = line.lstrip(INDENT + DEDENT)
        marks = line[: len(line) - len(bare)]
        level += marks.count(INDENT) - marks.count(DEDENT)
        lines.append("  " * level + bare)
    return "\n".join(lines)


def _check_first(text: str) -> None:
    """Refuse an indented first statement, which the parser would not notice."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            if line[0] in " \t":
                raise ProgramError(f"line {number}, column 1: expected a statement, got an indented line")
            return


def _no_grammar(error: Exception, path: Path) -> str:
    line = getattr(error.__context__, "line", None) or getattr(error, "line", None)
    first = " ".join(str(error).split("\n")[0].split())
    return f"{path}{f':{line}' if line else ''}: not a grammar: {first.rstrip(': ')}"


@lru_cache(maxsize=64)
def _load(path: Path, _changed: int) -> Grammar:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GrammarError(f"{path}: cannot be read as a grammar: {error}") from error
    return Grammar(text, path)
