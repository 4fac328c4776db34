"""Experiment: a graph with all that drives it, from its first update to its result."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from seqtoolkit.description import NOTE, describe, title
from seqtoolkit.flow.core import attends
from seqtoolkit.flow.heatmap import ready
from seqtoolkit.flow.model import Decoding, Model
from seqtoolkit.folder import RunFolder
from seqtoolkit.host.assemble import assemble, located, make_source
from seqtoolkit.host.config import ConfigError, Plan
from seqtoolkit.host.plan import flat
from seqtoolkit.host.registry import PartError, Registry
from seqtoolkit.observer import observers
from seqtoolkit.profile import Profile
from seqtoolkit.train.checkpoint import Checkpoints, load_state, load_weights
from seqtoolkit.train.evaluate import EvaluateSettings, Evaluation
from seqtoolkit.train.learner import Learner
from seqtoolkit.train.loop import Fit, RunSettings
from seqtoolkit.train.optimize import choose_device, choose_precision
from seqtoolkit.train.run import Run
from seqtoolkit.train.search import SweepSettings
from seqtoolkit.train.tracking import Status as TrackerStatus
from seqtoolkit.train.tracking import Tracker, environment_tags
from seqtoolkit.train.tracking.progress import Progress

SECTIONS = {"run": RunSettings, "evaluate": EvaluateSettings, "model": Decoding, "sweep": SweepSettings}


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


class Experiment:
    """A plan with all its parts made, ready to train in a run's folder. Raises ConfigError where it cannot run."""

    def __init__(self, plan: Plan, registry: Registry) -> None:
        self.plan, self.registry = plan, registry
        self.run: RunSettings = plan.sections["run"]
        self.evaluate: EvaluateSettings = plan.sections["evaluate"]
        assemble(plan, build=False)
        with _under("run", RunSettings):
            _at_least(self.run, steps=1, log_every=1, checkpoint_every=0, keep_every=0, threads=0)
            limit = self.run.time_limit
            if limit is not None and not limit > 0:
                raise ValueError(f"time_limit: wanted seconds above 0, or null, got {limit:g}")
            device = choose_device(self.run.device)
            choose_precision(self.run.precision, device)
        if self.run.threads:
            torch.set_num_threads(self.run.threads)
        self.graph = assemble(plan, seed=self.run.seed)
        given = {"graph": self.graph, "device": device, "steps": self.run.steps, "precision": self.run.precision}
        with _under("learner", plan.learner.factory):
            self.learner: Learner = plan.learner.maker()(**given)
        with _under("model.core", plan.core.factory), self.learner.update.autocast():
            self.graph.model.core.demand()
        with _under("evaluate", EvaluateSettings):
            _at_least(self.evaluate, every=0, test_examples=0, patience=0, samples=0)
            source = make_source(self.plan.evaluate_source, seed=self.run.seed)
            self._check_best()
            self._check_attention()
            self.evaluation = Evaluation(
                self.graph, source, self.evaluate.examples, self.evaluate.samples, attention=self.evaluate.attention
            )
        with _under("track", plan.track.factory):
            self.tracker: Tracker = plan.track.maker()()

    def __call__(
        self,
        place: RunFolder,
        progress: Progress | None,
        *,
        tags: Mapping[str, str] | None = None,
        also: Mapping[str, object] | None = None,
    ) -> Result:
        """Train in `place`, from its last checkpoint if it has one.

        `tags` are recorded with the run's own; `also` are more observers, by name, that hear of the run by the life-cycle
        hooks.
        """
        checkpoints = Checkpoints(place.checkpoints, self.run.keep_every)
        last = checkpoints.find("last")
        heard = {**observers(progress or Progress(self.run.steps)), **(also or {})}
        if self.run.profile:
            heard["seqtoolkit.profile"] = Profile(self.evaluation)
        watched = self.registry.joined(heard)
        run = Run(
            name=self.plan.name,
            folder=place.path,
            config=self.plan.resolved,
            learner=self.learner,
            tracker=self.tracker,
            steps=self.run.steps,
            notify=watched.notify,
        )
        run.run_id = self._start(place, tags or {})
        run.begun = 0 if last is None else int(last.name.removeprefix("step_"))
        fit = Fit(self.learner, self.run, self.evaluate, self.evaluation, checkpoints, run, run.halt)
        status: TrackerStatus = "FAILED"
        try:
            if last is not None:
                place.restore(self.learner.model, load_weights(last))
                fit.load_state_dict(load_state(last))
            watched.notify("run_started", run=run)
            status = fit()
            if status == "FINISHED":
                fit.latest |= self._test(run, fit, place)
        except BaseException as caught:
            status = "KILLED" if isinstance(caught, KeyboardInterrupt) else "FAILED"
            run.error = f"{type(caught).__name__}: {caught}"
            raise
        finally:
            if run.halt.reason is not None:
                run.note(f"stopped after {fit.step} updates: {run.halt.reason}")
            place.note(status=status, error=run.error, stopped=run.halt.reason, metrics=fit.latest)
            watched.notify("run_ended", run=run, status=status)
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

    def _check_attention(self) -> None:
        if self.evaluate.attention:
            try:
                require_attention(self.graph.model, self.plan, self.registry)
                ready()
            except ValueError as error:
                raise ValueError(f"attention: {error}") from None

    def _environment(self) -> dict[str, str]:
        """What may make the same pipeline give other numbers: versions, code, and what computes."""
        owners = (self.registry.owner(block.kind, block.use) for block in self.plan.blocks())
        device = self.learner.device
        on_gpu = device.type == "cuda"
        chip = torch.cuda.get_device_name(device) if on_gpu else torch.backends.cpu.get_cpu_capability()
        return environment_tags(packages={owner.distribution for owner in owners}) | {
            "device": f"{device} ({chip})",
            "threads": str(torch.get_num_threads()),
        }

    def _start(self, place: RunFolder, given: Mapping[str, str]) -> str | None:
        """Begin where it is recorded, and note what is known of it; the id that it has there."""
        changes, environment = place.notes.get("changes", []), self._environment()
        tags = {**environment, **given, "seqtoolkit.pipeline": self.plan.name, "seqtoolkit.folder": str(place.path)}
        if place.tracked is None:  # later it is the user's to edit
            about = {"name": self.plan.name, "folder": place.path.name, "changes": changes}
            tags = {NOTE: describe(self.plan, self.graph, **about), **tags}
        params = {**flat(self.plan.resolved), "parameters": self.graph.parameters}
        with _under("track", self.plan.track.factory):
            run_id = self.tracker.start(
                name=title(self.plan, changes), params=params, tags=tags, folder=place.path, resume=place.tracked
            )
        self.tracker.artifact(place.config)
        known = {"run_id": run_id or place.tracked, "tags": given or place.notes.get("tags")}
        known["parameters"] = self.graph.parameters
        place.note(**known, status="RUNNING", environment=environment, error=None, stopped=None)
        return run_id

    def _test(self, run: Run, fit: Fit, place: RunFolder) -> dict[str, float]:
        """The metrics on the test split, once, after training: nothing was chosen by them."""
        if not self.evaluate.test_examples:
            return {}
        source = make_source(self.plan.evaluate_source, seed=self.run.seed, split="test")
        best = self.evaluate.test_checkpoint == "best"
        if best:
            place.restore(self.learner.model, load_weights(place.checkpoint("best")))
        found = Evaluation(self.graph, source, self.evaluate.test_examples)(self.learner.update)
        if best:
            place.restore(self.learner.model, load_weights(place.checkpoint("last")))
        assert found is not None
        run.evaluated(fit.step, found.metrics | fit.window.taken(), found.samples, found.views)
        return found.metrics


def require_attention(model: Model, plan: Plan, registry: Registry) -> None:
    """Raises ValueError, which names the cores that have one, where a model's core has no attention to show."""
    if not attends(model.core):
        having = ", ".join(name for name in registry.names("core") if _attends(registry, name))
        raise ValueError(f"the core {plan.core.use} has no attention to show; those that have: {having or 'none'}")


def _attends(registry: Registry, name: str) -> bool:
    with contextlib.suppress(PartError):
        return attends(registry.resolve("core", name))
    return False


def _at_least(settings: RunSettings | EvaluateSettings, **least: int) -> None:
    for name, bound in least.items():
        if getattr(settings, name) < bound:
            raise ValueError(f"{name}: wanted at least {bound}, got {getattr(settings, name)}")


@contextlib.contextmanager
def _under(key: str, factory: Callable[..., Any]) -> Iterator[None]:
    """ValueErrors raised inside become a ConfigError under `key`."""
    try:
        yield
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError([located(key, signature(factory).parameters, error)]) from None
