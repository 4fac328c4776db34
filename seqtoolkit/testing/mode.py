"""The laws of how a core is run: by its reference, compiled, without gradients, in training, in lower precision, as a copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor

from seqtoolkit.flow.core import Core, State
from seqtoolkit.testing.law import demand, same
from seqtoolkit.testing.trial import ROWS, STEPS, Run, Trial, same_state

LOW = 0.1
"""How far bfloat16, relative to what is large, may lead from float32 in a few steps."""


def reference(trial: Trial) -> None:
    """A step is the reference's step, gradients included."""
    _same_outcome(trial, _by(trial.core.reference_step), steps=1)


def compiled(trial: Trial) -> None:
    """Under torch.compile a step gives the same, gradients included."""
    torch.compiler.reset()
    try:
        _same_outcome(trial, _by(torch.compile(trial.core.step, backend="aot_eager")), steps=2)
    finally:
        torch.compiler.reset()


def no_grad(trial: Trial) -> None:
    """Without gradients, or with parameters that want none, the outputs and states are the same."""
    inputs, state, first = trial.inputs(), trial.state(), trial.first()
    wanted, last = trial.core.unroll(inputs, state, first)
    output, after = trial.core.step(inputs[0], state)
    for name, mode in {"no_grad": torch.no_grad(), "inference_mode": torch.inference_mode()}.items():
        with mode:
            got, end = trial.core.unroll(inputs, state, first)
            now, then = trial.core.step(inputs[0], state)
        same(f"outputs under {name}", got, wanted, trial.tolerance)
        same_state(f"last state under {name}", end, last, trial.tolerance)
        same(f"output of a step under {name}", now, output, trial.tolerance)
        same_state(f"state after a step under {name}", then, after, trial.tolerance)
    trial.core.requires_grad_(requires_grad=False)
    got, end = trial.core.unroll(inputs, state, first)
    same("outputs with frozen parameters", got, wanted, trial.tolerance)
    same_state("last state with frozen parameters", end, last, trial.tolerance)


def training(trial: Trial) -> None:
    """In training unrolling is stepping as well, where nothing is drawn at random."""
    inputs, state, first = trial.inputs(), trial.state(), trial.first()
    trial.core.train()
    with _drawing() as drawn:
        trial.core.unroll(inputs, state, first)
        trial.stepped(inputs, state, first)
    if not drawn:
        _same_outcome(trial, trial.core.unroll, STEPS, first)


def autocast(trial: Trial) -> None:
    """Under autocast to bfloat16 a core runs, with roughly the same outputs and finite gradients."""
    trial.core.float()
    trial.dtype = torch.float32
    inputs, state, first = trial.inputs(), trial.state(), trial.first()

    def run(inputs: Tensor, state: State, first: Tensor | None) -> tuple[Tensor, State]:
        with torch.autocast("cpu", torch.bfloat16):
            return trial.core.unroll(inputs, state, first)

    wanted, got = (trial.outcome(way, inputs, state, first) for way in (trial.core.unroll, run))
    for name in wanted:
        demand(got[name].isfinite().all(), f"{name}: not finite")
    same("outputs", got["outputs"].float(), wanted["outputs"], LOW)


def copy(trial: Trial) -> None:
    """A deep copy is a core of its own, which does not follow the original."""
    inputs, state, first = trial.inputs(), trial.state(), trial.first()
    wanted, last = trial.core.unroll(inputs, state, first)
    other: Core = deepcopy(trial.core)
    with torch.no_grad():
        for parameter in trial.core.parameters():
            parameter.zero_()
    got, end = other.unroll(inputs, state, first)
    same("outputs of the copy, where the original's parameters change", got, wanted, trial.tolerance)
    same_state("last state of the copy", end, last, trial.tolerance)


def _by(step: Callable[[Tensor, State], tuple[Tensor, State]]) -> Run:
    """Unrolling by another step."""

    def run(inputs: Tensor, state: State, first: Tensor | None) -> tuple[Tensor, State]:  # noqa: ARG001  none
        outputs = []
        for now in inputs:
            output, state = step(now, state)
            outputs.append(output)
        return torch.stack(outputs), state

    return run


def _same_outcome(trial: Trial, run: Run, steps: int, first: Tensor | None = None) -> None:
    """Demand that a way to run gives what stepping gives."""
    given = trial.inputs(steps), trial.state(ROWS), first
    wanted, got = trial.outcome(trial.stepped, *given), trial.outcome(run, *given)
    for name in wanted:
        same(name, got[name], wanted[name], trial.tolerance)


@contextmanager
def _drawing() -> Iterator[list[bool]]:
    """A list that is empty as long as nothing is drawn from the global generator inside."""
    drawn: list[bool] = []
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        yield drawn
        if not torch.equal(torch.get_rng_state(), before):
            drawn.append(True)
