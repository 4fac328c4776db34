"""The equations of the convolutional LSTM in plain PyTorch: what a step computes, and the truth for what is faster.

Axes: T time, B batch, C channels of the inputs, H channels of the state, Y X the map, K K the kernel.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seqtoolkit.sdk import where_first


class Weights(NamedTuple):
    """The parameters, gates in nn.LSTM's order: input, forget, candidate, output."""

    from_input: Tensor
    """W [4H C K K]"""
    from_hidden: Tensor
    """U [4H H K K]"""
    bias: Tensor
    """b [4H]"""


def margins(kernel_size: int) -> tuple[int, int]:
    """Rows of zeros before and after a map that keep its size; an even kernel has the odd one after, as torch's 'same'."""
    before = (kernel_size - 1) // 2
    return before, kernel_size - 1 - before


def convolve(maps: Tensor, kernel: Tensor) -> Tensor:
    """Maps [B C Y X] through a kernel [F C K K] to [B F Y X], zeros beyond the edges."""
    return F.conv2d(F.pad(maps, margins(kernel.shape[-1]) * 2), kernel)


def step(weights: Weights, inputs: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs [B C Y X], h and c [B H Y X] to the next h and c: eq. 3 of Shi et al. 2015 without its peepholes."""
    gates = convolve(inputs, weights.from_input) + convolve(hidden, weights.from_hidden)
    enter, forget, candidate, leave = (gates + weights.bias[:, None, None]).chunk(4, 1)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
    return torch.sigmoid(leave) * torch.tanh(cell), cell


def unroll(
    weights: Weights, inputs: Tensor, hidden: Tensor, cell: Tensor, first: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs [T B C Y X] step by step to every h [T B H Y X], and the last h and c; zeros for both where `first` [T B]."""
    hiddens = []
    for time, now in enumerate(inputs):
        if first is not None:
            fresh = torch.zeros_like(hidden), torch.zeros_like(cell)
            hidden, cell = where_first(first[time], fresh, (hidden, cell))
        hidden, cell = step(weights, now, hidden, cell)
        hiddens.append(hidden)
    return torch.stack(hiddens), hidden, cell
