"""Assemble: a frozen plan to a graph, each stage built with the spec of what reaches it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import nullcontext
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from seqtoolkit.flow.counter import Split
from seqtoolkit.flow.graph import Graph
from seqtoolkit.flow.metric import Metric
from seqtoolkit.flow.model import Decoding, Model
from seqtoolkit.flow.source import Source
from seqtoolkit.flow.spec import Record, Spec, record
from seqtoolkit.host.config import Block, ConfigError, Plan


def assemble(plan: Plan, *, seed: int = 0, build: bool = True, kept: Path | None = None) -> Graph:
    """The graph of a plan, checked as it is joined.

    With `build` false the model has shapes only (torch's meta device), which costs nothing whatever its size. The source
    adopts what a run's source has `kept`.
    Raises ConfigError with one line for each stage that cannot be built or does not fit, under its key.
    """
    assembly = _Assembly(plan, seed, kept)
    torch.manual_seed(seed)
    with nullcontext() if build else torch.device("meta"):
        assembly.data()
        assembly.network()
        assembly.objective()
    if assembly.problems:
        raise ConfigError(assembly.problems)
    return assembly.graph


def make_source(block: Block, *, seed: int, split: Split | None = None, kept: Path | None = None) -> Source:
    """A source of a plan, which adopts what a run's source has `kept`; ValueErrors carry the block's key."""
    given = {"seed": seed} | ({} if split is None else {"split": split})
    try:
        source: Source = block.maker()(**given)
        if kept is not None and kept.exists():
            source.adopt(kept)
    except ValueError as error:
        raise ConfigError([located(block.key, signature(block.factory).parameters, error)]) from None
    return source


class _Assembly:
    """A graph in the making, and what stands in its way."""

    def __init__(self, plan: Plan, seed: int, kept: Path | None) -> None:
        self.plan, self.seed, self.kept = plan, seed, kept
        self.graph = Graph()
        self.problems: list[str] = []

    def data(self) -> None:
        """Source, transforms, batch."""
        graph = self.graph
        source = self._adopted(self._make(self.plan.source, seed=self.seed))
        if source is not None and self._join(self.plan.source, source, reads={}):
            graph.source = source
        for block in self.plan.transform:
            transform = self._of_record(block)
            if self._join(block, transform):
                graph.transforms.append(transform)
        collate = self._of_record(self.plan.batch)
        if self._join(self.plan.batch, collate):
            graph.collate = collate

    def network(self) -> None:
        """Encoder, core and head, and the model that they make."""
        plan, graph = self.plan, self.graph
        encoder = self._stage(plan.encoder, "inputs", "vectors")
        core = self._stage(plan.core, "vectors", "outputs")
        if core is None:
            return
        if "targets" not in graph.flowing:
            self.problems.append(
                f"{plan.batch.key}: wanted a batch with targets to learn from, {plan.batch.use} writes none"
            )
            return
        answers = graph.flowing["targets"].axes[0]
        outputs = graph.flowing["outputs"]
        graph.flowing["outputs"] = Spec(outputs.dtype, (answers, *outputs.axes[1:]), outputs.bound)
        head = self._stage(plan.head, "outputs", "predictions", target_spec=graph.flowing["targets"], encoder=encoder)
        if head is not None:
            settings = plan.sections.get("model", Decoding())
            separate = settings.decoder == "separate"
            decoder = self._make(plan.core, **_sizes(Spec.parse(encoder.writes))) if separate else None
            graph.model = Model(encoder, core, head, settings.decoding, decoder)

    def objective(self) -> None:
        """Loss and metrics."""
        for block in (self.plan.loss, *self.plan.metric):
            part = self._make(block)
            if "predictions" not in self.graph.flowing or not self._join(block, part, writes={}):
                continue
            if block is self.plan.loss:
                self.graph.loss = part
            else:
                self._measured(block, part)

    def _measured(self, block: Block, metric: Metric) -> None:
        name = metric.name or block.use
        if name in self.graph.metrics:
            self.problems.append(f"{block.key}: wanted one metric of a name, got {name} twice")
        self.graph.metrics[name] = metric

    def _adopted(self, source: Source | None) -> Source | None:
        try:
            if source is not None and self.kept is not None and self.kept.exists():
                source.adopt(self.kept)
        except ValueError as error:
            block = self.plan.source
            self.problems.append(located(block.key, signature(block.factory).parameters, error))
            return None
        return source

    def _of_record(self, block: Block) -> Any:
        """A part that is handed all fields that reach it."""
        return self._make(block, input_spec=dict(self.graph.flowing)) if self.graph.flowing else None

    def _stage(self, block: Block, reads: str, writes: str, **given: Any) -> Any:
        spec = self.graph.flowing.get(reads)
        part = None if spec is None else self._make(block, **_sizes(spec), **given)
        if part is None:
            return None
        joined = self._join(block, part, record(**{reads: part.reads}), record(**{writes: part.writes}))
        return part if joined else None

    def _make(self, block: Block, **given: Any) -> Any:
        """Build a part, with those of the given things that its factory takes; None where it cannot be."""
        wanted = signature(block.factory).parameters
        try:
            return block.maker()(**{name: value for name, value in given.items() if name in wanted})
        except Exception as error:  # noqa: BLE001  a plugin's constructor may raise anything
            self.problems.append(located(block.key, signature(block.factory).parameters, error))
            return None

    def _join(self, block: Block, part: Any, reads: Record | None = None, writes: Record | None = None) -> bool:
        if part is None:
            return False
        reads = getattr(part, "reads", {}) if reads is None else reads
        try:
            self.graph.join(block.key, block.use, part, _specs(reads), part.writes if writes is None else writes)
        except ValueError as error:
            self.problems.append(located(block.key, signature(block.factory).parameters, error))
            self.graph.flowing.clear()
            return False
        return True


def _sizes(spec: Spec) -> dict[str, Any]:
    """What a stage is told of what reaches it: `input_size` is D, or (n, D) where each step is a matrix."""
    features = spec.axes[2:] or spec.axes[-1:]
    if not all(isinstance(axis, int) for axis in features):
        return {"input_spec": spec}
    return {"input_spec": spec, "input_size": features[0] if len(features) == 1 else features}


def _specs(reads: Mapping[str, str | Spec]) -> Record:
    return {name: Spec.parse(text) for name, text in reads.items()}


def located(key: str, names: Collection[str], error: Exception) -> str:
    """The error as one line under its key; a message that begins with one of the names extends the key by it."""
    text = " ".join(str(error).split())
    if not isinstance(error, ValueError):
        return f"{key}: {type(error).__name__}: {text}"
    name, colon, _ = text.partition(":")
    return f"{key}.{text}" if colon and name.split(".")[0] in names else f"{key}: {text}"
