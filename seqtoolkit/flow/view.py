"""View: the attention over a task's cases, ready to be drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from seqtoolkit.flow.batch import IGNORED, Batch
from seqtoolkit.flow.graph import Graph
from seqtoolkit.flow.source import Case, Source

MOST_CASES = 8
_LONGEST = 60


@dataclass(frozen=True)
class View:
    """Who attends to whom in one case, from its first step to its last."""

    name: str
    weights: np.ndarray
    """[T blocks heads slots keys], float32"""
    rows: int
    """how many of the keys, the last, are the input's"""
    marked: tuple[int, ...]
    """the steps that matter most"""


def look(graph: Graph, source: Source, device: torch.device | None = None) -> list[View]:
    """What the model, in evaluation mode and on `device`, attends to in the first `MOST_CASES` cases of `source`.

    Raises ValueError where the core has no attention to show, or a case is not one example.
    """
    return [_view(graph, source, number, case, device) for number, case in enumerate(source.cases()[:MOST_CASES])]


def _view(graph: Graph, source: Source, number: int, case: Case, device: torch.device | None) -> View:
    batch = graph.batch(case.block)
    name = " ".join((case.name or _question(source, batch, number)).split())
    if batch.size != 1:
        raise ValueError(f"the case {name!r} of {type(source).__name__}: wanted one example, got {batch.size}")
    there = batch if device is None else batch.to(device)
    weights, rows = graph.model.attention(there.inputs, there.first, there.answers)
    begin = 0 if batch.first is None or not batch.first.any() else int(batch.first[:, 0].int().argmax())
    steps = len(weights) - begin
    if outside := [step for step in case.marked if not 0 <= step < steps]:
        raise ValueError(f"the case {name!r} of {type(source).__name__} marks step {outside[0]}, and has {steps} steps")
    short = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 3]}..."
    return View(short, weights[begin:, 0].float().cpu().numpy(), rows, tuple(case.marked))


def _question(source: Source, batch: Batch, number: int) -> str:
    """A name for a case without one."""
    if type(source).show is Source.show:
        return f"example {number + 1}"
    inputs, targets = batch.inputs[:, 0].cpu().numpy(), batch.targets[:, 0].cpu().numpy()
    return source.show(inputs, targets, np.where(targets == IGNORED, 0, targets)).question
