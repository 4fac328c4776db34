"""The equations of the relational memory core in plain PyTorch: the truth that every faster path answers to.

Santoro et al. 2018 (arXiv 1806.01822), section 3, in the form of the code its authors published, Sonnet 1.36. Axes:
B batch, N memory slots, n input rows (1 unless the input is a matrix), M = num_heads * head_size, S = N + n rows.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

GateStyle = Literal["unit", "memory"] | None
EPSILON = 1e-5


class Settings(NamedTuple):
    """What the equations need besides the parameters."""

    num_heads: int
    head_size: int
    key_size: int
    forget_bias: float
    input_bias: float


class Affine(NamedTuple):
    """A weight [out in] with its bias [out], or the gain and the shift of a layer norm."""

    weight: Tensor
    bias: Tensor


class Block(NamedTuple):
    """The parameters that one block of attention has for itself."""

    qkv: Affine
    qkv_norm: Affine
    attention_norm: Affine
    mlp_norm: Affine


class Parameters(NamedTuple):
    """All parameters; `gates` are those read from the input and from the memory, None for a core without gates."""

    projection: Affine
    blocks: tuple[Block, ...]
    mlp: tuple[Affine, ...]
    gates: tuple[Affine, Affine] | None


class Step(NamedTuple):
    """One step and what happened inside it."""

    memory: Tensor
    """[B N M]"""
    input_gate: Tensor | None
    """[B N M] for gates of the style 'unit', [B N 1] for 'memory'"""
    forget_gate: Tensor | None
    attention: tuple[Tensor, ...]
    """A block each: [B num_heads S S], queries by keys, the rows of the input last"""


def project(affine: Affine, inputs: Tensor) -> Tensor:
    """W x + b over the last axis."""
    return F.linear(inputs, affine.weight, affine.bias)


def normalize(affine: Affine, rows: Tensor) -> Tensor:
    """Layer norm of each row by itself."""
    return F.layer_norm(rows, rows.shape[-1:], affine.weight, affine.bias, EPSILON)


def attend(settings: Settings, block: Block, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 1, each head by its own projections: rows [B S M] to what each reads [B S M] and the weights [B heads S S].

    A(M) = softmax(M W^q (M W^k)^T / sqrt(d_k)) M W^v, where the published code puts a layer norm on [q k v].
    """
    qkv = normalize(block.qkv_norm, project(block.qkv, rows))
    heads = qkv.unflatten(-1, (settings.num_heads, -1)).transpose(1, 2)
    query, key, value = heads.split([settings.key_size, settings.key_size, settings.head_size], -1)
    weights = torch.softmax(query @ key.mT / settings.key_size**0.5, -1)
    return (weights @ value).transpose(1, 2).flatten(2), weights


def perceive(mlp: tuple[Affine, ...], rows: Tensor) -> Tensor:
    """g_psi: the row-wise MLP, the same in all blocks; ReLU after each layer but the last."""
    for layer in mlp[:-1]:
        rows = torch.relu(project(layer, rows))
    return project(mlp[-1], rows)


def step(parameters: Parameters, settings: Settings, inputs: Tensor, memory: Tensor) -> Step:
    """One step: inputs [B n D] and a memory [B N M] to the next memory, which flattened is also the output."""
    projected = project(parameters.projection, inputs)
    rows = torch.cat([memory, projected], 1)
    attention = []
    for block in parameters.blocks:
        read, weights = attend(settings, block, rows)
        attention.append(weights)
        rows = normalize(block.attention_norm, rows + read)
        rows = normalize(block.mlp_norm, rows + perceive(parameters.mlp, rows))
    candidate = rows[:, : memory.shape[1]]
    if parameters.gates is None:
        return Step(candidate, None, None, tuple(attention))
    from_input, from_memory = parameters.gates
    gates = project(from_input, projected.flatten(1)).unsqueeze(1) + project(from_memory, torch.tanh(memory))
    before_input, before_forget = gates.chunk(2, -1)
    input_gate = torch.sigmoid(before_input + settings.input_bias)
    forget_gate = torch.sigmoid(before_forget + settings.forget_bias)
    following = input_gate * torch.tanh(candidate) + forget_gate * memory
    return Step(following, input_gate, forget_gate, tuple(attention))


def unroll(
    parameters: Parameters, settings: Settings, inputs: Tensor, memory: Tensor, fresh: Tensor, first: Tensor | None
) -> Tensor:
    """All memories [T B N M]: inputs [T B n D] from `memory` [B N M], and from `fresh` [1 N M] in the rows that `first` [T B] marks."""
    memories = []
    for time, now in enumerate(inputs):
        if first is not None:
            memory = torch.where(first[time, :, None, None], fresh, memory)
        memory = step(parameters, settings, now, memory).memory
        memories.append(memory)
    return torch.stack(memories)
