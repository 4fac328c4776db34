"""Graph: the stages of a pipeline in order, typed as they are joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torchdata.nodes import BaseNode, Mapper

from seqtoolkit.flow.ahead import Ahead
from seqtoolkit.flow.batch import Batch, Collate
from seqtoolkit.flow.environment import Better, Environment
from seqtoolkit.flow.loss import Loss
from seqtoolkit.flow.metric import Metric
from seqtoolkit.flow.model import Model
from seqtoolkit.flow.source import Block, Source
from seqtoolkit.flow.spec import Record, Spec, SpecError, unify
from seqtoolkit.flow.transform import Transform

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Stage:
    """One row of the graph: where it stands in the pipeline, what it is, and what it reads and writes."""

    key: str
    use: str
    reads: Record
    writes: Record
    parameters: int = 0


@dataclass
class Graph:
    """The flow of a pipeline: source -> transform -> batch -> model (encoder -> core -> head) -> loss -> metric.

    With an environment: environment -> model -> learner, whose policy acts in the environment.
    """

    stages: list[Stage] = field(default_factory=list)
    flowing: dict[str, Spec] = field(default_factory=dict)
    """The fields that reach the next stage."""

    origin: Source | Environment = field(init=False)
    transforms: list[Transform] = field(default_factory=list)
    collate: Collate = field(init=False)
    model: Model = field(init=False)
    loss: Loss = field(init=False)
    metrics: dict[str, Metric] = field(default_factory=dict)

    def join(self, key: str, use: str, part: Any, reads: Record, writes: Record) -> None:
        """Add a stage after the last; raises SpecError, one line, where it does not fit what reaches it."""
        bindings: dict[str, Any] = {}
        for name, wanted in reads.items():
            if name not in self.flowing:
                raise SpecError(f"reads {name} {wanted}, which no stage before it writes")
            try:
                bindings = unify(wanted, self.flowing[name], bindings)
            except SpecError as error:
                raise SpecError(f"{name}: {error}") from None
        written = {name: Spec.parse(spec).substitute(bindings) for name, spec in writes.items()}
        count = sum(each.numel() for each in part.parameters()) if isinstance(part, nn.Module) else 0
        self.stages.append(Stage(key, use, {name: self.flowing[name] for name in reads}, written, count))
        if key == "batch" or key.startswith("transform"):
            self.flowing.clear()  # a block that was changed or batched flows on as nothing else
        self.flowing.update(written)

    @property
    def acting(self) -> bool:
        """Whether it begins with an environment."""
        return isinstance(self.origin, Environment)

    @property
    def source(self) -> Source:
        """Where examples come from. Raises ValueError where there is an environment instead."""
        if isinstance(self.origin, Environment):
            raise ValueError("wanted a pipeline with a source, got one with an environment, which has no examples")
        return self.origin

    @property
    def environment(self) -> Environment:
        """Where the policy acts. Raises ValueError where there is a source instead."""
        if not isinstance(self.origin, Environment):
            raise ValueError("wanted a pipeline with an environment, got one with a source")
        return self.origin

    @property
    def better(self) -> dict[str, Better]:
        """What an evaluation reports, and which is better: first that by which a checkpoint is the best where nothing says."""
        if self.acting:
            return {"episode_return": "higher", "episode_length": "higher", **self.environment.measures}
        return {**{name: each.better for name, each in self.metrics.items()}, "loss": "lower"}

    @property
    def parameters(self) -> int:
        """How many numbers training changes."""
        return sum(each.numel() for each in self.model.parameters())

    def node(self, source: Source, device: torch.device = CPU) -> BaseNode[Batch]:
        """`source` through the transforms to batches, as torchdata nodes, on the caller's thread.

        A source that draws on a device draws on `device`.
        """
        source.block = self.collate.size
        if source.on_device:
            source.device = device
        node: BaseNode[Any] = source
        for each in (*self.transforms, self.collate):
            node = Mapper(node, each)
        return node

    def batch(self, block: Block) -> Batch:
        """One block through the transforms to a batch."""
        for each in self.transforms:
            block = each(block)
        return self.collate(block)

    def stream(self, source: Source, device: torch.device = CPU) -> BaseNode[Batch]:
        """The batches of `node`, made ahead on a thread of its own, in page-locked memory where a GPU will fetch them.

        What is drawn on the device is made when it is asked for, and there already.
        """
        node = self.node(source, device)
        return node if source.on_device else Ahead(node, pin=device.type == "cuda")

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """The table of stages: key, part, what it reads, what it writes, parameters."""
        return [
            (
                stage.key,
                stage.use,
                _fields(stage.reads),
                _fields(stage.writes),
                f"{stage.parameters:,}" * bool(stage.parameters),
            )
            for stage in self.stages
        ]

    def describe(self) -> str:
        """The table of stages as plain text, with the number of parameters."""
        head = ("stage", "part", "reads", "writes", "parameters")
        lines = _align([head, *self.rows()])
        return "\n".join([lines[0], "-" * len(max(lines, key=len)), *lines[1:], f"{self.parameters:,} parameters"])


def _fields(fields: Record) -> str:
    return ", ".join(f"{name} {spec}" for name, spec in fields.items())


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
