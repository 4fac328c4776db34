"""Grammar: one language, read from its `.lark` file: its alternatives, terminals, parser and printer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import lark
from lark.indenter import Indenter

from seqtoolkit.sdk import find_grammar
from seqtoolkit_program_eval.mark import GrammarError, Marks, read
from seqtoolkit_program_eval.rule import DEDENT, INDENT, Alternative, Rules, Slot

__all__ = ["Grammar", "GrammarError", "ProgramError", "nodes"]

MAX_CHARACTERS = 100_000
_READABLE = {
    "$END": "the end of the text",
    "_INDENT": "an indented line",
    "_DEDENT": "the end of the indentation",
    "_NEWLINE": "a new line",
}


class ProgramError(ValueError):
    """A program is not one of the language, or cannot be run to its end."""


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
        self.marks = read(text, path)
        indented = "_INDENT" in text
        try:
            self._lark = lark.Lark(
                text, parser="lalr", maybe_placeholders=False, postlex=_Indenter() if indented else None
            )
        except (lark.exceptions.LarkError, AssertionError, ValueError, TypeError, RecursionError) as error:
            raise GrammarError(_no_grammar(error, path, self.marks)) from error
        rules = Rules(self._lark, self.marks, path)
        self.alternatives, self.passages, self.terminals = rules.alternatives, rules.passages, rules.terminals
        self._reachable: dict[str, dict[str, tuple[str, str]]] = {}

    @classmethod
    def load(cls, name: str) -> Grammar:
        """The grammar of this name, or at this path. Raises GrammarError where there is none or it does not compile."""
        path = find_grammar(name)
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
        line, column = error.line, error.column
        if isinstance(error, lark.exceptions.UnexpectedToken):
            wanted: set[str] = set(error.accepts or error.expected)
            got = _READABLE.get(error.token.type, repr(str(error.token)))
            if error.token.type == "$END":
                lines = text.rstrip().split("\n")
                line, column = len(lines), len(lines[-1]) + 1
        else:
            wanted = set(getattr(error, "allowed", None) or ())
            got = repr(text[error.pos_in_stream or 0])
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
                for head, inner, tail in self._passages(at):
                    if inner not in seen:
                        seen.add(inner)
                        todo.append((inner, before + head, tail + after))
            self._reachable[symbol] = found
        return self._reachable[symbol]

    def _passages(self, rule: str) -> Iterator[tuple[str, str, str]]:
        for parts in self.passages.get(rule, ()):
            place, slot = next((place, part) for place, part in enumerate(parts) if isinstance(part, Slot))
            yield "".join(map(str, parts[:place])), slot.symbol, "".join(map(str, parts[place + 1 :]))

    def option(self, name: str) -> str | None:
        """What the file says in `//@ name ...`."""
        return self.marks.options[name][0] if name in self.marks.options else None


def nodes(tree: lark.Tree[Any] | lark.Token) -> Iterator[lark.Tree[Any] | lark.Token]:
    """The nodes of a tree, however deep it is."""
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, lark.Tree):
            todo += node.children


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


def _no_grammar(error: Exception, path: Path, marks: Marks) -> str:
    line = getattr(error.__context__, "line", None) or getattr(error, "line", None)
    first = " ".join(str(error).split("\n")[0].split()).rstrip(": ")
    named = next((marks.places[word] for word in re.findall(r"\w+", first) if word in marks.places), str(path))
    return f"{f'{path}:{line}' if line else named}: not a grammar: {first}"


@lru_cache(maxsize=64)
def _load(path: Path, _changed: int) -> Grammar:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GrammarError(f"{path}: cannot be read as a grammar: {error}") from error
    return Grammar(text, path)
