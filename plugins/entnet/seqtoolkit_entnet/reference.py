"""The equations of both banks of cells in plain PyTorch: the truth that every faster path answers to.

Axes: B batch, D input, N cells, W units of a cell; T may stand before B where a function says so.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

TINY = 1e-12
"""A vector no longer than this is left as it is by `normalize`, with a gradient of 1."""


class LSTMs(NamedTuple):
    """The weights of N LSTMs, the rows of each in nn.LSTM's order: input, forget, candidate, output."""

    from_input: Tensor
    """[N 4W D]"""
    from_hidden: Tensor
    """[N 4W W]"""
    bias: Tensor | None
    """[N 4W]"""


class Entities(NamedTuple):
    """The parameters of a recurrent entity network, weights as [out in]."""

    keys: Tensor
    """w_j, [N W]"""
    encoder: Tensor | None
    """[W D]; None where inputs are read as they are"""
    from_memory: Tensor
    """U [W W]"""
    from_key: Tensor
    """V [W W]"""
    from_input: Tensor
    """W [W W]"""
    from_read: Tensor
    """H [W W]"""
    gate_bias: Tensor | None
    """[N]"""
    bias: Tensor | None
    """[W]"""
    slope: Tensor | None
    """[W]; None where phi is the identity"""


def keyed(shared: LSTMs, from_key: Tensor, keys: Tensor) -> LSTMs:
    """N LSTMs of the weights of one, told apart by V w_j: `shared` with N = 1, V [4W W], keys [N W]."""
    told = F.linear(keys, from_key)
    bias = told if shared.bias is None else told + shared.bias
    return LSTMs(shared.from_input.expand(len(keys), -1, -1), shared.from_hidden.expand(len(keys), -1, -1), bias)


def bank_step(lstms: LSTMs, inputs: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """One step of every LSTM: inputs [B D] and states [B N W] to the next h and c."""
    gates = torch.einsum("nrd,bd->bnr", lstms.from_input, inputs)
    gates = gates + torch.einsum("nrw,bnw->bnr", lstms.from_hidden, hidden)
    if lstms.bias is not None:
        gates = gates + lstms.bias
    opened, kept, candidate, shown = gates.chunk(4, -1)
    cell = torch.sigmoid(kept) * cell + torch.sigmoid(opened) * torch.tanh(candidate)
    return torch.sigmoid(shown) * torch.tanh(cell), cell


def encode(entities: Entities, inputs: Tensor) -> Tensor:
    """What the cells read of an input, s: [... D] to [... W]."""
    return inputs if entities.encoder is None else F.linear(inputs, entities.encoder)


def activate(entities: Entities, values: Tensor) -> Tensor:
    """Apply phi over [... W]: a PReLU with a slope for each unit, or the identity."""
    return values if entities.slope is None else torch.where(values > 0, values, entities.slope * values)


def normalize(vectors: Tensor) -> Tensor:
    """Eq. 5, v / |v| over the last axis; a vector of no length stays what it is."""
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / torch.where(length > TINY, length, 1.0)


def entity_step(entities: Entities, encoded: Tensor, memory: Tensor) -> Tensor:
    """Eqs. 2 to 5 for every cell: s [B W] and a memory [B N W] to the next memory."""
    reached = torch.einsum("bw,bnw->bn", encoded, memory) + F.linear(encoded, entities.keys)
    if entities.gate_bias is not None:
        reached = reached + entities.gate_bias
    candidate = F.linear(memory, entities.from_memory, entities.bias)
    candidate = candidate + F.linear(entities.keys, entities.from_key)
    candidate = candidate + F.linear(encoded, entities.from_input).unsqueeze(1)
    return normalize(memory + torch.sigmoid(reached).unsqueeze(-1) * activate(entities, candidate))


def answer(entities: Entities, question: Tensor, memory: Tensor) -> Tensor:
    """Eq. 6 without R: q [... W] and memories [... N W] to phi(q + H u) [... W], u what q finds in the memory."""
    weights = torch.softmax(memory @ question.unsqueeze(-1), -2)
    found = (weights.mT @ memory).squeeze(-2)
    return activate(entities, question + F.linear(found, entities.from_read))
