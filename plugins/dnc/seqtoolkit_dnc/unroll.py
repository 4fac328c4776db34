"""Steps and sequences: one step by autograd."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seqtoolkit.sdk import where_first
from seqtoolkit_dnc.access import Plan, access, norm
from seqtoolkit_dnc.controller import control, drive, turn
from seqtoolkit_dnc.reference import Parameters, Settings, State, clip


def step(parameters: Parameters, settings: Settings, inputs: Tensor, state: State) -> tuple[Tensor, State]:
    """One step: inputs [B D] to outputs [B H] and the next state."""
    plan = Plan.of(parameters.interface, state.usage.shape[1])
    weights = turn(parameters, inputs.shape[1])
    features, cells, _ = control(weights, settings, drive(parameters, inputs), state)
    after, _ = access(plan, settings, features, cells, state, norm(state.memory).mT)
    return put_out(parameters, settings, torch.cat([features, after.read_vectors.flatten(1)], 1)), after


def put_out(parameters: Parameters, settings: Settings, features: Tensor) -> Tensor:
    """The outputs, of [h^1..h^L; r^1..r^R]."""
    return clip(settings, F.linear(features, *parameters.output))


def unroll(
    parameters: Parameters, settings: Settings, inputs: Tensor, state: State, first: Tensor | None
) -> tuple[Tensor, State]:
    plan = Plan.of(parameters.interface, state.usage.shape[1])
    weights = turn(parameters, inputs.shape[2])
    drives = drive(parameters, inputs)
    outs = []
    for t in range(len(inputs)):
        if first is not None:
            from seqtoolkit.sdk import map_state
            state = where_first(first[t], map_state(torch.zeros_like, state), state)
        features, cells, _ = control(weights, settings, [d[t] for d in drives], state)
        state, _ = access(plan, settings, features, cells, state, norm(state.memory).mT)
        outs.append(torch.cat([features, state.read_vectors.flatten(1)], 1))
    return put_out(parameters, settings, torch.stack(outs)), state
