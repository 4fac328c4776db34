"""Vocabulary: texts to ids and back, with the ids that a grammar's terminals ask for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from re import _constants, _parser
from typing import Any

import numpy as np

from seqtoolkit.sdk import Ragged
from seqtoolkit_program_eval.grammar import Grammar, GrammarError

DIGITS = "0123456789"
_ASCII = [chr(code) for code in range(128)]
_SPARE = [chr(code) for code in range(0x80, 0x100)]
_REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT)


class Vocabulary:
    """Tokens with the ids 1, 2, ...; id 0 is padding and the end. A text is cut at the longest tokens first."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self.tokens = ["", *sorted(set(tokens))]
        longer = sorted((token for token in self.tokens if len(token) > 1), key=lambda token: (-len(token), token))
        if len(longer) > len(_SPARE):
            raise ValueError(f"tokens: at most {len(_SPARE)} words of several characters, got {len(longer)}")
        self._codes = dict(zip(longer, _SPARE, strict=False))
        self._ids = np.full(256, -1, np.int64)
        for identity, token in enumerate(self.tokens):
            self._ids[ord(self._codes.get(token, token or "\0"))] = identity

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, texts: Sequence[str], *, end: bool = False, longest: int | None = None) -> Ragged:
        """The ids of texts, in one piece; with `end`, id 0 closes each, but for those of `longest` ids, which cannot go on.

        Raises ValueError that names a character which is no token.
        """
        joined = "\0".join(texts) + "\0"
        for token, code in self._codes.items():
            joined = joined.replace(token, code)
        try:
            ids = self._ids[np.frombuffer(joined.encode("latin-1"), np.uint8)]
        except UnicodeEncodeError as error:
            raise ValueError(f"the character {joined[error.start]!r} is not in the vocabulary") from error
        if ids.min() < 0:
            raise ValueError(f"the character {joined[int(ids.argmin())]!r} is not in the vocabulary")
        kept = ids != 0
        stops = np.flatnonzero(~kept)
        lengths = np.diff(stops, prepend=-1) - 1
        kept[stops] = closed = (lengths != longest) & end
        return Ragged(ids[kept], lengths + closed)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; padding and what is no id stand for nothing."""
        return "".join(self.tokens[each] for each in ids if 0 < each < len(self.tokens))


def of_programs(grammar: Grammar, *, whole: bool) -> Vocabulary:
    """The vocabulary of a grammar: its fixed texts as one token each (`whole`), or every character one token."""
    tokens: set[str] = set()
    for terminal in grammar.terminals.values():
        if terminal.kind == "text":
            tokens |= {terminal.text} if whole else set(terminal.text)
        else:
            try:
                tokens |= alphabet(terminal.pattern)
            except ValueError as error:
                raise GrammarError(f"{terminal.where}: {terminal.name}: {error}") from error
    if bad := [token for token in tokens if not token or not token.isascii() or "\0" in token]:
        raise GrammarError(f"{grammar.path}: only ASCII texts have tokens, not {bad[0]!r}")
    return Vocabulary(tokens)


def of_answers(*, negative: bool) -> Vocabulary:
    """The vocabulary of answers: the digits, and the minus sign where answers can have one."""
    return Vocabulary([*DIGITS, *(["-"] if negative else [])])


def alphabet(pattern: str) -> set[str]:
    """The ASCII characters of which the matches of a regular expression are made.

    Raises ValueError where the expression does not say which they are.
    """
    found: set[str] = set()
    _collect(_parser.parse(pattern), found)
    return found


def _collect(parsed: Any, found: set[str]) -> None:
    for kind, value in parsed:
        if kind is _constants.LITERAL:
            found.add(chr(value))
        elif kind is _constants.IN:
            found.update(_members(value))
        elif kind in _REPEATS:
            _collect(value[2], found)
        elif kind is _constants.SUBPATTERN:
            _collect(value[-1], found)
        elif kind is _constants.BRANCH:
            for branch in value[1]:
                _collect(branch, found)
        else:
            raise ValueError(f"the pattern does not say which characters it matches ({str(kind).lower()})")


def _members(items: Any) -> Iterable[str]:
    for kind, value in items:
        if kind is _constants.LITERAL:
            yield chr(value)
        elif kind is _constants.RANGE:
            yield from map(chr, range(value[0], value[1] + 1))
        elif kind is _constants.CATEGORY:
            letter = {"CATEGORY_DIGIT": r"\d", "CATEGORY_WORD": r"\w", "CATEGORY_SPACE": r"\s"}.get(str(value))
            if letter is None:
                raise ValueError(f"the pattern does not say which characters it matches ({str(value).lower()})")
            yield from (each for each in _ASCII if re.fullmatch(letter, each))
        else:
            raise ValueError(f"the pattern does not say which characters it matches ({str(kind).lower()})")
