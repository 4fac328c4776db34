"""The equations of the cells in plain PyTorch: what a step computes, and the truth that every faster path answers to.

Weights are those of one layer in nn.LSTM's and nn.GRU's order: [G*H D], [G*H H] and two biases [G*H], G gates each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def lstm(inputs: Tensor, hidden: Tensor, cell: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Inputs [B D], h and c [B H] to the next h and c; gates in the order input, forget, cell, output.

    Hochreiter & Schmidhuber 1997, with the forget gate of Gers, Schmidhuber & Cummins 2000, without peepholes.
    """
    of_input, of_hidden, input_bias, hidden_bias = weights
    gates = F.linear(inputs, of_input, input_bias) + F.linear(hidden, of_hidden, hidden_bias)
    enter, forget, candidate, leave = gates.chunk(4, -1)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
    return torch.sigmoid(leave) * torch.tanh(cell), cell


def gru(inputs: Tensor, hidden: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Inputs [B D] and h [B H] to the next h; gates in the order reset, update, new.

    Cho et al. 2014 in the form of cuDNN and nn.GRU: the reset gate stands after the product with h and its bias.
    """
    of_input, of_hidden, input_bias, hidden_bias = weights
    from_input = F.linear(inputs, of_input, input_bias).chunk(3, -1)
    from_hidden = F.linear(hidden, of_hidden, hidden_bias).chunk(3, -1)
    reset, update = (torch.sigmoid(one + other) for one, other in zip(from_input[:2], from_hidden[:2], strict=True))
    new = torch.tanh(from_input[2] + reset * from_hidden[2])
    return (1 - update) * new + update * hidden
