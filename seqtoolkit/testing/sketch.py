"""Sketch: a pipeline made so small that a law is tried in a moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from seqtoolkit.experiment import SECTIONS, Experiment
from seqtoolkit.flow.batch import IGNORED, Batch
from seqtoolkit.flow.counter import Split
from seqtoolkit.flow.graph import Graph
from seqtoolkit.flow.head import LikelihoodHead
from seqtoolkit.flow.source import Source
from seqtoolkit.host.assemble import assemble, make_source
from seqtoolkit.host.config import Plan, freeze, load
from seqtoolkit.host.registry import Registry
from seqtoolkit.testing.law import demand, same

ROWS = 8
SMALL = ("run.device=cpu", "run.precision=f32", "run.threads=0", f"evaluate.examples={ROWS}", "track=none")


@dataclass
class Sketch:
    """What a law is given: a pipeline with few rows in a batch, on the CPU, that records nothing."""

    pipeline: Any
    overrides: Sequence[str]
    registry: Registry

    @cached_property
    def plan(self) -> Plan:
        """The pipeline. Raises ConfigError."""
        plan = self._frozen()
        size = plan.batch.params.get("size") if plan.batch else None
        return self._frozen(f"batch.size={ROWS}") if isinstance(size, int) and size > ROWS else plan

    def graph(self, seed: int = 0) -> Graph:
        """The pipeline with its model."""
        return assemble(self.plan, seed=seed)

    def experiment(self) -> Experiment:
        """The pipeline with all that drives it."""
        return Experiment(self.plan, self.registry)

    def source(self, split: Split, seed: int = 0) -> Source:
        """The examples that are learned from, or those of an evaluation."""
        block = self.plan.origin if split == "train" else self.plan.evaluate_origin
        return make_source(block, seed=seed, split=split)

    def batches(self, graph: Graph, split: Split = "train", seed: int = 0) -> Iterator[Batch]:
        """Batches without end."""
        node = graph.node(self.source(split, seed))
        node.reset()
        return iter(node)

    def few(self, graph: Graph, split: Split = "train", seed: int = 0, count: int = 3) -> list[Batch]:
        """The first batches."""
        return [batch for batch, _ in zip(self.batches(graph, split, seed), range(count), strict=False)]

    def _frozen(self, *more: str) -> Plan:
        return freeze(load(self.pipeline, [*SMALL, *more, *self.overrides]), self.registry, SECTIONS)


def fields(batch: Batch) -> dict[str, Tensor]:
    """The tensors of a batch."""
    return batch.tensors()


def same_batch(what: str, got: Batch, wanted: Batch) -> None:
    """Demand the same fields, to the bit."""
    gots, wanteds = fields(got), fields(wanted)
    demand(gots.keys() == wanteds.keys(), f"{what}: wanted {', '.join(wanteds)}, got {', '.join(gots)}")
    for name, right in wanteds.items():
        same(f"{name} of {what}", gots[name], right, 0.0)


def learned(batch: Batch) -> Tensor:
    """Where a target is wanted, [U B ...]: nowhere that it is IGNORED."""
    if batch.targets.is_floating_point():
        return batch.mask
    return batch.targets != IGNORED


def anywhere(places: Tensor) -> Tensor:
    """The steps and rows [U B] of places [U B ...]."""
    return places.flatten(2).any(-1) if places.dim() > 2 else places


def likely(graph: Graph) -> bool:
    """Whether predictions are the log-likelihoods of the targets."""
    return isinstance(graph.model.head, LikelihoodHead)


def right(batch: Batch, classes: int) -> Tensor:
    """The answer that is right: logits [U B ... C] of one for the target, where targets are ids; else the targets.

    Of 0 classes it is the log-likelihood of each target [U B], 0.
    """
    if not classes:
        return torch.zeros(batch.targets.shape)
    if batch.targets.is_floating_point():
        return batch.targets
    return F.one_hot(batch.targets.masked_fill(~learned(batch), 0), classes).float()


def wrong(batch: Batch, classes: int) -> Tensor:
    """The answer that is wrong everywhere."""
    if not classes:
        return -learned(batch).float()
    return right(batch, classes).roll(1, -1) if not batch.targets.is_floating_point() else batch.targets + 1


def noise(batch: Batch, classes: int, seed: int = 0) -> Tensor:
    """An answer at random."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(right(batch, classes).shape, generator=generator)
    return drawn if classes else -drawn.abs() * learned(batch)
