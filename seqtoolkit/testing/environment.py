"""The laws of environments."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from seqtoolkit.flow.environment import Environment
from seqtoolkit.flow.spec import Spec
from seqtoolkit.testing import episode, world
from seqtoolkit.testing.block import check_field
from seqtoolkit.testing.law import demand, judge
from seqtoolkit.testing.play import (
    WORLDS,
    Play,
    Trial,
    copied,
    go_on,
    same_play,
    state_difference,
)
from seqtoolkit.testing.source import reloaded


def refused(trial: Trial) -> None:
    """No worlds, actions that are none or not one for each world, and a state of other worlds are a ValueError each."""
    for count in (0, -1):
        _refuse(f"{count} worlds", partial(trial.make, count))
    environment = trial.make()
    environment.reset()
    right = trial.actions(environment)[0]
    for action in (-1, environment.actions):
        wrong = right.copy()
        wrong[-1] = action
        _leave(environment, f"action {action} of {environment.actions}", wrong)
    _leave(environment, "an action too many", np.append(right, 0))
    _leave(environment, "an action too few", right[1:])
    _leave(environment, "one action for all", right[:1])
    _leave(environment, "actions [B 1]", right[:, None])
    few = trial.make(3)
    few.reset()
    _refuse(f"the state of 3 worlds, given to {WORLDS},", lambda: environment.load_state_dict(few.state_dict()))


def scripted(trial: Trial) -> None:
    """Scripted players answer with an action for each world, the same each time, and change nothing by answering."""
    environment = trial.make()
    for name in environment.scripted():
        wanted = trial.played(environment, name)
        same_play(f"{name}, in another instance", trial.played(trial.make(), name), wanted)


def rendered(trial: Trial) -> None:
    """Where it renders, a world is a picture, uint8 [H W 3], and drawing it changes nothing."""
    environment = trial.make()
    if not environment.renders:
        return
    actions = trial.actions(environment)[:50]
    wanted = trial.play(environment, actions)
    play = Play(copied(environment.reset()))
    for each in actions:
        for index in (0, WORLDS - 1):
            check_field(f"world {index}", Spec.parse("u8[B H W 3]"), environment.render(index)[None], 1, {})
        go_on(environment, play, each[None])
    same_play("with pictures drawn", play, wanted)


def placed(trial: Trial) -> None:
    """Where it is `on_device`, torch computes what numpy does, players included; a state of either goes on in the other."""
    wanted = trial.make()
    if not wanted.on_device:
        return
    numbers, half = trial.play(wanted), trial.steps // 2
    actions = trial.actions(wanted)
    torch_made = trial.placed()
    demand(isinstance(torch_made.reset(), Tensor), "wanted tensors after place(Arrays(torch.device('cpu')))")
    same_play("by torch", trial.play(torch_made), numbers)
    for name in wanted.scripted():
        same_play(f"{name}, by torch", trial.played(trial.placed(), name), trial.played(trial.make(), name))
    for what, one, other in (("torch", torch_made, wanted), ("numpy", trial.make(), trial.placed())):
        trial.play(one, actions[:half])
        got = go_on(other, Play(copied(other.load_state_dict(reloaded(one.state_dict())))), actions[half:])
        same_play(f"resumed from a state by {what}", got, Play(numbers.observations[half], numbers.steps[half:]))


_LAWS: dict[str, Callable[[Trial], None]] = {
    law.__name__: law
    for law in (
        world.declared,
        world.shapes,
        world.finite,
        world.repeatable,
        world.apart,
        world.worlds,
        world.alone,
        world.reset,
        world.kept,
        episode.resume,
        episode.ends,
        episode.finals,
        episode.facts,
        refused,
        scripted,
        rendered,
        placed,
    )
}
ENVIRONMENT_LAWS: tuple[str, ...] = tuple(_LAWS)
"""The names of the laws, in the order in which `check_environment` tries them."""


def check_environment(
    factory: Callable[..., Environment], law: str | None = None, *, steps: int = 200, seed: int = 0
) -> None:
    """Hold an environment against one of `ENVIRONMENT_LAWS`, or against all.

    In pytest: `@pytest.mark.parametrize("law", ENVIRONMENT_LAWS)` over `def test_laws(law): check_environment(Mine, law)`.

    Args:
        factory: called as `factory(num_envs=..., seed=..., split=...)`: a class, or a partial of one, in which episodes are
            short. Called several times; what it makes is closed.
        law: a name in `ENVIRONMENT_LAWS`; all of them where None.
        steps: how many steps a law takes in 8 worlds, by actions of chance; so many that some episodes end.
        seed: of the worlds and of the actions.

    Raises:
        LawBroken: an AssertionError of one line: the law, where it broke, and by how much.
        ValueError: there is no such law, or fewer than four steps.
    """
    if steps < 4:
        raise ValueError(f"steps: wanted at least 4, got {steps}")
    trial = Trial(factory, steps, seed)

    def make() -> Trial:
        trial.close()
        return trial

    try:
        judge(_LAWS, make, law)
    finally:
        trial.close()


def _refuse(what: str, call: Callable[[], Any]) -> None:
    with suppress(ValueError):
        call()
        demand(condition=False, otherwise=f"{what} raised no ValueError")


def _leave(environment: Environment, what: str, actions: np.ndarray) -> None:
    before = deepcopy(environment.state_dict())
    _refuse(what, lambda: environment.step(actions))
    found = state_difference(before, environment.state_dict())
    demand(not found, f"{what} is refused, but {found} has changed")
