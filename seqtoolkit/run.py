"""Run: Pipeline, one experiment from its file to its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from seqtoolkit.experiment import SECTIONS, Experiment, Result
from seqtoolkit.flow.counter import Split
from seqtoolkit.flow.graph import Graph
from seqtoolkit.flow.source import Source
from seqtoolkit.folder import METRICS, RunError, RunFolder
from seqtoolkit.host.assemble import assemble, make_source
from seqtoolkit.host.config import Config, Plan, freeze, load
from seqtoolkit.host.registry import Registry, discover
from seqtoolkit.train.tracking.lock import held
from seqtoolkit.train.tracking.progress import Progress


class Pipeline:
    """One experiment: load it, check it, run it.

    >>> pipeline = Pipeline.load("pipelines/program_eval.yaml", ["model.core=lstm", "run.steps=100"])
    >>> print(pipeline.describe())
    >>> result = pipeline.run()
    """

    def __init__(self, config: Config, registry: Registry | None = None, kept: Path | None = None) -> None:
        self.config, self.registry = config, registry or discover()
        self.kept = kept
        """What the source of a run has kept, where it is the pipeline of one: see `Source.keep`."""

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Self:
        """A pipeline from a file, or by the name of a shipped one. Raises ConfigError as `plan` does."""
        return cls(load(path, overrides))

    @classmethod
    def from_config(cls, mapping: Mapping[str, Any], overrides: Sequence[str] = ()) -> Self:
        """A pipeline from nested mappings with the keys of a pipeline file."""
        return cls(load(mapping, overrides))

    @classmethod
    def of(cls, place: RunFolder, overrides: Sequence[str] = ()) -> Self:
        """The pipeline that a run was started with, under its name and with its changes. Raises ConfigError as `plan` does."""
        config, notes = load(place.config, overrides), place.notes
        changes = (*notes.get("changes", ()), *config.changes)
        return cls(replace(config, name=notes.get("name", config.name), changes=changes), kept=place.source)

    @cached_property
    def plan(self) -> Plan:
        """The validated pipeline with every default. Raises ConfigError that names all problems, a line each."""
        return freeze(self.config, self.registry, SECTIONS)

    def check(self) -> Graph:
        """The typed graph, without touching data or a device. Raises ConfigError."""
        return assemble(self.plan, seed=self.plan.sections["run"].seed, build=False, kept=self.kept)

    def build(self) -> Graph:
        """The typed graph with a model whose parameters are drawn from the run's seed. Raises ConfigError."""
        return assemble(self.plan, seed=self.plan.sections["run"].seed, kept=self.kept)

    def evaluated(self, split: Split | None = None) -> Source:
        """The source by which it is evaluated. Raises ConfigError."""
        seed = self.plan.sections["run"].seed
        return make_source(self.plan.evaluate_origin, seed=seed, split=split, kept=self.kept)

    def describe(self) -> str:
        """The table of stages with what flows between them, and the number of parameters."""
        return self.check().describe()

    def run(
        self,
        folder: str | Path = "runs",
        *,
        progress: Progress | None = None,
        tags: Mapping[str, str] | None = None,
        observers: Mapping[str, object] | None = None,
    ) -> Result:
        """Train and evaluate as the pipeline says, in a new folder inside `folder`.

        `tags` are recorded with the run's own. `observers`, by name, are objects with hookimpls of the life cycle, which
        hear of this run.

        Raises ConfigError for a pipeline that cannot run, CheckpointError where the result cannot be saved.
        """
        experiment = Experiment(self.plan, self.registry)
        experiment.prepare(progress)
        place = RunFolder.create(Path(folder), self.plan.name, self.plan.resolved)
        place.note(changes=list(self.config.changes))
        return experiment(place, progress, tags=tags, also=observers)

    @classmethod
    def resume(
        cls,
        run: str | Path,
        overrides: Sequence[str] = (),
        folder: str | Path = "runs",
        *,
        progress: Progress | None = None,
        observers: Mapping[str, object] | None = None,
    ) -> Result:
        """Go on with a run, named by its id, its folder's name (or the beginning of either) or its path.

        Raises RunError where there is no such run, or another process is at work on it, and what `run` raises.
        """
        place = RunFolder.find(run, Path(folder))
        if held(place.path / METRICS):
            raise RunError(f"the run in {place.path} is at work in another process: stop that, or wait for its end")
        pipeline = cls.of(place, overrides)
        experiment = Experiment(pipeline.plan, pipeline.registry, place.source)
        experiment.prepare(progress)
        place.resuming(overrides)
        return experiment(place, progress, also=observers)
