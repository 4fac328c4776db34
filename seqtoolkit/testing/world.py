"""The laws of worlds: what an environment gives is what it says, and a function of its seed and its own actions."""

from __future__ import annotations

from typing import get_args

import numpy as np
import torch

from seqtoolkit.flow.array import Array
from seqtoolkit.flow.counter import SPLITS
from seqtoolkit.flow.environment import Better
from seqtoolkit.flow.spec import Spec
from seqtoolkit.testing.block import check_field, equal
from seqtoolkit.testing.law import demand
from seqtoolkit.testing.play import (
    WORLDS,
    Trial,
    copied,
    same_play,
)

PICTURES, NUMBERS, IDS = (3, False), (1, False), (0, True)
KINDS = {"u8": PICTURES, "f32": NUMBERS, "i64": IDS}


def declared(trial: Trial) -> None:
    """It observes pictures `u8[B Y X C]`, numbers `f32[B n]` or ids `i64<n>[B]`, of known sizes, and has actions."""
    environment = trial.make()
    spec = environment.observation
    demand(isinstance(spec, Spec), f"observation: wanted a Spec, got {spec!r}")
    kind = (len(spec.axes) - 1, isinstance(spec.bound, int))
    sizes = all(isinstance(axis, int) for axis in spec.axes[1:])
    fits = spec.axes[:1] == ("B",) and KINDS.get(spec.dtype) == kind and sizes
    demand(fits, f"observation: wanted such as u8[B 5 5 3], f32[B 4] or i64<16>[B], got {spec}")
    count = environment.actions
    demand(isinstance(count, int) and count >= 1, f"actions: wanted how many there are, got {count!r}")
    odd = {name: better for name, better in environment.measures.items() if better not in get_args(Better)}
    demand(not odd, f"measures: wanted higher or lower, got {odd}")
    demand(environment.num_envs == WORLDS, f"num_envs: wanted {WORLDS}, got {environment.num_envs}")


def shapes(trial: Trial) -> None:
    """Observations, rewards and ends are of the shapes, dtypes and bounds that are declared, at reset and at each step."""
    environment = trial.make()
    spec = environment.observation
    _check("the first observations", spec, environment.reset())
    for at, actions in enumerate(trial.actions(environment)):
        step = environment.step(actions)
        _check(f"step {at}: observations", spec, step.observations)
        _check(f"step {at}: rewards", Spec.parse("f32[B]"), step.rewards)
        _check(f"step {at}: terminated", Spec.parse("bool[B]"), step.terminated)
        _check(f"step {at}: truncated", Spec.parse("bool[B]"), step.truncated)


def finite(trial: Trial) -> None:
    """Observations and rewards are finite."""
    play = trial.play(trial.make())
    for at, each in enumerate(play.observations):
        demand(np.isfinite(each).all(), f"observation {at} has a number that is not finite")
    for at, step in enumerate(play.steps):
        demand(np.isfinite(step.rewards).all(), f"step {at}: a reward is not finite")


def repeatable(trial: Trial) -> None:
    """The same seed and the same actions give the same numbers, in another instance too."""
    wanted = trial.play(trial.make())
    kept = np.random.get_state()  # noqa: NPY002  what is looked for is a use of it
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial.seed + 1)
        np.random.seed(1)  # noqa: NPY002  as above
        try:
            got = trial.play(trial.make())
        finally:
            np.random.set_state(kept)  # noqa: NPY002  as above
    same_play("another instance", got, wanted)


def apart(trial: Trial) -> None:
    """Seeds, splits and worlds are streams of their own."""
    environment = trial.make()
    actions = trial.actions(environment)[:, :1].repeat(WORLDS, axis=1)
    play = trial.play(environment, actions)
    alike = not any(play.world(index).differs(play.world(0)) for index in range(1, WORLDS))
    demand(not alike, "all worlds are alike where their actions are")
    for name, other in {
        f"seed {trial.seed + 1}": trial.make(seed=trial.seed + 1),
        **{f"split {split}": trial.make(split=split) for split in SPLITS[1:]},
    }.items():
        demand(trial.play(other, actions).differs(play), f"{name} gives what seed {trial.seed} of train gives")


def worlds(trial: Trial) -> None:
    """World i is the same whatever the number of worlds, its facts and its last observations included."""
    whole = trial.play(trial.make())
    for count in (1, 3):
        part = trial.play(trial.make(count))
        for index in range(count):
            same_play(f"world {index} of {count} and of {WORLDS}", part.world(index), whole.world(index))


def alone(trial: Trial) -> None:
    """Worlds do not see each other's actions."""
    environment = trial.make()
    actions = trial.actions(environment)
    wanted = trial.play(environment, actions)
    for index in (0, WORLDS - 1):
        others = (actions + 1) % environment.actions
        others[:, index] = actions[:, index]
        got = trial.play(trial.make(), others)
        same_play(f"world {index}, other actions in the others", got.world(index), wanted.world(index))


def reset(trial: Trial) -> None:
    """A reset begins every world from its first episode again."""
    environment = trial.make()
    wanted = trial.play(environment)
    same_play("after a reset", trial.play(environment), wanted)


def kept(trial: Trial) -> None:
    """The actions that it is given stay as they are, and so do the arrays that it has given."""
    environment = trial.make()
    given: list[tuple[Array, np.ndarray, str]] = []

    def keep(what: str, array: Array) -> None:
        given.append((array, copied(array), what))

    keep("the first observations", environment.reset())
    for at, actions in enumerate(trial.actions(environment)[:50]):
        keep(f"step {at}: the actions that it was given", actions)
        step = environment.step(actions)
        for name in ("observations", "rewards", "terminated", "truncated"):
            keep(f"step {at}: {name}", getattr(step, name))
    for array, copy, what in given:
        demand(equal(copied(array), copy), f"{what} changed later")


def _check(what: str, spec: Spec, array: Array) -> None:
    demand(isinstance(array, np.ndarray), f"{what}: wanted a numpy array, got {type(array).__name__}")
    check_field(what, spec, array, WORLDS, {})
