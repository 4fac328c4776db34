"""How a mistake is told: in one line, with what was given and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

_LONGEST = 1000


Problem = tuple[tuple[str, ...], str]
"""A key of a pipeline, and what is wrong there."""


class ConfigError(ValueError):
    """A pipeline cannot be used: `problems` has one line for each reason."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = [one_line(problem) for problem in problems]
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


def one_line(text: object) -> str:
    """`text` in one printable line, shortened where it is very long."""
    words = " ".join(str(text).split())
    line = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in words)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."


def cause(error: BaseException) -> str:
    """An exception in one line."""
    message = one_line(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def suggest(given: object, names: Iterable[str]) -> str:
    """`; did you mean ...?` where one of `names` resembles what was given, else nothing."""
    text, names = str(given), list(names)
    if len(text) > 100:
        return ""
    inside = [name for name in names if name.rpartition(".")[2] == text or name.rpartition("/")[2] == text]
    close = inside or get_close_matches(text, names, n=1) or get_close_matches(text.lower(), names, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def one(noun: str) -> str:
    """A noun with its article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def show(value: Any) -> str:
    """A value of a pipeline, as short as a message can bear."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value) if value.bit_length() < 256 else "a huge integer"
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else f"{value[:60]}...")
    if isinstance(value, Mapping):
        return f"a mapping ({', '.join(map(str, list(value)[:4]))}{', ...' if len(value) > 4 else ''})"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return repr(value) if isinstance(value, float) else one(type(value).__name__)
