"""Run: Pipeline, one experiment from its file to its result."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch

from seqtoolkit.flow.graph import Graph
from seqtoolkit.flow.model import Decoding, Model
from seqtoolkit.folder import RunFolder
from seqtoolkit.host.assemble import assemble, make_source
from seqtoolkit.host.config import Config, ConfigError, Plan, freeze, load
from seqtoolkit.host.registry import Registry, discover
from seqtoolkit.recorder import Recorder
from seqtoolkit.train.checkpoint import Checkpoints, load_state, load_weights
from seqtoolkit.train.evaluate import EvaluateSettings, Evaluation
from seqtoolkit.train.learner import Learner
from seqtoolkit.train.loop import Fit, RunSettings
from seqtoolkit.train.optimize import choose_device, choose_precision
from seqtoolkit.train.tracking import Progress, Tracker, environment_tags

SECTIONS = {"run": RunSettings, "evaluate": EvaluateSettings, "model": Decoding}


@dataclass(frozen=True)
class Result:
    """What a run came to.

    `metrics` are those of the last evaluations, `run_id` the tracking store's name of the run (the folder's, where
    there is no store), `checkpoint` the folder of the last checkpoint, `model` the trained module, on the CPU.
    """

    status: str
    metrics: dict[str, float]
    run_id: str
    folder: Path
    checkpoint: Path
    model: Model
    where: str


class Pipeline:
    """One experiment: load it, check it, run it.

    >>> pipeline = Pipeline.load("pipelines/program_eval.yaml", ["model.core=lstm", "run.steps=100"])
    >>> print(pipeline.describe())
    >>> result = pipeline.run()
    """

    def __init__(self, config: Config, registry: Registry | None = None) -> None:
        self.config, self.registry = config, registry or discover()

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Self:
        """A pipeline from a file, or by the name of a shipped one. Raises ConfigError as `plan` does."""
        return cls(load(path, overrides))

    @classmethod
    def from_config(cls, mapping: Mapping[str, Any], overrides: Sequence[str] = ()) -> Self:
        """A pipeline from nested mappings with the keys of a pipeline file."""
        return cls(load(mapping, overrides))

    @cached_property
    def plan(self) -> Plan:
        """The validated pipeline with every default. Raises ConfigError that names all problems, a line each."""
        return freeze(self.config, self.registry, SECTIONS)

    def check(self) -> Graph:
        """The typed graph, without touching data or a device. Raises ConfigError."""
        return self._assemble(build=False)

    def describe(self) -> str:
        """The table of stages with what flows between them, and the number of parameters."""
        return self.check().describe()

    def run(self, folder: str | Path = "runs", *, progress: Progress | None = None) -> Result:
        """Train and evaluate as the pipeline says, in a new folder inside `folder`.

        Raises ConfigError for a pipeline that cannot run, CheckpointError where the result cannot be saved.
        """
        experiment = Experiment(self)
        return experiment(RunFolder.create(Path(folder), self.plan.name, self.plan.resolved), progress)

    @classmethod
    def resume(
        cls,
        run: str | Path,
        overrides: Sequence[str] = (),
        folder: str | Path = "runs",
        *,
        progress: Progress | None = None,
    ) -> Result:
        """Go on with a run, named by its id, its folder's name (or the beginning of either) or its path."""
        place = RunFolder.find(run, Path(folder))
        pipeline = cls.load(place.config, overrides)
        return Experiment(pipeline)(place, progress)

    def _assemble(self, *, build: bool) -> Graph:
        return assemble(self.plan, seed=self.plan.sections["run"].seed, build=build)


def load_model(run: str | Path, checkpoint: str = "best", folder: str | Path = "runs") -> Model:
    """The model of a run, in evaluation mode on the CPU, with the weights of its `best`, `last` or n-th checkpoint."""
    place = RunFolder.find(run, Path(folder))
    model = Pipeline.load(place.config)._assemble(build=True).model
    place.restore(model, load_weights(place.checkpoint(checkpoint)))
    return model.eval()


