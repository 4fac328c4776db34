"""World: what moves in many mazes at once, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seqtoolkit.sdk import Array, Arrays
from seqtoolkit_mini_pacman.maze import CELLS, GONE, NOWHERE
from seqtoolkit_mini_pacman.rule import PILLS


@dataclass
class Worlds:
    """What moves in B worlds, int64 but for the board; G is the most ghosts that a level has had."""

    board: Array
    """[B CELLS + 1] uint8: ground, food and walls; the last cell is nowhere"""
    pills: Array
    """[B PILLS] their squares; NOWHERE where eaten"""
    ghosts: Array
    """[B G] their squares and facings; GONE where eaten or never there"""
    pacman: Array
    """[B] its square"""
    food: Array
    """[B] how much food is left"""
    power: Array
    """[B] 0 to POWER"""
    level: Array
    """[B] from 1"""
    timer: Array
    """[B] steps taken in this level"""
    frame: Array
    """[B] steps taken in this episode"""
    eaten: Array
    """[B] food eaten in this episode"""
    facing: Array
    """[B] where Pacman last wanted to go, as ghosts face; 0 before it has wanted"""

    @classmethod
    def empty(cls, arrays: Arrays, count: int) -> Worlds:
        """Worlds in which no level has begun."""
        board = arrays.zeros((count, CELLS + 1), "uint8")
        pills, ghosts = arrays.full((count, PILLS), NOWHERE, "int64"), arrays.full((count, 1), GONE, "int64")
        return cls(board, pills, ghosts, *(arrays.zeros((count,), "int64") for _ in range(8)))

    @classmethod
    def loaded(cls, arrays: Arrays, saved: dict[str, Any]) -> Worlds:
        """What `saved` was made of."""
        return cls(**{name: arrays.array(array) for name, array in saved.items()})

    def saved(self, arrays: Arrays) -> dict[str, Any]:
        """Copies, as tensors."""
        return {name: arrays.tensor(array).clone() for name, array in vars(self).items()}

    def picked(self, rows: Array) -> Worlds:
        """Copies of some of the worlds."""
        return Worlds(**{name: array[rows] for name, array in vars(self).items()})

    def widen(self, arrays: Arrays, ghosts: int) -> None:
        """Make room for so many ghosts in a world."""
        more = ghosts - self.ghosts.shape[1]
        if more > 0:
            room = arrays.full((len(self.ghosts), more), GONE, "int64")
            self.ghosts = arrays.space.concatenate([self.ghosts, room], 1)
