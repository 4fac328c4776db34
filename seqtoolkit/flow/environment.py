"""Environment: many worlds at once, in which a policy acts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqtoolkit.flow.array import Array, Arrays
from seqtoolkit.flow.counter import Split
from seqtoolkit.flow.origin import Origin, known_split
from seqtoolkit.flow.spec import Spec, at_least

Better = Literal["higher", "lower"]
Policy = Callable[[], Array]
"""The actions that a scripted player takes in all worlds as they are now, [B] int64."""


class Step(NamedTuple):
    """What one action in each world has led to; B worlds, arrays as `Environment.arrays` makes them."""

    observations: Array
    """[B ...]: of the new episode where one has ended, whose first observation it is"""
    rewards: Array
    """[B] float32"""
    terminated: Array
    """[B] bool: the episode has ended by its rules"""
    truncated: Array
    """[B] bool: the episode was cut, by a limit of time; never where it has terminated"""
    finals: Array | None = None
    """[n ...]: the last observation of each episode that was truncated, in the order of its world; None where none was.
    Of each that has ended where the environment's `finals_of` says so."""
    facts: Mapping[str, Array] = {}
    """[B] float32 each: what `measures` names of the episodes that have ended now; of no meaning in other worlds"""


class Environment(Origin, ABC):
    """`num_envs` worlds that go on side by side, each beginning anew by itself when its episode ends.

    All that happens in world i is a function of (seed, split, i) and the actions there, whatever the number of worlds and
    wherever it is computed. `reset` begins every world from its first episode.
    """

    observation: Spec
    """One observation of each world: `u8[B 5 5 3]`, a picture of height, width and channels; `f32[B 4]`; `i64<16>[B]`."""
    actions: int
    """How many actions there are; they are numbered from 0."""
    measures: Mapping[str, Better] = {}
    """What is known of each episode besides its return and its length, by name, and which is better: `solved`."""
    on_device: bool = False
    """Whether it can compute on any device by torch. Else its arrays are numpy's."""
    finals_of: Literal["truncated", "ended"] = "truncated"
    """Of which episodes a step brings the last observation: a learner has no use for those of terminated ones, and
    who asks for them before `reset` (Gymnasium's contract has them) may get them."""
    arrays: Arrays

    def __init__(self, num_envs: int = 1, seed: int = 0, split: Split = "train") -> None:
        at_least("num_envs", num_envs, 1)
        self.num_envs, self.seed, self.split = num_envs, seed, known_split(split)
        self.arrays = Arrays()

    def place(self, arrays: Arrays) -> None:
        """Compute with these from the next `reset` on. Overridden where tables have to move."""
        self.arrays = arrays

    @abstractmethod
    def reset(self) -> Array:
        """Begin every world from its first episode; the first observations [B ...]."""

    @abstractmethod
    def step(self, actions: Array) -> Step:
        """Take actions [B] int64, and begin a new episode where one ends.

        Raises ValueError where an action is none (where that costs no look at a GPU).
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that moves: tensors (copies), numbers, text, and dicts and lists of them."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> Array:
        """Go on from what `state_dict` returned, in place of `reset`; the observations as they were then [B ...].

        Raises ValueError where it is of other worlds.
        """

    def render(self, world: int = 0) -> np.ndarray:
        """What a person would see of a world: [H W 3] uint8, red, green, blue."""
        raise NotImplementedError(f"{type(self).__name__} draws no pictures")

    @property
    def renders(self) -> bool:
        """Whether it draws pictures."""
        return type(self).render is not Environment.render

    def scripted(self) -> Mapping[str, Policy]:
        """Players by rules of thumb, by name, with which a model is compared; what chance they have is their own affair."""
        return {}

    def close(self) -> None:
        """Let go of what it holds, such as processes or windows."""


def check_actions(actions: Array, count: int, num_envs: int) -> None:
    """Raises ValueError where the actions are not [num_envs], or one, whose world is named, is none of 0 to count - 1.

    Those on a GPU are not looked at: that would make it wait.
    """
    if tuple(actions.shape) != (num_envs,):
        raise ValueError(f"actions: wanted one for each of {num_envs} worlds, got the shape {list(actions.shape)}")
    if isinstance(actions, Tensor) and actions.device.type != "cpu":
        return
    given = np.asarray(actions)
    if given.size and not (given.min() >= 0 and given.max() < count):
        world = int(np.flatnonzero((given < 0) | (given >= count))[0])
        raise ValueError(f"action: wanted 0 to {count - 1}, got {given[world]} in world {world}")


def observed(spec: Spec) -> torch.dtype:
    """The dtype in which torch has what a spec says."""
    return {"u8": torch.uint8, "f32": torch.float32, "i64": torch.int64, "bool": torch.bool}[spec.dtype]
