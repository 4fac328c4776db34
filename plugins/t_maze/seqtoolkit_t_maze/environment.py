"""Environment: Bakker's T-maze in many worlds at once, its rules written once for numpy and for torch on any device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from seqtoolkit.sdk import Array, Arrays, Environment, Policy, Spec, Split, Step, check_actions

NORTH, EAST, SOUTH, WEST = range(4)
VIEWS = ((0, 1, 1), (1, 1, 0), (1, 0, 1), (0, 1, 0))
"""What is seen: the sign for north, the sign for south, the corridor, the junction."""
CORRIDOR, JUNCTION = 2, 3
RIGHT_REWARD, WRONG_REWARD = 4.0, -0.1
CUES, NOISE, GUESSES = range(3)
"""What each stream of chance is for."""
MOVING = ("square", "sign", "age", "tick")
SETTINGS = ("num_envs", "length", "limit", "noise")
SCALE = 16
"""Pixels to a square's side in what `render` draws."""
FLOOR, SIGN, PLAYER = (90, 90, 90), (60, 190, 90), (70, 120, 240)


class TMaze(Environment):
    """A sign at the start tells which way to turn at the junction, a corridor away: north or south.

    Bakker 2002, Reinforcement learning with long short-term memory (NIPS 14), section 4. Observations f32[B 3]; actions:
    north, east, south, west.

    Args:
        num_envs: Worlds, B.
        seed: Whose signs.
        split: Which of its three streams of signs.
        length: Steps from the start to the junction, which looks the same whatever the sign.
        limit: After how many steps an episode is cut.
        noise: Whether the corridor looks like `a 0 b`, a and b uniform in [0, 1) and drawn anew at each step.

    Raises:
        ValueError: the length is below 1, or the limit too short to walk there and turn.
    """

    observation = Spec.parse("f32[B 3]")
    actions = 4
    measures = {"right": "higher"}  # noqa: RUF012  the contract has it so: nobody writes to it
    on_device = True

    def __init__(
        self,
        num_envs: int = 1,
        seed: int = 0,
        split: Split = "train",
        length: int = 6,
        limit: int = 50,
        noise: bool = False,  # noqa: FBT001, FBT002  a key of a pipeline
    ) -> None:
        super().__init__(num_envs, seed, split)
        if length < 1:
            raise ValueError(f"length: wanted at least 1 step from the sign to the junction, got {length}")
        if limit <= length:
            raise ValueError(f"limit: wanted at least {length + 1} steps, to walk {length} and turn, got {limit}")
        self.length, self.limit, self.noise = length, limit, noise
        self.place(self.arrays)

    def place(self, arrays: Arrays) -> None:
        """Compute with these from the next `reset` on."""
        self.arrays = arrays
        self.views = arrays.array(VIEWS, "float32")
        self.worlds = arrays.arange(self.num_envs)

    def reset(self) -> Array:
        """Begin every world from its first episode; the first observations [B 3]."""
        self.square, self.age, self.tick = (self.arrays.zeros((self.num_envs,), "int64") for _ in range(3))
        self.sign = self._chance(CUES)[:, 0] % 2
        return self._observe()

    def step(self, actions: Array) -> Step:
        """Take actions [B] int64; `facts` says which episodes ended by the right turn."""
        check_actions(actions, self.actions, self.num_envs)
        cast, where = self.arrays.cast, self.arrays.space.where
        terminated = (self.square == self.length) & ((actions == NORTH) | (actions == SOUTH))
        right = terminated & (actions == where(self.sign == 0, NORTH, SOUTH))
        ahead = self.square + cast(actions == EAST, "int64") - cast(actions == WEST, "int64")
        moved = (ahead != self.square) & (ahead >= 0) & (ahead <= self.length)
        rewards = where(right, RIGHT_REWARD, where(moved, 0.0, WRONG_REWARD))
        self.square = where(moved, ahead, self.square)
        self.age, self.tick = self.age + 1, self.tick + 1
        truncated = (self.age >= self.limit) & ~terminated
        ended = terminated | truncated
        cut = ended if self.finals_of == "ended" else truncated
        finals = self._observe()[cut] if bool(cut.any()) else None
        self._begin(ended)
        facts = {"right": cast(right, "float32")}
        return Step(self._observe(), cast(rewards, "float32"), terminated, truncated, finals, facts)

    def state_dict(self) -> dict[str, Any]:
        """Everything that moves."""
        moving = {name: self.arrays.tensor(getattr(self, name)).clone() for name in MOVING}
        return {"of": {name: getattr(self, name) for name in SETTINGS}, **moving}

    def load_state_dict(self, state: dict[str, Any]) -> Array:
        """Go on from what `state_dict` returned; the observations as they were then."""
        for name in SETTINGS:
            if state["of"][name] != getattr(self, name):
                raise ValueError(f"{name}: wanted {state['of'][name]}, as in the state, got {getattr(self, name)}")
        for name in MOVING:
            setattr(self, name, self.arrays.array(state[name]))
        return self._observe()

    def render(self, world: int = 0) -> np.ndarray:
        """The maze from above, [3*16 (length+1)*16 3] uint8: the player blue, and the goal green."""
        squares = np.zeros((3, self.length + 1, 3), np.uint8)
        squares[1], squares[:, -1] = FLOOR, FLOOR
        squares[2 * int(self.sign[world]), -1] = SIGN
        squares[1, int(self.square[world])] = PLAYER
        return squares.repeat(SCALE, axis=0).repeat(SCALE, axis=1)

    def scripted(self) -> Mapping[str, Policy]:
        """`forgetful` walks to the junction and guesses: the best that there is without a memory, 1.95 an episode."""
        where = self.arrays.space.where

        def forgetful() -> Array:
            return where(self.square == self.length, 2 * (self._chance(GUESSES)[:, 0] % 2), EAST)

        return {"forgetful": forgetful}

    def _begin(self, ended: Array) -> None:
        where = self.arrays.space.where
        self.sign = where(ended, self._chance(CUES)[:, 0] % 2, self.sign)
        self.square, self.age = where(ended, 0, self.square), where(ended, 0, self.age)

    def _chance(self, stream: int) -> Array:
        return self.arrays.bits(self.seed, self.split, (self.worlds << 40) + self.tick, 2, stream)

    def _observe(self) -> Array:
        where = self.arrays.space.where
        view = where(self.square == 0, self.sign, where(self.square == self.length, JUNCTION, CORRIDOR))
        seen = self.views[view]
        if self.noise:
            inside = (view == CORRIDOR)[:, None] & (self.views[CORRIDOR] > 0)
            uniform = self.arrays.cast(self._chance(NOISE) >> 38, "float32") / 2**24
            seen = where(inside, uniform[:, [0, 0, 1]], seen)
        return seen
