"""Bank: the parameters of LSTMs that read the same input, and how they are run over time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from seqtoolkit.sdk import where_first
from seqtoolkit_entnet import reference
from seqtoolkit_entnet.reference import LSTMs

State = tuple[Tensor, Tensor]

ONE_LAYER: dict[str, Any] = {
    "num_layers": 1,
    "dropout": 0.0,
    "train": True,
    "bidirectional": False,
    "batch_first": False,
}
"""What torch.lstm wants to be told besides its tensors; `train` tells cuDNN to keep what a backward pass needs."""


class Bank(nn.Module):
    """LSTMs that all read the input, each with its own (h, c); the state is both, each [B N W].

    Each has weights of its own, or, keyed, all share one set and each is told its learned key, from which its h starts.
    """

    def __init__(self, input_size: int, num_cells: int, cell_size: int, *, keyed: bool, bias: bool) -> None:
        super().__init__()
        sets, gates = 1 if keyed else num_cells, 4 * cell_size
        self.shape = (num_cells, cell_size)
        self.from_input = nn.Parameter(torch.empty(sets, gates, input_size))
        self.from_hidden = nn.Parameter(torch.empty(sets, gates, cell_size))
        self.bias = nn.Parameter(torch.empty(sets, gates)) if bias else None
        self.from_key = nn.Parameter(torch.empty(gates, cell_size)) if keyed else None
        self.keys = nn.Parameter(torch.empty(num_cells, cell_size)) if keyed else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As nn.LSTM, but for a forget gate's bias 1 higher; keys from a normal of std 1/sqrt(W)."""
        size = self.shape[1]
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(size**-0.5), size**-0.5)
        with torch.no_grad():
            if self.bias is not None:
                self.bias[:, size : 2 * size] += 1
            if self.keys is not None:
                self.keys.normal_(std=size**-0.5)

    def initial_state(self, batch_size: int) -> State:
        """Zeros for h and c; keyed, h is the keys."""
        zeros = self.from_input.new_zeros(batch_size, *self.shape)
        return zeros.clone() if self.keys is None else zeros + self.keys, zeros

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """One step by the reference; the output is the sum of all h."""
        hidden, cell = reference.bank_step(self.lstms(), inputs, *state)
        return hidden.sum(1), (hidden, cell)

    def unroll(self, inputs: Tensor, state: State, first: Tensor | None) -> tuple[Tensor, State]:
        """All steps: in one call of PyTorch's LSTM a cell, or in a loop where a row begins anew after the first step."""
        if first is not None:
            state = where_first(first[0], self.initial_state(inputs.shape[1]), state)
            if first[1:].any():
                sets = LSTMs(self.from_input, self.from_hidden, self.lstms().bias)
                return loop(sets, inputs, state, self.initial_state(inputs.shape[1]), first)
        return run(self.lstms(), inputs, state)

    def lstms(self) -> LSTMs:
        """The weights of each cell."""
        lstms = LSTMs(self.from_input, self.from_hidden, self.bias)
        if self.keys is None or self.from_key is None:
            return lstms
        return reference.keyed(lstms, self.from_key, self.keys)


def run(lstms: LSTMs, inputs: Tensor, state: State) -> tuple[Tensor, State]:
    """Inputs [T B D] through each cell by PyTorch's own LSTM: the sum of all h [T B W], and the last state.

    Both are in the dtype of the state, which autocast changes for that call alone.
    """
    outputs, hiddens, cells = [], [], []
    weights = [list(each) for each in zip(*(part for part in lstms if part is not None), strict=True)]
    for index, own in enumerate(weights):
        if lstms.bias is not None:
            own.append(torch.zeros_like(own[-1]))
        start = [each[None, :, index].contiguous() for each in state]
        output, hidden, cell = torch.lstm(inputs, start, own, has_biases=lstms.bias is not None, **ONE_LAYER)
        outputs.append(output)
        hiddens.append(hidden[0])
        cells.append(cell[0])
    total, *last = torch.stack(outputs).sum(0), torch.stack(hiddens, 1), torch.stack(cells, 1)
    hidden, cell = (now.to(before.dtype) for now, before in zip(last, state, strict=True))
    return total.to(hidden.dtype), (hidden, cell)


def loop(sets: LSTMs, inputs: Tensor, state: State, fresh: State, first: Tensor) -> tuple[Tensor, State]:
    """As `run`, where `first` [T B] marks restarts from `fresh`; `sets` has one set of weights for all cells, or N.

    Cells of one set are rows of one matrix, and each set is a matrix of a batch. Candidates are doubled, so that one
    sigmoid serves all gates: tanh(x) = 2 sigmoid(2 x) - 1.
    """
    groups, (rows, cells, size), steps = len(sets.from_input), state[0].shape, len(inputs)
    double = inputs.new_tensor([1.0, 1.0, 2.0, 1.0]).repeat_interleave(size)
    turned_input, turned = ((weight * double[:, None]).mT for weight in sets[:2])
    drive = torch.bmm(inputs.flatten(0, 1).expand(groups, -1, -1), turned_input).unsqueeze(2)
    if sets.bias is not None:
        drive = drive + (sets.bias * double).view(groups, 1, -1, 4 * size)
    drive = drive.view(groups, steps, -1, 4 * size)
    (hidden, cell), (new_hidden, new_cell) = ([group(each, groups) for each in pair] for pair in (state, fresh))
    marks, restarts = group(first[..., None, None].expand(-1, -1, cells, 1), groups), first.any(1).tolist()
    hiddens = []
    for time, driven in enumerate(drive.unbind(1)):
        if restarts[time]:
            hidden, cell = torch.where(marks[time], new_hidden, hidden), torch.where(marks[time], new_cell, cell)
        gates = torch.sigmoid(torch.baddbmm(driven, hidden, turned))
        opened, kept, candidate, shown = gates.chunk(4, -1)
        cell = torch.addcmul(kept * cell, opened, candidate - 0.5, value=2)
        hidden = shown * torch.tanh(cell)
        hiddens.append(hidden)
    return ungroup(torch.stack(hiddens), rows).sum(2), (ungroup(hidden, rows), ungroup(cell, rows))


def group(values: Tensor, groups: int) -> Tensor:
    """[... B N X] to [... G B*N/G X]."""
    return values.unflatten(-2, (groups, -1)).transpose(-4, -3).flatten(-3, -2)


def ungroup(values: Tensor, rows: int) -> Tensor:
    """The inverse of `group`, B being `rows`."""
    return values.unflatten(-2, (rows, -1)).transpose(-4, -3).flatten(-3, -2)
