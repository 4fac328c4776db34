"""Fused: the whole sequence as one autograd function in plain PyTorch, a chunk of the batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqtoolkit_rmc import reference
from seqtoolkit_rmc.kernels.backward import Driven, Sweep
from seqtoolkit_rmc.kernels.forward import Kept, Loop, Trace, prepare, run
from seqtoolkit_rmc.kernels.hoist import Hoisted, hoist, operands
from seqtoolkit_rmc.kernels.watcher import watched
from seqtoolkit_rmc.reference import Affine, Block, Parameters, Settings

NUMBERS = 2**17
"""How many numbers of memory, over samples and steps, go through a pass back at a time on a CPU: more would leave its cache."""


def missing(parameters: Parameters, settings: Settings, inputs: Tensor) -> str | None:  # noqa: ARG001  a backend's signature
    """Why this backend cannot be used for these, as a clause; None if it can."""
    return watched()


def unroll(
    parameters: Parameters, settings: Settings, inputs: Tensor, memory: Tensor, fresh: Tensor, first: Tensor | None
) -> Tensor:
    """All memories [T B N M], as `reference.unroll` computes them; products in the dtype of autocast, where it is on."""
    if not memory.numel():  # no rows: views cannot be told their sizes
        return reference.unroll(parameters, settings, inputs, memory, fresh, first)
    tensors = flat(parameters)
    keep = torch.is_grad_enabled() and any(each.requires_grad for each in (inputs, memory, *tensors))
    counts = len(parameters.blocks), len(parameters.mlp)
    return _Fused.apply(settings, counts, keep, fresh.detach(), first, inputs, memory, *tensors)


def flat(parameters: Parameters) -> list[Tensor]:
    """All tensors of the parameters in one row."""
    affines = [parameters.projection, *(each for block in parameters.blocks for each in block), *parameters.mlp]
    return [tensor for affine in (*affines, *(parameters.gates or ())) for tensor in affine]


def unflat(tensors: list[Tensor], blocks: int, layers: int) -> Parameters:
    """What `flat` made flat."""
    affines = [Affine(*pair) for pair in zip(tensors[::2], tensors[1::2], strict=True)]
    projection, *rest = affines
    edge = 4 * blocks
    gates = rest[edge + layers :]
    return Parameters(
        projection,
        tuple(Block(*rest[begin : begin + 4]) for begin in range(0, edge, 4)),
        tuple(rest[edge : edge + layers]),
        (gates[0], gates[1]) if gates else None,
    )


class _Fused(torch.autograd.Function):
    """All steps; backwards, each chunk in turn. What depends on the inputs alone is computed again, not kept."""

    @staticmethod
    def forward(
        ctx: Any,
        settings: Settings,
        counts: tuple[int, int],
        keep: bool,  # noqa: FBT001  autograd passes by position
        fresh: Tensor,
        first: Tensor | None,
        inputs: Tensor,
        memory: Tensor,
        *tensors: Tensor,
    ) -> Tensor:
        """Memories [T B N M]; `counts` are those of blocks and of the MLP's layers."""
        ctx.settings, ctx.counts, ctx.dtype = settings, counts, operands(memory)
        parameters = unflat(list(tensors), *counts)
        memories = memory.new_empty(len(inputs), *memory.shape)
        kept: list[Tensor | None] = []
        ctx.chunks = _chunks(memories)
        for begin, end in ctx.chunks:
            part = None if first is None else first[:, begin:end]
            hoisted, loop = _prepare(parameters, settings, inputs[:, begin:end], fresh, part, ctx.dtype)
            trace = run(loop, hoisted, memory[begin:end], memories[:, begin:end], keep=keep)
            if keep:
                kept += _pack(trace)
        if keep:
            ctx.save_for_backward(inputs, memory, fresh, first, memories, *tensors, *kept)
        return memories

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of inputs, memory and all parameters."""
        settings, counts = ctx.settings, ctx.counts
        inputs, memory, fresh, first, memories, *rest = ctx.saved_tensors
        count = len(ctx.needs_input_grad) - 7
        tensors, kept = rest[:count], rest[count:]
        size = len(kept) // len(ctx.chunks)
        to_inputs = torch.zeros_like(inputs) if ctx.needs_input_grad[5] else None
        to_memory, to_tensors = torch.empty_like(memory), [torch.zeros_like(each) for each in tensors]
        leaves = [each.detach().requires_grad_() for each in tensors]
        parameters, sums = unflat(leaves, *counts), unflat([torch.zeros_like(each) for each in tensors], *counts)
        for number, (begin, end) in enumerate(ctx.chunks):
            part = None if first is None else first[:, begin:end]
            some = inputs[:, begin:end].detach().requires_grad_(to_inputs is not None)
            with torch.enable_grad():
                hoisted, loop = _prepare(parameters, settings, some, fresh, part, ctx.dtype)
            trace = _unpack(kept[size * number : size * (number + 1)], *counts)
            read = memory[begin:end], memories[:, begin:end]
            to_memory[begin:end], driven = _back(loop, hoisted, read, given[:, begin:end], trace, sums)
            made, grads = [hoisted.arriving, hoisted.drive, hoisted.projected], [*driven]
            if number == len(ctx.chunks) - 1:  # what was folded into the blocks was folded alike in all chunks
                made += flat(parameters._replace(blocks=hoisted.blocks))
                grads += flat(sums)
            found = _through(made, grads, [some, *leaves] if to_inputs is not None else leaves)
            if to_inputs is not None:
                to_inputs[:, begin:end] = found[0]
            for total, each in zip(to_tensors, found[-len(leaves) :], strict=True):
                total.add_(each)
        return (None, None, None, None, None, to_inputs, to_memory, *to_tensors)


def _back(
    loop: Loop, hoisted: Hoisted, read: tuple[Tensor, Tensor], given: Tensor, trace: Trace, sums: Parameters
) -> tuple[Tensor, Driven]:
    """Back over all steps of a chunk, some steps at a time; `read` is the first memory and all memories. Adds to `sums`."""
    driven = Driven(
        torch.empty_like(hoisted.arriving),
        None if hoisted.drive is None else torch.empty_like(hoisted.drive),
        torch.empty_like(hoisted.projected) if len(loop.blocks) > 1 else None,
    )
    memory, length = None, len(given)
    if given.device.type == "cpu":
        length = max(1, NUMBERS // given[0].numel())
    for end in range(len(given), 0, -length):
        now = slice(max(0, end - length), end)
        before = (
            read[1][now.start - 1 : end - 1] if now.start else torch.cat([read[0].unsqueeze(0), read[1][: end - 1]])
        )
        if loop.first is not None:
            before = torch.where(loop.first[now, :, None, None], loop.fresh, before)
        some = hoisted._replace(
            projected=hoisted.projected[now], arriving=hoisted.arriving[now], drive=_at(hoisted.drive, now)
        )
        marks = [
            loop.first[time] if loop.first is not None and loop.restarts[time] else None
            for time in range(now.start, end)
        ]
        sweep = Sweep(loop, some, before, trace, now)
        into = Driven(driven.arriving[now], _at(driven.drive, now), _at(driven.projected, now))
        memory = sweep(given[now], memory, marks, into)
        sweep.add_to(sums)
    assert memory is not None
    return memory, driven


def _at(rows: Tensor | None, steps: slice) -> Tensor | None:
    return None if rows is None else rows[steps]


def _through(made: Sequence[Tensor | None], given: Sequence[Tensor | None], leaves: list[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of `leaves` from those `given` of what was made of them; what nothing is given of leaves none."""
    pairs = [(each, grad) for each, grad in zip(made, given, strict=True) if each is not None and grad is not None]
    return torch.autograd.grad(
        [each for each, _ in pairs], leaves, [grad for _, grad in pairs], allow_unused=True, materialize_grads=True
    )


