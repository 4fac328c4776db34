"""Flood: which squares can be walked to, in many boards at once, by whole numbers that hold a row in their bits."""

from __future__ import annotations

from seqtoolkit.sdk import Array, Arrays


def pack(arrays: Arrays, mask: Array) -> Array:
    """Boards [n S S] of bool as rows of bits [n S], int64; S at most 62."""
    return (arrays.cast(mask, "int64") << arrays.arange(mask.shape[2])).sum(2)


def spread(reached: Array, free: Array) -> Array:
    """What is reached [n S] of rows of bits, and the free squares beside it: up, down, left, right."""
    grown = reached | (reached << 1) | (reached >> 1)
    lower, upper = grown[:, 1:], grown[:, :-1]
    lower |= reached[:, :-1]
    upper |= reached[:, 1:]
    return reached | (grown & free)


def flood(reached: Array, free: Array) -> Array:
    """All that can be reached [n S] through free squares."""
    while True:
        before = reached
        for _ in range(6):
            reached = spread(reached, free)
        if (reached == before).all():
            return reached


def beside(arrays: Arrays, reached: Array, squares: Array, side: int) -> Array:
    """Whether what lies above, below, left, right of squares [n k] is reached: [n k 4] int64, 0 or 1."""
    row, column = squares // side, squares % side
    here, above, below = (arrays.gather(reached, row + shift, 1) for shift in (0, -1, 1))
    ways = (above >> column, below >> column, here >> (column - 1), here >> (column + 1))
    return arrays.space.stack(ways, 2) & 1
