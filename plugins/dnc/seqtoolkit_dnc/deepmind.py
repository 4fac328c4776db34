"""The published implementation's variables as a state_dict of DNC."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqtoolkit.sdk import read_variables, require_shapes

INTERFACE = (
    "read_keys",
    "write_keys",
    "read_strengths",
    "write_strengths",
    "write_vectors",
    "erase_vectors",
    "free_gate",
    "allocation_gate",
    "write_gate",
    "read_mode",
)
"""The published linear layers of the interface, in the order of the rows of this one's."""

_MODULES = {"lstm": ("w_gates", "b_gates"), **{f"memory_access/{name}": ("w", "b") for name in INTERFACE}}
_MODULES["output_linear"] = ("w", "b")
_NAMES = tuple(f"{module}/{part}" for module, parts in _MODULES.items() for part in parts)
_NAME = "|".join(map(re.escape, _NAMES))


def from_deepmind(arrays: Mapping[str, Any]) -> dict[str, Tensor]:
    """A state_dict for a DNC of the same sizes (one LSTM layer, dialect 'published'), from deepmind/dnc's variables.

    The published LSTM adds a constant 1 to the forget gate; here it is part of the bias.

    Args:
        arrays: variables by name, `dnc/lstm/w_gates:0` and so on, under any one scope or none and with or without
            `:0`. Numbers of heads and all sizes follow from the shapes.

    Raises:
        ValueError: a name that is not the core's, one that is missing, or a shape that does not fit the others.
    """
    found = read_variables(arrays, _NAME, "lstm/w_gates")
    if missing := [name for name in _NAMES if name not in found]:
        raise ValueError(f"the published core's {', '.join(missing)} missing, got {', '.join(sorted(found))}")
    _check_shapes(found)
    weight, bias = (_gates(found[f"lstm/{part}"]) for part in _MODULES["lstm"])
    hidden = len(bias) // 4
    bias[2 * hidden : 3 * hidden] += 1
    interface = [f"memory_access/{name}" for name in INTERFACE]
    return {
        "controller.0.weight": _tensor(weight.T),
        "controller.0.bias": _tensor(bias),
        "interface.weight": _tensor(np.concatenate([found[f"{name}/w"] for name in interface], 1).T),
        "interface.bias": _tensor(np.concatenate([found[f"{name}/b"] for name in interface])),
        "output.weight": _tensor(found["output_linear/w"].T),
        "output.bias": _tensor(found["output_linear/b"]),
    }


def _check_shapes(found: Mapping[str, np.ndarray]) -> None:
    """Hold each shape against the others: R, K, H, H out from biases, W from the write vectors', D from the rest."""
    size = {module: found[f"{module}/{parts[1]}"].size for module, parts in _MODULES.items()}
    reads, writes = size["memory_access/read_strengths"], size["memory_access/write_strengths"]
    word, hidden = size["memory_access/write_vectors"] // writes, size["lstm"] // 4
    if min(word, hidden) < 1:
        raise ValueError(f"memory_access/write_vectors/b and lstm/b_gates: too small, got {size}")
    widths = [reads * word, writes * word, reads, writes, writes * word, writes * word, reads, writes, writes]
    wanted: dict[str, tuple[int, ...]] = {}
    for name, width in zip(INTERFACE, [*widths, reads * (2 * writes + 1)], strict=True):
        wanted |= {f"memory_access/{name}/w": (hidden, width), f"memory_access/{name}/b": (width,)}
    features = max(found["lstm/w_gates"].shape[0] - reads * word - hidden, 1)
    wanted |= {"lstm/w_gates": (features + reads * word + hidden, 4 * hidden), "lstm/b_gates": (4 * hidden,)}
    outputs = size["output_linear"]
    wanted |= {"output_linear/w": (hidden + reads * word, outputs), "output_linear/b": (outputs,)}
    require_shapes(found, wanted)


def _gates(array: np.ndarray) -> np.ndarray:
    """The published gates, [input candidate forget output] on the last axis, as [candidate input forget output]."""
    entered, candidate, *rest = np.split(array, 4, -1)
    return np.concatenate([candidate, entered, *rest], -1)


def _tensor(array: np.ndarray) -> Tensor:
    """A copy."""
    return torch.from_numpy(np.array(array, order="C"))
