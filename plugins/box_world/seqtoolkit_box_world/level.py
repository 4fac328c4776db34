"""Level: boards drawn by the published generator's distribution, many at once, each with a proof that it can be solved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from seqtoolkit.sdk import Array, Arrays, Split
from seqtoolkit_box_world.flood import beside, flood, pack
from seqtoolkit_box_world.palette import BACKGROUND, BORDER, DISTRACTOR, GEM, KEY, LOCK, MOST_COLORS
from seqtoolkit_box_world.rule import Rule

MOST_TRIES = 200
"""How many placements may fail in a level before it is drawn anew, as in the released code."""
HALF = 31
TRIAL = 256


class Box(NamedTuple):
    """One box of a level, or the loose key; colors count from 0."""

    y: int
    x: int
    """Of the content; the lock is right of it."""
    content: int | None
    """The key's color, None for the gem."""
    lock: int | None
    """The color of the key that opens it, None for what lies loose."""
    distractor: bool


@dataclass(frozen=True)
class Level:
    """One level in plain numbers. Squares count from the border's corner, as (0, 0), down and to the right."""

    size: int
    player: tuple[int, int]
    boxes: tuple[Box, ...]
    length: int
    """The solution: the first is the loose key, and as many locks after it as this, in the order they must be opened."""


class Levels(NamedTuple):
    """Levels drawn at once; n of them, of at most M boxes. Squares are numbers into a board, row after row."""

    boards: Array
    """[n S*S] uint8, by the numbers of `palette`, without the player"""
    players: Array
    """[n] int64"""
    lengths: Array
    """[n] int64: locks on the way to the gem"""
    boxes: Array
    """[n M] int64: squares of contents, 0 where a level has less; the path first, in its order, the loose key at its head"""


