"""Grid: the settings of an evaluation, some with several values, and all combinations of these."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from dataclasses import fields as fields_of
from itertools import product
from typing import Any

from seqtoolkit.host.override import Override
from seqtoolkit.host.problem import ConfigError, suggest
from seqtoolkit.train.evaluate import EvaluateSettings

MOST = 1000
"""How many combinations a grid has at most."""
_RANGE = re.compile(r"\s*(-?\d+)\s*\.\.\s*(-?\d+)\s*(?:\.\.\s*(\d+)\s*)?")
_PREFIX = "evaluate."


@dataclass(frozen=True)
class Setting:
    """A key of the `evaluate:` block, without that name, and the values that it takes one after the other."""

    key: str
    texts: tuple[str, ...]
    """As they are written."""
    values: tuple[Any, ...]

    @classmethod
    def parse(cls, word: str, kind: str = "source") -> Setting:
        """Read `source.length=7`, `source.length=1,2,5` or `source.length=1..5` (`1..9..2` takes every second).

        `kind` is what the task is, a source or an environment.

        Raises ConfigError, one line.
        """
        key, equals, text = word.partition("=")
        key = key.strip().removeprefix(_PREFIX)
        if not equals or key.startswith("~"):
            raise ConfigError([f"{word!r}: wanted KEY=VALUE, such as {kind}.length=7 or {kind}.length=1..5"])
        first, *inner = key.split(".")
        if not (key == "examples" or (first == kind and inner)):
            known = [each.name for each in fields_of(EvaluateSettings)]
            hint = "; it says when or how a run is evaluated, not on what" if first in known else suggest(key, known)
            raise ConfigError([f"{key}: wanted examples or {kind}.KEY, as in evaluate: of a pipeline{hint}"])
        texts = _texts(key, text)
        values = tuple(Override.parse(f"{key}={each}").value for each in texts)
        if twice := [each for place, each in enumerate(texts) if values[place] in values[:place]]:
            raise ConfigError([f"{key}: {twice[0]} stands there twice"])
        return cls(key, texts, values)


@dataclass(frozen=True)
class Grid:
    """Settings, of which those with several values are its axes."""

    settings: tuple[Setting, ...]

    @classmethod
    def parse(cls, words: Sequence[str], kind: str = "source") -> Grid:
        """Read settings of a task that is a source, or an environment. Raises ConfigError with a line for each that is wrong."""
        found: dict[str, Setting] = {}
        problems: list[str] = []
        for word in words:
            try:
                setting = Setting.parse(word, kind)
            except ConfigError as error:
                problems += error.problems
                continue
            if setting.key in found:
                problems.append(f"{setting.key}: given twice")
            found[setting.key] = setting
        grid = cls(tuple(found.values()))
        if (size := math.prod(len(each.values) for each in grid.settings)) > MOST:
            problems.append(f"{' x '.join(each.key for each in grid.axes)}: {size:,} combinations, more than {MOST:,}")
        if problems:
            raise ConfigError(problems)
        return grid

    @property
    def axes(self) -> tuple[Setting, ...]:
        """The settings with several values."""
        return tuple(each for each in self.settings if len(each.values) > 1)

    def cells(self) -> Iterator[tuple[dict[str, Any], list[str]]]:
        """Each combination, the last axis fastest: the value of each axis by key, and all settings as overrides."""
        pairs = [zip(each.values, each.texts, strict=True) for each in self.settings]
        for combination in product(*pairs):
            chosen = list(zip(self.settings, combination, strict=True))
            at = {setting.key: value for setting, (value, _) in chosen if setting in self.axes}
            yield at, [f"{_PREFIX}{setting.key}={text}" for setting, (_, text) in chosen]


def _texts(key: str, text: str) -> tuple[str, ...]:
    """The values of a text, ranges in full; commas inside of a list, a mapping or quotes are its own."""
    pieces = [text] if text.lstrip()[:1] in ("[", "{", '"', "'") else text.split(",")
    found: list[str] = []
    for piece in pieces:
        match = _RANGE.fullmatch(piece)
        if match is None:
            found.append(piece)
            continue
        start, stop, step = int(match[1]), int(match[2]), int(match[3] or 1)
        if start > stop or step < 1 or (stop - start) // step >= MOST:
            raise ConfigError([f"{key}: wanted FROM..TO, upwards and of at most {MOST:,} values, got {piece.strip()}"])
        found += map(str, range(start, stop + 1, step))
    return tuple(found)
