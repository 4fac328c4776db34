"""Fused: the whole sequence as one autograd function in plain PyTorch, a chunk of the batch at a time."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqtoolkit_rmc.kernels.backward import Sweep
from seqtoolkit_rmc.kernels.forward import Kept, Loop, Trace, prepare, run
from seqtoolkit_rmc.kernels.hoist import Hoisted, hoist
from seqtoolkit_rmc.reference import Affine, Block, Parameters, Settings

CHUNK = 32 * 2**20
"""Bytes that a pass back may take for a chunk of the batch on a CPU; more would leave its cache. A GPU takes all at once."""


def missing(parameters: Parameters, settings: Settings, inputs: Tensor) -> str | None:  # noqa: ARG001  a backend's signature
    """Why this backend cannot be used: there is nothing that it lacks."""
    return None


def unroll(
    parameters: Parameters, settings: Settings, inputs: Tensor, memory: Tensor, fresh: Tensor, first: Tensor | None
) -> Tensor:
    """All memories [T B N M], as `reference.unroll` computes them; products in the dtype of autocast, where it is on."""
    return _Fused.apply(settings, inputs, memory, fresh.detach(), first, len(parameters.blocks), len(parameters.mlp), *flat(parameters))


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
        ctx: Any, settings: Settings, inputs: Tensor, memory: Tensor, fresh: Tensor, first: Tensor | None, blocks: int, layers: int, *tensors: Tensor
    ) -> Tensor:
        ctx.settings, ctx.counts, ctx.dtype = settings, (blocks, layers), _dtype(memory)
        parameters, keep = unflat(list(tensors), blocks, layers), any(ctx.needs_input_grad)
        memories = memory.new_empty(len(inputs), *memory.shape)
        kept: list[Tensor | None] = []
        ctx.chunks = _chunks(parameters, memories, inputs.shape[2])
        for begin, end in ctx.chunks:
            part = None if first is None else first[:, begin:end]
            hoisted, loop = _prepare(parameters, settings, inputs[:, begin:end], fresh, part, ctx.dtype)
            trace = run(loop, hoisted, memory[begin:end], memories[:, begin:end], keep=keep)
            kept += _pack(trace)
        if keep:
            ctx.save_for_backward(inputs, memory, fresh, first, memories, *tensors, *kept)
        return memories

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        settings, (blocks, layers) = ctx.settings, ctx.counts
        inputs, memory, fresh, first, memories, *rest = ctx.saved_tensors
        count = len(ctx.needs_input_grad) - 7
        tensors, kept = rest[:count], rest[count:]
        size = len(kept) // len(ctx.chunks)
        to_inputs = torch.empty_like(inputs) if ctx.needs_input_grad[1] else None
        to_memory, sums = torch.empty_like(memory), [torch.zeros_like(each) for each in tensors]
        for number, (begin, end) in enumerate(ctx.chunks):
            leaves = [each.detach().requires_grad_() for each in (inputs[:, begin:end], *tensors)]
            parameters = unflat(leaves[1:], blocks, layers)
            part = None if first is None else first[:, begin:end]
            with torch.enable_grad():
                hoisted, loop = _prepare(parameters, settings, leaves[0], fresh, part, ctx.dtype)
            trace = _unpack(kept[size * number : size * (number + 1)], blocks, layers)
            with torch.no_grad():
                sweep = Sweep(loop, hoisted, memory[begin:end], memories[:, begin:end], trace)
                found = sweep(given[:, begin:end])
            to_memory[begin:end] = found.memory
            made, grads = [hoisted.arriving], [found.arriving]
            for tensor, grad in ((hoisted.projected, found.projected), (hoisted.drive, found.drive)):
                if tensor is not None and grad is not None:
                    made.append(tensor)
                    grads.append(grad)
            for block, of_block in zip(hoisted.blocks, found.blocks, strict=True):
                made += [tensor for affine in block for tensor in affine]
                grads += of_block
            made += [tensor for affine in parameters.mlp for tensor in affine]
            grads += found.mlp
            if parameters.gates is not None and found.gates is not None:
                made.append(parameters.gates[1].weight)
                grads.append(found.gates)
            to_leaves = torch.autograd.grad(
                made, leaves, [grad.to(tensor.dtype) for tensor, grad in zip(made, grads, strict=True)], allow_unused=True
            )
            if to_inputs is not None:
                to_inputs[:, begin:end] = to_leaves[0]
            for total, part_of_it in zip(sums, to_leaves[1:], strict=True):
                if part_of_it is not None:
                    total += part_of_it
        return (None, to_inputs, to_memory, None, None, None, None, *sums)


def _dtype(memory: Tensor) -> torch.dtype:
    kind = memory.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else memory.dtype


def _prepare(
    parameters: Parameters, settings: Settings, inputs: Tensor, fresh: Tensor, first: Tensor | None, dtype: torch.dtype
) -> tuple[Hoisted, Loop]:
    """What the loop reads, all but the products in the parameters' own dtype."""
    exact = parameters.projection.weight.dtype
    with torch.autocast(inputs.device.type, dtype, enabled=dtype != exact):
        found = hoist(parameters, settings, inputs.to(exact))
    drive = None if found.drive is None else found.drive.to(exact)
    found = found._replace(projected=found.projected.to(exact), arriving=found.arriving.to(exact), drive=drive)
    return found, prepare(parameters, found.blocks, settings, fresh, first, dtype)


def _chunks(parameters: Parameters, memories: Tensor, rows: int) -> list[tuple[int, int]]:
    """From where to where the batch is cut: all at once on a GPU, else so that a pass back takes CHUNK bytes for a part."""
    steps, batch, slots, size = memories.shape
    if memories.device.type != "cpu":
        return [(0, batch)]
    numbers = 4 * len(parameters.blocks[0].qkv.bias) + (8 + 2 * len(parameters.mlp)) * size
    taken = steps * (slots + rows) * numbers * len(parameters.blocks) * memories.element_size()
    parts = max(1, min(batch, round(taken * batch / CHUNK)))
    edges = [batch * part // parts for part in range(parts + 1)]
    return list(pairwise(edges))


def _pack(trace: Trace) -> list[Tensor | None]:
    row: list[Tensor | None] = [trace.gates]
    for kept in trace.blocks:
        row += [kept.before_norm, kept.weights, kept.risen, *kept.hidden]
    return row


def _unpack(row: list[Tensor | None], blocks: int, layers: int) -> Trace:
    gates, *rest = row
    size = 2 + layers
    parts = [rest[begin : begin + size] for begin in range(0, blocks * size, size)]
    return Trace(tuple(Kept(before, weights, tuple(hidden), risen) for before, weights, risen, *hidden in parts), gates)  # type: ignore[arg-type]  # gates alone may be None
