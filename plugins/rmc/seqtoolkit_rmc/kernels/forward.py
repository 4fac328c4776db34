"""Forward: the time loop without autograd, a few operations a step, keeping what a pass back needs and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from seqtoolkit_rmc.kernels.hoist import Hoisted
from seqtoolkit_rmc.reference import EPSILON, Affine, Block, Parameters, Settings


class Kept(NamedTuple):
    """What a step of a block leaves for the pass back; R = B * rows that enter it, Q = B * rows that come out.

    A tensor a step: large ones for all steps would be fresh memory each time, and faulting that in takes longer.
    """

    before_norm: Tensor
    """[q k v] before their norm, [R P]"""
    weights: Tensor
    """Of the attention, [B*heads queries keys]"""
    risen: Tensor
    """What the last norm of the block reads, [Q M]"""
    hidden: tuple[Tensor, ...]
    """Each layer of the MLP but the last, after ReLU, [Q M]"""


class Trace(NamedTuple):
    """What a sequence leaves for the pass back, besides its memories."""

    steps: list[list[Kept]]
    """Of each step, of each block."""
    gates: Tensor | None
    """After their sigmoids, [T B N G]"""

    def block(self, number: int, steps: slice) -> Kept:
        """What some steps of a block left, each with an axis T."""
        before, weights, risen, hidden = zip(*(step[number] for step in self.steps[steps]), strict=True)
        layers = tuple(together(each) for each in zip(*hidden, strict=True))
        return Kept(together(before), together(weights), together(risen), layers)


def together(tensors: Sequence[Tensor]) -> Tensor:
    """One after the other along a new first axis; no copy is made of a single one."""
    return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(list(tensors))


class Loop(NamedTuple):
    """What all steps share. Weights are those of the reference, turned to [in out], in the dtype of the products."""

    settings: Settings
    blocks: tuple[Block, ...]
    mlp: tuple[Affine, ...]
    gates: Tensor | None
    fresh: Tensor
    first: Tensor | None
    restarts: list[bool]
    """At which steps any row begins anew."""

    @property
    def dtype(self) -> torch.dtype:
        """That of the operands of matrix products."""
        return self.mlp[0].weight.dtype


def prepare(
    parameters: Parameters,
    blocks: tuple[Block, ...],
    settings: Settings,
    fresh: Tensor,
    first: Tensor | None,
    dtype: torch.dtype,
) -> Loop:
    """What all steps share, with weights turned and cast once. On a GPU no step is asked whether it has restarts."""
    gates = None if parameters.gates is None else parameters.gates[1].weight.t().to(dtype)
    restarts = [] if first is None else [True] * len(first)
    if first is not None and first.device.type == "cpu":
        restarts = first.any(1).tolist()
    return Loop(
        settings,
        tuple(block._replace(qkv=_turn(block.qkv, dtype)) for block in blocks),
        tuple(_turn(layer, dtype) for layer in parameters.mlp),
        gates,
        fresh,
        first,
        restarts,
    )


def _turn(affine: Affine, dtype: torch.dtype) -> Affine:
    return Affine(affine.weight.t().to(dtype), affine.bias.to(dtype))


def split(settings: Settings, heads: Tensor) -> tuple[Tensor, ...]:
    """Queries, keys and values of [... P / heads]."""
    return heads.split([settings.key_size, settings.key_size, settings.head_size], -1)


def normalize(affine: Affine, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Layer norm of each row by itself, with the means and the inverse deviations, in at least float32."""
    return torch.native_layer_norm(rows, rows.shape[-1:], affine.weight, affine.bias, EPSILON)


