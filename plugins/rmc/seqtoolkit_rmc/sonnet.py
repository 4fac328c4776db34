"""The published implementation's variables as a state_dict of RelationalMemory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqtoolkit.sdk import read_variables, require_shapes

_NAME = r"(?:mlp/linear_\d+|linear(?:_[1-9]\d*)?)/[wb]|layer_norm(?:_[1-9]\d*)?/(?:gamma|beta)"
_PARTS = {"w": "weight", "b": "bias", "gamma": "weight", "beta": "bias"}


def from_sonnet(arrays: Mapping[str, Any]) -> dict[str, Tensor]:
    """A state_dict for a RelationalMemory of the same settings, from Sonnet 1.36's variables.

    Args:
        arrays: variables by name, `relational_memory/linear/w:0` and so on, under any one scope or none and with or
            without `:0`. Numbers of blocks, of MLP layers and the gates follow from the names.

    Raises:
        ValueError: a name that is not the core's, one that is missing, or a shape that does not fit the others.
    """
    found = read_variables(arrays, _NAME, "linear_1/w")
    blocks, layers = _count(found, r"layer_norm(_\d+)?/gamma") // 3, _count(found, r"mlp/linear_\d+/w")
    gated = f"linear_{blocks + 1}/w" in found
    homes = _homes(max(blocks, 1), max(layers, 1), gated=gated)
    if missing := sorted(homes.keys() - found.keys()):
        raise ValueError(f"the published core's {', '.join(missing)} missing, got {', '.join(sorted(found))}")
    if unknown := sorted(found.keys() - homes.keys()):
        what = f"a core of {blocks} blocks and {layers} layers of MLP has no {', '.join(unknown)}"
        raise ValueError(f"{what}; wanted {', '.join(homes)}")
    _check_shapes(found, blocks, layers, gated=gated)
    return {home: _tensor(found[name]) for name, home in homes.items()}


def _count(found: Mapping[str, np.ndarray], pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in found)


def _homes(blocks: int, layers: int, *, gated: bool) -> dict[str, str]:
    """Where each published variable lives here."""
    linear = ["input_projection", *(f"blocks.{block}.qkv" for block in range(blocks))]
    if gated:
        linear += ["gates_from_input", "gates_from_memory"]
    norms = ("qkv_norm", "attention_norm", "mlp_norm")
    norm = [f"blocks.{block}.{each}" for block in range(blocks) for each in norms]
    modules = {("linear" if index == 0 else f"linear_{index}"): home for index, home in enumerate(linear)}
    modules |= {f"mlp/linear_{layer}": f"mlp.{layer}" for layer in range(layers)}
    homes = {f"{module}/{part}": f"{home}.{_PARTS[part]}" for module, home in modules.items() for part in "wb"}
    for index, home in enumerate(norm):
        module = "layer_norm" if index == 0 else f"layer_norm_{index}"
        homes |= {f"{module}/{part}": f"{home}.{_PARTS[part]}" for part in ("gamma", "beta")}
    return homes


def _check_shapes(found: Mapping[str, np.ndarray], blocks: int, layers: int, *, gated: bool) -> None:
    """Hold each shape against the others: D from the projection, M, the heads' F and the gates' G from their biases."""
    size, heads = found["linear/b"].size, found["linear_1/b"].size
    wanted = {"linear/w": (found["linear/w"].shape[0] if found["linear/w"].ndim else 1, size), "linear/b": (size,)}
    for layer in range(layers):
        wanted |= {f"mlp/linear_{layer}/w": (size, size), f"mlp/linear_{layer}/b": (size,)}
    for block in range(blocks):
        wanted |= {f"linear_{block + 1}/w": (size, heads), f"linear_{block + 1}/b": (heads,)}
        for offset, width in enumerate((heads, size, size)):
            index = 3 * block + offset
            module = "layer_norm" if index == 0 else f"layer_norm_{index}"
            wanted |= {f"{module}/gamma": (width,), f"{module}/beta": (width,)}
    if gated:
        _check_gates(found, blocks, size, wanted)
    require_shapes(found, wanted)


def _check_gates(found: Mapping[str, np.ndarray], blocks: int, size: int, wanted: dict[str, tuple[int, ...]]) -> None:
    """Add the gates' shapes; the gates read one projected row of the input, or several laid end to end."""
    given, remembered = f"linear_{blocks + 1}", f"linear_{blocks + 2}"
    gates = found[f"{given}/b"].size
    if gates not in (2, 2 * size):
        raise ValueError(f"{given}/b: wanted 2 gates ('memory') or {2 * size} ('unit'), got {gates}")
    rows = max(found[f"{given}/w"].shape[0] // size, 1) if found[f"{given}/w"].ndim else 1
    wanted |= {f"{given}/w": (rows * size, gates), f"{given}/b": (gates,)}
    wanted |= {f"{remembered}/w": (size, gates), f"{remembered}/b": (gates,)}


def _tensor(array: np.ndarray) -> Tensor:
    """A copy; weights are [in out] there and [out in] here."""
    return torch.from_numpy(np.ascontiguousarray(array.T if array.ndim == 2 else array).copy())
