"""The laws of episodes: how they end and begin, what is told of them, and how a stream of them is resumed."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
from torch import Tensor

from seqtoolkit.flow.spec import Spec
from seqtoolkit.testing.block import check_field, equal
from seqtoolkit.testing.law import demand
from seqtoolkit.testing.nest import named
from seqtoolkit.testing.play import (
    WORLDS,
    Play,
    Trial,
    answers,
    copied,
    go_on,
    same_play,
    state_difference,
)
from seqtoolkit.testing.source import reloaded

PLAIN = (Tensor, bool, int, float, str, type(None))
LOOKS = 3
"""After how many ends each action is tried."""
ENOUGH = 4
"""So many episodes do not end, all by luck, with just what the next begins with."""


def resume(trial: Trial) -> None:
    """It goes on from its state, a copy in plain values, with the same numbers, in a new instance too."""
    environment = trial.make()
    actions = trial.actions(environment)
    cuts = sorted({0, 1, trial.steps // 3, 2 * trial.steps // 3})
    whole, states = Play(copied(environment.reset())), []
    for at, end in zip(cuts, [*cuts[1:], trial.steps], strict=True):
        state = environment.state_dict()
        states.append((at, state, deepcopy(state)))
        go_on(environment, whole, actions[at:end])
    for at, state, copy in states:
        _check_plain(state)
        rest = Play(whole.observations[at], whole.steps[at:])
        for name, other, given in (
            ("a new instance", trial.make(), reloaded(state)),
            ("the same instance", environment, state),
        ):
            got = go_on(other, Play(copied(other.load_state_dict(given))), actions[at:])
            same_play(f"{name}, resumed after {at} steps", got, rest)
        found = state_difference(state, copy)
        demand(not found, f"the state after {at} steps changed at {found} when its environment went on")


def ends(trial: Trial) -> None:
    """An episode terminates or is truncated, never both, and the next begins in the same step."""
    environment = trial.make()
    environment.reset()
    judged = answers(environment).all()
    play, answered = Play(copied(environment.reset())), list[bool]()
    for actions in trial.actions(environment):
        (step,) = go_on(environment, play, actions[None]).steps[-1:]
        ended = step.terminated | step.truncated
        if judged and ended.any() and len(answered) < LOOKS:
            answered.append(bool(answers(environment)[ended].any()))
    found = play.ended()
    for at, step in found:
        both = np.flatnonzero(step.terminated & step.truncated)
        demand(not both.size, f"step {at}: world {both[:1].tolist()} is both terminated and truncated")
    late = "what is done first after an end does not matter, as it does at a reset: the next episode begins a step late"
    demand(not judged or any(answered), late)
    others = trial.play(environment, (trial.actions(environment) + 1) % environment.actions)
    heeded = any(not equal(one, other) for one, other in zip(play.observations, others.observations, strict=True))
    cut = [step for _, step in found if step.truncated.any()]
    stale = all(equal(np.asarray(step.finals), step.observations[step.truncated]) for step in cut)
    enough = sum(step.truncated.sum() for step in cut) >= ENOUGH
    said = "wherever an episode was truncated the observation is its last one, not the first of the next"
    demand(not (heeded and enough and stale), said)


def finals(trial: Trial) -> None:
    """The last observation is told of exactly those episodes that were truncated, or of all that have ended."""
    environment = trial.make()
    play = trial.play(environment)
    play.ended()
    for at, step in enumerate(play.steps):
        wanted = step.truncated | (step.terminated & (environment.finals_of == "ended"))
        count = int(wanted.sum())
        got = None if step.finals is None else len(step.finals)
        demand(got == (count or None), f"step {at}: wanted {count or None} finals, got {got}")
        if step.finals is None:
            continue
        check_field(f"step {at}: finals", environment.observation, step.finals, count, {})
        demand(np.isfinite(step.finals).all(), f"step {at}: finals are not finite")


def facts(trial: Trial) -> None:
    """Facts are what `measures` names, float32, finite where an episode has ended."""
    environment = trial.make()
    wanted = ", ".join(sorted(environment.measures)) or "none"
    for at, step in trial.play(environment).ended():
        got = ", ".join(sorted(step.facts)) or "none"
        demand(got == wanted, f"step {at}: wanted {wanted}, got {got}")
        for name, values in step.facts.items():
            check_field(f"step {at}: {name}", Spec.parse("f32[B]"), values, WORLDS, {})
            odd = values[step.terminated | step.truncated]
            demand(np.isfinite(odd).all(), f"step {at}: {name} of an episode that has ended is not finite")


def _check_plain(state: Any) -> None:
    for place, leaf in named("state", state).items():
        kind = type(leaf)
        demand(
            kind in PLAIN, f"{place}: wanted a tensor, a number, text, or dicts and lists of them, got {kind.__name__}"
        )
