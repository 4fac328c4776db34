"""Statistic: what a few runs tell of the mean over all seeds, and of which group is better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np

Better = Literal["higher", "lower"] | None

LEVEL = 0.95
FEWEST = 3
"""Seeds that a group must have before it is called better or worse than another."""
ENOUGH = 5
"""Seeds from which on an interval holds the mean nearly as often as it says."""
RESAMPLES = 10_000
METHOD = (
    f"{LEVEL:.0%} bootstrap intervals of the mean, expanded percentile method (Hesterberg 2015), "
    f"{RESAMPLES} resamples from a fixed seed"
)


class Interval(NamedTuple):
    """From and to."""

    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """The values that the runs of a group have of one quantity."""

    values: tuple[float, ...]
    """Those that are finite numbers."""
    lacking: int
    """How many runs have none: the metric is not there, or is no finite number."""
    seeds: int
    """How many different seeds the values are of."""
    mean: float
    deviation: float | None
    """Standard deviation, of n - 1; None where there is one value."""
    low: float
    high: float
    interval: Interval | None
    """Of the mean; None where there is one value."""

    @property
    def n(self) -> int:
        """How many values there are."""
        return len(self.values)


@dataclass(frozen=True)
class Verdict:
    """Whether one group is better than all others."""

    winner: str | None
    reason: str
    """One sentence."""


def summarize(values: Sequence[float], seeds: Sequence[str]) -> Summary | None:
    """The statistics of one value a run, of the runs with these seeds; None where no value is a finite number."""
    found = [(float(value), seed) for value, seed in zip(values, seeds, strict=True) if math.isfinite(value)]
    if not found:
        return None
    numbers = np.array([value for value, _ in found])
    return Summary(
        values=tuple(numbers.tolist()),
        lacking=len(values) - len(found),
        seeds=len({seed for _, seed in found}),
        mean=float(numbers.mean()),
        deviation=float(numbers.std(ddof=1)) if len(numbers) > 1 else None,
        low=float(numbers.min()),
        high=float(numbers.max()),
        interval=Interval(*(float(each[0]) for each in intervals(numbers[:, None]))) if len(numbers) > 1 else None,
    )


def intervals(values: np.ndarray, resamples: int = RESAMPLES) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap intervals of the means of the columns of `values` [n columns]; n is at least 2.

    Percentiles of the means of resamples, expanded for what a small sample's percentiles lack (T. Hesterberg, What
    Teachers Should Know About the Bootstrap, The American Statistician 69(4), 2015, section 4.1.4): as far out as
    sqrt(n / (n - 1)) times a quantile of Student's t says, on the normal's scale. With the same resamples each time.
    """
    n = len(values)
    tail = NormalDist().cdf(-math.sqrt(n / (n - 1)) * _student(n - 1))
    means = _weights(n, resamples) @ values
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    # Rounding in the weighted sums must not carry an end past the values themselves.
    return np.clip(low, values.min(0), values.max(0)), np.clip(high, values.min(0), values.max(0))


@cache
def _weights(n: int, resamples: int) -> np.ndarray:
    """[resamples n]: the share that each of n values has in the mean of each resample."""
    drawn = np.random.default_rng(n).integers(n, size=(resamples, n))
    return np.stack([(drawn == each).sum(1) for each in range(n)], 1) / n


@cache
def _student(freedom: int) -> float:
    """The quantile of Student's t that leaves half of 1 - LEVEL above it."""
    angles = np.linspace(-math.pi / 2, math.pi / 2, 200_001)
    density = np.cos(angles) ** (freedom - 1)
    below = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(freedom) * math.tan(np.interp((1 + LEVEL) / 2, below / below[-1], angles))


def judge(groups: Mapping[str, Summary | None], better: Better) -> Verdict:
    """Which group is better than all others, if its interval lies apart from all of theirs."""
    found = {name: each for name, each in groups.items() if each is not None}
    reason = _doubt(groups, better)
    if reason is not None:
        return Verdict(None, reason)
    sign = 1 if better == "higher" else -1
    ranked = sorted(found, key=lambda name: -sign * found[name].mean)
    best = ranked[0]
    near = [name for name in ranked[1:] if not _apart(found[best], found[name], sign)]
    if near:
        return Verdict(
            None, f"No winner: the interval of {best} overlaps with {_listed(['that of ' + each for each in near])}."
        )
    side = "above" if sign > 0 else "below"
    return Verdict(
        best,
        f"{best} is better over {found[best].seeds} seeds: its interval lies {side} {'that' if len(ranked) == 2 else 'those'} of {_listed(ranked[1:])}.",
    )


def _doubt(groups: Mapping[str, Summary | None], better: Better) -> str | None:
    """Why no winner can be named whatever the values are."""
    found = {name: each for name, each in groups.items() if each is not None}
    if len(groups) < 2:
        return "No winner: there is one group only."
    if lost := [name for name, each in groups.items() if each is None or each.lacking]:
        return f"No winner: not all runs of {_listed(lost)} have a number here."
    if better is None:
        return "No winner: whether higher or lower is better is not known."
    if few := [f"{name} ({each.seeds})" for name, each in found.items() if each.seeds < FEWEST]:
        return f"No winner: {FEWEST} seeds are the least to tell one, and there are fewer of {_listed(few)}."
    return None


def _apart(best: Summary, other: Summary, sign: int) -> bool:
    assert best.interval is not None
    assert other.interval is not None
    return best.interval.low > other.interval.high if sign > 0 else best.interval.high < other.interval.low


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