def _prepare(
    parameters: Parameters, settings: Settings, inputs: Tensor, fresh: Tensor, first: Tensor | None, dtype: torch.dtype
) -> tuple[Hoisted, Loop]:
    """What the loop reads, by products of operands in `dtype`."""
    exact = parameters.projection.weight.dtype
    with torch.autocast(inputs.device.type, dtype, enabled=dtype != exact):
        hoisted = hoist(parameters, settings, inputs)
    return hoisted, prepare(parameters, hoisted.blocks, settings, fresh, first, dtype)


def _chunks(memories: Tensor) -> list[tuple[int, int]]:
    """From where to where the batch is cut: all at once on a GPU, about NUMBERS of a memory a part on a CPU."""
    batch = memories.shape[1]
    parts = 1 if memories.device.type != "cpu" else max(1, min(batch, round(memories[0].numel() / NUMBERS)))
    edges = [batch * part // parts for part in range(parts + 1)]
    return list(pairwise(edges))


def _pack(trace: Trace) -> list[Tensor | None]:
    row = [trace.gates]
    for step in trace.steps:
        for before, weights, risen, hidden in step:
            row += [before, weights, risen, *hidden]
    return row


def _unpack(row: list[Any], blocks: int, layers: int) -> Trace:
    gates, *rest = row
    size = 2 + layers
    parts = (rest[at : at + size] for at in range(0, len(rest), size))
    kept = [Kept(before, weights, risen, tuple(hidden)) for before, weights, risen, *hidden in parts]
    return Trace([kept[at : at + blocks] for at in range(0, len(kept), blocks)], gates)
