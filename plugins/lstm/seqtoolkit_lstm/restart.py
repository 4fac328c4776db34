"""Restarts as extra steps of the same sequence: one that clears the cell before each, those that hold it at the end.

A gate before which a large number stands is shut or open exactly. A step with input and forget gates shut leaves c = 0
and so h = 0, the fresh state; one with the input gate shut and the forget gate open leaves c as it was. Both are asked
for by two columns beside the inputs, so that a whole batch with restarts anywhere is one call of the fast LSTM.
"""

from __future__ import annotations

from typing import NamedTuple

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
    signal: Tensor
    """[T+K B 2], bool: clear, and hold"""

    @classmethod
    def of(cls, first: Tensor, most: int) -> Plan:
        """Make room before each restart of `first` [T B] but those at the first step; `most` is K."""
        steps, rows = first.shape
        later = first.clone()
        later[0] = False
        step = torch.arange(steps, device=first.device)[:, None] + later.cumsum(0)
        slot = torch.arange(steps + most, device=first.device)[:, None]
        hold = slot > step[-1]
        clear = ~(hold.scatter(0, step, value=True))
        place = step * rows + torch.arange(rows, device=first.device)
        return cls(place.flatten(), place[-1], torch.stack([clear, hold], -1))

    def spread(self, inputs: Tensor) -> Tensor:
        """[T B D] to [T+K B D], zeros in the steps between."""
        empty = inputs.new_zeros(self.signal[..., 0].numel(), inputs.shape[-1])
        return empty.index_copy(0, self.place, inputs.flatten(0, 1)).view(*self.signal.shape[:2], -1)

    def gather(self, outputs: Tensor) -> Tensor:
        """[T+K B H] to [T B H]."""
        return outputs.flatten(0, 1).index_select(0, self.place).view(-1, *outputs.shape[1:])

    def last(self, outputs: Tensor) -> Tensor:
        """[T+K B H] at each row's last step: [B H]."""
        return outputs.flatten(0, 1).index_select(0, self.end)


def obedient(weight: Tensor) -> Tensor:
    """A layer's weight of the inputs, [4H D], with the columns that obey a plan's signal: [4H D+2].

    The gates are those of nn.LSTM, in its order: input, forget, cell, output.
    """
    clear = weight.new_tensor([-SURE, -SURE, 0.0, 0.0])
    hold = weight.new_tensor([-SURE, SURE, 0.0, 0.0])
    columns = torch.stack([clear, hold], 1).repeat_interleave(len(weight) // 4, 0)
    return torch.cat([weight, columns], 1)
