"""Reference: one world by the rules as they are told, square by square, slowly. What every fast way answers to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from seqtoolkit_mini_pacman.maze import PLAN
from seqtoolkit_mini_pacman.rule import EPISODES, LEVELS, MODES, MOVES, Dynamics, ModeName

Place = tuple[int, int]
Draw = Callable[[int, int, int], list[int]]
"""Random numbers from 0 to 2^62 - 1 by stream, tick, and how many: those of `Arrays.bits` for one world."""

WALLS = np.array([[[255 * (sign == "#")] * 3 for sign in line] for line in PLAN], np.uint8)
STEPS = {0: (0, 0), 1: (0, 1), 2: (-1, 0), 3: (0, -1), 4: (1, 0)}
FREE = [(row, column) for row, line in enumerate(PLAN) for column, sign in enumerate(line) if sign == "."]
REVERSE = {2: 4, 3: 5, 4: 2, 5: 3, 0: 2, 1: 3}
"""Of a facing: right 2, up 3, left 4, down 5; 0 and 1 only before a ghost first moves."""


def go(place: Place, action: int) -> Place:
    """Where an action leads."""
    there = (place[0] + STEPS[action][0], place[1] + STEPS[action][1])
    return there if PLAN[there[0]][there[1]] == "." else place


class World:
    """One world: what happens in a step, in the order in which it happens."""

    def __init__(self, mode: ModeName, dynamics: Dynamics, draw: Draw, frame_cap: int = 3000, view: int = 0) -> None:
        self.mode, self.dynamics, self.draw, self.frame_cap, self.view = MODES[mode], dynamics, draw, frame_cap, view
        self.tick = self.frame = self.timer = self.level = self.power = self.eaten = self.points = self.deaths = 0
        self.pacman: Place = FREE[0]
        self.food: set[Place] = set()
        self.pills: list[Place] = []
        self.ghosts: list[list[Any]] = []
        """Place and facing of each that lives; `slots` has all with which the level began, by whose places they draw"""
        self._new_episode()

    def step(self, action: int) -> tuple[float, bool, bool, np.ndarray | None]:
        """Reward, whether the episode has ended, whether it was cut, and then the last observation. A new one has begun where it is over."""
        self.tick, self.frame, self.timer = self.tick + 1, self.frame + 1, self.timer + 1
        self.points, self.deaths = self.mode.step, 0
        self.power = max(0, self.power - 1)
        path = self._move_pacman(action)
        if self.dynamics == "released":
            self._move_ghosts_released()
        else:
            self._move_ghosts_paper(path)
        if not self.deaths and 0 < self.mode.limit(self.dynamics) == self.timer:
            self._new_level(self.level + 1, LEVELS)
        terminated, final = self.deaths > 0, None
        truncated = not terminated and 0 < self.frame_cap <= self.frame
        if truncated:
            final = self.observation()
        self.facts = (self.level, self.eaten)
        if terminated or truncated:
            self._new_episode()
        return float(np.float32(self.points) * np.float32(0.1)), terminated, truncated, final

    def picture(self) -> np.ndarray:
        """The whole board in colour [15 19 3]."""
        board = WALLS.copy()
        if self.food:
            board[tuple(zip(*self.food, strict=True))] = (0, 0, 255)
        for place in self.pills:
            board[place] = (0, 255, 255)
        for place, _ in self.ghosts:
            board[place] = (255, 255 * self.power // 20, 0)
        board[self.pacman] = (0, 255, 0)
        return board

    def observation(self) -> np.ndarray:
        """What an agent sees: through a window where `view` is not 0, else the whole, with the paper's bar."""
        board = self.picture()
        if self.view:
            half = self.view // 2
            padded = np.pad(board, ((half, half), (half, half), (0, 0)), constant_values=255)
            row, column = self.pacman
            return padded[row : row + self.view, column : column + self.view]
        if self.dynamics == "paper":
            board[-1, : self.power] = (255, 0, 255)
        return board

    def _move_pacman(self, action: int) -> list[Place]:
        path = [go(self.pacman, action)]
        if self.dynamics == "paper" and self.power:
            path.append(go(path[0], action))
        for place in path:
            if place in self.food:
                self.food.remove(place)
                self.points += self.mode.food
                self.eaten += 1
        self.pacman = path[-1]
        if self.mode.clears == "food" and not self.food:
            path = self._new_level(self.level + 1, LEVELS)
        eaten = [pill for pill in self.pills if pill in path]
        for pill in eaten[:1] if self.dynamics == "released" else eaten:
            self.pills.remove(pill)
            self.points += self.mode.pill
            self.power = 20
        if self.mode.clears == "pills" and eaten and not self.pills:
            path = self._new_level(self.level + 1, LEVELS)
        return path

    def _move_ghosts_released(self) -> None:
        words = self.draw(MOVES, self.tick, len(self.slots))
        for ghost in list(self.ghosts):
            word = words[[each is ghost for each in self.slots].index(True)]
            if ghost[0] == self.pacman:
                if self.power:
                    self._eat(ghost)
                    return
                self._die()
            speed = (4 + self.level) / 10 / (2 if self.power else 1)
            if word % 2**20 / 2**20 < speed:
                self._move(ghost, wild=word // 2**20 % 2**20 / 2**20 < 0.05, pick=word // 2**40)
                if ghost[0] == self.pacman:
                    if self.power:
                        self._eat(ghost)
                        return
                    self._die()

    def _move_ghosts_paper(self, path: list[Place]) -> None:
        for ghost in list(self.ghosts):
            met = ghost[0] in path
            if not met:
                self._move(ghost, wild=False, pick=0)
                met = ghost[0] == self.pacman
            if met and self.power:
                self._eat(ghost)
                if self.mode.clears == "ghosts" and not self.ghosts:
                    return
            elif met and not self.deaths:
                self._die()

    def _move(self, ghost: list, *, wild: bool, pick: int) -> None:
        place, facing = ghost
        ways = [each for each in (2, 3, 4, 5) if go(place, each - 1) != place]
        if len(ways) == 2:
            if facing not in ways:
                facing = ways[1] if REVERSE[facing] == ways[0] else ways[0]
        elif place != self.pacman:
            ways = [each for each in ways if each != REVERSE[facing]]
            down, right = self.pacman[0] - place[0], self.pacman[1] - place[1]
            products = [down * STEPS[each - 1][0] + right * STEPS[each - 1][1] for each in ways]
            if self.power:
                facing = ways[products.index(min(products))]
            elif wild:
                facing = ways[pick % 6 % len(ways)]
            else:
                facing = ways[products.index(max(products))]
        ghost[:] = [go(place, (facing - 1) % 5), facing]

    def _eat(self, ghost: list) -> None:
        self.ghosts = [each for each in self.ghosts if each is not ghost]
        self.points += self.mode.ghost
        if self.mode.clears == "ghosts" and not self.ghosts:
            self._new_level(self.level + 1, LEVELS)

    def _die(self) -> None:
        self.deaths += 1
        self.points += self.mode.death

    def _new_episode(self) -> None:
        self.frame = self.eaten = 0
        self._new_level(1, EPISODES)

    def _new_level(self, level: int, stream: int) -> list[Place]:
        """Put everything in its place; the path of Pacman, which is now where it was put."""
        count = 1 + (level - 1) // 2
        words = self.draw(stream, self.tick, 3 + count)
        self.level, self.timer, self.power, self.food = level, 0, 0, set(FREE)
        self.pills = [FREE[word % len(FREE)] for word in words[:2]]
        self.pacman = row, column = FREE[words[2] % len(FREE)]
        outside = [
            place
            for place in FREE
            if place[0] < row - 5 or place[0] >= row + 5 or place[1] < column - 5 or place[1] >= column + 5
        ]
        self.ghosts = [[outside[word % len(outside)], word // len(outside) % 4] for word in words[3:]]
        self.slots = list(self.ghosts)
        return [self.pacman]
