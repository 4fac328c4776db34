"""The convolutional LSTM over all steps: one convolution a step, of inputs and h together, channels last in memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seqtoolkit_conv_lstm.reference import Weights, margins

LAST = torch.channels_last


def unroll(
    weights: Weights, inputs: Tensor, hidden: Tensor, cell: Tensor, first: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """What `reference.unroll` computes: inputs [T B C Y X] to every h [T B H Y X], and the last h and c.

    Candidates are doubled, so that one sigmoid serves all gates: tanh(x) = 2 sigmoid(2 x) - 1.
    """
    (rows, above, below), (columns, left, right) = (
        taps(weights.from_input.shape[-1], size) for size in inputs.shape[-2:]
    )
    double = weights.bias.new_tensor([1.0, 1.0, 2.0, 1.0]).repeat_interleave(len(weights.bias) // 4)
    kernel = torch.cat([each[:, :, rows, columns] for each in weights[:2]], 1) * double[:, None, None, None]
    kernel, bias = kernel.contiguous(memory_format=LAST), weights.bias * double
    alike = (above, left) == (below, right)
    padding, margin = ((above, left), (0,) * 4) if alike else ((0, 0), (left, right, above, below))
    maps = inputs.flatten(0, 1).contiguous(memory_format=LAST).unflatten(0, inputs.shape[:2])
    hidden, cell = hidden.contiguous(memory_format=LAST), cell.contiguous(memory_format=LAST)
    restarts = [False] * len(inputs) if first is None else first.any(1).tolist()
    hiddens = []
    for time, now in enumerate(maps.unbind()):
        if first is not None and restarts[time]:
            anew = first[time][:, None, None, None]  # with torch.where, for masked_fill would lose the layout
            hidden, cell = torch.where(anew, 0.0, hidden), torch.where(anew, 0.0, cell)
        read = torch.cat([now, hidden], 1)
        gates = torch.sigmoid(F.conv2d(read if alike else F.pad(read, margin), kernel, bias, padding=padding))
        enter, forget, candidate, leave = gates.chunk(4, 1)
        cell = torch.addcmul(forget * cell, enter, candidate - 0.5, value=2)
        hidden = leave * torch.tanh(cell)
        hiddens.append(hidden)
    return torch.stack(hiddens), hidden, cell


def taps(kernel_size: int, size: int) -> tuple[slice, int, int]:
    """The rows of a kernel that ever meet a map of `size` rows, and the zeros that those want before and after it."""
    before, after = (min(margin, size - 1) for margin in margins(kernel_size))
    start = margins(kernel_size)[0] - before
    return slice(start, start + before + 1 + after), before, after
