"""Environment: BoxWorld in many worlds at once, its rules written once for numpy and for torch on any device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from seqtoolkit.sdk import Array, Arrays, Environment, Policy, Spec, Split, Step, check_actions
from seqtoolkit_box_world.guide import toward
from seqtoolkit_box_world.level import Generator, Level
from seqtoolkit_box_world.palette import BACKGROUND, DISTRACTOR, GEM, HELD, KEY, LOCK, MOST_COLORS, PLAYER, RGB
from seqtoolkit_box_world.rule import GEM_REWARD, RIGHT_REWARD, WRONG_REWARD, Dynamics, Rule

SCALE = 16
"""Pixels to a square's side in what `render` draws."""
MEASURES: Mapping[str, Literal["higher", "lower"]] = {"solved": "higher"}
FRAME = (230, 60, 50)
MOVING = ("boards", "players", "held", "steps", "episodes")


class BoxWorld(Environment):
    """A room with keys and boxes; the key in one box opens the next, the last holds the gem, the others lead nowhere.

    Zambaldi et al. 2018; the window of Santoro et al. 2018, A.3; rules of the code released in pycolab's examples.
    Observations are u8[B size+2 size+2 3], the whole board with the held key's color in its corner, or, with a `view`,
    u8[B view view 6]: the window around the player, and a frame that is all of the held key's color (black: none).
    Actions: up, down, left, right.

    Args:
        num_envs: Worlds, B.
        seed: Whose levels.
        split: Which of its three streams of levels.
        size: Squares along a side of the room, without its border, 5 to 60.
        solution_length: Numbers of locks on the way to the gem, of which each level draws one.
        num_forward: Numbers of branches that lead nowhere, of which each level draws one.
        num_backward: Numbers of boxes with a key of the path behind a lock that is not on it, of which each level draws one.
        branch_length: Boxes on a branch.
        max_steps: After how many steps an episode is cut.
        num_colours: Colors of keys, 20 at most.
        dynamics: `paper`, or `released` where the released code differs: it has one more step and one color less, and the
            limit of steps terminates.
        view: 0 for the whole board, or the side of the window, an odd number.

    Raises:
        ValueError: a setting is out of its range, or boxes do not fit.
    """

    actions = 4
    measures = MEASURES
    on_device = True

    def __init__(
        self,
        num_envs: int = 1,
        seed: int = 0,
        split: Split = "train",
        size: int = 12,
        solution_length: Sequence[int] = (1, 2, 3, 4, 5),
        num_forward: Sequence[int] = (0, 1, 2, 3, 4, 5),
        num_backward: Sequence[int] = (0,),
        branch_length: int = 1,
        max_steps: int = 120,
        num_colours: int = 20,
        dynamics: Dynamics = "paper",
        view: int = 0,
    ) -> None:
        super().__init__(num_envs, seed, split)
        self.rule = Rule(
            size, solution_length, num_forward, num_backward, branch_length, max_steps, num_colours, dynamics
        )
        if isinstance(view, bool) or not isinstance(view, int) or view < 0 or (view and view % 2 == 0):
            raise ValueError(f"view: wanted 0 for the whole board or an odd side of the window, got {view!r}")
        if view > size:
            raise ValueError(f"view: wanted at most the size of the room, {size}, got {view}")
        self.view = view
        shape = f"{view} {view} 6" if view else f"{size + 2} {size + 2} 3"
        self.observation = Spec.parse(f"u8[B {shape}]")
        self.place(self.arrays)
        self.generator.fits()

    def place(self, arrays: Arrays) -> None:
        """Compute with these from the next `reset` on."""
        self.arrays, radius = arrays, self.view // 2
        self.generator = Generator(arrays, self.seed, self.split, self.rule, max(1, radius))
        self.side = side = self.generator.side
        self.moves = arrays.array([-side, side, -1, 1], "int64")
        self.rgb, self.held_rgb = arrays.array(RGB), arrays.array(HELD)
        around = np.arange(-radius, radius + 1)
        self.window = arrays.array((around[:, None] * side + around).reshape(-1), "int64")
        self.worlds = arrays.arange(self.num_envs)

    def reset(self) -> Array:
        """Begin every world from its first episode; the first observations."""
        self.generator.seed = self.seed
        self.steps, self.held, self.episodes = (self.arrays.zeros((self.num_envs,), "int64") for _ in range(3))
        self.boards, self.players = self.generator.draw(self.worlds, self.episodes)[:2]
        return self.observe()

    def step(self, actions: Array) -> Step:
        """Take actions [B] int64; `facts` says which episodes ended with the gem."""
        check_actions(actions, self.actions, self.num_envs)
        arrays, space = self.arrays, self.arrays.space
        ahead = self.players + self.moves[actions]
        code = self.boards[self.worlds, ahead]
        color = arrays.cast((code - KEY) % MOST_COLORS, "int64") + 1
        opens = (code >= LOCK) & (color == self.held)
        loose = (code >= GEM) & (code < LOCK) & (self.boards[self.worlds, ahead + 1] < LOCK)
        wrong, gem = opens & (code >= DISTRACTOR), loose & (code == GEM)
        moved = opens | loose | (code == BACKGROUND)
        self.boards[self.worlds, ahead] = space.where(moved, BACKGROUND, code)
        self.players = space.where(moved, ahead, self.players)
        self.held = space.where(opens, 0, space.where(loose & ~gem, color, self.held))
        self.steps = self.steps + 1
        rewards = GEM_REWARD * gem + RIGHT_REWARD * (opens & ~wrong) + WRONG_REWARD * wrong
        terminated, late = gem | wrong, self.steps >= self.rule.limit
        truncated = late & ~terminated
        if self.rule.dynamics == "released":
            terminated, truncated = terminated | late, truncated & False
        ended = arrays.rows(terminated | truncated)
        cut = ended if self.finals_of == "ended" else arrays.rows(truncated)
        finals = self.observe(cut) if len(cut) else None
        if len(ended):
            self._begin(ended)
        solved = {"solved": arrays.cast(gem, "float32")}
        return Step(self.observe(), arrays.cast(rewards, "float32"), terminated, truncated, finals, solved)

    def observe(self, worlds: Array | None = None) -> Array:
        """What is seen now in all worlds, or in these [n]."""
        boards, players, held = self.boards, self.players, self.held
        if worlds is not None:
            boards, players, held = boards[worlds], players[worlds], held[worlds]
        arrays, count, rows = self.arrays, len(boards), self.worlds[: len(boards)]
        if not self.view:
            shown = self._colors(boards)
            shown[rows, players] = self.rgb[PLAYER]
            shown[:, 0] = self.held_rgb[held]
            return shown.reshape(count, self.side, self.side, 3)
        squares = boards.reshape(-1).take((players + self.side**2 * rows)[:, None] + self.window[None])
        squares[:, self.view**2 // 2] = PLAYER
        shown = arrays.zeros((count, self.view**2, 6), "uint8")
        shown[:, :, :3] = self._colors(squares)
        shown[:, :, 3:] = self.held_rgb[held][:, None]
        return shown.reshape(count, self.view, self.view, 6)

    def _colors(self, squares: Array) -> Array:
        """Red, green and blue of squares [n k]: [n k 3] uint8. Numpy's `take` is five times as fast as its indexing."""
        return RGB.take(squares, axis=0) if self.arrays.device is None else self.rgb[self.arrays.cast(squares, "int64")]

    def state_dict(self) -> dict[str, Any]:
        """Boards, players, held keys, steps and episodes, and what they are of."""
        moving = {name: self.arrays.tensor(getattr(self, name)).clone() for name in MOVING}
        return {**moving, "seed": self.seed, "split": self.split, "view": self.view, "rule": repr(self.rule)}

    def load_state_dict(self, state: dict[str, Any]) -> Array:
        """Go on from what `state_dict` returned; the observations as they were then."""
        known = {"seed": self.seed, "split": self.split, "view": self.view, "rule": repr(self.rule)}
        for name, here in known.items():
            if state[name] != here:
                raise ValueError(f"{name}: the state is of {state[name]}, and this is {here}")
        if len(state["players"]) != self.num_envs:
            raise ValueError(f"num_envs: the state is of {len(state['players'])} worlds, and these are {self.num_envs}")
        self.generator.seed = self.seed
        for name in MOVING:
            setattr(self, name, self.arrays.array(state[name]))
        return self.observe()

    def level(self, world: int = 0) -> Level:
        """The level that a world is in, as it began."""
        chosen = slice(world, world + 1)
        return self.generator.level(self.generator.draw(self.worlds[chosen], self.episodes[chosen]), 0)

    def render(self, world: int = 0) -> np.ndarray:
        """The whole board, the held key in its corner, and the frame of the window where there is one: [H W 3] uint8."""
        board = self.arrays.numpy(self.boards[world]).copy()
        player, side = int(self.players[world]), self.side
        board[player] = PLAYER
        shown = RGB[board].reshape(side, side, 3)
        outer = self.generator.margin - 1
        shown = shown[outer : side - outer, outer : side - outer].copy()
        shown[0, 0] = HELD[int(self.held[world])]
        shown = shown.repeat(SCALE, 0).repeat(SCALE, 1)
        if self.view:
            y, x = (SCALE * (each - outer - self.view // 2) for each in divmod(player, side))
            span = SCALE * self.view
            inside = shown[max(y, 0) : y + span, max(x, 0) : x + span]
            inside[:2] = inside[-2:] = FRAME
            inside[:, :2] = inside[:, -2:] = FRAME
        return shown

    def scripted(self) -> Mapping[str, Policy]:
        """`greedy` takes the nearest that it can, whatever it leads to; `solver` knows which locks are wrong."""
        return {"greedy": lambda: toward(self, knows=False), "solver": lambda: toward(self, knows=True)}

    def _begin(self, ended: Array) -> None:
        """New episodes in these worlds [n]."""
        self.episodes[ended] += 1
        self.boards[ended], self.players[ended] = self.generator.draw(ended, self.episodes[ended])[:2]
        self.held[ended] = 0
        self.steps[ended] = 0
