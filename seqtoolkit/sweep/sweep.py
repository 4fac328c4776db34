"""Sweep: many runs of one pipeline, each in a process of its own, as trials of one Optuna study."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from optuna.trial import FrozenTrial, TrialState

from seqtoolkit.folder import RunFolder
from seqtoolkit.host.problem import ConfigError
from seqtoolkit.sweep.crew import Crew, Member, Outcome, claim, outcome, reading
from seqtoolkit.sweep.design import Design, Objective
from seqtoolkit.sweep.parent import Parent
from seqtoolkit.sweep.row import Row, Status, ranked
from seqtoolkit.sweep.study import Study, facts
from seqtoolkit.sweep.trial import Order
from seqtoolkit.train.stop import Stop
from seqtoolkit.train.tracking.lock import hold

JOURNAL = "study.jsonl"
LOCK = "sweep.lock"
_PAUSE = 0.2
_STATUS: dict[TrialState, Status] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}

Watch = Callable[[list[Row]], None]


class Sweep:
    """Many runs of one pipeline.

    >>> sweep = Sweep.load("program_eval", ["model.core=rmc,lstm,dnc", "run.seed=0,1,2"])
    >>> rows = sweep.run(jobs=2)
    >>> print(rows[0].values, rows[0].best)
    """

    def __init__(self, design: Design, folder: str | Path = "runs", storage: str | None = None) -> None:
        self.design, self.storage = design, storage
        self.runs = Path(folder)
        self.folder = self.runs / design.name
        """Where the sweep keeps what is its own; its runs are beside it."""
        self.objective: Objective = design.check()
        self.interrupted = False
        """Whether it was asked to stop before all was done."""
        self.idle = True
        """Whether there was nothing to do."""
        self.parent = Parent(self.objective.plan, self.name, self.folder, self.objective.better)
        self._tried: set[int] = set()

    @classmethod
    def load(
        cls,
        pipeline: str | Path | Mapping[str, Any],
        overrides: Sequence[str] = (),
        *,
        folder: str | Path = "runs",
        storage: str | None = None,
        **settings: Any,
    ) -> Self:
        """A sweep over a pipeline: a file, the name of a shipped one, or nested mappings.

        Args:
            pipeline: What is changed; its section `sweep` is where the other arguments begin from.
            overrides: `key=value` for all trials; `key=value,value` or `key=loguniform(1e-4, 1e-2)` to go through.
            folder: Where runs are kept.
            storage: A URL of SQLAlchemy's, where several machines share the trials; a file in the folder where None.
            **settings: search, trials, metric, prune, seed: those of the section `sweep`.

        Raises ConfigError that names all that is wrong with any of the trials.
        """
        return cls(Design.load(pipeline, overrides, settings), folder, storage)

    @property
    def name(self) -> str:
        """The same for the same pipeline, space and way to search."""
        return self.design.name

    def rows(self) -> list[Row]:
        """The trials as they stand, best first. Raises StorageError where they cannot be read."""
        return self._ranked(self._study())

    def run(self, jobs: int = 1, *, retry: bool = False, watch: Watch | None = None) -> list[Row]:
        """Run what is left of the trials, and return them all, best first.

        Trials that were interrupted or killed go on from their last checkpoints. Ctrl-C and SIGTERM have those under way
        save and end; a second Ctrl-C is at once.

        Args:
            jobs: How many trials run at a time.
            retry: Whether failed trials are run anew.
            watch: Is handed the trials by number several times a second.

        Raises:
            ValueError: another process is at work on this sweep, or the storage or the tracking store cannot be used.
            KeyboardInterrupt: Ctrl-C twice.
        """
        if jobs < 1:
            raise ValueError(f"jobs: wanted at least 1, got {jobs}")
        with ExitStack() as stack:
            first = self._enter(stack)
            study = self._study()
            study.fill(self.design.wanted())
            if retry:
                study.again(trial.number for trial in study.trials(TrialState.FAIL))
            crew, stop = Crew(jobs), Stop()
            stack.callback(crew.kill)
            with stop:
                self._work(study, crew, stop, first=first, watch=watch or _nobody)
            self.interrupted = stop.asked
            rows = self._ranked(study)
            done = any(row.status in ("finished", "pruned") for row in rows)
            self.parent.end(rows, "KILLED" if self.interrupted else "FINISHED" if done else "FAILED")
            return rows

    def _enter(self, stack: ExitStack) -> bool:
        """Make the sweep's folder, and hold it; False where another process on this machine shares the storage."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = hold(self.folder / LOCK)
        except OSError as error:
            raise ValueError(f"runs cannot be kept in {self.runs}: {error.strerror}; choose another --folder") from None
        if lock is not None:
            stack.enter_context(lock)
        elif self.storage is None:
            raise ValueError(
                f"{self.name}: another process is at work on this sweep; with --storage they would share it"
            )
        return lock is not None

    def _study(self) -> Study:
        where = self.storage or str(self.folder / JOURNAL)
        settings = self.design.settings
        return Study(self.name, where, self.design.space, self.objective.better, settings.search, settings.seed)

    def _work(self, study: Study, crew: Crew, stop: Stop, *, first: bool, watch: Watch) -> None:
        """Keep the crew at work until nothing is left, or until asked to stop."""
        told = False
        while True:
            for member, found in crew.collect():
                self._settle(study, member.order.number, member.place, found, member.seconds)
            more = True
            while more and not stop.asked and len(crew.members) < crew.jobs:
                more = self._start_next(study, crew, first=first)
            if stop.asked and not told:
                crew.interrupt()
                told = True
            study.relieve(crew.members)
            rows = self._rows(study, crew.members)
            watch(rows)
            self.parent.tell(rows)
            if not crew.members and (stop.asked or not (more or self._orphaned(study))):
                return
            time.sleep(_PAUSE)

    def _start_next(self, study: Study, crew: Crew, *, first: bool) -> bool:
        """Begin, or go on with, a trial; False where there is none for this machine now."""
        for trial in self._left_behind(study):
            known = facts(trial)
            place = RunFolder(Path(known["run"])) if known.get("run") else None
            lock = None if place is None else claim(place)
            if place is not None and lock is None:
                continue  # the process of a sweep that was killed is still saving
            self._tried.add(trial.number)
            if place is None or lock is None:
                return self._begin(study, crew, trial.number, first=first)
            found = outcome(place)
            if found.status != "killed":
                lock.release()
                self._settle(study, trial.number, place, found, known.get("seconds", 0.0))
                return True
            self._record(study, first=first)
            study.note(trial.number, status="running")
            place.resuming(())
            place.note(status="RUNNING")
            crew.start(self._order(study, trial.number), place, lock, known.get("seconds", 0.0))
            return True
        number = study.claim()
        return number is not None and self._begin(study, crew, number, first=first)

    def _begin(self, study: Study, crew: Crew, number: int, *, first: bool) -> bool:
        """Begin a trial that nobody else has; one whose values do not fit fails at once."""
        self._tried.add(number)
        self._record(study, first=first)
        params = study.suggest(number)
        try:
            pipeline = self.design.pipeline(params)
            self.design.judge(pipeline, self.objective)
        except ConfigError as error:
            study.note(number, status="failed", error="; ".join(error.problems))
            study.end(number, TrialState.FAIL)
            return True
        place = RunFolder.create(self.runs, pipeline.plan.name, pipeline.plan.resolved)
        lock = claim(place)
        assert lock is not None
        order = self._order(study, number)
        place.note(status="RUNNING", tags=dict(order.tags))
        steps = pipeline.plan.sections["run"].steps
        study.note(number, status="running", run=str(place.path), machine=platform.node(), steps=steps)
        crew.start(order, place, lock)
        return True

    def _left_behind(self, study: Study) -> list[FrozenTrial]:
        """Trials under way, as the storage has it, that this process may go on with."""
        running = [each for each in study.trials(TrialState.RUNNING) if each.number not in self._tried]
        if self.storage is None:
            return running
        here = platform.node()
        return [each for each in running if facts(each).get("machine") == here and Path(facts(each)["run"]).is_dir()]

    def _orphaned(self, study: Study) -> bool:
        """Whether processes of a sweep that was killed are still at work on trials of this one."""
        return self.storage is None and bool(self._left_behind(study))

    def _order(self, study: Study, number: int) -> Order:
        metric, better, _ = self.objective
        tags = self.parent.tags(number, study.parent)
        return Order(self.name, study.where, number, metric, better, self.design.settings.prune, tags)

    def _record(self, study: Study, *, first: bool) -> None:
        """Begin the parent's run before the first trial; of several processes on a machine, one does."""
        if self.idle and first:
            settings = self.design.settings
            params = {f"sweep.space.{key}": text for key, text in self.design.space.written().items()}
            params |= {f"sweep.{name}": str(getattr(settings, name)) for name in ("search", "prune", "seed")}
            params |= {"sweep.metric": self.objective.metric, "sweep.trials": str(len(self.design.wanted()))}
            self.parent.begin(params, study.parent)
        self.idle = False
        if study.parent is None and self.parent.run is not None:
            study.parent = self.parent.run

    def _settle(self, study: Study, number: int, place: RunFolder, found: Outcome, seconds: float) -> None:
        """Tell the study what became of a trial; one that was killed stays open, to go on later."""
        read = reading(place, self.objective.metric, self.objective.better)
        status, error = found.status, found.error
        if status == "finished" and read.best is None:
            status, error = "failed", f"{self.objective.metric} was never a number"
        known = {"best": read.best, "step": read.step, "seconds": round(seconds, 1), "run_id": place.run_id}
        study.note(number, status=status, error=error, log=found.log, **known)
        if status == "finished":
            study.end(number, TrialState.COMPLETE, read.best)
        elif status != "killed":
            study.end(number, TrialState.PRUNED if status == "pruned" else TrialState.FAIL)

    def _ranked(self, study: Study) -> list[Row]:
        return ranked(self._rows(study, {}), self.objective.better)

    def _rows(self, study: Study, members: Mapping[int, Member]) -> list[Row]:
        return [self._row(trial, members.get(trial.number)) for trial in study.trials()]

    def _row(self, trial: FrozenTrial, member: Member | None) -> Row:
        known = dict(facts(trial))
        known.pop("again", None)
        status = known.pop("status", None)
        given = trial.params or trial.system_attrs.get("fixed_params", {})
        values = {key: given[key] for key in self.design.space.axes if key in given}
        if trial.state is not TrialState.RUNNING or status != "killed":
            status = _STATUS[trial.state]
        if trial.state is TrialState.FAIL and "error" not in known:
            known["error"] = "its machine was lost"
        if member is not None:
            known |= {"step": member.reading.step, "best": member.reading.best, "seconds": round(member.seconds, 1)}
        elif status == "running" and trial.intermediate_values:
            known |= {"step": trial.last_step}
        return Row(trial.number, status, values, **known)


def _nobody(rows: list[Row]) -> None:
    """Watch nothing."""
