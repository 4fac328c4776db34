"""Player: two ways to play by rule of thumb, with which a policy is compared."""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from seqtoolkit.sdk import Array
from seqtoolkit_mini_pacman.maze import ACTIONS, CODES, FACINGS, SQUARES, WHIM, moved
from seqtoolkit_mini_pacman.picture import FOOD
from seqtoolkit_mini_pacman.rule import PLAYERS

if TYPE_CHECKING:
    from seqtoolkit_mini_pacman.environment import MiniPacman

FAR = 2**20


@cache
def ways() -> tuple[np.ndarray, np.ndarray]:
    """From each square to each [SQUARES SQUARES]: how many steps, and the action that comes first on a shortest path."""
    steps, first = np.full((SQUARES, SQUARES), FAR), np.zeros((SQUARES, SQUARES), np.int64)
    for begin in range(SQUARES):
        steps[begin, begin], waiting = 0, deque([begin])
        while waiting:
            square = waiting.popleft()
            for action in range(1, len(ACTIONS)):
                near = moved(square, action)
                if steps[begin, near] == FAR:
                    steps[begin, near] = steps[begin, square] + 1
                    first[begin, near] = action if square == begin else first[begin, square]
                    waiting.append(near)
    return steps, first


class Greedy:
    """Goes to the nearest food by a shortest path, to the first in reading order of equally near ones, and looks at no ghost."""

    def __init__(self, environment: MiniPacman) -> None:
        self.environment = environment
        self.steps, self.first = map(environment.arrays.array, ways())

    def __call__(self) -> Array:
        """The actions in all worlds [B]."""
        a, worlds = self.environment.arrays, self.environment.worlds
        food = worlds.board[:, self.environment.cells[:SQUARES]] == FOOD
        nearest = a.space.argmax(a.space.where(food, FAR - self.steps[worlds.pacman], 0), axis=1)
        return self.first[worlds.pacman, nearest]


class Wanderer:
    """Keeps going, turns at random at a junction, and never turns back: a ghost that sees nobody."""

    def __init__(self, environment: MiniPacman) -> None:
        self.environment = environment

    def __call__(self) -> Array:
        """The actions in all worlds [B]."""
        e = self.environment
        words = e.arrays.bits(e.seed, e.split, e.base + e.tick, 1, PLAYERS)[:, 0]
        code = e.worlds.pacman * FACINGS + e.worlds.facing
        return e.arrays.cast(e.turns[(WHIM + words % 6) * CODES + code], "int64") % FACINGS - 1
