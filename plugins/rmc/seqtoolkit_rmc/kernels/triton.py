"""The unrolling for CUDA GPUs: the time loop inside one Triton kernel for each pass."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqtoolkit_rmc.kernels.hoist import hoist
from seqtoolkit_rmc.reference import Block, Parameters, Settings

MOST = 128
"""Rows of a program's products: of a sample's slots or input rows there can be no more."""
PRECISIONS = {"highest": "tf32x3", "high": "tf32", "medium": "tf32"}
"""How products of float32 are done, by torch.get_float32_matmul_precision()"""


def missing(parameters: Parameters, settings: Settings, inputs: Tensor) -> str | None:
    """Why these cannot be computed here, as a clause, or None."""
    del settings
    if importlib.util.find_spec("triton") is None:
        return "wants the package triton, found none"
    if not inputs.is_cuda and not _interpreted():
        return f"wants a CUDA device, got {inputs.device.type}"
    if inputs.is_cuda and torch.cuda.get_device_capability(inputs.device) < (8, 0):
        return "wants a GPU of compute capability 8.0 or more"
    if len(parameters.blocks) != 1:
        return f"wants one block of attention, got num_blocks {len(parameters.blocks)}"
    if inputs.shape[2] > MOST:
        return f"wants at most {MOST} input rows, got {inputs.shape[2]}"
    dtype, kind = parameters.projection.weight.dtype, inputs.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        return None if dtype == torch.bfloat16 else f"wants autocast to bfloat16, got {dtype}"
    if dtype == torch.float32 or (dtype == torch.float64 and _interpreted()):
        return None
    return f"wants parameters in float32, got {dtype}"


def unroll(
    parameters: Parameters, settings: Settings, inputs: Tensor, memory: Tensor, fresh: Tensor, first: Tensor | None
) -> Tensor:
    """All memories [T B N M]: inputs [T B n D] from `memory`, and from `fresh` in the rows that `first` [T B] marks.

    Raises:
        ValueError: more than 128 memory slots.
    """
    if memory.shape[1] > MOST:
        raise ValueError(f"mem_slots: the Triton kernel takes at most {MOST}, got {memory.shape[1]}")
    arriving, drive, block = _hoist(parameters, settings, inputs)
    kind = inputs.device.type
    operands = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else memory.dtype
    with torch.autocast(kind, enabled=False):
        matrix, vectors = _pack(parameters, block)
        tensors = (matrix, vectors, arriving, drive, memory, fresh[0])
        kept = torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in tensors)
        problem = _problem(parameters, settings, inputs, memory, operands, restarts=first is not None, kept=kept)
        return _Loop.apply(problem, operands, first, *tensors)


def _hoist(parameters: Parameters, settings: Settings, inputs: Tensor) -> tuple[Tensor, Tensor | None, Block]:
    hoisted = hoist(parameters, settings, inputs)
    return hoisted.arriving, hoisted.drive, hoisted.blocks[0]


def _problem(
    parameters: Parameters,
    settings: Settings,
    inputs: Tensor,
    memory: Tensor,
    operands: torch.dtype,
    *,
    restarts: bool,
    kept: bool,
) -> Any:
    from seqtoolkit_rmc.kernels.triton_plan import Problem

    device = inputs.device
    return Problem(
        settings=settings,
        batch=inputs.shape[1],
        slots=memory.shape[1],
        arrivals=inputs.shape[2],
        size=memory.shape[2],
        layers=len(parameters.mlp),
        gates=0 if parameters.gates is None else len(parameters.gates[1].weight),
        restarts=restarts,
        kept=kept,
        exact=operands != torch.bfloat16,
        precision=PRECISIONS[torch.get_float32_matmul_precision()],
        processors=torch.cuda.get_device_properties(device).multi_processor_count if inputs.is_cuda else 0,
    )


def _pack(parameters: Parameters, block: Block) -> tuple[Tensor, Tensor]:
    """One matrix and one vector of all that the loop reads. The MLP reads what its norm has neither scaled nor shifted.

    The matrix has the rows of the projection to [q k v], of the layers and of the gates [P+LM+G M]; the vector the bias,
    the gain and the shift of [q k v], the layers' biases, and the gain and the shift of the other two norms.
    """
    (weight, bias), norm = parameters.mlp[0], block.attention_norm
    weights = [weight * norm.weight, *(layer.weight for layer in parameters.mlp[1:])]
    biases = [bias + weight @ norm.bias, *(layer.bias for layer in parameters.mlp[1:])]
    gates = [] if parameters.gates is None else [parameters.gates[1].weight]
    vectors = [block.qkv.bias, *block.qkv_norm, *biases, *norm, *block.mlp_norm]
    return torch.cat([block.qkv.weight, *weights, *gates]), torch.cat(vectors)


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


class _Loop(torch.autograd.Function):
    """The time loop, and its gradients: weights' as products over all rows of all steps, after the loop."""

    @staticmethod
    def forward(  # type: ignore[override]  # autograd passes what apply is given
        ctx: Any,
        problem: Any,
        operands: torch.dtype,
        first: Tensor | None,
        matrix: Tensor,
        vectors: Tensor,
        arriving: Tensor,
        drive: Tensor | None,
        memory: Tensor,
        fresh: Tensor,
    ) -> Tensor:
        from seqtoolkit_rmc.kernels.triton_forward import forward
        from seqtoolkit_rmc.kernels.triton_plan import plan

        tile, steps, rows = plan(problem), len(arriving), memory.shape[0] * memory.shape[1]
        memories = memory.new_empty(steps + 1, *memory.shape)
        memories[0] = memory
        tape = memory.new_empty(steps if tile.kept else 2, rows, tile.tape_width, dtype=operands)
        stats = memory.new_empty(steps if tile.kept else 0, 4, rows)
        first = memories if first is None else first.contiguous().view(torch.uint8)
        matrix, arriving = matrix.to(operands), arriving.to(operands).contiguous()
        given = (matrix, vectors, arriving, memories if drive is None else drive.contiguous(), memories)
        work = torch.empty_like(memories[0])
        programs = -(-len(memory[:, 0]) // tile.samples)
        fresh = fresh.contiguous()
        forward[(programs,)](
            *given, fresh, first, tape, work, stats, steps, problem.batch, tile, num_warps=4, num_stages=3
        )
        if tile.kept:
            ctx.save_for_backward(matrix, vectors, arriving, memories, fresh, first, tape, stats)
            ctx.tile = tile
        return memories[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]  # one output
        from seqtoolkit_rmc.kernels.triton_backward import backward

        matrix, vectors, arriving, memories, fresh, first, tape, stats = ctx.saved_tensors
        tile, (steps, batch, *_), count = ctx.tile, grads.shape, tape.shape[1]
        programs = -(-batch // tile.samples)
        memory_grads, fresh_grads = torch.zeros_like(memories[0]), torch.zeros_like(memories[0])
        arriving_grads = torch.zeros_like(arriving, dtype=memories.dtype)
        deltas = tape.new_empty(steps, count, tile.delta_width)
        scratch = memories.new_empty(count, tile.scratch_width)
        sums = memories.new_empty(steps, programs, tile.sums_width)
        backward[(programs,)](
            matrix,
            vectors,
            arriving,
            memories,
            fresh,
            first,
            tape,
            stats,
            grads.contiguous(),
            memory_grads,
            fresh_grads,
            arriving_grads,
            deltas,
            scratch,
            sums,
            steps,
            batch,
            tile,
            num_warps=4,
            num_stages=3,
        )
        with torch.autocast(grads.device.type, enabled=False):
            return (
                None,
                None,
                None,
                *_weight_grads(tile, tape, deltas, sums),
                arriving_grads,
                _drive_grads(tile, deltas, batch, sums.dtype),
                memory_grads,
                fresh_grads.sum(0),
            )


def _weight_grads(tile: Any, tape: Tensor, deltas: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the matrix and the vectors that `_pack` makes."""
    size, qkv, dtype = tile.size, tile.qkv, sums.dtype
    tape, deltas, sums = tape.flatten(0, 1), deltas.flatten(0, 1), sums.sum((0, 1))
    sections = [(0, 0, qkv)]
    sections += [(tile.tape_attended + i * size, qkv + i * size, size) for i in range(tile.layers)]
    sections += [(tile.tape_squashed, tile.delta_gates, tile.gates)] if tile.gates else []
    matrix = [deltas[:, at : at + width].t() @ tape[:, read : read + size] for read, at, width in sections]
    biases = deltas[:, : tile.delta_gates].sum(0, dtype=dtype)
    inner, last = sums[2 * qkv : 2 * qkv + 2 * size], biases[-size:]
    vectors = [biases[:qkv], sums[: 2 * qkv], biases[qkv:], sums[2 * qkv + 2 * size :], last, inner]
    return torch.cat(matrix).to(dtype), torch.cat(vectors)


def _drive_grads(tile: Any, deltas: Tensor, batch: int, dtype: torch.dtype) -> Tensor | None:
    """The slots of a sample share what drives their gates."""
    if not tile.gates:
        return None
    gates = deltas[:, :, tile.delta_gates : tile.delta_gates + tile.gates]
    return gates.unflatten(1, (batch, tile.slots)).sum(2, dtype=dtype)
