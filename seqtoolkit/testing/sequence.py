"""The laws of what a core does to sequences: stepping, cutting, restarting, and who sees what."""

from __future__ import annotations

from itertools import pairwise

import torch

from seqtoolkit.flow.core import State, map_state
from seqtoolkit.testing.law import demand, same
from seqtoolkit.testing.trial import (
    ROWS,
    STEPS,
    Trial,
    gradients,
    learnable,
    leaves,
    row_of,
    same_state,
    wanting,
    weighted,
)

SIZES = ((STEPS, ROWS, False), (STEPS, ROWS, True), (1, ROWS, True), (STEPS, 1, True), (1, 1, False))


def unroll_is_step(trial: Trial) -> None:
    """Unrolling is stepping, gradients included."""
    for steps, rows, restarts in SIZES:
        given = trial.inputs(steps, rows), trial.state(rows), trial.first(steps, rows) if restarts else None
        wanted = trial.outcome(trial.stepped, *given)
        got = trial.outcome(trial.core.unroll, *given)
        demand(got.keys() == wanted.keys(), f"wanted a state of {len(wanted)} parts, got {len(got)}")
        for name in wanted:
            where = f"{name} ({steps} steps, {rows} rows, {'some' if restarts else 'no'} restarts)"
            same(where, got[name], wanted[name], trial.tolerance)


def cut(trial: Trial) -> None:
    """A sequence may be cut anywhere."""
    inputs, state = trial.inputs(), trial.state()
    everywhere = tuple(range(1, STEPS))
    for first in (None, trial.first()):
        wanted, last = trial.core.unroll(inputs, state, first)
        for cuts in [*((step,) for step in everywhere), everywhere]:
            passed, parts = state, []
            for start, stop in pairwise((0, *cuts, STEPS)):
                marks = None if first is None else first[start:stop]
                part, passed = trial.core.unroll(inputs[start:stop], passed, marks)
                parts.append(part)
            where = f"cut before step {', '.join(map(str, cuts))}"
            same(f"outputs, {where}", torch.cat(parts), wanted, trial.tolerance)
            same_state(f"last state, {where}", passed, last, trial.tolerance)


def gradient_through_state(trial: Trial) -> None:
    """The gradient flows through a state that is passed on, as it does inside a sequence."""
    inputs, fresh = trial.inputs().requires_grad_(), trial.core.initial_state(ROWS)
    if not any(leaf.is_floating_point() for leaf in leaves(fresh)):
        return
    half = STEPS // 2
    whole, _ = trial.core.unroll(inputs, fresh)
    (wanted,) = gradients(weighted(whole[half:]), [inputs])
    _, passed = trial.core.unroll(inputs[:half], fresh)
    outputs, _ = trial.core.unroll(inputs[half:], passed)
    (got,) = gradients(weighted(outputs), [inputs])
    same("gradient of inputs before a cut", got[:half], wanted[:half], trial.tolerance)
    demand(got[:half].count_nonzero(), "gradient of inputs before a cut: zero everywhere")


def past(trial: Trial) -> None:
    """The past does not see the future."""
    inputs, other, state, first = trial.inputs(), trial.inputs(), trial.state(), trial.first()
    for training in (False, True):
        wanted, _ = trial.seeded(inputs, state, first, training=training)
        for step in range(1, STEPS):
            changed = torch.cat([inputs[:step], 10 * other[step:]])
            got, _ = trial.seeded(changed, state, first, training=training)
            same(f"outputs before step {step}, where inputs change", got[:step], wanted[:step], trial.tolerance)


def rows(trial: Trial) -> None:
    """Rows do not see each other."""
    inputs, state, first = trial.inputs(), trial.state(), trial.first()
    other, elsewhere = 10 * trial.inputs(), trial.state()
    for training in (False, True):
        wanted, last = trial.seeded(inputs, state, first, training=training)
        for row in range(ROWS):
            changed, marks, mixed = other.clone(), first.roll(1, 1), _with_row(elsewhere, state, row)
            changed[:, row], marks[:, row] = inputs[:, row], first[:, row]
            got, after = trial.seeded(changed, mixed, marks, training=training)
            same(f"outputs of row {row}, where others change", got[:, row], wanted[:, row], trial.tolerance)
            same_state(f"last state of row {row}", row_of(after, row), row_of(last, row), trial.tolerance)
    wanted, _ = trial.core.unroll(inputs, state, first)
    for row in range(ROWS):
        got, _ = trial.core.unroll(inputs[:, row : row + 1], row_of(state, row), first[:, row : row + 1])
        same(f"outputs of row {row} alone", got[:, 0], wanted[:, row], trial.tolerance)


def restart(trial: Trial) -> None:
    """A restart is a fresh start."""
    inputs, state, never = trial.inputs(), trial.state(), torch.zeros(STEPS, ROWS, dtype=torch.bool)
    at_once = never.clone()
    at_once[0] = True
    for name, first in {"mixed": trial.first(), "every step": ~never, "first step": at_once, "never": never}.items():
        got, last = trial.core.unroll(inputs, state, first)
        for row in range(ROWS):
            begins = [step for step in range(STEPS) if first[step, row]]
            for start, stop in pairwise(sorted({0, *begins, STEPS})):
                begin = trial.core.initial_state(1) if start in begins else row_of(state, row)
                wanted, end = trial.core.unroll(inputs[start:stop, row : row + 1], begin)
                where = f"outputs of row {row} from step {start}, restarts: {name}"
                same(where, got[start:stop, row : row + 1], wanted, trial.tolerance)
            same_state(f"last state of row {row}, restarts: {name}", row_of(last, row), end, trial.tolerance)


def restart_gradient(trial: Trial) -> None:
    """No gradient passes a restart."""
    inputs, state = trial.inputs().requires_grad_(), learnable(trial.state())
    first = torch.zeros(STEPS, ROWS, dtype=torch.bool)
    first[3] = True
    outputs, _ = trial.core.unroll(inputs, state, first)
    (before, *passed) = gradients(weighted(outputs[3:]), [inputs, *wanting(state)])
    for name, gradient in {
        "inputs before": before[:3],
        **{f"state {i}": each for i, each in enumerate(passed)},
    }.items():
        demand(not gradient.count_nonzero(), f"gradient of the {name}: up to {gradient.abs().max().item():.1e}, not 0")


def _with_row(others: State, state: State, row: int) -> State:
    """The state `others`, but for one row."""

    def mix(other: torch.Tensor, mine: torch.Tensor) -> torch.Tensor:
        mixed = other.clone()
        mixed[row] = mine[row]
        return mixed

    return map_state(mix, others, state)
