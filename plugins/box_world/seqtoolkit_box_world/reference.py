"""Reference: one world of BoxWorld in plain Python, slow and readable, with which the fast one is compared step by step."""

from __future__ import annotations

from seqtoolkit_box_world.level import Level
from seqtoolkit_box_world.palette import BACKGROUND, BORDER, GEM, HELD, KEY, PLAYER, RGB
from seqtoolkit_box_world.rule import Dynamics
from seqtoolkit_box_world.solution import WAYS, Square

Color = tuple[int, int, int]
Picture = list[list[tuple[int, ...]]]
COLORS: list[Color] = [tuple(row) for row in RGB.tolist()]
HELD_COLORS: list[Color] = [tuple(row) for row in HELD.tolist()]


class ReferenceWorld:
    """One episode in a level."""

    def __init__(self, level: Level, max_steps: int = 120, dynamics: Dynamics = "paper", view: int = 0) -> None:
        self.level, self.max_steps, self.dynamics, self.view = level, max_steps, dynamics, view
        self.player = level.player
        self.contents = {(box.y, box.x): box.content for box in level.boxes}
        """Keys by their color and the gem (None), by where they lie."""
        self.locks = {(box.y, box.x + 1): box for box in level.boxes if box.lock is not None}
        self.held: int | None = None
        self.steps = 0

    def step(self, action: int) -> tuple[float, bool, bool]:
        """Reward, terminated, truncated."""
        reward, ended = self._move((self.player[0] + WAYS[action][0], self.player[1] + WAYS[action][1]))
        self.steps += 1
        if self.dynamics == "released":
            # The released code counts the step first, and asks whether there were more than the limit.
            return reward, ended or self.steps > self.max_steps, False
        return reward, ended, not ended and self.steps >= self.max_steps

    def _move(self, there: Square) -> tuple[float, bool]:
        """The player goes to a square, or stays where it cannot; the reward, and whether that ends the episode."""
        lock, lies = self.locks.get(there), there in self.contents
        locked = lies and (there[0], there[1] + 1) in self.locks
        if not self._inside(there) or locked or (lock is not None and lock.lock != self.held):
            return 0.0, False
        self.player = there
        if lock is not None:
            del self.locks[there]
            self.held = None
            return (-1.0, True) if lock.distractor else (1.0, False)
        if lies:
            content = self.contents.pop(there)
            if content is None:
                return 10.0, True
            self.held = content
        return 0.0, False

    def observe(self) -> Picture:
        """Rows of squares of their channels."""
        if self.view:
            around = range(-(self.view // 2), self.view // 2 + 1)
            held = HELD_COLORS[0 if self.held is None else self.held + 1]
            y, x = self.player
            return [[self._color((y + down, x + right)) + held for right in around] for down in around]
        whole = range(self.level.size + 2)
        picture: Picture = [[self._color((y, x)) for x in whole] for y in whole]
        if self.held is not None:
            picture[0][0] = COLORS[KEY + self.held]
        return picture

    def _color(self, square: Square) -> Color:
        if square == self.player:
            return COLORS[PLAYER]
        if not self._inside(square):
            return COLORS[BORDER]
        if square in self.locks:
            return COLORS[KEY + (self.locks[square].lock or 0)]
        if square not in self.contents:
            return COLORS[BACKGROUND]
        content = self.contents[square]
        return COLORS[GEM] if content is None else COLORS[KEY + content]

    def _inside(self, square: Square) -> bool:
        return all(1 <= each <= self.level.size for each in square)
