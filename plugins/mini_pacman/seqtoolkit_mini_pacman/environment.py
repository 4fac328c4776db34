"""Environment: Mini Pacman in many worlds at once, its rules written over arrays of worlds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from seqtoolkit.sdk import Array, Arrays, Environment, Policy, Spec, Split, Step, check_actions
from seqtoolkit_mini_pacman import maze, player
from seqtoolkit_mini_pacman.maze import ACTIONS, FACINGS, FLEE, GONE, NOWHERE, SQUARES, WHIM
from seqtoolkit_mini_pacman.picture import FOOD, GROUND, Painter, fresh_board
from seqtoolkit_mini_pacman.rule import (
    CHANCE,
    EPISODES,
    FULL_SPEED,
    LEVELS,
    MODES,
    MOVES,
    PILLS,
    POWER,
    WHIMS,
    Dynamics,
    ModeName,
)
from seqtoolkit_mini_pacman.world import Worlds

PIXELS = 8
"""How high and wide a square is rendered."""


class MiniPacman(Environment):
    """The maze of I2A (Weber et al. 2017, appendix C): Pacman eats food and pills, and flees ghosts or hunts them.

    mode: what is worth how much (rule.py). dynamics: `paper` by that appendix; `released` by its authors' published code, where
    ghosts are slower and move at random now and then. view: 0 shows the whole board, an odd number so many squares around Pacman.
    observe: `rgb` or `ids`, one channel of what stands in each square (picture.py). frame_cap: an episode is cut after so many
    steps; 0: never.
    """

    on_device = True
    actions = len(ACTIONS)
    measures = {"level": "higher", "food": "higher"}  # noqa: RUF012  a mapping that nobody changes, as the contract has it

    def __init__(
        self,
        num_envs: int = 1,
        seed: int = 0,
        split: Split = "train",
        mode: ModeName = "regular",
        dynamics: Dynamics = "paper",
        view: int = 0,
        observe: Literal["rgb", "ids"] = "rgb",
        frame_cap: int = 3000,
    ) -> None:
        super().__init__(num_envs, seed, split)
        _one_of("mode", mode, tuple(MODES))
        _one_of("dynamics", dynamics, ("paper", "released"))
        _one_of("observe", observe, ("rgb", "ids"))
        if view != 0 and (view < 3 or view % 2 == 0 or view > 2 * maze.WIDTH):
            raise ValueError(
                f"view: wanted 0, the whole board, or an odd number from 3 to {2 * maze.WIDTH - 1}, got {view}"
            )
        if frame_cap < 0:
            raise ValueError(f"frame_cap: wanted at least 0, which is no cap, got {frame_cap}")
        self.name, self.mode, self.released = mode, MODES[mode], dynamics == "released"
        self.limit, self.view, self.colored, self.frame_cap = (
            self.mode.limit(dynamics),
            view,
            observe == "rgb",
            frame_cap,
        )
        size = f"{view} {view}" if view else f"{maze.HEIGHT} {maze.WIDTH}"
        self.observation = Spec.parse(f"u8[B {size} {3 if self.colored else 1}]")
        self.place(self.arrays)

    def place(self, arrays: Arrays) -> None:
        """Compute with these from the next `reset` on."""
        self.arrays = arrays
        self.painter = Painter(arrays, self.view, colored=self.colored, bar=not self.released)
        self.moves, self.cells = arrays.array(maze.moves()), arrays.array(maze.cells())
        self.turns = arrays.array(maze.ghost_moves())
        self.starts, self.choices = map(arrays.array, maze.starts())
        self.fresh = arrays.array(fresh_board())
        self.base = arrays.arange(self.num_envs) * 2**40
        self.offsets = arrays.arange(self.num_envs) * len(fresh_board())

    def reset(self) -> Array:
        """Begin every world from its first episode; the first observations."""
        self.tick, self.worlds = 0, Worlds.empty(self.arrays, self.num_envs)
        self._begin(self.arrays.arange(self.num_envs))
        return self._paint(self.worlds)

    def step(self, actions: Array) -> Step:
        """Take actions [B] int64, and begin a new episode where one ends. Raises ValueError where an action is none."""
        check_actions(actions, self.actions, self.num_envs)
        a, w = self.arrays, self.worlds
        self.tick += 1
        w.frame, w.timer = w.frame + 1, w.timer + 1
        w.power = w.power - a.cast(w.power > 0, "int64")
        path, points = self._walk(actions)
        deaths, eaten = self._haunt(path)
        points = points + eaten * self.mode.ghost + deaths * self.mode.death
        terminated = deaths > 0
        if self.mode.clears == "ghosts" or self.limit:
            over = w.timer == self.limit
            if self.mode.clears == "ghosts":
                over = over | (eaten > 0) & (w.ghosts == GONE).all(1)
            self._advance(over & ~terminated)
        truncated = ~terminated & (w.frame >= (self.frame_cap or 2**62))
        facts = {"level": a.cast(w.level, "float32"), "food": a.cast(w.eaten, "float32")}
        rows, finals = a.rows(terminated | truncated), None
        if len(rows):
            cut = rows if self.finals_of == "ended" else rows[truncated[rows]]
            finals = self._paint(w.picked(cut)) if len(cut) else None
            self._begin(rows)
        return Step(self._paint(w), a.cast(points, "float32") * 0.1, terminated, truncated, finals, facts)

    def state_dict(self) -> dict[str, Any]:
        """The worlds, and how many steps they have taken."""
        return {"of": self._identity(), "tick": self.tick, "worlds": self.worlds.saved(self.arrays)}

    def load_state_dict(self, state: dict[str, Any]) -> Array:
        """Go on from what `state_dict` returned; the observations as they were. Raises ValueError where it is of other worlds."""
        for name, value in self._identity().items():
            if state["of"][name] != value:
                raise ValueError(f"{name}: wanted {value!r} as here, got a state of {state['of'][name]!r}")
        self.tick, self.worlds = state["tick"], Worlds.loaded(self.arrays, state["worlds"])
        return self._paint(self.worlds)

    def render(self, world: int = 0) -> np.ndarray:
        """The whole board of a world, PIXELS a square; a frame around what a window shows."""
        a = self.arrays
        painter = Painter(a, 0, colored=True, bar=not self.released)
        one = self.worlds.picked(a.array([world]))
        picture = a.numpy(self._paint(one, painter))[0].repeat(PIXELS, 0).repeat(PIXELS, 1)
        if self.view:
            row, column = maze.PLACES[int(one.pacman[0])]
            top, left = (max(0, each - self.view // 2) * PIXELS for each in (row, column))
            bottom, right = ((each + self.view // 2 + 1) * PIXELS for each in (row, column))
            inside = picture[top + 1 : bottom - 1, left + 1 : right - 1].copy()
            picture[top:bottom, left:right] = (255, 128, 0)
            picture[top + 1 : bottom - 1, left + 1 : right - 1] = inside
        return picture

    def scripted(self) -> Mapping[str, Policy]:
        """`greedy` goes to the nearest food and looks at no ghost; `wanderer` turns at random at junctions, never back."""
        return {"greedy": player.Greedy(self), "wanderer": player.Wanderer(self)}

    def _walk(self, actions: Array) -> tuple[list[Array], Array]:
        """Move Pacman and let it eat. The squares on its path, the last where it is; tenths of points."""
        a, w, mode = self.arrays, self.worlds, self.mode
        w.facing = a.space.where(actions > 0, actions + 1, w.facing)
        path = [self.moves[w.pacman * self.actions + actions]]
        if not self.released:
            path.append(a.space.where(w.power > 0, self.moves[path[0] * self.actions + actions], path[0]))
        board, points = w.board.reshape(-1), mode.step
        for square in path:
            cell = self.offsets + self.cells[square]
            found = a.cast(board[cell] == FOOD, "int64")
            board[cell] = GROUND
            w.food, w.eaten = w.food - found, w.eaten + found
            points = points + found * mode.food
        w.pacman = a.array(path[-1])
        if mode.clears == "food":
            self._advance(w.food == 0, path)
        taken = w.pills == path[-1][:, None]
        taken = _first(a, taken) if self.released else taken | (w.pills == path[0][:, None])
        count = taken.sum(1)
        w.pills = a.space.where(taken, NOWHERE, w.pills)
        w.power = a.space.where(count > 0, POWER, w.power)
        if mode.clears == "pills":
            self._advance((count > 0) & (w.pills == NOWHERE).all(1), path)
        return path, points + count * mode.pill

    def _haunt(self, path: list[Array]) -> tuple[Array, Array]:
        """Move the ghosts, and let them meet Pacman. How often it died, and how many ghosts it ate [B]."""
        a, w = self.arrays, self.worlds
        where, strong, here = a.space.where, (w.power > 0)[:, None], w.pacman[:, None]
        squares = w.ghosts // FACINGS
        met = squares == here
        target = where(strong, FLEE + here, here)
        if self.released:
            words = a.bits(self.seed, self.split, self.base + self.tick, w.ghosts.shape[1], MOVES)
            chance = (words & (2**CHANCE - 1)) * (FULL_SPEED * (1 + a.cast(strong, "int64")))
            moving = chance < (4 + w.level[:, None]) * 2**CHANCE
            whim = ((words >> CHANCE) & (2**CHANCE - 1)) * WHIMS < 2**CHANCE
            target = where(whim & ~strong & ~met, WHIM + (words >> (2 * CHANCE)) % 6, target)
        new = a.cast(self.turns[target * maze.CODES + w.ghosts], "int64")
        reached = new // FACINGS == here
        if not self.released:
            met = met | (squares == path[0][:, None])
            contact = met | reached
            w.ghosts = where(contact & strong, GONE, new)
            return a.cast((contact & ~strong).any(1), "int64"), (contact & strong).sum(1)
        reached = reached & moving
        eaten = _first(a, (met | reached) & strong)
        waiting = a.space.cumsum(a.cast(eaten, "int64"), axis=1) > 0
        w.ghosts = where(eaten, GONE, where(moving & ~waiting, new, w.ghosts))
        return (a.cast(met & ~strong, "int64") + a.cast(reached & ~strong, "int64")).sum(1), eaten.sum(1)

    def _advance(self, cleared: Array, path: list[Array] | None = None) -> None:
        """Begin the next level where one is over; where Pacman is put goes for its path as well."""
        rows = self.arrays.rows(cleared)
        if len(rows):
            self._level(rows, self.worlds.level[rows] + 1, LEVELS)
            for square in path or ():
                square[rows] = self.worlds.pacman[rows]

    def _begin(self, rows: Array) -> None:
        """Begin new episodes in some worlds."""
        for array in (self.worlds.frame, self.worlds.eaten, self.worlds.facing):
            array[rows] = 0
        self._level(rows, self.arrays.full((len(rows),), 1, "int64"), EPISODES)

    def _level(self, rows: Array, levels: Array, stream: int) -> None:
        """Put everything in its place at random: food everywhere, pills and Pacman anywhere, ghosts away from Pacman."""
        a, w = self.arrays, self.worlds
        count = 1 + (levels - 1) // 2
        w.widen(a, int(count.max()))
        ghosts = w.ghosts.shape[1]
        words = a.bits(self.seed, self.split, self.base[rows] + self.tick, PILLS + 1 + ghosts, stream)
        pacman, words_of_ghosts = words[:, PILLS] % SQUARES, words[:, PILLS + 1 :]
        choices = self.choices[pacman][:, None]
        begins = (
            self.starts[pacman[:, None] * SQUARES + words_of_ghosts % choices] * FACINGS
            + words_of_ghosts // choices % 4
        )
        w.board[rows], w.pacman[rows], w.pills[rows] = self.fresh, pacman, words[:, :PILLS] % SQUARES
        w.ghosts[rows] = a.space.where(a.arange(ghosts)[None] < count[:, None], begins, GONE)
        w.level[rows], w.food[rows] = levels, SQUARES
        w.power[rows], w.timer[rows] = 0, 0

    def _paint(self, worlds: Worlds, painter: Painter | None = None) -> Array:
        squares = worlds.ghosts // FACINGS
        return (painter or self.painter).paint(worlds.board, worlds.pacman, worlds.pills, squares, worlds.power)

    def _identity(self) -> dict[str, Any]:
        dynamics = "released" if self.released else "paper"
        which = {"num_envs": self.num_envs, "seed": self.seed, "split": self.split}
        return {**which, "mode": self.name, "dynamics": dynamics, "frame_cap": self.frame_cap}


def _first(arrays: Arrays, mask: Array) -> Array:
    """The first that is true in each row [n m], and no other."""
    return mask & (arrays.space.cumsum(arrays.cast(mask, "int64"), axis=1) == 1)


def _one_of(name: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise ValueError(f"{name}: wanted one of {', '.join(known)}, got {given!r}")
