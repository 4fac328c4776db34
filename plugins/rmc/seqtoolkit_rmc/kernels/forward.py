"""Forward: the time loop without autograd, a few operations a step, keeping what a pass back needs and nothing else."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from seqtoolkit_rmc.kernels.hoist import Hoisted
from seqtoolkit_rmc.reference import EPSILON, Affine, Block, Parameters, Settings


class Kept(NamedTuple):
    """What one block leaves for the pass back, [T R *]: R = B * rows that go through it, Q = B * rows that come out."""

    before_norm: Tensor
    """[q k v] before their norm, [T R P]"""
    weights: Tensor
    """Of the attention, [T B*heads queries keys]"""
    hidden: tuple[Tensor, ...]
    """Each layer of the MLP but the last, after ReLU, [T Q M]"""
    risen: Tensor
    """What the last norm of the block reads, [T Q M]"""


class Trace(NamedTuple):
    """What a sequence leaves for the pass back, besides its memories."""

    blocks: tuple[Kept, ...]
    gates: Tensor | None
    """After their sigmoids, [T B N G]"""

    def part(self, begin: int, end: int) -> Trace:
        """The steps from `begin` to `end`."""
        blocks = tuple(
            Kept(before[begin:end], weights[begin:end], tuple(each[begin:end] for each in hidden), risen[begin:end])
            for before, weights, hidden, risen in self.blocks
        )
        return Trace(blocks, None if self.gates is None else self.gates[begin:end])


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
    """All memories into `memories` [T B N M], from `memory`. Of one step alone where not `keep`."""
    steps, _, slots, _ = memories.shape
    traces = _room(loop, hoisted, memories, steps if keep else 1)
    arriving = hoisted.arriving.unflatten(-1, (loop.settings.num_heads, -1)).transpose(2, 3)
    if traces.gates is not None and hoisted.drive is not None:
        traces.gates.copy_(hoisted.drive.unsqueeze(2))
    for time in range(steps):
        place = time if keep else 0
        if loop.restarts and loop.restarts[time] and loop.first is not None:
            memory = torch.where(loop.first[time, :, None, None], loop.fresh, memory)
        rows = memory if len(loop.blocks) == 1 else torch.cat([memory, hoisted.projected[time]], 1)
        for number, block in enumerate(loop.blocks):
            first_of_all, last = number == 0, number == len(loop.blocks) - 1
            new = arriving[time] if first_of_all else None
            rows = _block(loop, block, rows, new, slots, traces.blocks[number], place, last=last)
        if traces.gates is None:
            memory = memories[time].copy_(rows)
        else:
            memory = _gate(loop, traces.gates[time], memory, rows, memories[time])
    return traces


def _room(loop: Loop, hoisted: Hoisted, memories: Tensor, steps: int) -> Trace:
    """Memory for what is kept of `steps` steps."""
    _, batch, slots, size = memories.shape
    inputs, heads = hoisted.arriving.shape[2], loop.settings.num_heads
    last, kept = len(loop.blocks) - 1, []
    for number in range(len(loop.blocks)):
        through = slots if last == 0 else slots + inputs
        out = slots if number == last else slots + inputs
        entering = slots if number == 0 else through
        kept.append(
            Kept(
                memories.new_empty(steps, batch * entering, hoisted.arriving.shape[-1], dtype=loop.dtype),
                memories.new_empty(steps, batch * heads, out, slots + inputs, dtype=loop.dtype),
                tuple(memories.new_empty(steps, batch * out, size, dtype=loop.dtype) for _ in loop.mlp[:-1]),
                memories.new_empty(steps, batch * out, size),
            )
        )
    gates = None if loop.gates is None else memories.new_empty(len(memories), batch, slots, loop.gates.shape[1])
    return Trace(tuple(kept), gates)


def _block(
    loop: Loop, block: Block, rows: Tensor, new: Tensor | None, slots: int, kept: Kept, place: int, *, last: bool
) -> Tensor:
    """One block: rows [B S M] to [B S M], or to [B N M] from the last one. `new` is the heads of the input's rows, if known."""
    settings, exact = loop.settings, rows.dtype
    batch, size = rows.shape[0], rows.shape[-1]
    entering = rows if new is None else rows[:, :slots]
    torch.addmm(
        block.qkv.bias, entering.reshape(-1, size).to(loop.dtype), block.qkv.weight, out=kept.before_norm[place]
    )
    heads = gather(settings, normalize(block.qkv_norm, kept.before_norm[place].to(exact))[0], batch, new)
    query, key, value = split(settings, heads.to(loop.dtype))
    out = slots if last else rows.shape[1]
    weights = torch.softmax(torch.bmm(query[:, :out], key.mT), -1, out=kept.weights[place])
    read = add_read(settings, rows[:, :out], weights, value)
    rows = normalize(block.attention_norm, read)[0].view(-1, size)
    hidden = rows.to(loop.dtype)
    for layer, place_for in zip(loop.mlp[:-1], kept.hidden, strict=True):
        hidden = torch._addmm_activation(layer.bias, hidden, layer.weight, out=place_for[place])  # noqa: SLF001  ReLU in one
    risen = torch.add(rows, torch.addmm(loop.mlp[-1].bias, hidden, loop.mlp[-1].weight), out=kept.risen[place])
    return normalize(block.mlp_norm, risen)[0].view(batch, out, size)


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
