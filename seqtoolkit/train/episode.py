"""Episode: whole episodes, played by a policy or by a rule, and an evaluation of a model by them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from seqtoolkit.flow.environment import Environment
from seqtoolkit.flow.graph import Graph
from seqtoolkit.flow.replay import Replay
from seqtoolkit.flow.source import Sample
from seqtoolkit.train.evaluate import Evaluated
from seqtoolkit.train.optimize import Update
from seqtoolkit.train.player import Player, Worlds

FRAMES = 500
"""How many frames of an episode are kept at most."""

Choose = Callable[[Tensor, Tensor], Tensor]
"""Actions [B] for observations [B ...], where `first` [B] says in which worlds an episode begins."""


@dataclass(frozen=True)
class Episode:
    """One whole episode: number `number` // B of the world `number` % B."""

    number: int
    facts: Mapping[str, float]
    """`episode_return`, `episode_length`, and what the environment measures"""
    replay: Replay | None = None
    """where it was watched"""

    def __str__(self) -> str:
        earned, length = self.facts["episode_return"], self.facts["episode_length"]
        more = "".join(f", {name} {value:g}" for name, value in self.facts.items() if not name.startswith("episode_"))
        return f"return {earned:g} in {length:g} steps{more}"


def play(worlds: Worlds, choose: Choose, count: int, watched: int = 0) -> Iterator[Episode]:
    """The first `count` episodes, counted world by world and then anew, in the order in which they end.

    So that short ones do not come in the place of long ones, each world plays its share. The first `watched` of them,
    at most one of each world, have a replay where the environment draws.
    """
    environment, device = worlds.environment, worlds.device
    rows = environment.num_envs
    seen = worlds.reset()
    first = torch.ones(rows, dtype=torch.bool, device=device)
    running, played = np.zeros((2, rows)), np.zeros(rows, np.int64)
    filming = {
        world: _Film(environment, world) for world in range(min(watched, rows, count) if environment.renders else 0)
    }
    while (played * rows + np.arange(rows) < count).any():
        made = worlds.step(choose(seen, first))
        worlds.finite("the observation", made.observations[None])
        worlds.finite("the reward", made.rewards[None])
        rewards = made.rewards.cpu().numpy().astype(np.float64)
        running += np.stack([rewards, np.ones(rows)])
        first = made.terminated | made.truncated
        ended = first.cpu().numpy()
        for world, film in filming.items():
            film.add(rewards[world], ended=bool(ended[world]))
        for world in np.flatnonzero(ended).tolist():
            number = int(played[world]) * rows + world
            facts = {name: float(each[world]) for name, each in made.facts.items()}
            earned, length = running[:, world].tolist()
            replay = filming.pop(world).replay(earned, length) if world in filming else None
            if number < count:
                yield Episode(number, {"episode_return": earned, "episode_length": length, **facts}, replay)
        running[:, ended], played = 0, played + ended
        seen = made.observations


class _Film:
    """The frames of one world until its episode ends."""

    def __init__(self, environment: Environment, world: int) -> None:
        self.environment, self.world = environment, world
        self.frames, self.rewards = [environment.render(world)], list[float]()

    def add(self, reward: float, *, ended: bool) -> None:
        """The frame after an action; that of another episode is none."""
        if len(self.frames) < FRAMES:
            self.rewards.append(reward)
            self.frames.append(self.frames[-1] if ended else self.environment.render(self.world))

    def replay(self, earned: float, length: float) -> Replay:
        """All of it."""
        name = f"episode {self.world + 1}: return {earned:g} in {length:g} steps"
        return Replay(name, np.stack(self.frames), np.array(self.rewards))


class Episodes:
    """An evaluation: a model plays the first `examples` episodes of an environment, the same ones every time.

    Args:
        graph: Whose model plays.
        origin: The worlds in which it is evaluated, apart from those in which it learns.
        examples: How many episodes.
        samples: How many of them are shown.
        greedy: Whether it takes the likeliest action, and draws none.
    """

    def __init__(
        self, graph: Graph, origin: Environment, examples: int | None, samples: int = 0, *, greedy: bool = False
    ) -> None:
        if examples is None:
            raise ValueError("examples: wanted a number of episodes, for an environment has no end, got null")
        if examples < 1:
            raise ValueError(f"examples: wanted at least 1, got {examples}")
        self.graph, self.origin, self.examples, self.samples, self.greedy = graph, origin, examples, samples, greedy

    def __call__(self, update: Update, stopped: Callable[[], bool] = lambda: False) -> Evaluated | None:
        """Evaluate the model as it is now; None where `stopped` came true meanwhile. Raises ValueError where a world fails."""
        episodes = self.played(update, stopped)
        if episodes is None:
            return None
        shown = episodes[: self.samples]
        samples = [Sample(f"episode {each.number + 1}", "", str(each)) for each in shown]
        return Evaluated(self._named(means(episodes)), samples, [], [each.replay for each in shown if each.replay])

    def played(self, update: Update, stopped: Callable[[], bool] = lambda: False) -> list[Episode] | None:
        """The episodes in the order of their numbers, as `__call__` has them."""
        model = self.graph.model
        was_training = model.training
        model.eval()
        try:
            seed = None if self.greedy else self.origin.seed
            player = Player(model, self.origin.num_envs, update.autocast, seed)

            def choose(seen: Tensor, first: Tensor) -> Tensor:
                _unless(stopped())
                return player(seen, first).actions

            return sorted(play(Worlds(self.origin, update.device), choose, self.examples, self.samples), key=_number)
        except _Stopped:
            return None
        finally:
            model.train(was_training)

    def baselines(self) -> dict[str, float]:
        """The mean return of a policy that chooses at random, and of each scripted player, in the same worlds."""
        environment = self.origin
        draws = np.random.default_rng(environment.seed)
        rows, arrays = environment.num_envs, environment.arrays
        players = {
            "random": lambda: arrays.array(draws.integers(environment.actions, size=rows)),
            **environment.scripted(),
        }
        device = arrays.device or torch.device("cpu")
        found = {}
        for name, decide in players.items():
            episodes = play(
                Worlds(environment, device), lambda *_, decide=decide: arrays.tensor(decide()), self.examples
            )
            found[f"{name}_return"] = means(episodes)["episode_return"]
        return self._named(found)

    def close(self) -> None:
        """Close the worlds."""
        self.origin.close()

    def count(self) -> int:
        """On how many episodes."""
        return self.examples

    def _named(self, found: Mapping[str, float]) -> dict[str, float]:
        return {f"{self.origin.split}/{name}": value for name, value in found.items()}


def means(episodes: Iterable[Episode]) -> dict[str, float]:
    """The mean of each fact of episodes."""
    facts = [each.facts for each in episodes]
    return {name: fmean(each[name] for each in facts) for name in facts[0]}


def _number(episode: Episode) -> int:
    return episode.number


def _unless(stopped: bool) -> None:  # noqa: FBT001  it is all that it is about
    if stopped:
        raise _Stopped


class _Stopped(Exception):  # noqa: N818  no error: the wish to stop
    """Nobody waits for the evaluation any more."""
