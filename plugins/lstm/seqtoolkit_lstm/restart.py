"""Restarts as extra steps of the same sequence: one that clears the state before each, those that hold it at the end.

A gate before which a large number stands is shut or open exactly. Columns beside the inputs ask for it, so that a whole
batch with restarts anywhere is one call of the fast recurrence:

* LSTM: input and forget gates shut leave c = 0 and so h = 0, the fresh state; the input gate shut and the forget gate
  open leave c as it was.
* GRU: reset and update gates shut, and nothing before the tanh, leave h = 0. For that the candidate's bias is a column
  that is 1 at the steps of the sequence only. h at a row's last step is among the outputs: nothing need hold it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

SURE = 1e4
"""Decides a sigmoid to the last bit in every dtype, and is in the range of float16."""


class Plan(NamedTuple):
    """Where the T steps of each row stand among T + K, K being the most restarts of a row."""

    place: Tensor
    """[T*B]: the place of each step, as an index into [(T+K)*B]"""
    end: Tensor
    """[B]: the place of each row's last step"""
    source: Tensor
    """[(T+K)*B]: the step that stands at each place, as an index into [T*B], or T*B where none does"""
    signal: Tensor
    """[T+K B 3], zeros and ones: clear, hold, and run (a step of the sequence)"""

    @classmethod
    def of(cls, first: Tensor, like: Tensor) -> Plan:
        """Make room before each restart of `first` [T B] but those at the first step; the signal is of a tensor's kind."""
        marks = first.cpu().numpy()  # numpy: a fraction of torch's overhead on arrays of this size
        steps, rows = marks.shape
        step = marks.cumsum(0) - marks[0] + np.arange(steps)[:, None]
        slots = int(step[-1].max()) + 1
        place = (step * rows + np.arange(rows)).ravel()
        signal = np.zeros((slots * rows, 3), np.float32)
        signal[:, 1] = (np.arange(slots)[:, None] > step[-1]).ravel()
        signal[place, 2] = 1
        signal[:, 0] = 1 - signal[:, 1] - signal[:, 2]
        source = np.full(slots * rows, steps * rows)
        source[place] = np.arange(steps * rows)
        where, whence = (torch.from_numpy(each).to(like.device) for each in (place, source))
        return cls(where, where[-rows:], whence, torch.from_numpy(signal).view(slots, rows, 3).to(like))

    def spread(self, inputs: Tensor) -> Tensor:
        """[T B D] to [T+K B D], zeros in the steps between."""
        slots, rows, _ = self.signal.shape
        return _Move.apply(inputs.flatten(0, 1), self.source, self.place).view(slots, rows, -1)

    def gather(self, outputs: Tensor) -> Tensor:
        """[T+K B H] to [T B H]."""
        rows = self.signal.shape[1]
        return _Move.apply(outputs.flatten(0, 1), self.place, self.source).view(-1, rows, outputs.shape[-1])

    def last(self, outputs: Tensor) -> Tensor:
        """[T+K B H] at each row's last step: [B H]."""
        return outputs.flatten(0, 1)[self.end]


class _Move(torch.autograd.Function):
    """Rows to other places and back; from one past the last comes a row of zeros.

    Both ways are a selection by index: autograd's own way back adds rows up one by one, and takes many times as long.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, there: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(there, back)
        if len(there) > len(rows):
            rows = torch.cat([rows, rows.new_zeros(1, rows.shape[1])])
        return rows.index_select(0, there)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        there, back = ctx.saved_tensors
        return _Move.apply(gradient, back, there), None, None


def obedient_lstm(weights: Sequence[Tensor]) -> list[Tensor]:
    """A layer's weights with the columns that obey a plan's signal: [4H D] becomes [4H D+3]."""
    weight, *rest = weights
    size = len(weight) // 4
    columns = weight.new_zeros(len(weight), 3)
    columns[: 2 * size, 0] = columns[:size, 1] = -SURE
    columns[size : 2 * size, 1] = SURE
    return [torch.cat([weight, columns], 1), *rest]


def obedient_gru(weights: Sequence[Tensor]) -> list[Tensor]:
    """A layer's weights with the columns that obey a plan's signal: [3H D] becomes [3H D+3]."""
    weight, of_hidden, input_bias, hidden_bias = weights
    gates, new = input_bias.split([2 * len(weight) // 3, len(weight) // 3])
    columns = weight.new_zeros(len(weight), 2)
    columns[: len(gates), 0] = -SURE
    run = torch.cat([torch.zeros_like(gates), new])
    bias = torch.cat([gates, torch.zeros_like(new)])
    return [torch.cat([weight, columns, run[:, None]], 1), of_hidden, bias, hidden_bias]
