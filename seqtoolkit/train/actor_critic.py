"""ActorCritic: the same step over trajectories of the model's own policy."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from seqtoolkit.flow.core import State
from seqtoolkit.flow.graph import Graph
from seqtoolkit.flow.policy import entropy, log_probabilities, split
from seqtoolkit.train.actor import Actor, Trajectory
from seqtoolkit.train.learner import Learner, MakeOptimizer, MakeSchedule
from seqtoolkit.train.normalization import PopArt
from seqtoolkit.train.optimize import Precision, Update, adam
from seqtoolkit.train.returns import gae, vtrace
from seqtoolkit.train.schedule import constant


@dataclass(frozen=True)
class _Valued:
    """What the steps of a trajectory were worth, at the scale of the rewards."""

    targets: Tensor
    advantages: Tensor


class ActorCritic(Learner):
    """An advantage actor-critic: acts `unroll` steps in all worlds, then takes one step along the gradient of what it saw.

    With `lag` 1 the next trajectory is made on a thread of its own, by the weights before the update that goes on
    meanwhile, and V-trace corrects for that (IMPALA; Espeholt et al. 2018); with `lag` 0 and `returns: gae` it is A2C
    (Mnih et al. 2016). The same seed gives the same numbers either way, each time. The loss of a frame is

        -advantage * log policy(action) + value_cost / 2 * (target - value)^2 - entropy_cost * entropy

    and that of an update is the mean over its frames; published settings often are of sums.
    """

    acts = True

    def __init__(
        self,
        graph: Graph,
        device: torch.device,
        steps: int,
        precision: Precision,
        optimizer: MakeOptimizer = adam,
        schedule: MakeSchedule = constant,
        clip: float | None = None,
        unroll: int = 20,
        discount: float = 0.99,
        returns: Literal["vtrace", "gae"] = "vtrace",
        trace: float = 1.0,
        entropy_cost: float = 0.01,
        value_cost: float = 0.5,
        reward_clip: float | None = None,
        normalize_values: bool = False,  # noqa: FBT001, FBT002  a pipeline names it
        lag: Literal[0, 1] = 1,
    ) -> None:
        """Make the optimizer and the actor.

        Args:
            graph: Whose model acts in whose environment.
            device: Where the model computes.
            steps: How many updates there will be, for the schedule.
            precision: At which the model computes.
            optimizer: How a gradient becomes a step.
            schedule: How the learning rate moves over the run.
            clip: The greatest L2 norm of the gradient; null leaves it.
            unroll: How many steps in each world an update learns from (T); an update has unroll * num_envs frames.
            discount: By which a reward counts less with each step until it comes (gamma).
            returns: How values are learned: vtrace, for a policy that has moved since it acted, or gae.
            trace: The share of what is carried back from later steps (lambda); 1 is n-step returns.
            entropy_cost: What the entropy of the policy, in nats, is worth.
            value_cost: How much the errors of the values count.
            reward_clip: The greatest size of a reward that is learned from; null learns from them as they are.
            normalize_values: Whether values are learned at a scale of their own (PopArt), whatever the size of the returns.
            lag: How many updates behind the policy acts: 1 is on a thread of its own while an update goes on, 0 is between
                updates.
        """
        super().__init__(graph, device)
        _require(unroll=unroll, discount=discount, trace=trace, entropy_cost=entropy_cost, value_cost=value_cost)
        if reward_clip is not None and not reward_clip > 0:
            raise ValueError(f"reward_clip: wanted a size above 0, or null, got {reward_clip:g}")
        self.discount, self.trace, self.reward_clip = discount, trace, reward_clip
        self.returns, self.entropy_cost, self.value_cost = returns, entropy_cost, value_cost
        make_factor = partial(schedule, steps=steps)
        self.update = Update(self.model, optimizer(self.model.parameters()), make_factor, clip, device, precision)
        self.popart = PopArt(_rescaled(self.model.head), device) if normalize_values else None
        self.lag = lag
        player = deepcopy(self.model) if lag else self.model
        environment = graph.environment
        self.actor = Actor(environment, player, unroll, device, self.update.autocast, environment.seed)
        # Autocast keeps one cache of cast weights for all threads, and drops it where the last block of any thread ends: amid
        # an update gradients would be summed otherwise. The actor's thread is inside of a block for ever, and keeps nothing.
        apart = torch.autocast(device.type, enabled=False, cache_enabled=False).__enter__
        self._pool = ThreadPoolExecutor(1, "seqtoolkit-actor", apart) if lag else None
        self._pending: Future[Trajectory] | None = None

    def stream(self) -> Iterator[Trajectory]:
        """Trajectories without end; the next one is being made while one is learned from, unless `lag` is 0."""
        while True:
            if self._pending is None:
                self._follow()
                trajectory = self.actor()
            else:
                trajectory, self._pending = self._pending.result(), None
            if self._pool is not None:
                self._follow()
                self._pending = self._pool.submit(self.actor)
            yield trajectory

    def start(self, batch: Trajectory, begin: int = 0) -> State:  # noqa: ARG002  a trajectory is read whole
        """The state in which acting began."""
        return batch.state

    def step(self, batch: Trajectory) -> dict[str, Any]:
        """One update; returns the parts of the loss, how the episodes went that ended, `gradient_norm`, `learning_rate`."""
        self.model.train()
        rate = self.update.begin()
        with self.update.autocast():
            predictions, _ = self.model(batch.inputs, self.start(batch), batch.first)
        logits, values = split(predictions)
        logits, values, last = logits[:-1], values[:-1], values[-1]
        chosen = log_probabilities(logits, batch.actions)
        valued = self._valued(batch, values.detach(), last.detach(), chosen.detach() - batch.log_probabilities)
        targets, advantages = valued.targets, valued.advantages
        if self.popart is not None:
            targets, advantages = self.popart.normalize(targets), advantages / self.popart.std.to(values.dtype)
        parts = {
            "policy_loss": -(advantages * chosen).mean(),
            "value_loss": (targets - values).square().mean() / 2,
            "entropy": entropy(logits).mean(),
        }
        loss = parts["policy_loss"] + self.value_cost * parts["value_loss"] - self.entropy_cost * parts["entropy"]
        self.update.backward(loss)
        norm = self.update.apply()
        if self.popart is not None:
            self.popart.update(valued.targets)
        told = {name: each.detach() for name, each in parts.items()}
        return {"loss": loss.detach(), **batch.episodes, **told, "gradient_norm": norm, "learning_rate": rate}

    def _valued(self, batch: Trajectory, values: Tensor, last: Tensor, log_ratios: Tensor) -> _Valued:
        """What the steps were worth: an episode that was cut is worth what was expected of it besides."""
        rewards = batch.rewards.to(values.dtype)
        if self.reward_clip is not None:
            rewards = rewards.clamp(-self.reward_clip, self.reward_clip)
        if self.popart is not None:
            values, last = self.popart.denormalize(values), self.popart.denormalize(last)
        rewards = rewards + self.discount * batch.afterwards.to(values.dtype)
        discounts = self.discount * (~batch.ended).to(values.dtype)
        if self.returns == "vtrace":
            found = vtrace(rewards, discounts, values, last, log_ratios, trace=self.trace)
            return _Valued(found.targets, found.advantages)
        advantages = gae(rewards, discounts, values, last, self.trace)
        return _Valued(values + advantages, advantages)

    @torch.no_grad()
    def _follow(self) -> None:
        """Give the actor the weights, and the scale of the values, as they are now."""
        if self.actor.model is not self.model:
            own, theirs = (list(each.state_dict().values()) for each in (self.actor.model, self.model))
            torch._foreach_copy_(own, theirs)
        if self.popart is not None:
            self.actor.mean, self.actor.std = self.popart.mean.clone(), self.popart.std

    def close(self) -> None:
        """Wait for the trajectory under way, and close the worlds."""
        if self._pool is not None:
            self._pool.shutdown()
        self.graph.environment.close()

    def state_dict(self) -> dict[str, Any]:
        """Everything that moves, but for the model's weights; a trajectory that is being made is waited for."""
        pending = None if self._pending is None else self._pending.result().state_dict()
        return {
            "update": self.update.state_dict(),
            "popart": None if self.popart is None else self.popart.state_dict(),
            "pending": pending,
            "actor": self.actor.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned. Raises ValueError where it is of another core, or of other worlds."""
        self.update.load_state_dict(state["update"])
        if (self.popart is None) != (state["popart"] is None):
            raise ValueError(f"normalize_values: wanted {state['popart'] is not None}, as before, to go on")
        if self.popart is not None:
            self.popart.load_state_dict(state["popart"])
        self.actor.load_state_dict(state["actor"])
        self._pending = None
        if state["pending"] is not None:
            self._pending = Future()
            self._pending.set_result(Trajectory.of(state["pending"], self.actor.player.state, self.device))


def _rescaled(head: Any) -> Any:
    if not hasattr(head, "rescale"):
        raise ValueError(
            f"normalize_values: wanted a head that can be rescaled, such as actor_critic, got {type(head).__name__}"
        )
    return head


def _require(unroll: int, **shares: float) -> None:
    if unroll < 1:
        raise ValueError(f"unroll: wanted at least 1, got {unroll}")
    for name, value in shares.items():
        if not value >= 0 or (name in ("discount", "trace") and value > 1):
            wanted = "0 to 1" if name in ("discount", "trace") else "at least 0"
            raise ValueError(f"{name}: wanted {wanted}, got {value:g}")
