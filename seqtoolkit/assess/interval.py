"""Interval: between which shares, or means, the true one lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

Z = 1.959963984540054
"""The normal deviate of a two-sided 95 %."""


class Interval(NamedTuple):
    """From and to."""

    low: float
    high: float


def wilson(share: float, count: int) -> Interval:
    """The 95 % interval of a share that was seen in `count` independent draws (Wilson 1927).

    Its limits are the shares from which what was seen is just 1.96 standard deviations away; they stay within 0 and 1.
    """
    if count < 1 or not 0 <= share <= 1:
        raise ValueError(f"wanted a share of at least one draw, got {share} of {count}")
    center = share + Z**2 / (2 * count)
    spread = Z * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    scale = 1 + Z**2 / count
    return Interval(max(0.0, (center - spread) / scale), min(1.0, (center + spread) / scale))


def normal(values: Sequence[float]) -> Interval:
    """The 95 % interval of the mean of what independent draws were drawn from, by the normal limit: of few it is too narrow."""
    if len(values) < 2:
        raise ValueError(f"wanted at least 2 draws, got {len(values)}")
    middle, spread = fmean(values), Z * stdev(values) / math.sqrt(len(values))
    return Interval(middle - spread, middle + spread)
