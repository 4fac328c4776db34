"""Hoist: what a sequence needs that depends on its inputs or parameters alone, computed once for all steps."""

from __future__ import annotations

from typing import NamedTuple

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
    """Inputs [T B n D] to what the loop reads. Differentiable by autograd: a handful of operations a sequence."""
    blocks = tuple(_scale(block, settings) for block in parameters.blocks)
    projected = project(parameters.projection, inputs)
    arriving = normalize(blocks[0].qkv_norm, project(blocks[0].qkv, projected))
    drive = None if parameters.gates is None else _drive(*parameters.gates, settings, projected)
    return Hoisted(projected, arriving, drive, blocks)


def _scale(block: Block, settings: Settings) -> Block:
    gain = block.qkv_norm.weight
    scale = gain.new_ones(settings.num_heads, 2 * settings.key_size + settings.head_size)
    scale[:, : settings.key_size] = settings.key_size**-0.5
    scale = scale.flatten()
    return block._replace(qkv_norm=Affine(gain * scale, block.qkv_norm.bias * scale))


def _drive(from_input: Affine, from_memory: Affine, settings: Settings, projected: Tensor) -> Tensor:
    constant = from_input.bias.new_tensor([settings.input_bias, settings.forget_bias])
    bias = from_input.bias + from_memory.bias + constant.repeat_interleave(len(from_input.bias) // 2)
    return project(Affine(from_input.weight, bias), projected.flatten(2))
