"""The time loop with everything that depends on the input alone taken out of it: the reference's numbers, sooner."""

from __future__ import annotations

import torch
from torch import Tensor

from seqtoolkit_rmc.reference import Affine, Block, Parameters, Settings, normalize, perceive, project


def unroll(
    parameters: Parameters, settings: Settings, inputs: Tensor, memory: Tensor, fresh: Tensor, first: Tensor | None
) -> Tensor:
    """All memories [T B N M]: inputs [T B n D] from `memory`, and from `fresh` in the rows that `first` [T B] marks."""
    blocks = tuple(_scale(block, settings) for block in parameters.blocks)
    projected = project(parameters.projection, inputs)
    arriving = _heads(blocks[0], settings, projected.flatten(0, 1)).unflatten(0, inputs.shape[:2])
    gates = None if parameters.gates is None else parameters.gates[1]
    drive = [None] * len(inputs) if gates is None else _drive(parameters.gates[0], settings, projected).unbind()
    restarts = [False] * len(inputs) if first is None else first.any(1).tolist()
    memories = []
    for time, (new, now, push) in enumerate(zip(projected.unbind(), arriving.unbind(), drive, strict=True)):
        if restarts[time]:
            memory = torch.where(first[time, :, None, None], fresh, memory)
        candidate = _candidate(blocks, parameters.mlp, settings, memory, new, now)
        memory = candidate if gates is None else _gate(gates, push, candidate, memory)
        memories.append(memory)
    return torch.stack(memories)


def _scale(block: Block, settings: Settings) -> Block:
    """Fold 1 / sqrt(d_k) into what the norm of [q k v] applies to the queries."""
    gain = block.qkv_norm.weight
    scale = gain.new_ones(settings.num_heads, 2 * settings.key_size + settings.head_size)
    scale[:, : settings.key_size] = settings.key_size**-0.5
    scale = scale.flatten()
    return block._replace(qkv_norm=Affine(gain * scale, block.qkv_norm.bias * scale))


def _drive(from_input: Affine, settings: Settings, projected: Tensor) -> Tensor:
    """The input's part of the gates, their constant biases included: [T B n M] to [T B 1 gates]."""
    half = len(from_input.bias) // 2
    constant = from_input.bias.new_tensor([settings.input_bias, settings.forget_bias]).repeat_interleave(half)
    return project(Affine(from_input.weight, from_input.bias + constant), projected.flatten(2)).unsqueeze(2)


def _heads(block: Block, settings: Settings, rows: Tensor) -> Tensor:
    """Queries, keys and values of [B S M], a head each: [B heads S 2k+v]."""
    qkv = normalize(block.qkv_norm, project(block.qkv, rows))
    return qkv.unflatten(-1, (settings.num_heads, -1)).transpose(1, 2)


def _candidate(
    blocks: tuple[Block, ...], mlp: tuple[Affine, ...], settings: Settings, memory: Tensor, new: Tensor, now: Tensor
) -> Tensor:
    """The memory after all blocks, [B N M]; in the last one the input's rows are keys and values and nothing else."""
    slots, last = memory.shape[1], len(blocks) - 1
    rows = memory if last == 0 else torch.cat([memory, new], 1)
    heads = torch.cat([_heads(blocks[0], settings, memory), now], 2)
    for number, block in enumerate(blocks):
        if number > 0:
            heads = _heads(block, settings, rows)
        if number == last:
            rows = rows[:, :slots]
        rows = normalize(block.attention_norm, rows + _read(settings, heads, rows.shape[1]))
        rows = normalize(block.mlp_norm, rows + perceive(mlp, rows))
    return rows


def _read(settings: Settings, heads: Tensor, queries: int) -> Tensor:
    """What the first `queries` rows read of all: [B heads S 2k+v] to [B queries M]."""
    batch, count, rows, _ = heads.shape
    flat = heads.reshape(batch * count, rows, -1)
    query, key, value = flat.split([settings.key_size, settings.key_size, settings.head_size], -1)
    weights = torch.softmax(torch.bmm(query[:, :queries], key.mT), -1)
    return torch.bmm(weights, value).view(batch, count, queries, -1).transpose(1, 2).flatten(2)


def _gate(gates: Affine, push: Tensor, candidate: Tensor, memory: Tensor) -> Tensor:
    opened = torch.sigmoid(push + project(gates, torch.tanh(memory)))
    input_gate, forget_gate = opened.chunk(2, -1)
    return torch.addcmul(forget_gate * memory, input_gate, torch.tanh(candidate))
