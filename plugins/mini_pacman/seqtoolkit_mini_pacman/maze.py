"""Maze: the walls, and tables of everything that depends on nothing else.

The plan is that of the released environment (PillEater by S. Racaniere, DeepMind, in the I2A notebook of the workshop
mltrain-nips-2017). Squares that are no wall are numbered from 0 in reading order; NOWHERE is where what is gone stands.
"""

from __future__ import annotations

from functools import cache

import numpy as np

PLAN = (
    "###################",
    "#...#.........#...#",
    "#.#.#.#######.#.#.#",
    "#.................#",
    "#.#.#.#######.#.#.#",
    "#.#.............#.#",
    "#.####.#####.####.#",
    "#......#####......#",
    "#.####.#####.####.#",
    "#.#.............#.#",
    "#.#.#.#######.#.#.#",
    "#.................#",
    "#.#.#.#######.#.#.#",
    "#...#.........#...#",
    "###################",
)
HEIGHT, WIDTH = len(PLAN), len(PLAN[0])
PLACES = [(row, column) for row in range(HEIGHT) for column in range(WIDTH) if PLAN[row][column] == "."]
"""Row and column of each square."""
SQUARES = len(PLACES)
NOWHERE = SQUARES
CELLS = HEIGHT * WIDTH
"""Squares and walls; one more cell of each board is where what stands nowhere is drawn."""
ACTIONS = ((0, 0), (0, 1), (-1, 0), (0, -1), (1, 0))
"""Rows and columns by which each action goes: stay, right, up, left, down."""
SAFE = 5
"""A ghost begins no nearer to Pacman, in rows or in columns."""

FACINGS = 6
"""How a ghost can face: 2 to 5 are right, up, left, down, the actions and one. It begins with one of 0 to 3, as in the released
code, where 0 and 1 are told from left and down where a ghost begins at a bend, or stands where Pacman is."""
REVERSES = (2, 3, 4, 5, 2, 3)
"""By facing, the one that is its way back: 0 and 1 are taken for left and down."""
CODES = (SQUARES + 1) * FACINGS
"""A ghost is one number: its square times FACINGS, and its facing."""
GONE = NOWHERE * FACINGS
WHIM = SQUARES
FLEE = WHIM + 6
TARGETS = FLEE + SQUARES
"""What a ghost goes by: below WHIM the square of Pacman, which it chases; then six equally likely whims; then Pacman, whom it flees."""

_NUMBERS = {place: square for square, place in enumerate(PLACES)}


def moved(square: int, action: int) -> int:
    """The square to which an action leads: the same where a wall is."""
    row, column = PLACES[square]
    down, right = ACTIONS[action]
    return _NUMBERS.get((row + down, column + right), square)


@cache
def moves() -> np.ndarray:
    """[(SQUARES + 1) * actions]: the square to which each action leads from each, NOWHERE included."""
    table = [moved(square, action) for square in range(SQUARES) for action in range(len(ACTIONS))]
    return np.array(table + [NOWHERE] * len(ACTIONS))


@cache
def cells() -> np.ndarray:
    """[SQUARES + 1]: the cell of each square on a board, rows one after the other; CELLS for NOWHERE."""
    return np.array([row * WIDTH + column for row, column in PLACES] + [CELLS])


@cache
def starts() -> tuple[np.ndarray, np.ndarray]:
    """By the square of Pacman: where a ghost may begin [SQUARES * SQUARES], filled up with 0; how many such squares [SQUARES].

    None in the box of SAFE rows above to SAFE - 1 below, and columns alike, as in the released code.
    """
    table, counts = np.zeros((SQUARES, SQUARES), np.int64), np.zeros(SQUARES, np.int64)
    for pacman, (row, column) in enumerate(PLACES):
        free = [
            square
            for square, (down, right) in enumerate(PLACES)
            if not (-SAFE <= down - row < SAFE and -SAFE <= right - column < SAFE)
        ]
        table[pacman, : len(free)], counts[pacman] = free, len(free)
    return table.reshape(-1), counts


@cache
def ghost_moves() -> np.ndarray:
    """[TARGETS * CODES] int16: what becomes of a ghost that moves, by what it goes by and what it is.

    In a corridor or at a bend it keeps going. At a junction it never turns back: it takes the direction whose product with the
    vector to Pacman is greatest (least where it flees), the first of right, up, left, down where two tie. On Pacman's own square
    it keeps its facing. I2A, appendix C; ties and the last rule by the released code.
    """
    table = np.empty((TARGETS, CODES), np.int16)
    table[:, GONE:] = GONE
    rows, columns = np.array(PLACES).T
    for square, (row, column) in enumerate(PLACES):
        available = [facing for facing in range(2, FACINGS) if moved(square, facing - 1) != square]
        for facing in range(FACINGS):
            code = square * FACINGS + facing
            if len(available) == 2:
                back = REVERSES[facing]
                chosen = facing if facing in available else available[available[0] == back]
                table[:, code] = moved(square, chosen - 1) * FACINGS + chosen
                continue
            ways = [each for each in available if each != REVERSES[facing]]
            after = np.array([moved(square, each - 1) * FACINGS + each for each in ways])
            products = np.array(
                [(rows - row) * ACTIONS[each - 1][0] + (columns - column) * ACTIONS[each - 1][1] for each in ways]
            )
            table[:WHIM, code] = after[products.argmax(0)]
            table[WHIM:FLEE, code] = after[np.arange(6) % len(ways)]
            table[FLEE:, code] = after[products.argmin(0)]
            stays = moved(square, (facing - 1) % len(ACTIONS)) * FACINGS + facing
            table[square, code] = table[FLEE + square, code] = stays
    return table.reshape(-1)
