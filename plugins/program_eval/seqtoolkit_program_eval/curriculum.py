"""Curriculum: how hard the programs of an update are, and when they become harder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

Name = Literal["baseline", "naive", "mix", "combine"]
NAMES: tuple[str, ...] = ("baseline", "naive", "mix", "combine")
WINDOW = 10
"""How many losses are looked at; fewer than half of them say nothing."""
MIN_TRIES = 10
THRESHOLD = 0.1
LAG = 8
"""A level that is reached by the loss of block s is drawn from block s + LAG on: more blocks than are drawn ahead."""


class Curriculum:
    """Lengths and nestings of programs (Zaremba & Sutskever 2014, section 5; Santoro et al. 2018, A.2).

    baseline: always the maximum. mix: each uniform from 1 to the maximum, for each example. naive: those of a level
    that starts at (1, 1) and rises to the maximum, the length first, then the nesting. combine: each uniform from 1 to
    the level's.

    A level is left when the loss no longer changes: over a window of at least 5 and at most 10 updates, and after at
    least 10 at this level, the mean change between updates is under a tenth of the mean.
    """

    def __init__(self, name: str, length: int, nesting: int) -> None:
        self.name, self.length, self.nesting = name, length, nesting
        self.updates = 0
        self.advances: list[int] = []
        """The blocks from which on each further level is drawn."""
        self._losses: list[float] = []
        self._tries = 0

    @property
    def levels(self) -> int:
        """How many levels there are above the first."""
        return self.length + self.nesting - 2

    @property
    def random(self) -> bool:
        """Whether the examples of one block differ in difficulty."""
        return self.name in ("mix", "combine")

    @property
    def rises(self) -> bool:
        """Whether there are levels."""
        return self.name in ("naive", "combine")

    def difficulty(self, blocks: np.ndarray, bits: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Lengths and nestings of examples in `blocks` [n], by two random words each, uint64 [n, 2], where `random`."""
        length = np.full(len(blocks), self.length, np.int64)
        nesting = np.full(len(blocks), self.nesting, np.int64)
        if self.rises:
            level = np.searchsorted(np.array(self.advances, np.int64), blocks, side="right")
            length = np.minimum(1 + level, self.length)
            nesting = 1 + np.maximum(level - (self.length - 1), 0)
        if bits is not None:
            length = 1 + (bits[:, 0] % length.astype(np.uint64)).astype(np.int64)
            nesting = 1 + (bits[:, 1] % nesting.astype(np.uint64)).astype(np.int64)
        return length, nesting

    def observe(self, loss: float) -> None:
        """Hear the loss of the next block."""
        block, self.updates = self.updates, self.updates + 1
        if not self.rises or len(self.advances) >= self.levels:
            return
        if self.advances and block < self.advances[-1]:
            return
        self._tries += 1
        self._losses = [*self._losses, loss][-WINDOW:]
        mean = float(np.mean(self._losses))
        if self._tries < MIN_TRIES or 2 * len(self._losses) < WINDOW:
            return
        change = float(np.mean(np.diff(self._losses)))
        if mean <= 0 or abs(change) / mean < THRESHOLD:
            self.advances.append(block + LAG)
            self._losses, self._tries = [], 0

    def memory(self) -> dict[str, Any]:
        """Everything that `observe` has left behind, as plain values."""
        return {
            "updates": self.updates,
            "advances": list(self.advances),
            "losses": list(self._losses),
            "tries": self._tries,
        }

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Restore what `memory` returned."""
        self.updates, self._tries = int(memory["updates"]), int(memory["tries"])
        self.advances = [int(block) for block in memory["advances"]]
        self._losses = [float(loss) for loss in memory["losses"]]
