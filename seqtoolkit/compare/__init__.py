"""Compare: finished runs side by side, in groups that differ in nothing but the seed, with honest statistics."""

from __future__ import annotations

from seqtoolkit.compare.comparison import Comparison, Measured, compare
from seqtoolkit.compare.curve import Band
from seqtoolkit.compare.group import Group, Grouping
from seqtoolkit.compare.selection import Left, Selection
from seqtoolkit.compare.statistic import Interval, Summary, Verdict

__all__ = [
    "Band",
    "Comparison",
    "Group",
    "Grouping",
    "Interval",
    "Left",
    "Measured",
    "Selection",
    "Summary",
    "Verdict",
    "compare",
]
