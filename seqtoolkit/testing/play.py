"""Play: an environment under the actions that the laws take, its steps kept as copies, and how two of them differ."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqtoolkit.flow.array import Array, Arrays
from seqtoolkit.flow.counter import counter_bits
from seqtoolkit.flow.environment import Environment, Step
from seqtoolkit.flow.spec import Spec
from seqtoolkit.testing.block import check_field, equal
from seqtoolkit.testing.law import demand
from seqtoolkit.testing.nest import named

WORLDS = 8
"""How many worlds a law looks at."""


@dataclass
class Play:
    """The first observations [B ...] and the steps after them, all copies, numpy's."""

    first: np.ndarray
    steps: list[Step] = field(default_factory=list)

    @property
    def observations(self) -> list[np.ndarray]:
        """All observations, one more than the steps."""
        return [self.first, *(step.observations for step in self.steps)]

    def ended(self) -> list[tuple[int, Step]]:
        """The steps in which episodes ended, each with its number from 0; breaks the law where there are none."""
        found = [(at, step) for at, step in enumerate(self.steps) if (step.terminated | step.truncated).any()]
        demand(found, f"no episode ended in {len(self.steps)} steps: give more `steps`")
        return found

    def world(self, index: int) -> Play:
        """One world of it, as it would be alone; finals and facts where it has ended."""
        return Play(self.first[index : index + 1], [_alone(step, index) for step in self.steps])

    def differs(self, other: Play) -> bool:
        """Whether two plays of as many steps are not the same, to the bit."""
        return not equal(self.first, other.first) or any(map(difference, self.steps, other.steps))


@dataclass
class Trial:
    """What a law is given: a way to make the environment, how many steps to take in it, and whence chance comes."""

    factory: Callable[..., Environment]
    steps: int
    seed: int
    made: list[Environment] = field(default_factory=list)

    def make(self, num_envs: int = WORLDS, seed: int | None = None, split: str = "train") -> Environment:
        """An environment; it is closed when the law has been judged."""
        environment = self.factory(num_envs=num_envs, seed=self.seed if seed is None else seed, split=split)
        self.made.append(environment)
        return environment

    def close(self) -> None:
        """Close what was made."""
        while self.made:
            self.made.pop().close()

    def actions(self, environment: Environment) -> np.ndarray:
        """Actions by chance [steps B]: those of world i are the same whatever the number of worlds."""
        bits = counter_bits(self.seed, "test", np.arange(self.steps), WORLDS) % np.uint64(environment.actions)
        return bits.astype(np.int64)[:, : environment.num_envs]

    def play(self, environment: Environment, actions: np.ndarray | None = None) -> Play:
        """From a reset on, by actions [steps B], or by those of chance."""
        actions = self.actions(environment) if actions is None else actions
        return go_on(environment, Play(copied(environment.reset())), actions)

    def placed(self) -> Environment:
        """An environment that computes by torch on the CPU."""
        environment = self.make()
        environment.place(Arrays(torch.device("cpu")))
        return environment

    def played(self, environment: Environment, name: str) -> Play:
        """From a reset on, by a scripted player, held to what a player may do."""
        play = Play(copied(environment.reset()))
        player = environment.scripted()[name]
        for at in range(self.steps):
            before = deepcopy(environment.state_dict())
            actions = player()
            _check_answer(f"{name}, step {at}", environment, actions)
            demand(equal(copied(player()), copied(actions)), f"{name}, step {at}: asked again it answers otherwise")
            found = state_difference(before, environment.state_dict())
            demand(not found, f"{name}, step {at}: {found} has changed when it answered")
            play.steps.append(taken(environment.step(actions)))
        return play


def go_on(environment: Environment, play: Play, actions: np.ndarray) -> Play:
    """Take actions [steps B], and add the steps to a play."""
    play.steps += [taken(environment.step(environment.arrays.array(each))) for each in actions]
    return play


def copied(array: Array) -> np.ndarray:
    """A copy of an array, as numpy has it."""
    return np.array(array.detach().cpu().numpy() if isinstance(array, Tensor) else array)


def taken(step: Step) -> Step:
    """A copy of a step, as numpy has it."""
    finals = None if step.finals is None else copied(step.finals)
    facts = {name: copied(values) for name, values in step.facts.items()}
    observations, rewards, terminated, truncated = (copied(each) for each in step[:4])
    return Step(observations, rewards, terminated, truncated, finals, facts)


def same_play(what: str, got: Play, wanted: Play) -> None:
    """Demand the same first observations and the same steps, to the bit."""
    demand(equal(got.first, wanted.first), f"{what}: the first observations differ")
    for at, (one, other) in enumerate(zip(got.steps, wanted.steps, strict=True)):
        found = difference(one, other)
        demand(not found, f"{what}: step {at}: {found}")


def difference(one: Step, other: Step) -> str:
    """In what two steps differ, where they do: facts only of worlds whose episode has ended."""
    for name in ("observations", "rewards", "terminated", "truncated"):
        left, right = getattr(one, name), getattr(other, name)
        if not equal(left, right):
            worlds = [index for index, (a, b) in enumerate(zip(left, right, strict=False)) if not equal(a, b)]
            return f"{name} differ" + (f" in world {worlds[0]}" if worlds else " in shape or dtype")
    if (one.finals is None) != (other.finals is None) or not equal(_or_empty(one.finals), _or_empty(other.finals)):
        return "finals differ"
    ended = one.terminated | one.truncated
    if ended.any() and one.facts.keys() != other.facts.keys():
        return f"facts are {', '.join(one.facts) or 'none'}, and {', '.join(other.facts) or 'none'}"
    odd = [name for name in one.facts if ended.any() and not equal(one.facts[name][ended], other.facts[name][ended])]
    return f"the fact {odd[0]} differs" if odd else ""


def answers(environment: Environment) -> np.ndarray:
    """In which worlds it matters what is done now, [B] bool; every action is tried, and the environment is as it was."""
    state = deepcopy(environment.state_dict())
    tried = []
    for action in range(environment.actions):
        environment.load_state_dict(deepcopy(state))
        actions = environment.arrays.full((environment.num_envs,), action, "int64")
        tried.append(Play(np.zeros(environment.num_envs), [taken(environment.step(actions))]))
    environment.load_state_dict(state)
    each = range(environment.num_envs)
    return np.array([any(play.world(index).differs(tried[0].world(index)) for play in tried) for index in each])


def state_difference(one: Any, other: Any) -> str:
    """Where two states differ, if they do: the name of the place."""
    left, right = named("state", one), named("state", other)
    places = [*left, *(place for place in right if place not in left)]
    return next((each for each in places if not _alike(left.get(each), right.get(each))), "")


def _check_answer(what: str, environment: Environment, actions: Array) -> None:
    count, made = environment.actions, copied(actions)
    check_field(f"{what}: actions", Spec("i64", ("B",), count), made, environment.num_envs, {})


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one.cpu(), other.cpu())
    return type(one) is type(other) and bool(one == other)


def _alone(step: Step, index: int) -> Step:
    here = slice(index, index + 1)
    finals = None
    if step.finals is not None:
        cut = step.truncated
        told = cut if len(step.finals) == cut.sum() else cut | step.terminated
        rank = int(told[:index].sum())
        finals = step.finals[rank : rank + 1] if told[index] else None
    observations, rewards, terminated, truncated = (each[here] for each in step[:4])
    facts = {name: each[here] for name, each in step.facts.items()}
    return Step(observations, rewards, terminated, truncated, finals, facts)


def _or_empty(array: np.ndarray | None) -> np.ndarray:
    return np.zeros(0) if array is None else array