def run(loop: Loop, hoisted: Hoisted, memory: Tensor, memories: Tensor, *, keep: bool) -> Trace:
    """All memories into `memories` [T B N M], from `memory`; the trace has no steps where not `keep`."""
    slots, kept, gates = memories.shape[2], list[list[Kept]](), None
    arriving = hoisted.arriving.unflatten(-1, (loop.settings.num_heads, -1)).transpose(2, 3)
    if hoisted.drive is not None:
        gates = hoisted.drive.new_empty(*memories.shape[:3], hoisted.drive.shape[-1])
        gates.copy_(hoisted.drive.unsqueeze(2))
    for time in range(len(memories)):
        if loop.restarts and loop.restarts[time] and loop.first is not None:
            memory = torch.where(loop.first[time, :, None, None], loop.fresh, memory)
        rows = memory if len(loop.blocks) == 1 else torch.cat([memory, hoisted.projected[time]], 1)
        left = []
        for number, block in enumerate(loop.blocks):
            out = slots if number == len(loop.blocks) - 1 else rows.shape[1]
            rows, each = _block(loop, block, rows, arriving[time] if number == 0 else None, slots, out)
            left.append(each)
        if keep:
            kept.append(left)
        memory = memories[time].copy_(rows) if gates is None else _gate(loop, gates[time], memory, rows, memories[time])
    return Trace(kept, gates)


def _block(loop: Loop, block: Block, rows: Tensor, new: Tensor | None, slots: int, out: int) -> tuple[Tensor, Kept]:
    """One block: rows [B S M] to the first `out` of them. `new` is the heads of the input's rows, where they are known."""
    settings, exact = loop.settings, rows.dtype
    batch, size = rows.shape[0], rows.shape[-1]
    entering = rows if new is None else rows[:, :slots]
    before = torch.addmm(block.qkv.bias, entering.reshape(-1, size).to(loop.dtype), block.qkv.weight)
    heads = gather(settings, normalize(block.qkv_norm, before.to(exact))[0], batch, new)
    query, key, value = split(settings, heads.to(loop.dtype))
    weights = torch.softmax(torch.bmm(query[:, :out], key.mT), -1)
    rows = normalize(block.attention_norm, add_read(settings, rows[:, :out], weights, value))[0].view(-1, size)
    layers = [rows.to(loop.dtype)]
    for layer in loop.mlp[:-1]:
        layers.append(torch._addmm_activation(layer.bias, layers[-1], layer.weight))  # noqa: SLF001  ReLU in one
    risen = rows + torch.addmm(loop.mlp[-1].bias, layers[-1], loop.mlp[-1].weight)
    following = normalize(block.mlp_norm, risen)[0].view(batch, out, size)
    return following, Kept(before, weights, risen, tuple(layers[1:]))


def gather(settings: Settings, qkv: Tensor, batch: int, new: Tensor | None) -> Tensor:
    """Rows [B*S P] to heads [B*heads S 2k+v], those of `new` [B heads n 2k+v] after them."""
    heads = qkv.view(batch, -1, settings.num_heads, qkv.shape[-1] // settings.num_heads).transpose(1, 2)
    joined = heads if new is None else torch.cat([heads, new], 2)
    return joined.reshape(-1, *joined.shape[2:])


def add_read(settings: Settings, rows: Tensor, weights: Tensor, value: Tensor) -> Tensor:
    """Rows [B Q M] and what each reads, heads side by side."""
    if settings.num_heads == 1 and rows.dtype == value.dtype:
        return torch.baddbmm(rows, weights, value)
    read = torch.bmm(weights, value).view(len(rows), settings.num_heads, -1, settings.head_size).transpose(1, 2)
    return torch.add(rows.unflatten(-1, (settings.num_heads, -1)), read).flatten(2)


def _gate(loop: Loop, gates: Tensor, memory: Tensor, rows: Tensor, out: Tensor) -> Tensor:
    """Eq. 7: the next memory into `out`; `gates` holds what drives them, and then the gates."""
    assert loop.gates is not None
    flat = gates.view(-1, gates.shape[-1])
    risen = torch.tanh(memory).flatten(0, 1)
    if loop.dtype == flat.dtype:
        flat.addmm_(risen, loop.gates)
    else:
        flat.add_(torch.mm(risen.to(loop.dtype), loop.gates))
    input_gate, forget_gate = gates.sigmoid_().chunk(2, -1)
    return torch.mul(forget_gate, memory, out=out).addcmul_(input_gate, torch.tanh(rows))
