"""GymnasiumWorlds: separate environments of Gymnasium, one a world, stepped one after the other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from seqtoolkit.sdk import Environment, Split, Step, check_actions
from seqtoolkit_gymnasium.view import UNREAL, MisfitError, view
from seqtoolkit_gymnasium.world import World

_AHEAD = 64


class GymnasiumWorlds(Environment):
    """Worlds of any environment of Gymnasium whose actions are `Discrete`.

    Each episode of world i begins by `reset(seed=...)`, with a seed that is a function of (seed, split, i, episode).
    A snapshot is the number of each world's episode and the actions taken there, which `load_state_dict` takes again: that is
    exact wherever all that happens in an episode is a function of its seed and the actions, and refused where the
    observation is then another; it takes as long as those episodes have taken so far.

    Args:
        id: of the environment, as gymnasium.make takes it: CartPole-v1
        num_envs: how many worlds there are
        seed: of the run
        split: train, valid or test, each with episodes of its own
        options: what gymnasium.make gives the environment, by name
        max_episode_steps: cuts episodes after so many steps; null leaves it to the environment
    """

    def __init__(
        self,
        id: str,  # noqa: A002  so Gymnasium calls it
        num_envs: int = 1,
        seed: int = 0,
        split: Split = "train",
        options: Mapping[str, Any] | None = None,
        max_episode_steps: int | None = None,
    ) -> None:
        super().__init__(num_envs, seed, split)
        if max_episode_steps is not None and max_episode_steps < 1:
            raise ValueError(f"max_episode_steps: wanted at least 1, or null, got {max_episode_steps}")
        self.id, self.options, self.limit = id, dict(options or {}), max_episode_steps
        _require_plain(id)
        first = self._make()
        if "rgb_array" in (first.metadata.get("render_modes") or ()) and "render_mode" not in self.options:
            first.close()
            self.options["render_mode"] = "rgb_array"
            first = self._make()
        if not isinstance(first.action_space, spaces.Discrete):
            raise ValueError(f"id: {id} has actions {first.action_space}, and only Discrete ones can be taken")
        try:
            self.view = view(first.observation_space)
        except ValueError as error:
            raise ValueError(f"id: {id}: {error}") from None
        self.observation, self.actions = self.view.spec, int(first.action_space.n)
        made = [first, *(self._make() for _ in range(num_envs - 1))]
        self.worlds = [World(f"{id}, world {i}", each, self.view, self._seeds(i)) for i, each in enumerate(made)]
        self.seen = self._room()

    def reset(self) -> np.ndarray:
        """Begin every world from its first episode; the first observations [B ...]. Raises ValueError as `step` does."""
        seen = self._room()
        for i, world in enumerate(self.worlds):
            world.seed = self._seeds(i)
            seen[i] = world.begin(0)
        return self._kept(seen)

    def step(self, actions: np.ndarray) -> Step:
        """Take actions [B]. Raises ValueError, one line, where an action is none or an environment fails, with world and step."""
        check_actions(actions, self.actions, self.num_envs)
        seen, rewards, ends, finals = self._room(), [], [], []
        for i, (world, action) in enumerate(zip(self.worlds, actions.tolist(), strict=True)):
            observation, reward, terminated, truncated = world.take(action)
            if terminated or truncated:
                if truncated or self.finals_of == "ended":
                    finals.append(observation)
                observation = world.begin(world.episode + 1)
            seen[i] = observation
            rewards.append(reward)
            ends.append((terminated, truncated))
        seen = self._kept(seen)
        terminated, truncated = np.array(ends, np.bool_).T.copy()
        last = np.stack(finals).astype(self.view.dtype) if finals else None
        return Step(seen, np.array(rewards, np.float32), terminated, truncated, last)

    def state_dict(self) -> dict[str, Any]:
        """The episode of each world, the actions taken there one world after the other, and the observations after them."""
        lists = [world.actions for world in self.worlds]
        return {
            "of": self._settings(),
            "episodes": torch.tensor([world.episode for world in self.worlds]),
            "lengths": torch.tensor([len(each) for each in lists]),
            "actions": torch.tensor([action for each in lists for action in each], dtype=torch.int64),
            "observations": torch.from_numpy(self.seen.copy()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> np.ndarray:
        """Take all actions of the episodes again. Raises ValueError where that leads elsewhere, or it is of other worlds."""
        if state.get("of") != self._settings():
            raise ValueError(f"the state is of other worlds: wanted those of {self._settings()}, got {state.get('of')}")
        seen = self._room()
        lists = state["actions"].split(state["lengths"].tolist())
        for i, (world, episode, actions) in enumerate(zip(self.worlds, state["episodes"].tolist(), lists, strict=True)):
            world.seed = self._seeds(i)
            seen[i] = world.repeat(episode, actions.tolist())
            if not np.array_equal(seen[i], state["observations"][i].numpy()):
                raise world.strayed()
        return self._kept(seen)

    def render(self, world: int = 0) -> np.ndarray:
        """What the environment draws: [H W 3] uint8. Raises ValueError, one line, where it draws nothing."""
        if self._why_blank:
            raise ValueError(f"{self.id} draws no pictures here: {self._why_blank}")
        return _frame(self.worlds[world].made)

    @property
    def renders(self) -> bool:
        """Whether it draws pictures: found out once, by one of its own."""
        return not self._why_blank

    def close(self) -> None:
        """Close every environment."""
        for world in self.worlds:
            world.made.close()

    @cached_property
    def _why_blank(self) -> str:
        trial = self._make()
        try:
            trial.reset(seed=0)
            _frame(trial)
        except Exception as error:  # noqa: BLE001  whatever an environment raises, such as that pygame is missing
            return f"{type(error).__name__}: {' '.join(str(error).split())}"
        finally:
            trial.close()
        return ""

    def _make(self) -> gymnasium.Env:
        try:
            return gymnasium.make(self.id, self.limit, disable_env_checker=True, **self.options)
        except Exception as error:
            key = "options" if isinstance(error, TypeError) and self.options.keys() - {"render_mode"} else "id"
            text = " ".join(str(error).split())
            known = isinstance(error, gymnasium.error.Error)
            raise ValueError(f"{key}: {text if known else f'{self.id}: {type(error).__name__}: {text}'}") from error

    def _seeds(self, world: int) -> Callable[[int], int]:
        """By which seed each episode of a world begins: 31 bits, which every environment takes."""
        made: dict[int, list[int]] = {}
        arrays, seed, split = self.arrays, self.seed, self.split

        def of(episode: int) -> int:
            block, place = divmod(episode, _AHEAD)
            if block not in made:
                made.clear()
                indexes = (world << 40) + block * _AHEAD + np.arange(_AHEAD)
                made[block] = (np.asarray(arrays.numpy(arrays.bits(seed, split, indexes, 1)))[:, 0] >> 31).tolist()
            return made[block][place]

        return of

    def _kept(self, seen: np.ndarray) -> np.ndarray:
        """The observations, looked at, and kept for a snapshot."""
        if self.view.dtype is np.float32 and not np.isfinite(seen).all():
            world = self.worlds[int(np.flatnonzero(~np.isfinite(seen).all(1))[0])]
            raise world.broken(MisfitError(UNREAL))
        self.seen = seen
        return seen.copy()

    def _room(self) -> np.ndarray:
        return np.empty((self.num_envs, *self.view.shape), self.view.dtype)

    def _settings(self) -> str:
        known = {"id": self.id, "options": self.options, "max_episode_steps": self.limit}
        return json.dumps({**known, "num_envs": self.num_envs, "seed": self.seed, "split": self.split}, default=str)


def _frame(made: gymnasium.Env) -> np.ndarray:
    frame = np.asarray(made.render())
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise ValueError(
            f"wanted a picture of uint8 and shape (height, width, 3), got {frame.dtype} of shape {frame.shape}"
        )
    return frame


def _require_plain(given: str) -> None:
    """An id may name a module (`ale_py:ALE/Pong-v5`) of a package that is made for Gymnasium; a pipeline imports no other."""
    module, colon, _ = given.rpartition(":")
    if colon and not any(re.match(r"gymnasium\b", line) for line in _required(module.partition(".")[0])):
        raise ValueError(f"id: {given}: {module or 'no module'} is not of an installed package that requires Gymnasium")


def _required(package: str) -> list[str]:
    """What the distributions of a package require."""
    try:
        return requires(package) or []
    except (PackageNotFoundError, ValueError):  # a ValueError where the name is empty
        return [line for owner in packages_distributions().get(package, ()) for line in requires(owner) or ()]
