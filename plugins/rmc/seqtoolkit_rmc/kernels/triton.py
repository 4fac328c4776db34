"""The unrolling for CUDA GPUs: the time loop inside one Triton kernel for each pass."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqtoolkit_rmc.kernels.hoist import hoist, operands
from seqtoolkit_rmc.kernels.watcher import watched
from seqtoolkit_rmc.reference import Block, Parameters, Settings

__all__ = ["missing", "unroll"]

MOST = 128
"""Rows of a program's products: of a sample's slots or input rows there can be no more."""
PRECISIONS = {"highest": "tf32x3", "high": "tf32", "medium": "tf32"}
"""How Triton multiplies float32, by torch.get_float32_matmul_precision()."""


def missing(parameters: Parameters, settings: Settings, inputs: Tensor) -> str | None:  # noqa: ARG001  the signature of all backends
    """Why this backend cannot be used for these, as a clause; None if it can."""
    reasons = {
        "wants the package triton, found none": importlib.util.find_spec("triton") is None,
        f"wants a CUDA device, got {inputs.device.type}": not inputs.is_cuda and not _interpreted(),
        f"wants one block of attention, got num_blocks {len(parameters.blocks)}": len(parameters.blocks) != 1,
        f"wants at most {MOST} input rows, got {inputs.shape[2]}": inputs.shape[2] > MOST,
    }
    found = next((reason for reason, holds in reasons.items() if holds), None)
    return found or watched() or _unfit(parameters, inputs)


def _unfit(parameters: Parameters, inputs: Tensor) -> str | None:
    """What is wrong with the device's age or a dtype."""
    if inputs.is_cuda and torch.cuda.get_device_capability(inputs.device) < (8, 0):
        return "wants a GPU of compute capability 8.0 or more"
    dtype, kind = parameters.projection.weight.dtype, inputs.device.type
    known = (torch.float32, torch.float64) if _interpreted() else (torch.float32,)
    if dtype not in known:
        return f"wants parameters in float32, got {dtype}"
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        return None if dtype == torch.bfloat16 else f"wants autocast to bfloat16, got {dtype}"
    return None if inputs.dtype == dtype else f"wants inputs in {dtype}, got {inputs.dtype}"


