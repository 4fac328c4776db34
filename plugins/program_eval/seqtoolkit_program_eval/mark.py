"""Mark: what a grammar file says beside its rules, in comments that begin with `//=` and `//@`.

    sum "+" product -> add         //= a + b ; weight 2 ; in add control program
    NUMBER: /[0-9]+/               //= number in 10 ** (length - 1) .. 10 ** length - 1
    NAME: /[a-z]/                  //= name in a..j
    _IF: "if"                      //= " if "
    //@ modulus 10 ** (length + 1)

`//=` belongs to the alternative, or else to the rule or terminal, of its line. An alternative's mark is its meaning,
then clauses: `weight W` (how often it is sampled, 1 where not said); `in PROBLEM ...` (where it is sampled: `program`
where not said); `b in LOW..HIGH` (the sampler puts a fresh number of that range there, or a name; `a or b in ...` puts
it in one of them). A terminal's mark says what it is and what the sampler may draw, or how a fixed text is written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_MARK = re.compile(r"^(?P<rule>.*?)\s*//=\s(?P<mark>.*)$")
_ALIAS = re.compile(r"->\s*(\w+)\s*$")
_DEFINITION = re.compile(r"^\s*[?!]*(\w+)(?:\.-?\d+)?\s*:")
_OPTION = re.compile(r"^\s*//@\s*(\w+)\s+(.*?)\s*$")
_RANGE = re.compile(r"^(?P<names>\w+(?: or \w+)*) in (?P<low>[^.]+)\.\.(?P<high>[^.]+)$")


class GrammarError(ValueError):
    """A grammar file is not one: the message begins with the file and, where it is known, the line."""


@dataclass(frozen=True)
class Range:
    """What the sampler draws: from `low` to `high`, both included; expressions of `length`, or letters."""

    low: str
    high: str


@dataclass(frozen=True)
class Mark:
    """What is said of one alternative or terminal."""

    where: str
    meaning: str
    weight: float = 1.0
    within: tuple[str, ...] = ("program",)
    ranges: tuple[tuple[tuple[str, ...], Range], ...] = ()


@dataclass(frozen=True)
class Marks:
    """Everything that a file says in marks: by the name of an alternative, rule or terminal, and for the whole file."""

    of: dict[str, Mark] = field(default_factory=dict)
    options: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Each option with its text and where it stands."""
    places: dict[str, str] = field(default_factory=dict)
    """Where each name is defined."""


def read(text: str, path: Path) -> Marks:
    """The marks of a grammar. Raises GrammarError with the file and the line."""
    marks = Marks()
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{path}:{number}"
        for name in (*_DEFINITION.findall(line), *_ALIAS.findall(line.partition("//")[0])):
            marks.places.setdefault(name, where)
        if option := _OPTION.match(line):
            marks.options[option[1]] = (option[2], where)
        elif match := _MARK.match(line):
            owner = _ALIAS.search(match["rule"]) or _DEFINITION.match(match["rule"])
            if owner is None:
                raise GrammarError(f"{where}: '//=' stands beside no alternative: wanted `... -> name //= meaning`")
            if owner[1] in marks.of:
                raise GrammarError(f"{where}: {owner[1]} has a meaning already, at {marks.of[owner[1]].where}")
            marks.of[owner[1]] = _mark(match["mark"], where)
    return marks


def _mark(text: str, where: str) -> Mark:
    meaning, *clauses = (part.strip() for part in text.split(";"))
    weight, ranges = 1.0, []
    within: tuple[str, ...] = ("program",)
    for clause in clauses:
        head, _, rest = clause.partition(" ")
        if head == "weight":
            weight = _weight(rest, where)
        elif head == "in" and rest:
            within = tuple(rest.split())
        elif match := _RANGE.match(clause):
            ranges.append((tuple(match["names"].split(" or ")), Range(match["low"].strip(), match["high"].strip())))
        else:
            raise GrammarError(
                f"{where}: {clause!r} is no clause: wanted `weight W`, `in PROBLEM ...` or `b in LOW..HIGH`"
            )
    return Mark(where, meaning, weight, within, tuple(ranges))


def _weight(text: str, where: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if not 0 <= weight < float("inf"):
        raise GrammarError(f"{where}: weight wants a number from 0 up, got {text!r}")
    return weight