class Generator:
    """Draws levels for the worlds that need one, each a function of (seed, split, world, episode).

    `margin` rows and columns of border surround the board. Raises ValueError where the boxes do not fit the board.
    """

    def __init__(self, arrays: Arrays, seed: int, split: Split, rule: Rule, margin: int = 1) -> None:
        self.arrays, self.seed, self.split, self.rule = arrays, seed, split, rule
        self.margin, self.side = margin, rule.size + 2 * margin
        self.words = 5 + 4 * rule.boxes + rule.num_colours
        self._tables()

    def fits(self) -> None:
        """Raises ValueError where a level of the most boxes is a rare thing on this board."""
        most = {name: [max(getattr(self.rule, name))] for name in ("solution_length", "num_forward", "num_backward")}
        crowded = Generator(Arrays(), 0, "train", replace(self.rule, **most))  # type: ignore[arg-type]  # lists all
        _, good = crowded.attempt(np.arange(TRIAL), 0)
        if good.sum() < TRIAL // 8:
            size, boxes = self.rule.size, self.rule.boxes
            raise ValueError(
                f"size: wanted room for {boxes} boxes with a free square around each, got a board of {size}"
            )

    def draw(self, worlds: Array, episodes: Array) -> Levels:
        """The levels of these worlds' [n] episodes [n], both int64."""
        indexes = (worlds << 40) + episodes
        levels, good = self.attempt(indexes, 0)
        failed = self.arrays.rows(~good)
        tries = 0
        while len(failed):
            tries += 1
            again, good = self.attempt(indexes[failed], tries)
            for whole, part in zip(levels, again, strict=True):
                whole[failed] = part
            failed = failed[~good]
        return levels

    def attempt(self, indexes: Array, tries: int) -> tuple[Levels, Array]:
        """Levels [n], and which of them [n] were placed in time and can be solved."""
        arrays, space = self.arrays, self.arrays.space
        bits = arrays.bits(self.seed, self.split, indexes, (self.words + 1) // 2, tries)
        draws = space.concatenate([bits & ((1 << HALF) - 1), bits >> HALF], 1)
        lengths, counts, contents, locks = self._problem(draws)
        rows, most = arrays.arange(len(indexes))[:, None], self.rule.boxes
        begin = 5 + 2 * most
        anchors, rooms = self._place(draws[:, begin : begin + most], counts)
        present = arrays.arange(most)[None] < counts
        boxes = space.where(present, self.anchors[anchors], 0)
        boards = self.blank[arrays.zeros((len(indexes),), "int64")]
        boards[rows, boxes] = arrays.cast(space.where(present, contents, BORDER), "uint8")
        sealed = present[:, 1:]
        boards[rows, space.where(sealed, boxes[:, 1:] + 1, 0)] = arrays.cast(
            space.where(sealed, locks[:, 1:], BORDER), "uint8"
        )
        chosen, room = self._choose(boards[:, self.starts] == BACKGROUND, draws[:, 3])
        levels = Levels(boards, self.starts[chosen], lengths, boxes)
        present = space.concatenate([present, present[:, :1]], 1)
        rooms = space.concatenate([rooms, room[:, None] + len(self.anchors) + 1], 1)
        luck = space.concatenate([draws[:, begin + most : begin + 2 * most], draws[:, 4:5]], 1)
        tried = space.where(present, self._failures(rooms, luck), 0).sum(1)
        return levels, (tried <= MOST_TRIES) & self._solvable(levels)

    def level(self, levels: Levels, which: int) -> Level:
        """One of them in plain numbers."""
        board, player, length, boxes = (self.arrays.numpy(each[which]) for each in levels)

        def place(square: int) -> tuple[int, int]:
            return square // self.side - self.margin + 1, square % self.side - self.margin + 1

        found = []
        for square in boxes[boxes > 0].tolist():
            content, lock = int(board[square]), int(board[square + 1])
            color = None if content == GEM else content - KEY
            found.append(
                Box(*place(square), color, (lock - LOCK) % MOST_COLORS if lock >= LOCK else None, lock >= DISTRACTOR)
            )
        return Level(self.rule.size, place(int(player)), tuple(found), int(length))

    def _tables(self) -> None:
        """Squares where a box or the player may be put, what each place takes from the others, and chances of failing."""
        arrays, size, side = self.arrays, self.rule.size, self.side

        def squares(columns: range) -> np.ndarray:
            return np.array([[y, x] for y in range(2, size) for x in columns])

        anchors, starts = squares(range(2, size - 2)), squares(range(1, size))
        flat = np.array([side, 1])
        shift = (self.margin - 1) * (side + 1)
        self.anchors, self.starts = (arrays.array(each @ flat + shift, "int64") for each in (anchors, starts))
        down, right = np.moveaxis(anchors[None] - anchors[:, None], 2, 0)
        near = (abs(down) <= 1) & (right >= -2)
        self.taken = [arrays.array(near & (right <= reach)) for reach in (1, 2)]
        counts = self.rule.solution_length, self.rule.num_forward, self.rule.num_backward
        self.counts = [arrays.array(each, "int64") for each in counts]
        blank = np.full((side, side), BORDER, np.uint8)
        inner = slice(self.margin, -self.margin)
        blank[inner, inner] = BACKGROUND
        self.blank = arrays.array(blank.reshape(1, -1))
        chance = [
            np.arange(len(each) + 1) / count
            for each, count in ((anchors, (size - 3) * (size - 2)), (starts, (size - 1) * (size - 2)))
        ]
        self.failing = arrays.array(
            ((1 - np.concatenate(chance)[:, None]) ** np.arange(1, 257) * 2**HALF).astype(np.int64).reshape(-1)
        )

    def _choose(self, free: Array, draw: Array) -> tuple[Array, Array]:
        """One of the free places [n places], evenly, and how many there are [n]; the last place where there is none."""
        running = self.arrays.space.cumsum(free, axis=1)
        room = running[:, -1]
        rank = (draw * room) >> HALF
        chosen = (running <= rank[:, None]).sum(1)
        return chosen - self.arrays.cast(chosen == free.shape[1], "int64"), room

    def _failures(self, rooms: Array, luck: Array) -> Array:
        """How often a place would have been drawn that is not free, where `rooms` are: a geometric number, 255 at most.

        The number is independent of which free place is found, so that both are drawn at once, in place of trying.
        """
        found = self.arrays.zeros(tuple(rooms.shape), "int64")
        for step in (128, 64, 32, 16, 8, 4, 2, 1):
            found = found + step * self.arrays.cast(luck < self.failing[rooms * 256 + found + (step - 1)], "int64")
        return found

    def _place(self, draws: Array, counts: Array) -> tuple[Array, Array]:
        """The place of each box [n M], and how many there were to choose from [n M], one box after the other."""
        arrays = self.arrays
        free = arrays.full((len(draws), len(self.anchors)), 1, "bool")
        chosen, rooms = [], []
        for box in range(self.rule.boxes):
            place, room = self._choose(free, draws[:, box])
            chosen.append(place)
            rooms.append(room)
            free = free & ~(self.taken[min(box, 1)][place] & (counts > box))
        return arrays.space.stack(chosen, 1), arrays.space.stack(rooms, 1)

    def _problem(self, draws: Array) -> tuple[Array, Array, Array, Array]:
        """Lengths [n], how many boxes [n 1], and their contents and locks [n M] as numbers of the palette."""
        arrays, space, rule = self.arrays, self.arrays.space, self.rule

        lengths, forward, backward = (
            table[(draws[:, column] * len(table)) >> HALF] for column, table in enumerate(self.counts)
        )
        path, grown = lengths[:, None], (forward * rule.branch_length)[:, None]
        counts = path + 1 + grown + backward[:, None]
        box = arrays.arange(rule.boxes)[None]
        keys = space.where(box == path, 0, box + 1)
        side_locks, side_keys = self._distractors(draws, lengths)
        beyond = box - path - 1
        column = space.where(beyond < grown, beyond, beyond - grown + rule.branches)
        column = space.where((box < counts) & (box > path), column, 0)
        locks = space.where(box <= path, box + 0 * path, arrays.gather(side_locks, column, 1))
        keys = space.where(box <= path, keys, arrays.gather(side_keys, column, 1))
        # Sorted with its column beside each number, so that equal ones fall the same way everywhere.
        colors = space.argsort(draws[:, -rule.num_colours :] * rule.num_colours + arrays.arange(rule.num_colours)[None])
        contents = space.where(keys == 0, GEM, KEY + arrays.gather(colors, keys - (keys > 0) * 1, 1))
        wrong = (DISTRACTOR - LOCK) * (box > path)
        return lengths, counts, contents, LOCK + wrong + arrays.gather(colors, locks - (locks > 0) * 1, 1)

    def _distractors(self, draws: Array, lengths: Array) -> tuple[Array, Array]:
        """Locks and keys [n branches + backward] as numbers from 1, those on the path first; a column of 0 where none."""
        rule, most = self.rule, self.rule.boxes
        spare = rule.num_colours - rule.unused - lengths
        locks: list[Array] = []
        keys: list[Array] = []
        for box in range(rule.branches + max(rule.num_backward)):
            known, fresh = draws[:, 5 + box], draws[:, 5 + most + box]
            on_path = 1 + ((known * lengths) >> HALF)
            if box >= rule.branches:
                locks.append(lengths + 1 + ((fresh * spare) >> HALF))
                keys.append(on_path)
            elif box % rule.branch_length == 0:
                locks.append(on_path)
                keys.append(lengths + 1 + ((fresh * spare) >> HALF))
            else:
                other = lengths + 1 + ((fresh * (spare - 1)) >> HALF)
                locks.append(keys[-1])
                keys.append(other + (other >= keys[-1]))
        none = [lengths * 0]
        return self.arrays.space.stack(locks or none, 1), self.arrays.space.stack(keys or none, 1)

    def _solvable(self, levels: Levels) -> Array:
        """Whether the player can walk to the loose key, and to each lock on the path, while no box is open yet: [n] bool.

        Opening a box only frees squares, and a content lies beside its lock: so each step of the solution can be taken.
        """
        arrays, side = self.arrays, self.side
        free = pack(arrays, levels.boards.reshape(-1, side, side) == BACKGROUND)
        start = arrays.arange(side * side)[None] == levels.players[:, None]
        reached = flood(pack(arrays, start.reshape(-1, side, side)), free)
        step = arrays.arange(max(self.rule.solution_length) + 1)[None]
        wanted = levels.boxes[:, : step.shape[1]] + arrays.cast(step > 0, "int64")
        wanted = arrays.space.where(step <= levels.lengths[:, None], wanted, wanted[:, :1])
        return (beside(arrays, reached, wanted, side).sum(2) > 0).all(1)
