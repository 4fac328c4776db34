"""Parent: the run of a whole sweep in the tracking store, under which those of its trials are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from seqtoolkit.host.plan import Plan
from seqtoolkit.sweep.design import Design
from seqtoolkit.sweep.row import ENDED, Better, Row, best_of, counts
from seqtoolkit.train.tracking import NullTracker, Status, Tracker
from seqtoolkit.train.tracking.outbox import State

KIND, SWEEP, TRIAL, PARENT = "seqtoolkit.kind", "seqtoolkit.sweep", "seqtoolkit.trial", "mlflow.parentRunId"
TABLE = "trials.json"


class Parent:
    """Records a sweep with the tracker of its pipeline.

    Args:
        plan: A pipeline of the sweep; its tracker is taken.
        name: The sweep's.
        folder: The sweep's.
        better: Which values of the metric are.
    """

    def __init__(self, plan: Plan, name: str, folder: Path, better: Better) -> None:
        self.name, self.folder, self.better = name, folder, better
        self._pipeline = plan.name
        self._tracker: Tracker = plan.track.maker()()
        self._begun = False
        self._told: Mapping[str, float] = {}

    def begin(self, design: Design, metric: str, resume: str | None) -> None:
        """Start recording, or go on with the run `resume`. Raises ValueError where the store will not have it."""
        params = {f"sweep.space.{key}": text for key, text in design.space.written().items()}
        params |= {f"sweep.{name}": str(getattr(design.settings, name)) for name in ("search", "prune", "seed")}
        if design.match is not None:
            params["sweep.match_parameters"] = design.match.reference
        params |= {"sweep.metric": metric, "sweep.trials": str(len(design.wanted()))}
        tags = {KIND: "sweep", SWEEP: self.name, "seqtoolkit.pipeline": self._pipeline}
        self._tracker.start(name=self.name, params=params, tags=tags, folder=self.folder, resume=resume)
        self._begun = True

    @property
    def run(self) -> str | None:
        """The store's name of the run, once the store has answered."""
        return State.load(self.folder).run if self._begun else None

    def tags(self, number: int, known: str | None) -> dict[str, str]:
        """The tags of a trial's run, under this one's or the one that is `known`."""
        parent = known or self.run
        return {SWEEP: self.name, TRIAL: str(number)} | ({PARENT: parent} if parent else {})

    def tell(self, rows: Iterable[Row]) -> None:
        """Record how many trials there are of each status, and the best value, where these have changed."""
        rows = list(rows)
        found = counts(rows)
        values = {f"sweep/{status}": float(found.get(status, 0)) for status in (*ENDED, "waiting")}
        best = best_of((row.best for row in rows if row.status == "finished" and row.best is not None), self.better)
        values |= {} if best is None else {"sweep/best": best}
        if self._begun and values != self._told:
            self._tracker.log(values, sum(found.get(status, 0) for status in ENDED))
            self._told = values

    def end(self, rows: Iterable[Row], status: Status) -> None:
        """Record the table of the trials, and the end."""
        if not self._begun:
            return
        rows = list(rows)
        self.tell(rows)
        draft = self.folder / f".{TABLE}"
        draft.write_text(json.dumps([row.record() for row in rows], indent=1) + "\n")
        draft.replace(self.folder / TABLE)
        self._tracker.artifact(self.folder / TABLE)
        self._tracker.end(status)

    def where(self) -> str:
        """One line for the user: where the sweep is recorded; none where it is not."""
        return self._tracker.where() if self._begun and not isinstance(self._tracker, NullTracker) else ""
