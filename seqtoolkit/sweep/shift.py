"""Shift: the work of one process on a sweep: which trial is begun next, and what is made of those that end."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from seqtoolkit.folder import RunFolder
from seqtoolkit.host.problem import ConfigError
from seqtoolkit.sweep.crew import Crew, Outcome, claim, outcome, reading
from seqtoolkit.sweep.design import Design, Objective
from seqtoolkit.sweep.ledger import rows
from seqtoolkit.sweep.parent import Parent
from seqtoolkit.sweep.row import Row
from seqtoolkit.sweep.study import Study, facts
from seqtoolkit.sweep.trial import Order
from seqtoolkit.train.stop import Stop
from seqtoolkit.train.tracking.lock import Lock

Watch = Callable[[list[Row]], None]
_PAUSE = 0.2


class Shift:
    """The work of one process on a sweep.

    Args:
        design: What the sweep tries.
        objective: By what trials are judged.
        study: Which trials there are.
        crew: Who runs them.
        parent: Where the sweep is recorded.
        runs: Where runs are kept.
        shared: Whether other processes are at work on the same study.
        records: Whether this one, of all on this machine, records the sweep.
    """

    def __init__(
        self,
        design: Design,
        objective: Objective,
        study: Study,
        crew: Crew,
        parent: Parent,
        runs: Path,
        *,
        shared: bool,
        records: bool,
    ) -> None:
        self.design, self.objective, self.study, self.crew, self.parent = design, objective, study, crew, parent
        self.runs, self.shared, self.records = runs, shared, records
        self.idle = True
        """Whether there has been nothing to do."""
        self._tried: set[int] = set()

    def work(self, stop: Stop, watch: Watch | None) -> None:
        """Keep the crew at work until nothing is left for this machine, or until asked to stop."""
        told = False
        while True:
            for member, found in self.crew.collect():
                self._settle(member.order.number, member.place, found, member.seconds)
            self.study.relieve(self._ours())
            more = True
            while more and not stop.asked and len(self.crew.members) < self.crew.jobs:
                more = self._next()
            if stop.asked and not told:
                self.crew.interrupt()
                told = True
            now = rows(self.study, self.crew.members)
            self.parent.tell(now)
            if watch is not None:
                watch(now)
            if not self.crew.members and (stop.asked or not (more or self._orphaned())):
                return
            time.sleep(_PAUSE)

    def _next(self) -> bool:
        """Begin, or go on with, a trial; False where there is none for this machine now."""
        for trial in self._left_behind():
            run = facts(trial).get("run")
            if run is None or not Path(run).is_dir():  # its sweep died as it began, or somebody has removed the run
                self._begin(trial.number)
                return True
            place = RunFolder(Path(run))
            lock = claim(place)
            if lock is None:
                continue  # its process is still at work
            if self.study.runs(trial.number):
                self._go_on(trial, place, lock)
                return True
            lock.release()
        number = self.study.claim()
        if number is not None:
            self._begin(number)
        return number is not None

    def _left_behind(self) -> list[FrozenTrial]:
        """Trials under way, as the storage has it, that this process may go on with."""
        running = [each for each in self.study.trials(TrialState.RUNNING) if each.number not in self._tried]
        if not self.shared:
            return running
        here = [each for each in running if facts(each).get("machine") == platform.node()]
        return [each for each in here if Path(facts(each)["run"]).is_dir()]

    def _ours(self) -> Iterator[int]:
        """Trials that this machine sees to, now or as soon as a place is free: no other one has to run them anew."""
        yield from self.crew.members
        yield from (trial.number for trial in self._left_behind())

    def _orphaned(self) -> bool:
        """Whether processes of a sweep that was killed are still at work on trials of this one."""
        return not self.shared and bool(self._left_behind())

    def _begin(self, number: int) -> None:
        """Begin a trial that nobody else has; one whose values do not fit fails at once."""
        self._tried.add(number)
        self._record()
        params = self.study.suggest(number)
        try:
            pipeline, matched = self.design.pipeline(params), self.design.matched(params)
            graph = pipeline.check()
            self.design.judge(pipeline.plan, graph, self.objective)
        except ConfigError as error:
            self.study.note(number, status="failed", error="; ".join(error.problems))
            self.study.end(number, TrialState.FAIL)
            return
        place = RunFolder.create(self.runs, pipeline.plan.name, pipeline.plan.resolved)
        lock = claim(place)
        assert lock is not None
        order = self._order(number)
        place.note(status="RUNNING", tags=dict(order.tags), changes=list(pipeline.config.changes))
        steps = pipeline.plan.sections["run"].steps
        known = {"machine": platform.node(), "steps": steps, "parameters": graph.parameters, "matched": matched}
        self.study.note(number, status="running", run=str(place.path), **known)
        self.crew.start(order, place, lock)

    def _go_on(self, trial: FrozenTrial, place: RunFolder, lock: Lock) -> None:
        """Go on with a trial from its last checkpoint, or only say what became of it, where it has ended."""
        self._tried.add(trial.number)
        seconds = facts(trial).get("seconds", 0.0)
        found = outcome(place)
        if found.status != "killed":
            with lock:
                self._settle(trial.number, place, found, seconds)
            return
        self._record()
        self.study.note(trial.number, status="running")
        self.study.beat([trial.number])
        place.resuming(())
        place.note(status="RUNNING")
        self.crew.start(self._order(trial.number), place, lock, seconds)

    def _order(self, number: int) -> Order:
        metric, better, _ = self.objective
        tags = self.parent.tags(number, self.study.parent)
        return Order(self.study.name, self.study.where, number, metric, better, self.design.settings.prune, tags)

    def _record(self) -> None:
        """Begin the sweep's own run before the first trial, and tell other machines of it."""
        if self.idle and self.records:
            self.parent.begin(self.design, self.objective.metric, self.study.parent)
        self.idle = False
        if self.study.parent is None and self.parent.run is not None:
            self.study.parent = self.parent.run

    def _settle(self, number: int, place: RunFolder, found: Outcome, seconds: float) -> None:
        """Tell the study what became of a trial; one that was killed stays open, to go on later."""
        read = reading(place, self.objective.metric, self.objective.better)
        status, error = found.status, found.error
        if status == "finished" and read.best is None:
            status, error = "failed", f"{self.objective.metric} was never a number"
        known = {"best": read.best, "step": read.step, "seconds": round(seconds, 1), "run_id": place.run_id}
        self.study.note(number, status=status, error=error, log=found.log, **known)
        if status == "finished":
            self.study.end(number, TrialState.COMPLETE, read.best)
        elif status != "killed":
            self.study.end(number, TrialState.PRUNED if status == "pruned" else TrialState.FAIL)