class Experiment:
    """A pipeline with all its parts made, ready to train in a run's folder."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline, self.plan = pipeline, pipeline.plan
        self.run: RunSettings = self.plan.sections["run"]
        self.evaluate: EvaluateSettings = self.plan.sections["evaluate"]
        pipeline.check()
        with _located("run"):
            _positive(self.run)
            device = choose_device(self.run.device)
            choose_precision(self.run.precision, device)
        if self.run.threads:
            torch.set_num_threads(self.run.threads)
        self.graph = pipeline._assemble(build=True)
        given = {"graph": self.graph, "device": device, "steps": self.run.steps, "precision": self.run.precision}
        with _located("learner"):
            self.learner: Learner = self.plan.learner.maker()(**given)
        with _located("evaluate"):
            source = make_source(self.plan.evaluate_source, seed=self.run.seed)
            self.evaluation = Evaluation(self.graph, source, self.evaluate.examples, self.evaluate.samples)
            self._check_best()
        with _located("track"):
            self.tracker: Tracker = self.plan.track.maker()()

    def __call__(self, place: RunFolder, progress: Progress | None) -> Result:
        """Train in `place`, from its last checkpoint if it has one."""
        checkpoints = Checkpoints(place.checkpoints, self.run.keep_every)
        last = checkpoints.find("last")
        resumed = 0 if last is None else int(last.name.removeprefix("step_"))
        place.note(run_id=self._start(place), status="RUNNING")
        progress = progress or Progress(self.run.steps)
        recorder = Recorder(self, place.path, self.tracker, progress, self.pipeline.registry, resumed)
        fit = Fit(self.learner, self.run, self.evaluate, self.evaluation, checkpoints, recorder)
        status, error = "FAILED", None
        try:
            if last is not None:
                place.restore(self.learner.model, load_weights(last))
                fit.load_state_dict(load_state(last))
            self.pipeline.registry.notify("run_started", run=self)
            status = fit()
            if status == "FINISHED":
                fit.latest |= self._test(recorder, fit.step)
        except BaseException as caught:
            status = "KILLED" if isinstance(caught, KeyboardInterrupt) else "FAILED"
            error = f"{type(caught).__name__}: {caught}"
            raise
        finally:
            self._end(place, recorder, status, error)
        return Result(
            status=status,
            metrics=fit.latest,
            run_id=place.run_id,
            folder=place.path,
            checkpoint=place.checkpoint("last"),
            model=self.learner.model.cpu(),
            where=self.tracker.where(),
        )

    def _check_best(self) -> None:
        best, known = self.evaluate.best, ["loss", *self.graph.metrics]
        if best is not None and best not in known:
            raise ValueError(f"best: wanted one of {', '.join(known)}, got {best!r}")

    def _start(self, place: RunFolder) -> str | None:
        tags = {**environment_tags(), "seqtoolkit.pipeline": self.plan.name, "seqtoolkit.folder": str(place.path)}
        params = {**_flat(self.plan.resolved), "parameters": self.graph.parameters}
        with _located("track"):
            run_id = self.tracker.start(
                name=place.path.name, params=params, tags=tags, folder=place.path, resume=place.tracked
            )
        self.tracker.artifact(place.config)
        return run_id

    def _test(self, recorder: Recorder, step: int) -> dict[str, float]:
        """The metrics on the test split, once, after training: nothing was chosen by them."""
        if not self.evaluate.test_examples:
            return {}
        source = make_source(self.plan.evaluate_source, seed=self.run.seed, split="test")
        found = Evaluation(self.graph, source, self.evaluate.test_examples)(self.learner.update)
        assert found is not None
        recorder.evaluated(step, *found)
        return found.metrics

    def _end(self, place: RunFolder, recorder: Recorder, status: Any, error: str | None) -> None:
        place.note(status=status)
        for artifact, folder in ((recorder.picture(), ""), (place.checkpoints, "checkpoints")):
            if artifact is not None and artifact.exists():
                self.tracker.artifact(artifact, folder)
        recorder.close()
        self.pipeline.registry.notify("run_ended", run=self, status=status)
        self.tracker.end(status, error)


def _positive(run: RunSettings) -> None:
    for name, least in (("steps", 1), ("log_every", 1), ("checkpoint_every", 0), ("keep_every", 0), ("threads", 0)):
        if getattr(run, name) < least:
            raise ValueError(f"{name}: wanted at least {least}, got {getattr(run, name)}")


@contextlib.contextmanager
def _located(key: str) -> Any:
    """ValueErrors raised inside become a ConfigError under `key`."""
    try:
        yield
    except ConfigError:
        raise
    except ValueError as error:
        text = str(error)
        raise ConfigError([text if text.startswith(f"{key}.") else f"{key}.{text}"]) from None


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots; lists of blocks by their place."""
    rows: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            rows |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
            rows |= _flat(dict(enumerate(value)), f"{prefix}{key}.")  # type: ignore[arg-type]  # places as keys
        else:
            rows[f"{prefix}{key}"] = value if isinstance(value, bool | int | float | str | None) else str(value)
    return rows
