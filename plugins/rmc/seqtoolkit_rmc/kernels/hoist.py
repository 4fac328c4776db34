"""Hoist: what a sequence needs that depends on its inputs or parameters alone, computed once for all steps."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seqtoolkit_rmc.reference import Affine, Block, Parameters, Settings, normalize, project


class Hoisted(NamedTuple):
    """What is left of inputs and parameters when nothing of the kind is done in the time loop. P is num_heads * (2k + v)."""

    projected: Tensor
    """x' = W x + b, [T B n M]"""
    arriving: Tensor
    """The first block's queries (scaled), keys and values of x', normalized, [T B n P]; a head's [q k v] side by side"""
    drive: Tensor | None
    """What x' and all biases and constants add to the gates before their sigmoids, [T B G], [input forget]; G is 2M or 2"""
    blocks: tuple[Block, ...]
    """1 / sqrt(d_k) folded into what the norm of [q k v] applies to the queries"""


def hoist(parameters: Parameters, settings: Settings, inputs: Tensor) -> Hoisted:
    """Inputs [T B n D] to what the loop reads. Differentiable by autograd: a handful of operations a sequence.

    Operands of products are in autocast's dtype where that is on, everything else in the parameters'.
    """
    blocks = tuple(scale(block, settings) for block in parameters.blocks)
    exact = parameters.projection.weight.dtype
    dtype = operands(parameters.projection.weight)
    with torch.autocast(inputs.device.type, enabled=False):
        projected = _project(parameters.projection, inputs.to(exact), dtype)
        arriving = normalize(blocks[0].qkv_norm, _project(blocks[0].qkv, projected, dtype))
        drive = None if parameters.gates is None else drive_of(*parameters.gates, settings, projected, dtype)
    return Hoisted(projected, arriving, drive, blocks)


def operands(tensor: Tensor) -> torch.dtype:
    """The dtype of what products are made of: autocast's where that is on."""
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype


def _project(affine: Affine, rows: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    if dtype is None or rows.dtype == dtype:
        return project(affine, rows)
    return F.linear(rows.to(dtype), affine.weight.to(dtype)).to(rows.dtype) + affine.bias


def scale(block: Block, settings: Settings) -> Block:
    """The block with 1 / sqrt(d_k) folded into what the norm of [q k v] applies to the queries."""
    gain = block.qkv_norm.weight
    factors = gain.new_ones(settings.num_heads, 2 * settings.key_size + settings.head_size)
    factors[:, : settings.key_size] = settings.key_size**-0.5
    factors = factors.flatten()
    return block._replace(qkv_norm=Affine(gain * factors, block.qkv_norm.bias * factors))


def drive_of(
    from_input: Affine, from_memory: Affine, settings: Settings, projected: Tensor, dtype: torch.dtype | None = None
) -> Tensor:
    """What x' [T B n M] and all biases and constants add to the gates, [T B G]."""
    constant = from_input.bias.new_tensor([settings.input_bias, settings.forget_bias])
    constant = constant.repeat_interleave(
        len(from_input.bias) // 2
    )  # in the biases its rounding would be that of all steps
    bias, rows = from_input.bias + from_memory.bias, projected.flatten(2)
    if len(bias) == 2:  # a product so narrow sums its weight's gradient number after number, and loses digits
        return (rows.unsqueeze(2) * from_input.weight).sum(-1) + bias + constant
    return _project(Affine(from_input.weight, bias), rows, dtype) + constant
