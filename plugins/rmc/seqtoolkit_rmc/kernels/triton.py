"""The unrolling for CUDA GPUs: the time loop inside one Triton kernel for each pass."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqtoolkit_rmc.kernels.hoist import hoist
from seqtoolkit_rmc.reference import EPSILON, Block, Parameters, Settings

if TYPE_CHECKING:
    from seqtoolkit_rmc.kernels.triton_tile import Tile

MOST = 128
"""Rows of a program's products: neither slots nor input rows can be more."""


class Problem(NamedTuple):
    """What a tile is chosen for."""

    slots: int
    arrivals: int
    size: int
    settings: Settings
    layers: int
    gates: int
    batch: int
    restarts: bool
    operands: torch.dtype
    interpreted: bool


def missing(parameters: Parameters, settings: Settings, inputs: Tensor) -> str | None:
    """Why these cannot be computed here, as a clause, or None."""
    del settings
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    dtypes = {inputs.dtype, *(each.dtype for each in _tensors(parameters))}
    if importlib.util.find_spec("triton") is None:
        return "wants Triton, found none (pip install triton)"
    if not inputs.is_cuda and not interpreted:
        return f"wants a CUDA device, got {inputs.device.type}"
    if inputs.is_cuda and torch.version.hip is None and torch.cuda.get_device_capability(inputs.device) < (8, 0):
        return "wants a GPU of compute capability 8.0 or more"
    if len(parameters.blocks) != 1:
        return f"wants one block of attention, got num_blocks {len(parameters.blocks)}"
    if inputs.shape[2] > MOST:
        return f"wants at most {MOST} input rows, got {inputs.shape[2]}"
    return _wrong_dtype(inputs, dtypes, interpreted=interpreted)


def _wrong_dtype(inputs: Tensor, dtypes: set[torch.dtype], *, interpreted: bool) -> str | None:
    kind = inputs.device.type
    if torch.is_autocast_enabled(kind):
        wanted = torch.get_autocast_dtype(kind)
        return None if wanted == torch.bfloat16 else f"wants autocast to bfloat16, got {wanted}"
    known = {torch.float32} | ({torch.float64} if interpreted else set())
    if len(dtypes) > 1 or not dtypes <= known:
        return f"wants float32, or autocast to bfloat16, got {', '.join(sorted(str(each)[6:] for each in dtypes))}"
    return None
