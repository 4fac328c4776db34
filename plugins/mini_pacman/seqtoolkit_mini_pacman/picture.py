"""Picture: boards as an agent sees them, whole or through a window."""

from __future__ import annotations

from functools import cache

import numpy as np

from seqtoolkit.sdk import Array, Arrays
from seqtoolkit_mini_pacman.maze import CELLS, HEIGHT, NOWHERE, PLACES, PLAN, SQUARES, WIDTH, cells
from seqtoolkit_mini_pacman.rule import POWER

GROUND, FOOD, WALL, PILL, PACMAN, BAR, GHOST = range(7)
"""What stands in a square, by number; a ghost is GHOST and the power that Pacman has over it, 0 to POWER."""
COLORS = (
    (0, 0, 0),
    (0, 0, 255),
    (255, 255, 255),
    (0, 255, 255),
    (0, 255, 0),
    (255, 0, 255),
    *((255, 255 * power // POWER, 0) for power in range(POWER + 1)),
)
"""Red, green and blue of each number, as the released code has them; the bar's is described as pink (I2A, appendix C)."""
BAR_CELLS = slice(CELLS - WIDTH, CELLS)


def fresh_board() -> np.ndarray:
    """[CELLS + 1] uint8: a board on which nobody stands yet, with food in every square."""
    board = [WALL if sign == "#" else FOOD for row in PLAN for sign in row]
    return np.array([*board, GROUND], np.uint8)


class Painter:
    """Draws boards: `view` squares high and wide around Pacman, or the whole where that is 0; in colour or as numbers."""

    def __init__(self, arrays: Arrays, view: int, *, colored: bool, bar: bool) -> None:
        self.arrays, self.view, self.bar = arrays, view, bar
        self.cells = arrays.array(cells())
        self.shape = (view, view) if view else (HEIGHT, WIDTH)
        self.palette = arrays.array(_palette()) if colored else None
        if view:
            seen, spots = _windows(view)
            self.seen, self.spots = arrays.array(seen), arrays.array(spots)

    def paint(self, board: Array, pacman: Array, pills: Array, ghosts: Array, power: Array) -> Array:
        """Pictures [n height width channels] uint8 of boards [n CELLS + 1], pacman [n], pills [n P], ghosts [n G], power [n].

        Pacman hides a ghost, a ghost a pill, a pill food.
        """
        a = self.arrays
        if self.view:
            ids = a.gather(board, self.seen[pacman], 1)
            spots, first = self.spots, pacman * (SQUARES + 1)
        else:
            ids = a.array(board)
            spots, first = self.cells, a.zeros((1,), "int64")
            if self.bar:
                left = a.arange(WIDTH)[None] < power[:, None]
                ids[:, BAR_CELLS] = a.cast(a.space.where(left, BAR, WALL), "uint8")
        flat, begin, first = ids.reshape(-1), a.arange(len(ids)) * ids.shape[1], first[:, None]
        flat[begin[:, None] + spots[first + pills]] = PILL
        flat[begin[:, None] + spots[first + ghosts]] = a.cast(power + GHOST, "uint8")[:, None]
        flat[begin + spots[first[:, 0] + pacman]] = PACMAN
        height, width = self.shape
        ids = ids[:, : height * width].reshape(-1, height, width)
        if self.palette is None:
            return a.array(ids[..., None])
        if a.device is None:
            return self.palette.take(
                ids, 0
            )  # numpy indexes by rows at a third of the speed, and torch has no such method
        return self.palette[a.cast(ids, "int64")]


def _palette() -> np.ndarray:
    return np.array(COLORS, np.uint8)


@cache
def _windows(view: int) -> tuple[np.ndarray, np.ndarray]:
    """The cells seen from each square [SQUARES view²+1], the last one spare; where in there each square is seen, flat."""
    half = view // 2
    seen = np.full((SQUARES, view * view + 1), CELLS, np.int64)
    spots = np.full((SQUARES, SQUARES + 1), view * view, np.int64)
    for pacman, (row, column) in enumerate(PLACES):
        for spot in range(view * view):
            down, right = row - half + spot // view, column - half + spot % view
            inside = 0 <= down < HEIGHT and 0 <= right < WIDTH
            seen[pacman, spot] = down * WIDTH + right if inside else 0
        for square, (down, right) in enumerate(PLACES):
            if max(abs(down - row), abs(right - column)) <= half:
                spots[pacman, square] = (down - row + half) * view + right - column + half
    spots[:, NOWHERE] = view * view
    return seen, spots.reshape(-1)
