"""World: one environment of Gymnasium, episode after episode, each begun by a seed of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from seqtoolkit_gymnasium.view import UNREAL, MisfitError, View


class Taken(NamedTuple):
    """What an action has led to."""

    observation: Any
    reward: float
    terminated: bool
    truncated: bool


class World:
    """An environment, the `episode` it is in (from 0), and the `actions` taken there.

    What the environment does against its contract is a ValueError of one line: it raises, an observation does not fit its
    space, a number is not finite. Whether those of observations are is seen at the end of an episode; who has them of all
    worlds looks at the others at once, and raises `broken`.
    """

    def __init__(self, name: str, made: gymnasium.Env, view: View, seed: Callable[[int], int]) -> None:
        """`name` for messages; `seed` says by which seed each episode begins."""
        self.name, self.made, self.view, self.seed = name, made, view, seed
        self.start = int(getattr(made.action_space, "start", 0))
        self.episode = 0
        self.actions: list[int] = []

    def begin(self, episode: int) -> Any:
        """Its first observation."""
        self.episode, self.actions = episode, []
        try:
            observation, _ = self.made.reset(seed=self.seed(episode))
            return self.view.read(observation)
        except Exception as error:
            raise self.broken(error) from error

    def take(self, action: int) -> Taken:
        """Take an action, from 0."""
        self.actions.append(action)
        try:
            observation, reward, terminated, truncated, _ = self.made.step(action + self.start)
            reward, terminated = float(reward), bool(terminated)
            taken = Taken(self.view.read(observation), reward, terminated, bool(truncated) and not terminated)
            if not math.isfinite(reward):
                raise MisfitError(f"wanted a finite number as reward, got {reward}")  # noqa: TRY301  told as all else is
            if taken.terminated or taken.truncated:
                if not np.isfinite(taken.observation).all():
                    raise MisfitError(UNREAL)  # noqa: TRY301  told as all else is
                return taken._replace(observation=np.array(taken.observation))
        except Exception as error:
            raise self.broken(error) from error
        return taken

    def repeat(self, episode: int, actions: Iterable[int]) -> Any:
        """Begin an episode and take actions there; the observation after them. Raises ValueError where it ends before."""
        observation = self.begin(episode)
        for action in actions:
            taken = self.take(action)
            if taken.terminated or taken.truncated:
                raise self.strayed()
            observation = taken.observation
        return observation

    def broken(self, error: Exception) -> ValueError:
        """What is wrong with the environment, for whoever runs it."""
        text = " ".join(str(error).split())
        return ValueError(
            f"{self._place()}: {text if isinstance(error, MisfitError) else f'{type(error).__name__}: {text}'}"
        )

    def strayed(self) -> ValueError:
        """That the environment has not come again to where it was."""
        why = "not all that happens there is a function of its seed and the actions, so that a run of it cannot be resumed"
        return ValueError(f"{self._place()}: the same actions have led elsewhere: {why}")

    def _place(self) -> str:
        at = f"step {len(self.actions)}" if self.actions else "the reset"
        return f"{self.name}, at {at} of its episode {self.episode}"
