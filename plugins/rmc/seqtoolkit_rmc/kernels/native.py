"""The time loop in C++ on the CPU: one call for all steps forward and one backward, tile by tile of the batch.

Samples never interact, so a tile of them goes through all steps by itself, on one thread, while what a step works on
stays in the cache. Matrix products are those of torch's own BLAS; everything between them is one pass over a row.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqtoolkit_rmc.kernels.build import BuildError
from seqtoolkit_rmc.kernels.fused import flat
from seqtoolkit_rmc.kernels.hoist import drive_of, scale
from seqtoolkit_rmc.kernels.native_library import NAMES, VECTORS, Call, library
from seqtoolkit_rmc.kernels.watcher import watched
from seqtoolkit_rmc.reference import Parameters, Settings, project

__all__ = ["missing", "unroll"]

SWITCH = "SEQTOOLKIT_NATIVE"


def missing(parameters: Parameters, settings: Settings, inputs: Tensor) -> str | None:  # noqa: ARG001  the signature of all backends
    """Why this backend cannot be used for these, in a clause; None if it can. The first time it compiles, for seconds."""
    if os.environ.get(SWITCH) == "0":
        return f"is turned off by {SWITCH}=0"
    if len(parameters.blocks) != 1:
        return f"wants one block of attention, got num_blocks {len(parameters.blocks)}"
    if torch.is_autocast_enabled("cpu"):
        return "cannot be used under autocast"
    return _unfit([inputs, *flat(parameters)]) or watched() or _unbuilt()


def unroll(
    parameters: Parameters, settings: Settings, inputs: Tensor, memory: Tensor, fresh: Tensor, first: Tensor | None
) -> Tensor:
    """All memories [T B N M], as `reference.unroll` gives them; no gradient flows to `fresh`.

    Raises:
        ValueError: `missing` says why it cannot be used, or the memory is not of the dtype and device of the inputs.
    """
    reason = missing(parameters, settings, inputs) or _unfit([inputs, memory, fresh])
    if reason is not None:
        raise ValueError(f"backend native {reason}")
    block, norm = parameters.blocks[0], scale(parameters.blocks[0], settings).qkv_norm
    matrices, biases = zip(*parameters.mlp, strict=True)
    projected = project(parameters.projection, inputs)
    arriving, drive, gate = project(block.qkv, projected), None, None
    if parameters.gates is not None:
        drive, gate = drive_of(*parameters.gates, settings, projected), parameters.gates[1].weight
    vectors = (block.qkv.bias, *norm, *block.attention_norm, *block.mlp_norm, *biases)
    given = (arriving, drive, memory, block.qkv.weight, gate, *matrices, *vectors)
    keeps = torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in given)
    return _Loop.apply(settings, keeps, fresh.detach(), first, *given)


class _Loop(torch.autograd.Function):
    """The loop over time. Weights come, and their gradients go, in the order in which backward.h lays them out."""

    @staticmethod
    def forward(
        ctx: Any,
        settings: Settings,
        keeps: bool,  # noqa: FBT001  autograd passes arguments by position
        fresh: Tensor,
        first: Tensor | None,
        *given: Tensor | None,
    ) -> Tensor:
        arriving, drive, memory, *weights = map(_plain, given)
        places = _plain(fresh), _plain(first), arriving.new_empty(len(arriving), *memory.shape)
        call = _call(settings, torch.get_num_threads(), *places, arriving, memory, weights)
        call.keeps, call.drive = keeps, _address(drive)
        room = library().room(call, memory.dtype)
        kept = memory.new_empty(len(arriving) * room.kept if keeps else 0)
        scratch = memory.new_empty(call.threads, room.forward)
        call.kept, call.scratch = kept.data_ptr(), scratch.data_ptr()
        library().run("forward", call, memory.dtype)
        if keeps:
            ctx.settings, ctx.threads = settings, call.threads
            ctx.save_for_backward(kept, *places, arriving, memory, *weights)
        return places[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_memories: Tensor) -> tuple[Tensor | None, ...]:
        kept, fresh, first, memories, arriving, memory, *weights = ctx.saved_tensors
        wanted = ctx.needs_input_grad[4:]
        call = _call(ctx.settings, ctx.threads, fresh, first, memories, arriving, memory, weights)
        call.keeps, call.wants_memory, call.wants_weights = True, wanted[2], any(wanted[3:])
        room = library().room(call, memory.dtype)
        call.d_strides[:] = d_memories.stride()
        d_arriving, d_drive, d_memory = torch.empty_like(arriving), None, torch.empty_like(memory)
        if call.G:
            d_drive = memory.new_empty(call.T, call.B, call.G)
        d_weights = memory.new_zeros(call.threads, room.weights)
        scratch = memory.new_empty(call.threads, room.backward)
        call.kept, call.scratch, call.d_weights = kept.data_ptr(), scratch.data_ptr(), d_weights.data_ptr()
        call.d_memories, call.d_arriving, call.d_drive, call.d_memory = map(
            _address, (d_memories, d_arriving, d_drive, d_memory)
        )
        library().run("backward", call, memory.dtype)
        shares = d_weights[0].split([0 if each is None else each.numel() for each in weights])
        dealt = [None if each is None else share.view_as(each) for each, share in zip(weights, shares, strict=True)]
        found = [d_arriving, d_drive, d_memory, *dealt]
        return (None,) * 4 + tuple(each if wants else None for each, wants in zip(found, wanted, strict=True))


def _call(
    settings: Settings,
    threads: int,
    fresh: Tensor,
    first: Tensor | None,
    memories: Tensor,
    arriving: Tensor,
    memory: Tensor,
    weights: Sequence[Tensor | None],
) -> Call:
    """What forward and backward have in common. A call does not keep tensors alive."""
    qkv_weight, gate_weight, *rest = weights
    layers = (len(rest) - len(VECTORS)) // 2
    kernel, call = library(), Call()
    call.gemm, call.blas_threads = kernel.gemm[memory.dtype], kernel.blas_threads
    call.T, call.B, call.N = memories.shape[:3]
    call.n, call.G = arriving.shape[2], 0 if gate_weight is None else len(gate_weight)
    call.heads, call.K, call.V = settings.num_heads, settings.key_size, settings.head_size
    call.layers, call.threads = layers, threads
    places = {"qkv_weight": qkv_weight, "gate_weight": gate_weight, "arriving": arriving, "memory": memory}
    places |= {"fresh": fresh, "first": first, "memories": memories}
    for name, each in (places | dict(zip(VECTORS, rest[layers:-layers], strict=True))).items():
        setattr(call, name, _address(each))
    pointers = ctypes.c_void_p * layers
    call.layer_addresses = [pointers(*map(_address, each)) for each in (rest[:layers], rest[-layers:])]
    call.mlp_weight, call.mlp_bias = map(ctypes.addressof, call.layer_addresses)
    return call


def _plain(tensor: Tensor | None) -> Any:
    return None if tensor is None else tensor.contiguous()


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _unfit(tensors: Sequence[Tensor]) -> str | None:
    """What tensors have to be: plain, dense, on the CPU, and of one dtype."""
    dtype = tensors[0].dtype
    for each in tensors:
        if type(each) not in (Tensor, torch.nn.Parameter):
            return f"wants plain tensors, got {type(each).__name__}"
        if each.device.type != "cpu":
            return f"wants tensors on the CPU, got {each.device}"
        if each.layout is not torch.strided:
            return f"wants dense tensors, got {each.layout}"
        if each.dtype not in NAMES:
            return f"wants float32 or float64, got {str(each.dtype)[6:]}"
        if each.dtype != dtype:
            return f"wants one dtype, got {str(dtype)[6:]} and {str(each.dtype)[6:]}"
    return None


@cache
def _unbuilt() -> str | None:
    """Why there is no kernel, remembered."""
    try:
        library()
    except BuildError as error:
        return str(error)
    return None
