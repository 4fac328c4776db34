"""The time loop with everything that depends on the input alone taken out of it: the reference's numbers, sooner."""

from __future__ import annotations

import torch
from torch import Tensor

from seqtoolkit_rmc.reference import Affine, Block, Parameters, Settings, normalize, project


def unroll(
    parameters: Parameters, settings: Settings, inputs: Tensor, memory: Tensor, fresh: Tensor, first: Tensor | None
) -> Tensor:
    """All memories [T B N M]: inputs [T B n D] from `memory`, and from `fresh` in the rows that `first` [T B] marks."""
    projected = project(parameters.projection, inputs)
    blocks = tuple(_fold(block, settings) for block in parameters.blocks)
    mlp = tuple(_turn(layer) for layer in parameters.mlp)
    arriving = _heads(blocks[0], settings, projected.flatten(0, 1)).unflatten(0, inputs.shape[:2])
    gates: Tensor | None = None
    drive: tuple[Tensor, ...] = ()
    if parameters.gates is not None:
        gates, drive = 2 * parameters.gates[1].weight.t(), _drive(*parameters.gates, settings, projected).unbind()
    restarts = [False] * len(inputs) if first is None else first.any(1).tolist()
    memories = []
    for time, (new, now) in enumerate(zip(projected.unbind(), arriving.unbind(), strict=True)):
        if first is not None and restarts[time]:
            memory = torch.where(first[time, :, None, None], fresh, memory)
        candidate = _attend(blocks, mlp, settings, memory, new, now)
        memory = candidate if gates is None else _gate(gates, drive[time], candidate, memory)
        memories.append(memory)
    return torch.stack(memories)


def _turn(affine: Affine) -> Affine:
    """The weight as [in out]: turned once a sequence, and its gradient back once."""
    return Affine(affine.weight.t(), affine.bias)


def _fold(block: Block, settings: Settings) -> Block:
    """Fold 1 / sqrt(d_k) into what the norm of [q k v] applies to the queries; turn the projection."""
    gain = block.qkv_norm.weight
    scale = gain.new_ones(settings.num_heads, 2 * settings.key_size + settings.head_size)
    scale[:, : settings.key_size] = settings.key_size**-0.5
    scale = scale.flatten()
    return block._replace(qkv=_turn(block.qkv), qkv_norm=Affine(gain * scale, block.qkv_norm.bias * scale))


def _drive(from_input: Affine, from_memory: Affine, settings: Settings, projected: Tensor) -> Tensor:
    """What the input and all biases add to the gates, [T B n M] to [T B 1 gates], less the 1 of tanh(m) = 2 s(2m) - 1."""
    half = len(from_input.bias) // 2
    constant = from_input.bias.new_tensor([settings.input_bias, settings.forget_bias]).repeat_interleave(half)
    bias = from_input.bias + from_memory.bias + constant - from_memory.weight.sum(1)
    return project(Affine(from_input.weight, bias), projected.flatten(2)).unsqueeze(2)


def _project(turned: Affine, rows: Tensor) -> Tensor:
    return torch.addmm(turned.bias, rows.flatten(0, 1), turned.weight).unflatten(0, rows.shape[:2])


def _heads(block: Block, settings: Settings, rows: Tensor) -> Tensor:
    """Queries, keys and values of [B S M], a head each: [B heads S 2k+v]."""
    qkv = normalize(block.qkv_norm, _project(block.qkv, rows))
    return qkv.unflatten(-1, (settings.num_heads, -1)).transpose(1, 2)


def _attend(
    blocks: tuple[Block, ...], mlp: tuple[Affine, ...], settings: Settings, memory: Tensor, new: Tensor, now: Tensor
) -> Tensor:
    """The memory after all blocks, [B N M], of a memory, the projected input's rows, and those rows' heads.

    In the last block the input's rows are keys and values and nothing else.
    """
    slots, last = memory.shape[1], len(blocks) - 1
    rows = memory if last == 0 else torch.cat([memory, new], 1)
    heads = _heads(blocks[0], settings, memory)
    pair = last == 0 and slots == now.shape[2] == 1
    if not pair:
        heads = torch.cat([heads, now], 2)
    for number, block in enumerate(blocks):
        if number > 0:
            heads = _heads(block, settings, rows)
        if number == last:
            rows = rows[:, :slots]
        read = _read_either(settings, heads, now) if pair else _read(settings, heads, rows.shape[1])
        rows = normalize(block.attention_norm, (rows.unflatten(-1, (settings.num_heads, -1)) + read).flatten(2))
        hidden = rows
        for layer in mlp[:-1]:
            hidden = torch.relu(_project(layer, hidden))
        rows = normalize(block.mlp_norm, rows + _project(mlp[-1], hidden))
    return rows


def _read(settings: Settings, heads: Tensor, queries: int) -> Tensor:
    """What the first `queries` rows read of all: [B heads S 2k+v] to [B queries heads v], a view that no copy is made of."""
    batch, count, rows, _ = heads.shape
    flat = heads.reshape(batch * count, rows, -1)
    query, key, value = flat.split([settings.key_size, settings.key_size, settings.head_size], -1)
    weights = torch.softmax(torch.bmm(query[:, :queries], key.mT), -1)
    return torch.bmm(weights, value).view(batch, count, queries, -1).transpose(1, 2)


def _read_either(settings: Settings, heads: Tensor, now: Tensor) -> Tensor:
    """What one slot reads of itself and of one row: a softmax over two is the sigmoid of their difference."""
    query, key, value = heads.split([settings.key_size, settings.key_size, settings.head_size], -1)
    _, other, arriving = now.split([settings.key_size, settings.key_size, settings.head_size], -1)
    weight = torch.sigmoid((query * (key - other)).sum(-1, keepdim=True))
    return torch.lerp(arriving, value, weight).transpose(1, 2)


def _gate(turned: Tensor, drive: Tensor, candidate: Tensor, memory: Tensor) -> Tensor:
    """The gates, and what they let through; tanh(y) is 2 s(2y) - 1, for torch's sigmoid takes a fifth of its tanh's time.

    `turned` is doubled, and `drive` has the rest of the memory's tanh.
    """
    input_gate, forget_gate = torch.sigmoid(drive + torch.sigmoid(memory + memory) @ turned).chunk(2, -1)
    risen = torch.sigmoid(candidate + candidate) - 0.5
    return torch.addcmul(forget_gate * memory, input_gate, risen, value=2)