def unroll(
    parameters: Parameters, settings: Settings, inputs: Tensor, memory: Tensor, fresh: Tensor, first: Tensor | None
) -> Tensor:
    """All memories [T B N M], as `reference.unroll` gives them; no gradient flows to `fresh`.

    Under autocast the operands of all products are bfloat16, and everything else float32.

    Raises:
        ValueError: `missing` says why it cannot be used, or there are more than 128 memory slots.
    """
    reason = missing(parameters, settings, inputs)
    if reason is None and memory.shape[1] > MOST:
        reason = f"wants at most {MOST} memory slots, got {memory.shape[1]}"
    if reason is not None:
        raise ValueError(f"backend triton {reason}")
    from seqtoolkit_rmc.kernels.triton_plan import Problem

    hoisted, kind = hoist(parameters, settings, inputs), inputs.device.type
    memory = memory.to(parameters.projection.weight.dtype)
    dtype = operands(memory)
    with torch.autocast(kind, enabled=False):
        matrix, vectors = _pack(parameters, hoisted.blocks[0])
        tensors = (matrix, vectors, hoisted.arriving, hoisted.drive, memory)
        problem = Problem(
            settings=settings,
            batch=inputs.shape[1],
            slots=memory.shape[1],
            arrivals=inputs.shape[2],
            size=memory.shape[2],
            layers=len(parameters.mlp),
            gates=0 if parameters.gates is None else len(parameters.gates[1].weight),
            restarts=first is not None,
            kept=torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in tensors),
            exact=dtype != torch.bfloat16,
            precision=PRECISIONS[torch.get_float32_matmul_precision()],
            processors=torch.cuda.get_device_properties(inputs.device).multi_processor_count if inputs.is_cuda else 0,
        )
        return _Loop.apply(problem, dtype, fresh.detach(), first, *tensors)


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
    def forward(
        ctx: Any,
        problem: Any,
        operands: torch.dtype,
        fresh: Tensor,
        first: Tensor | None,
        matrix: Tensor,
        vectors: Tensor,
        arriving: Tensor,
        drive: Tensor | None,
        memory: Tensor,
    ) -> Tensor:
        from seqtoolkit_rmc.kernels.triton_forward import forward
        from seqtoolkit_rmc.kernels.triton_plan import launch, plan

        tile, steps, rows = plan(problem), len(arriving), problem.batch * problem.slots
        memories = memory.new_empty(steps + 1, *memory.shape)
        memories[0] = memory
        tape = memory.new_empty(steps if tile.kept else 2, rows, tile.tape_width, dtype=operands)
        stats = memory.new_empty(steps if tile.kept else 0, 4, rows)
        first = memories if first is None else first.contiguous().view(torch.uint8)
        matrix, arriving, fresh = matrix.to(operands), arriving.to(operands).contiguous(), fresh.contiguous()
        given = (matrix, vectors, arriving, memories if drive is None else drive.contiguous())
        launch(
            forward, tile, steps, problem.batch, *given, memories, fresh, first, tape, torch.empty_like(memory), stats
        )
        if tile.kept:
            ctx.save_for_backward(matrix, vectors, arriving, memories, fresh, first, tape, stats)
            ctx.tile = tile
        return memories[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grads: Tensor) -> tuple[Tensor | None, ...]:
        from seqtoolkit_rmc.kernels.triton_backward import backward
        from seqtoolkit_rmc.kernels.triton_plan import launch, programs

        saved, tile, (steps, batch, slots, _) = ctx.saved_tensors, ctx.tile, grads.shape
        arriving, memories, tape = saved[2], saved[3], saved[6]
        memory_grads, arriving_grads = torch.zeros_like(memories[0]), torch.zeros_like(arriving, dtype=memories.dtype)
        deltas = tape.new_empty(steps, batch * slots, tile.delta_width)
        scratch = memories.new_empty(batch * slots, tile.scratch_width)
        sums = memories.new_empty(steps, programs(tile, batch), tile.sums_width)
        given = (grads.contiguous(), memory_grads, arriving_grads, deltas, scratch, sums)
        launch(backward, tile, steps, batch, *saved, *given)
        with torch.autocast(grads.device.type, enabled=False):
            matrix = _matrix_grads(tile, tape, deltas, sums.dtype) if ctx.needs_input_grad[4] else None
            vectors = _vector_grads(tile, deltas, sums) if ctx.needs_input_grad[5] else None
            drive = _drive_grads(tile, deltas, batch, sums.dtype) if ctx.needs_input_grad[7] else None
        return None, None, None, None, matrix, vectors, arriving_grads, drive, memory_grads


def _matrix_grads(tile: Any, tape: Tensor, deltas: Tensor, dtype: torch.dtype) -> Tensor:
    """The gradient of the matrix that `_pack` makes, from what its rows read and what came back to them."""
    size, tape, deltas = tile.size, tape.flatten(0, 1), deltas.flatten(0, 1)
    sections = [(0, 0, tile.qkv)]
    sections += [(tile.tape_attended + at, tile.qkv + at, size) for at in range(0, tile.layers * size, size)]
    sections += [(tile.tape_squashed, tile.delta_gates, tile.gates)] if tile.gates else []
    matrix = [deltas[:, at : at + width].t() @ tape[:, read : read + size] for read, at, width in sections]
    return torch.cat(matrix).to(dtype)


def _vector_grads(tile: Any, deltas: Tensor, sums: Tensor) -> Tensor:
    """The gradient of the vector that `_pack` makes. The attention's norm shifts what the MLP's last layer is added to."""
    biases, sums = deltas[:, :, : tile.delta_gates].sum((0, 1), dtype=sums.dtype), sums.sum((0, 1))
    qkv, last, attended = sums.split([2 * tile.qkv, 2 * tile.size, tile.size])
    return torch.cat([biases[: tile.qkv], qkv, biases[tile.qkv :], attended, biases[-tile.size :], last])


def _drive_grads(tile: Any, deltas: Tensor, batch: int, dtype: torch.dtype) -> Tensor:
    """The slots of a sample share what drives their gates."""
    gates = deltas[:, :, tile.delta_gates : tile.delta_gates + tile.gates]
    return gates.unflatten(1, (batch, tile.slots)).sum(2, dtype=dtype)
