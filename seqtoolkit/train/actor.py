"""Actor: trajectories of a policy in an environment, each from where the one before has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from seqtoolkit.flow.core import State, leaves, map_state, refill
from seqtoolkit.flow.environment import Environment
from seqtoolkit.flow.model import Model
from seqtoolkit.train.optimize import exact
from seqtoolkit.train.player import Player, Worlds

_COLUMNS = ("actions", "log_probabilities", "rewards", "ended", "truncated", "afterwards")


@dataclass(frozen=True)
class Trajectory:
    """T steps in B worlds, and what is seen after them."""

    inputs: Tensor
    """[T+1 B ...]: what was seen before each action, and after the last"""
    first: Tensor
    """[T+1 B] bool: where an episode begins"""
    actions: Tensor
    """[T B] int64"""
    log_probabilities: Tensor
    """[T B]: of the actions, by the policy that chose them"""
    rewards: Tensor
    """[T B]"""
    ended: Tensor
    """[T B] bool: where an action was the last of its episode"""
    truncated: Tensor
    """[T B] bool: where it was so by a limit alone"""
    afterwards: Tensor
    """[T B]: the value of what was last seen of a truncated episode, at the scale of the rewards; 0 elsewhere"""
    episodes: Mapping[str, Tensor]
    """[total, count] each: of the episodes that have ended, `episode_return`, `episode_length`, and the environment's own"""
    state: State
    """in which acting began, [B ...]"""

    @property
    def size(self) -> int:
        """How many frames it has, of which each is one action in one world."""
        return self.actions.numel()

    def state_dict(self) -> dict[str, Any]:
        """It as plain tensors."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        return plain | {"episodes": dict(self.episodes), "state": leaves(self.state)}

    @classmethod
    def of(cls, saved: Mapping[str, Any], state: State, device: torch.device) -> Trajectory:
        """What `state_dict` returned, on a device, where `state` is, one of its core."""
        moved = {name: each.to(device) for name, each in saved.items() if isinstance(each, Tensor)}
        episodes = {name: each.to(device, exact(device)) for name, each in saved["episodes"].items()}
        return cls(**moved, episodes=episodes, state=refill(state, saved["state"]))


class Actor:
    """Acts in an environment by a model, `unroll` steps at a time.

    Args:
        environment: The worlds.
        model: Its policy; it is put into evaluation mode for each trajectory's time.
        unroll: How many steps a trajectory has (T).
        device: Where the model is.
        autocast: The context in which it computes.
        seed: Of the draws of actions.
    """

    def __init__(
        self,
        environment: Environment,
        model: Model,
        unroll: int,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[Any]],
        seed: int,
    ) -> None:
        self.model, self.unroll, self.device = model, unroll, device
        self.worlds = Worlds(environment, device)
        self.player = Player(model, environment.num_envs, autocast, seed)
        rows = environment.num_envs
        self.mean, self.std = torch.zeros((), device=device), torch.ones((), device=device)
        """From the head's values, as the head is now, to the scale of the rewards."""
        self._seen: Tensor | None = None
        self._first = torch.ones(rows, dtype=torch.bool, device=device)
        self._running = torch.zeros(2, rows, dtype=exact(device), device=device)
        """The return and the length of each episode so far."""

    @torch.no_grad()
    def __call__(self) -> Trajectory:
        """The next trajectory. Raises ValueError, one line, where the environment fails."""
        was_training = self.model.training
        self.model.eval()
        try:
            return self._act()
        finally:
            self.model.train(was_training)

    def _act(self) -> Trajectory:
        seen = self.worlds.reset() if self._seen is None else self._seen
        state = map_state(Tensor.clone, self.player.state)
        inputs = seen.new_empty(self.unroll + 1, *seen.shape)  # an environment may use its own memory again
        rows: list[dict[str, Tensor]] = []
        firsts, episodes = [self._first], dict[str, Tensor]()
        inputs[0] = seen
        for step in range(self.unroll):
            actions, chances = self.player(inputs[step], self._first)
            made = self.worlds.step(actions)
            inputs[step + 1] = made.observations
            ended = made.terminated | made.truncated
            afterwards = torch.zeros_like(chances)
            if made.finals is not None and len(made.finals):
                cut = made.truncated.nonzero().squeeze(1)
                afterwards[cut] = (self.player.values(made.finals, cut) * self.std + self.mean).to(afterwards.dtype)
            self._count(made.rewards, ended, made.facts, episodes)
            kept = actions, chances, made.rewards.clone(), ended, made.truncated.clone(), afterwards
            rows.append(dict(zip(_COLUMNS, kept, strict=True)))
            self._first = ended
            firsts.append(ended)
        self._seen = inputs[-1].clone()
        columns = {name: torch.stack([row[name] for row in rows]) for name in _COLUMNS}
        self.worlds.finite("the observation", inputs)
        self.worlds.finite("the reward", columns["rewards"])
        return Trajectory(**columns, inputs=inputs, first=torch.stack(firsts), episodes=episodes, state=state)

    def _count(self, rewards: Tensor, ended: Tensor, facts: Mapping[str, Tensor], episodes: dict[str, Tensor]) -> None:
        self._running += torch.stack([rewards, torch.ones_like(rewards)])
        known = {"episode_return": self._running[0], "episode_length": self._running[1], **facts}
        count = ended.sum()
        for name, value in known.items():
            pair = torch.stack([value.where(ended, 0).sum(dtype=self._running.dtype), count.to(self._running.dtype)])
            episodes[name] = episodes[name] + pair if name in episodes else pair
        self._running.masked_fill_(ended, 0)

    def state_dict(self) -> dict[str, Any]:
        """Everything that moves: the worlds, the memory, and the episodes so far."""
        if self._seen is None:
            return {"worlds": None}
        return {
            "worlds": self.worlds.environment.state_dict(),
            "player": self.player.state_dict(),
            "first": self._first.clone(),
            "running": self._running.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned. Raises ValueError where it is of other worlds."""
        if state["worlds"] is None:
            return
        if len(state["first"]) != len(self._first):
            wanted, given = len(state["first"]), len(self._first)
            raise ValueError(f"environment.num_envs: wanted {wanted}, as before, to go on with the worlds; got {given}")
        self._seen = self.worlds.load_state_dict(state["worlds"])
        self.player.load_state_dict(state["player"])
        self._first, self._running = state["first"].to(self._first), state["running"].to(self._running)
