"""Space: the keys of a pipeline that a sweep goes through, and what each of them may be."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from seqtoolkit.host.override import Override
from seqtoolkit.host.problem import ConfigError, show

Scalar = str | int | float | bool | None
Params = Mapping[str, Scalar]
"""The values of one trial by key: scalars as they are, anything else as its text."""

_BETWEEN = 0.381966
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_RANGE = re.compile(r"(uniform|loguniform|int|logint)\((.*)\)", re.DOTALL)
_HOW = "wanted uniform(low, high), loguniform(low, high), int(low, high) or logint(low, high)"


@dataclass(frozen=True)
class Choice:
    """Values, one of which a key has in each trial."""

    texts: Mapping[Any, str]
    """What stands for each in an override, by what it is called."""

    @property
    def names(self) -> list[Scalar]:
        """What the values are called, in order."""
        return list(self.texts)

    def __str__(self) -> str:
        return ", ".join(self.texts.values())


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included."""

    low: float
    high: float
    whole: bool
    log: bool

    @classmethod
    def read(cls, text: str) -> Range | None:
        """The range that a text such as `loguniform(1e-4, 1e-2)` stands for; None for any other text.

        Raises ValueError for a range with nothing in it.
        """
        match = _RANGE.fullmatch(text.strip())
        if match is None:
            return None
        whole, log = "int" in match[1], match[1].startswith("log")
        try:
            low, high = (int(each) if whole else float(each) for each in match[2].split(","))
        except ValueError:
            numbers = "whole numbers" if whole else "numbers"
            raise ValueError(f"wanted two {numbers} in {match[1]}(low, high), got {text}") from None
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"wanted low below high, got {text}")
        if log and low <= 0:
            raise ValueError(f"wanted low above 0 for a logarithmic range, got {text}")
        return cls(low, high, whole, log)

    def __str__(self) -> str:
        return f"{'log' * self.log}{'int' if self.whole else 'uniform'}({self.low:.15g}, {self.high:.15g})"


Axis = Choice | Range


@dataclass(frozen=True)
class Space:
    """The axes of a sweep by their keys, in order."""

    axes: dict[str, Axis] = field(default_factory=dict)

    @property
    def counted(self) -> bool:
        """Whether every axis has its values counted up, as a grid needs."""
        return all(isinstance(axis, Choice) for axis in self.axes.values())

    def grid(self) -> Iterator[Params]:
        """Every combination, the last key's values changing fastest; of ranges, what stands for them in `probes`."""
        for values in itertools.product(*(_names(axis) for axis in self.axes.values())):
            yield dict(zip(self.axes, values, strict=True))

    def probes(self) -> Iterator[Params]:
        """The first combination, and each other value with the first ones of all other keys.

        Of ranges there are the ends, and a number between where it need not be whole: a key may want a whole one.
        """
        first = {key: _names(axis)[0] for key, axis in self.axes.items()}
        yield first
        for key, axis in self.axes.items():
            yield from ({**first, key: name} for name in _names(axis)[1:])

    def overrides(self, params: Params) -> list[str]:
        """What makes a pipeline that of a trial, as `key=value`."""
        texts = {key: axis.texts for key, axis in self.axes.items() if isinstance(axis, Choice)}
        return [f"{key}={texts[key][value] if key in texts else repr(value)}" for key, value in params.items()]

    def written(self) -> dict[str, str]:
        """Each axis as a text."""
        return {key: str(axis) for key, axis in self.axes.items()}


def read(words: Iterable[str], pipeline: Mapping[str, Any]) -> tuple[list[str], Space]:
    """The overrides that every trial shares, and the space, of a command's words over a pipeline's `sweep.space`.

    Raises ConfigError that names each word that cannot be read.
    """
    fixed, axes, problems = [], {}, []
    for key, value in pipeline.items():
        try:
            axes[key] = _range(value) if isinstance(value, str) else _choice(key, [_written(each) for each in value])
        except ValueError as error:
            problems.append(f"sweep.space.{key}: {error}")
    given: dict[str, str] = {}
    for word in words:
        key, equals, text = word.partition("=")
        key = key.strip()
        if not equals or key.startswith("~"):
            fixed.append(word)
            continue
        try:
            axis = Range.read(text) or _pieces(key, text)
            if axis is None:
                Override.parse(word)
        except ValueError as error:
            problems.append(f"{key}: {error}")
            continue
        if key in given and (isinstance(axis, Range | Choice) or key in axes):
            problems.append(f"{key}: given twice, as {given[key]} and as {text}")
        given[key] = text
        axes.pop(key, None)
        if isinstance(axis, Range | Choice):
            axes[key] = axis
        else:
            fixed.append(word)
    problems += [f"{key}: says how to search, which cannot change inside of a sweep" for key in axes if _own(key)]
    if problems:
        raise ConfigError(problems)
    return fixed, Space(axes)


def split(text: str) -> list[str]:
    """The pieces of a text between the commas that are outside of brackets, braces and quotes.

    Raises ValueError where one of these is not closed.
    """
    pieces, open_, quote, before, escaped = [""], [], "", ",", False
    for letter in text:
        if quote:
            quote = "" if letter == quote and not escaped else quote
            escaped = letter == "\\" and quote == '"' and not escaped
        elif letter in "'\"" and before in ",([{:='":
            quote = letter
        elif letter in _PAIRS:
            open_.append(_PAIRS[letter])
        elif open_ and letter == open_[-1]:
            open_.pop()
        if letter == "," and not open_ and not quote:
            pieces.append("")
        else:
            pieces[-1] += letter
        before = before if letter.isspace() else letter
    if open_ or quote:
        raise ValueError(f"{quote or open_[-1]} is missing in {text}")
    return [piece.strip() for piece in pieces]


def _own(key: str) -> bool:
    return key == "sweep" or key.startswith("sweep.")


def _pieces(key: str, text: str) -> Choice | None:
    """The values between commas; None for one value alone."""
    pieces = split(text)
    return _choice(key, pieces) if len(pieces) > 1 else None


def _choice(key: str, pieces: list[str]) -> Choice:
    texts: dict[Scalar, str] = {}
    if not pieces:
        raise ValueError("wanted at least one value, got an empty list")
    for piece in pieces:
        if not piece:
            raise ValueError(f"a value is missing in {','.join(pieces)}")
        if Range.read(piece) is not None:
            raise ValueError(f"{piece} is a distribution, which stands alone and not among values")
        value = Override.parse(f"{key}={piece}").value
        name = value if isinstance(value, Scalar) else piece
        if name in texts:
            raise ValueError(
                f"{piece} is there twice" if texts[name] == piece else f"{texts[name]} and {piece} are one"
            )
        texts[name] = piece
    return Choice(texts)


def _range(text: str) -> Range:
    found = Range.read(text)
    if found is None:
        raise ValueError(f"{_HOW}, or a list of values, got {show(text)}")
    return found


def _written(value: Any) -> str:
    """A value as an override has it; JSON is YAML."""
    return json.dumps(value, ensure_ascii=False)


def _names(axis: Axis) -> list[Scalar]:
    if isinstance(axis, Choice):
        return axis.names
    return [axis.low, *([] if axis.whole else [axis.low + _BETWEEN * (axis.high - axis.low)]), axis.high]
