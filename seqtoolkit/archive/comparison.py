"""Comparison: whether two recordings of metrics have the same numbers, exactly."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

from seqtoolkit.train.measure import measured

Rows = Iterable[Mapping[str, float]]


class Different(NamedTuple):
    """A value that is not the same in both; None where one has none."""

    step: int
    metric: str
    was: float | None
    now: float | None

    @property
    def relative(self) -> float | None:
        """The difference over the larger of both sizes, from 0 to 2; None where there is no such number."""
        if self.was is None or self.now is None or not (math.isfinite(self.was) and math.isfinite(self.now)):
            return None
        return abs(self.now - self.was) / max(abs(self.was), abs(self.now))


@dataclass(frozen=True)
class Comparison:
    """What came of comparing."""

    upto: int
    """the last step that was compared"""
    values: int
    """how many were compared"""
    different: int
    """how many of them are not the same"""
    first: Different | None
    """the first of those: the lowest step, and there the first that was recorded"""


def compare(was: Rows, now: Rows, upto: int, *, whole: bool) -> Comparison:
    """Compare every value up to a step, exactly; NaN is the same as NaN. Those of the machine are left out.

    Args:
        was: What was recorded, as in `metrics.jsonl`: `step`, and values by name.
        now: What is compared with it.
        upto: The last step to compare.
        whole: Whether both have ended after that step in the same way. If not, what only one has of that step says
            nothing: the other may have ended before it came to that, or it may have been recorded because of the end.
    """
    before, after = _table(was, upto), _table(now, upto)
    count, found = 0, []
    for step, metric in sorted(dict.fromkeys([*before, *after]), key=lambda key: key[0]):
        pairs = zip_longest(before.get((step, metric), ()), after.get((step, metric), ()))
        for one, other in pairs:
            if step == upto and not whole and (one is None or other is None):
                continue
            count += 1
            if not _same(one, other):
                found.append(Different(step, metric, one, other))
    return Comparison(upto, count, len(found), found[0] if found else None)


def _table(rows: Rows, upto: int) -> dict[tuple[int, str], list[float]]:
    table: dict[tuple[int, str], list[float]] = defaultdict(list)
    for row in rows:
        step = int(row["step"])
        for name, value in row.items():
            if step <= upto and name != "step" and not measured(name):
                table[step, name].append(value)
    return dict(table)


def _same(one: float | None, other: float | None) -> bool:
    return one == other or (one is not None and other is not None and math.isnan(one) and math.isnan(other))
