"""Reading: a question to its end, without the steps that a later restart makes forgotten."""

from __future__ import annotations

import torch
from torch import Tensor

from seqtoolkit.flow.core import Core, State, map_state

GROUPS = 4
"""Into how many groups of rows, by where they begin, a batch is divided: each costs an unrolling of its own."""


def read(core: Core, inputs: Tensor, state: State | None, first: Tensor | None) -> State:
    """The state after the inputs [T B D]: that of `core(inputs, state, first)`, in float64 to rounding.

    What stands before a row's last restart leaves no trace in its state. On a CPU, whose time goes by rows, such steps
    are left out: rows are put in the order of where they begin, and join the batch, a group at a time, as it gets there.
    A GPU's time goes by steps, so that there the whole batch is unrolled in one.
    """
    if first is None or inputs.device.type != "cpu":
        return core(inputs, state, first)[1]
    times = torch.arange(len(inputs)).unsqueeze(1)
    order = (first * times).amax(0).argsort(stable=True)
    begins = (first * times).amax(0)[order]
    if state is None:
        state = core.initial_state(inputs.shape[1])
    state, inputs, first = map_state(lambda each: each[order], state), inputs[:, order], first[:, order]
    edges = sorted({int(begins[len(begins) * group // GROUPS]) for group in range(GROUPS)})
    read_so_far: State | None = None
    rows = 0
    for begin, end in zip(edges, [*edges[1:], len(inputs)], strict=True):
        joined = int((begins < end).sum()) if end < len(inputs) else len(begins)
        joining = map_state(lambda each, rows=rows, joined=joined: each[rows:joined], state)
        now = joining if read_so_far is None else map_state(lambda *both: torch.cat(both), read_so_far, joining)
        read_so_far = core.unroll(inputs[begin:end, :joined], now, first[begin:end, :joined])[1]
        rows = joined
    back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
    return map_state(lambda each: each[back], read_so_far)
