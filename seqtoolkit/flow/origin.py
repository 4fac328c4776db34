"""Origin: where what flows comes from, a source or an environment, and what a run asks of either."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from seqtoolkit.flow.counter import SPLITS, Split

Report = Callable[[str, float], None]
"""Hears what is being done, in a few words, and which share of it is done, from 0 to 1."""


class Origin:
    """Has a `seed` and a `split`, of which all its randomness is a function."""

    seed: int
    split: Split

    def demand(self) -> None:
        """Raise ValueError, one line, where its data are not there; asked before anything is made, so that it is quick."""

    def prepare(self, report: Report) -> None:
        """Make what takes long and is made once, such as a cache of the data; asked before a run begins.

        Raises ValueError, one line, where the data are not there or cannot be used.
        """

    def keep(self, folder: Path) -> None:
        """Write what the ids of a trained model stand for into `folder`, which is not there yet; nothing where the settings say it.

        It goes with the run, its exports, and its copies. Raises OSError.
        """

    def adopt(self, folder: Path) -> None:
        """Read what `keep` wrote for another origin of this task, and go by it. Raises ValueError where that cannot be."""


def known_split(split: str) -> Split:
    """A split; raises ValueError where it is none."""
    if split not in SPLITS:
        raise ValueError(f"split: wanted one of {', '.join(SPLITS)}, got {split!r}")
    return split  # type: ignore[return-value]  # it is one of those
