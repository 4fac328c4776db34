"""Experiment: a graph with all that drives it, from its first update to its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from seqtoolkit.entry import enter
from seqtoolkit.flow.counter import Split
from seqtoolkit.flow.heatmap import ready
from seqtoolkit.flow.model import Decoding, Model
from seqtoolkit.flow.origin import Origin
from seqtoolkit.folder import RunFolder
from seqtoolkit.host.assemble import assemble, make_environment, make_source
from seqtoolkit.host.config import ConfigError, Plan
from seqtoolkit.host.registry import Registry
from seqtoolkit.observer import observers
from seqtoolkit.profile import Profile
from seqtoolkit.requirement import at_least, require_attention, under
from seqtoolkit.train.checkpoint import Checkpoints, load_state, load_weights
from seqtoolkit.train.episode import Episodes
from seqtoolkit.train.evaluate import EvaluateSettings, Evaluation
from seqtoolkit.train.learner import Learner
from seqtoolkit.train.loop import Fit, RunSettings
from seqtoolkit.train.optimize import choose_device, choose_precision
from seqtoolkit.train.run import Run
from seqtoolkit.train.search import SweepSettings
from seqtoolkit.train.tracking import Status as TrackerStatus
from seqtoolkit.train.tracking import Tracker
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

    def __init__(self, plan: Plan, registry: Registry, kept: Path | None = None) -> None:
        self.plan, self.registry, self.kept = plan, registry, kept
        self.run: RunSettings = plan.sections["run"]
        self.evaluate: EvaluateSettings = plan.sections["evaluate"]
        sketch = assemble(plan, build=False, kept=kept)
        with under(plan.origin.key, plan.origin.factory):
            sketch.origin.demand()
        with under("run", RunSettings):
            at_least(self.run, steps=1, log_every=1, checkpoint_every=0, keep_every=0, threads=0)
            limit = self.run.time_limit
            if limit is not None and not limit > 0:
                raise ValueError(f"time_limit: wanted seconds above 0, or null, got {limit:g}")
            device = choose_device(self.run.device)
            choose_precision(self.run.precision, device)
        if self.run.threads:
            torch.set_num_threads(self.run.threads)
        self.graph = assemble(plan, seed=self.run.seed, kept=kept)
        given = {"graph": self.graph, "device": device, "steps": self.run.steps, "precision": self.run.precision}
        with under("learner", plan.learner.factory):
            self.learner: Learner = plan.learner.maker()(**given)
        with under("model.core", plan.core.factory), self.learner.update.autocast():
            self.graph.model.core.demand()
        with under("evaluate", EvaluateSettings):
            at_least(self.evaluate, every=0, test_examples=0, patience=0, samples=0)
            self._check_best()
            self._check_attention()
            settings = self.evaluate
            self.evaluation = self._evaluation(None, settings.examples, settings.samples, attention=settings.attention)
            self.testing = self._testing()
        with under("track", plan.track.factory):
            self.tracker: Tracker = plan.track.maker()()

    def prepare(self, progress: Progress | None = None) -> None:
        """Have the sources make what takes long and is made once. Raises ConfigError where their data cannot be used."""
        shown = progress or Progress(0)
        learned, asked = self.plan.origin, self.plan.evaluate_origin
        others = [each.origin for each in (self.evaluation, self.testing) if each is not None]
        try:
            with under(learned.key, learned.factory):
                self.graph.origin.prepare(shown.preparing)
            with under(asked.key, asked.factory):
                if asked.use == learned.use and not (self.kept and self.kept.exists()):
                    self._share(others)
                for origin in others:
                    origin.prepare(shown.preparing)
        finally:
            shown.prepared()

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
        run = self._run(place, progress, also or {})
        run.run_id = enter(place, self.plan, self.registry, self.learner, self.tracker, tags or {})
        run.begun = 0 if last is None else int(last.name.removeprefix("step_"))
        fit = Fit(self.learner, self.run, self.evaluate, self.evaluation, checkpoints, run, run.halt)
        status: TrackerStatus = "FAILED"
        try:
            if last is not None:
                place.restore(self.learner.model, load_weights(last))
                fit.load_state_dict(load_state(last))
            run.tell("run_started")
            if last is None and self.evaluate.baselines:
                found = self.evaluation.baselines()
                fit.latest.update(found)
                run.evaluated(0, found, [], [])
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
            run.tell("run_ended", status=status)
            for each in (self.learner, self.evaluation, self.testing):
                if each is not None:
                    each.close()
        return Result(
            status=status,
            metrics=fit.latest,
            run_id=place.run_id,
            folder=place.path,
            checkpoint=place.checkpoint("last"),
            model=self.learner.model.cpu(),
            where=self.tracker.where(),
        )

    def _run(self, place: RunFolder, progress: Progress | None, also: Mapping[str, object]) -> Run:
        """What those who listen are handed."""
        heard = {**observers(progress or Progress(self.run.steps)), **also}
        if self.run.profile:
            heard["seqtoolkit.profile"] = Profile(self.evaluation)
        return Run(
            name=self.plan.name,
            folder=place.path,
            config=self.plan.resolved,
            learner=self.learner,
            tracker=self.tracker,
            steps=self.run.steps,
            notify=self.registry.joined(heard).notify,
        )

    def _check_best(self) -> None:
        best, known = self.evaluate.best, list(self.graph.better)
        if best is not None and best not in known:
            raise ValueError(f"best: wanted one of {', '.join(known)}, got {best!r}")

    def _check_attention(self) -> None:
        if self.evaluate.attention:
            try:
                if self.graph.acting:
                    raise ValueError("wanted a source, whose cases are looked at, got an environment")  # noqa: TRY301  found here
                require_attention(self.graph.model, self.plan, self.registry)
                ready()
            except ValueError as error:
                raise ValueError(f"attention: {error}") from None

    def _share(self, others: Sequence[Origin]) -> None:
        """Have sources of the same kind go by what the ids of the model's own stand for, whatever data they read."""
        with TemporaryDirectory() as folder:
            place = RunFolder(Path(folder))
            place.keep(self.graph.origin)
            for origin in others if place.source.exists() else ():
                origin.adopt(place.source)

    def _testing(self) -> Evaluation | Episodes | None:
        """The evaluation on the test split; None where there is none. Raises ValueError."""
        if self.evaluate.test_examples == 0:
            return None
        try:
            return self._evaluation("test", self.evaluate.test_examples)
        except ConfigError:
            raise
        except ValueError as error:
            raise ValueError(f"test_{error}") from None

    def _test(self, run: Run, fit: Fit, place: RunFolder) -> dict[str, float]:
        """The metrics on the test split, once, after training: nothing was chosen by them."""
        if self.testing is None:
            return {}
        best = self.evaluate.test_checkpoint == "best"
        if best:
            place.restore(self.learner.model, load_weights(place.checkpoint("best")))
        found = self.testing(self.learner.update)
        if best:
            place.restore(self.learner.model, load_weights(place.checkpoint("last")))
        assert found is not None
        metrics = found.metrics | (self.testing.baselines() if self.evaluate.baselines else {})
        run.evaluated(fit.step, metrics | fit.window.taken(), found.samples, found.views)
        return metrics

    def _evaluation(
        self, split: Split | None, examples: int | None, samples: int = 0, *, attention: bool = False
    ) -> Evaluation | Episodes:
        """By a source, or in an environment, of a split; of the graph's own kind, it adopts what was kept. Raises ValueError."""
        block, seed = self.plan.evaluate_origin, self.run.seed
        if self.plan.acting:
            worlds = make_environment(block, seed=seed, split=split, kept=self.kept, worlds=examples)
            return Episodes(self.graph, worlds, examples, samples, greedy=self.evaluate.greedy)
        source = make_source(block, seed=seed, split=split, kept=self.kept)
        return Evaluation(self.graph, source, examples, samples, attention=attention)
