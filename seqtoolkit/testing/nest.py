"""Nests of tensors and plain values: the tensors by the names that a message calls them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

Nest = Any
"""Any nest of tuples, lists and dicts whose leaves are tensors, None or plain values."""


def named(name: str, nest: Nest) -> dict[str, Any]:
    """The leaves of a nest by where they stand: `output`, `output[0]`, `output.hidden`, `output['hidden']`."""
    inside: Iterable[tuple[str, Any]]
    if isinstance(nest, dict):
        inside = ((f"{name}[{key!r}]", each) for key, each in nest.items())
    elif hasattr(nest, "_fields"):
        inside = ((f"{name}.{field}", getattr(nest, field)) for field in nest._fields)
    elif isinstance(nest, tuple | list):
        inside = ((f"{name}[{index}]", each) for index, each in enumerate(nest))
    else:
        return {name: nest}
    return {path: leaf for part, each in inside for path, leaf in named(part, each).items()}


def tensors(name: str, nest: Nest) -> dict[str, Tensor]:
    """Those leaves of a nest that are tensors."""
    return {path: leaf for path, leaf in named(name, nest).items() if isinstance(leaf, Tensor)}
