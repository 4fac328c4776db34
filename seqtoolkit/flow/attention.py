"""Attention: who attends to whom in a core, as pictures show it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from seqtoolkit.flow.core import Core, State, attends


class Attention(NamedTuple):
    """Who attends to whom, from step to step."""

    weights: Tensor
    """[T B blocks heads slots keys]: the keys are the core's slots, and then the rows of the input"""
    rows: int
    """how many of the keys, the last, are the input's"""


def shown(core: Core, vectors: Tensor, state: State | None, first: Tensor | None) -> Attention:
    """The attention of `core(vectors, state, first)`, without the queries of the input.

    Raises ValueError where the core has none to show, or shows it in another shape.
    """
    name = type(core).__name__
    if not attends(core):
        raise ValueError(f"{name} has no attention to show")
    weights = core.attention(vectors, state, first)
    rows = vectors.shape[2:-1].numel()
    queries, keys = weights.shape[-2:] if weights.dim() == 6 else (0, 0)
    if weights.shape[:2] != vectors.shape[:2] or keys <= rows or not 1 <= queries <= keys:
        steps, size = vectors.shape[:2]
        raise ValueError(
            f"{name}.attention: wanted [{steps} {size} blocks heads queries keys], the last {rows} of the keys for the"
            f" input, and no more queries than keys, got {list(weights.shape)}"
        )
    return Attention(weights[..., :-rows, :] if queries == keys else weights, rows)
