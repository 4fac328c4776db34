"""Curve: the learning curve of a group: a mean line and a band, by step, by examples or by seconds of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from seqtoolkit.compare.statistic import FEWEST, intervals
from seqtoolkit.record import Record

Axis = Literal["step", "examples", "seconds"]
AXES: tuple[Axis, ...] = ("step", "examples", "seconds")
POINTS = 200
"""A line has at most so many."""
_RESAMPLES = 2000


class Line(NamedTuple):
    """What one run has of a metric along an axis."""

    x: np.ndarray
    """[n] float64, ascending, none twice"""
    y: np.ndarray
    """[n] float64, finite"""


@dataclass(frozen=True)
class Band:
    """The curves of a group's runs as one, where all of them have values."""

    x: np.ndarray
    """[n] float64, ascending"""
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    runs: int
    """Of how many runs it is."""
    last: float
    """Where the longest of the runs ends; the band ends where the shortest does."""

    @property
    def kind(self) -> Literal["interval", "range", "line"]:
        """What the band is: a bootstrap interval of the mean, from the least to the greatest value, or none."""
        return "interval" if self.runs >= FEWEST else "range" if self.runs > 1 else "line"


def line(record: Record, metric: str, axis: Axis) -> Line | None:
    """A run's values of a metric along an axis; None where it has none there.

    Values that are no finite numbers are left out. What the training had taken by a step is interpolated between the
    steps at which it was told, never beyond them.
    """
    curve = record.curves.get(metric)
    if curve is None:
        return None
    x, y = curve.steps.astype(np.float64), curve.values
    if axis != "step":
        taken = record.curves.get(axis)
        if taken is None or not len(taken.steps):
            return None
        x = np.interp(x, taken.steps, taken.values, left=np.nan, right=np.nan)
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if not len(x):
        return None
    x = np.maximum.accumulate(x)
    last = np.append(np.diff(x) > 0, [True])
    return Line(x[last], y[last])


def band(lines: Sequence[Line]) -> Band | None:
    """The mean of several runs, each interpolated onto a grid within the range that all of them have.

    None where there is no such range. The grid is made of the runs' own points, thinned to at most POINTS.
    """
    if not lines:
        return None
    start, stop = max(each.x[0] for each in lines), min(each.x[-1] for each in lines)
    if start > stop:
        return None
    points = np.unique(np.concatenate([each.x for each in lines] + [[start, stop]]))
    grid = points[(points >= start) & (points <= stop)]
    if len(grid) > POINTS:
        grid = grid[np.linspace(0, len(grid) - 1, POINTS).round().astype(np.int64)]
    values = np.stack([np.interp(grid, each.x, each.y) for each in lines])
    if len(lines) >= FEWEST:
        low, high = intervals(values, _RESAMPLES)
    else:
        low, high = values.min(0), values.max(0)
    return Band(grid, values.mean(0), low, high, len(lines), max(float(each.x[-1]) for each in lines))
