"""Assemble: a frozen plan to a graph, each stage built with the spec of what reaches it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import nullcontext
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from seqtoolkit.flow.counter import Split
from seqtoolkit.flow.environment import Environment
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
    source: Source = _originate(block, seed, split, kept)
    return source


def make_environment(
    block: Block, *, seed: int, split: Split | None = None, kept: Path | None = None, worlds: int | None = None
) -> Environment:
    """An environment of a plan, of at most so many worlds; else as `make_source`."""
    few = {} if worlds is None else {"num_envs": min(worlds, block.params.get("num_envs", 1))}
    environment: Environment = _originate(block, seed, split, kept, **few)
    return environment


def _originate(block: Block, seed: int, split: Split | None, kept: Path | None, **given: Any) -> Any:
    given |= {"seed": seed} | ({} if split is None else {"split": split})
    try:
        origin = block.maker()(**given)
        if kept is not None and kept.exists():
            origin.adopt(kept)
    except ValueError as error:
        raise ConfigError([located(block.key, signature(block.factory).parameters, error)]) from None
    return origin


class _Assembly:
    """A graph in the making, and what stands in its way."""

    def __init__(self, plan: Plan, seed: int, kept: Path | None) -> None:
        self.plan, self.seed, self.kept = plan, seed, kept
        self.graph = Graph()
        self.problems: list[str] = []

    def data(self) -> None:
        """Source, transforms, batch; or the environment."""
        graph = self.graph
        origin = self._adopted(self._make(self.plan.origin, seed=self.seed))
        if self.plan.acting:
            if origin is not None:
                self._worlds(origin)
            return
        if origin is not None and self._join(self.plan.origin, origin, reads={}):
            graph.origin = origin
        for block in self.plan.transform:
            transform = self._of_record(block)
            if self._join(block, transform):
                graph.transforms.append(transform)
        assert self.plan.batch is not None
        collate = self._of_record(self.plan.batch)
        if self._join(self.plan.batch, collate):
            graph.collate = collate

    def _worlds(self, environment: Any) -> None:
        seen = environment.observation
        inputs = Spec(seen.dtype, ("T", *seen.axes), seen.bound)
        actions = Spec("i64", ("T", "B"), environment.actions)
        if self._join(self.plan.origin, environment, {}, {"inputs": inputs, "actions": actions}):
            self.graph.origin = environment

    def network(self) -> None:
        """Encoder, core and head, and the model that they make."""
        plan, graph = self.plan, self.graph
        encoder = self._stage(plan.encoder, "inputs", "vectors")
        core = self._stage(plan.core, "vectors", "outputs")
        if core is None:
            return
        wanted = graph.flowing.get("actions" if plan.acting else "targets")
        if wanted is None:
            assert plan.batch is not None
            self.problems.append(
                f"{plan.batch.key}: wanted a batch with targets to learn from, {plan.batch.use} writes none"
            )
            return
        answers = wanted.axes[0]
        outputs = graph.flowing["outputs"]
        graph.flowing["outputs"] = Spec(outputs.dtype, (answers, *outputs.axes[1:]), outputs.bound)
        head = self._stage(plan.head, "outputs", "predictions", target_spec=wanted, encoder=encoder)
        if head is not None:
            settings = plan.sections.get("model", Decoding())
            separate = settings.decoder == "separate"
            decoder = self._make(plan.core, **_sizes(Spec.parse(encoder.writes))) if separate else None
            graph.model = Model(encoder, core, head, settings.decoding, decoder)

    def objective(self) -> None:
        """Loss and metrics; where there is an environment, what the learner reads."""
        learner = self.plan.learner
        if getattr(learner.factory, "acts", False) != self.plan.acting:
            wanted = ("a source", "an environment")[not self.plan.acting]
            self.problems.append(f"{learner.key}: {learner.use} learns from {wanted}, got {self.plan.origin.key}")
        elif self.plan.acting and "predictions" in self.graph.flowing:
            self._acted(learner)
        for block in (self.plan.loss, *self.plan.metric) if self.plan.loss else ():
            part = self._make(block)
            if "predictions" not in self.graph.flowing or not self._join(block, part, writes={}):
                continue
            if block is self.plan.loss:
                self.graph.loss = part
            else:
                self._measured(block, part)

    def _acted(self, learner: Block) -> None:
        chances = Spec("f32", ("T", "B", self.graph.environment.actions + 1))  # a logit for each action, and the value
        try:
            self.graph.join(learner.key, learner.use, None, {"predictions": chances}, {})
        except ValueError as error:
            self.problems.append(f"{learner.key}: {error}: use the head actor_critic")

    def _measured(self, block: Block, metric: Metric) -> None:
        name = metric.name or block.use
        if name in self.graph.metrics:
            self.problems.append(f"{block.key}: wanted one metric of a name, got {name} twice")
        self.graph.metrics[name] = metric

    def _adopted(self, origin: Source | Environment | None) -> Source | Environment | None:
        try:
            if origin is not None and self.kept is not None and self.kept.exists():
                origin.adopt(self.kept)
        except ValueError as error:
            block = self.plan.origin
            self.problems.append(located(block.key, signature(block.factory).parameters, error))
            return None
        return origin

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
