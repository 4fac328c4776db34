"""MLflowTracker: a run in an MLflow store, told by way of an outbox in the run's folder."""

from __future__ import annotations

import atexit
import logging
import os
import shlex
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqtoolkit.train.tracking import outbox
from seqtoolkit.train.tracking.dispatch import Dispatch
from seqtoolkit.train.tracking.journal import Journal
from seqtoolkit.train.tracking.outbox import State
from seqtoolkit.train.tracking.store import absolute, public
from seqtoolkit.train.tracking.system import SystemMonitor
from seqtoolkit.train.tracking.tracker import Status, Tracker, Value

logger = logging.getLogger(__name__)
_EXPERIMENT = "seqtoolkit"
TRAINING = "workflowType=machine_learning"
"""Without it an address of MLflow's shows an experiment as one of language models, and none of its runs."""


class MLflowTracker(Tracker):
    """Records in the MLflow store at `tracking_uri`, by default the one that MLflow's own settings name.

    That is MLFLOW_TRACKING_URI, or the database mlflow.db in the working directory; no server is needed. Unless it is
    named here, the experiment may be named by MLFLOW_EXPERIMENT_NAME. `system_every` is in seconds.
    """

    def __init__(
        self,
        experiment: str = _EXPERIMENT,
        tracking_uri: str | None = None,
        system_metrics: bool = True,  # noqa: FBT001, FBT002  (a key of the pipeline file)
        system_every: float = 10.0,
    ) -> None:
        if system_every <= 0:
            raise ValueError(f"system_every: wanted seconds above 0, got {system_every}")
        if not experiment.strip():
            raise ValueError("experiment: wanted a name, got an empty one")
        self.experiment, self.tracking_uri = experiment, tracking_uri
        self.system_metrics, self.system_every = system_metrics, system_every
        self.patience = 5.0
        """Seconds that `start` waits for a server."""
        self._folder = Path()
        self._journal: Journal | None = None
        self._dispatch: Dispatch | None = None
        self._monitor: SystemMonitor | None = None
        self._latest: dict[tuple[str, str], Path] = {}
        self._step = 0

    def start(
        self,
        *,
        name: str | None,
        params: Mapping[str, Value],
        tags: Mapping[str, str],
        folder: Path,
        resume: str | None = None,
    ) -> str | None:
        """Begin, or go on with, a run; a folder that has a run goes on with that one.

        Waits for the store `patience` seconds if it is a server, and as long as it takes if it is a file. Returns the
        id of a run that goes on even where the store does not answer. Raises ValueError where the store, the experiment
        or the run cannot be had.
        """
        self._folder = folder.absolute()
        known = State.load(self._folder)
        if resume and known.run not in {None, resume}:
            raise ValueError(f"resume: {folder} belongs to the run {known.run}, not to {resume}")
        resume = resume or known.run
        fresh = not (resume or (self._folder / outbox.JOURNAL).exists())
        try:
            self._journal = Journal(self._folder / outbox.JOURNAL)
            before = self._journal.size
            self._journal.put(self._opening(name, tags, resume, fresh=fresh))
            self._journal.put({"kind": "params", "params": {key: str(value) for key, value in params.items()}})
            self._journal.flush()
            self._dispatch = Dispatch(self._folder, self._address())
        except OSError as error:
            raise ValueError(f"{folder}: a run cannot be recorded here: {error.strerror or error}") from error
        self._dispatch.wait(self.patience)
        if self._dispatch.refusal is not None:
            refusal = self._dispatch.refusal
            self._abandon(before, known)
            raise ValueError(f"track: {refusal}")
        atexit.register(self._journal.close)
        if self.system_metrics:
            self._monitor = SystemMonitor(lambda values: self.log(values, self._step), self.system_every)
        return self._dispatch.run or resume

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Note these values at this step."""
        if self._journal is not None:
            self._step = step
            line = {"kind": "metrics", "step": step, "time": time.time_ns() // 1_000_000, "values": dict(metrics)}
            self._journal.put(line)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Link what is at `path` into the outbox; a newer one of the same name and folder takes its place."""
        if self._journal is None:
            return
        try:
            snapshot = outbox.snapshot(path, self._folder)
        except OSError as error:
            logger.warning("%s cannot be recorded: %s", path, error.strerror or error)
            return
        earlier = self._latest.get((folder, path.name))
        self._latest[folder, path.name] = snapshot
        self._journal.put({"kind": "artifact", "path": str(snapshot.relative_to(self._folder)), "folder": folder})
        if earlier is not None:
            outbox.discard(earlier)

    def end(self, status: Status, error: str | None = None, timeout: float = 30.0) -> None:
        """End the run with this status, and wait for its delivery at most `timeout` seconds."""
        if self._journal is None or self._dispatch is None:
            return
        if self._monitor is not None:
            self._monitor.stop()
        journal, self._journal = self._journal, None
        journal.put({"kind": "end", "status": status, "error": error, "time": time.time_ns() // 1_000_000})
        journal.close()
        atexit.unregister(journal.close)
        self._dispatch.dismiss(timeout)
        left = outbox.backlog(self._folder)
        if left:
            logger.warning("%d items are not delivered yet; they are kept in %s", left, self._folder)

    def where(self) -> str:
        """The run's address, and the command or page that shows it."""
        if self._dispatch is None or self._dispatch.store is None:
            return "MLflow: not started"
        store, run = self._dispatch.store, self._dispatch.run
        if run is None:
            return f"MLflow: {store} does not answer; the run is kept in {self._folder} until it does"
        if store.startswith(("http://", "https://")):
            return f"MLflow: {store.rstrip('/')}/#/experiments/{self._dispatch.experiment}/runs/{run}?{TRAINING}"
        here = Path.cwd()
        folder = self._folder.relative_to(here) if self._folder.is_relative_to(here) else self._folder
        return f"MLflow: run {run}; look at it with: seqtoolkit ui {shlex.quote(str(folder))}"

    def _opening(self, name: str | None, tags: Mapping[str, str], resume: str | None, *, fresh: bool) -> dict[str, Any]:
        """The outbox's first line; the address in it is without a password."""
        uri = None if self.tracking_uri is None else public(absolute(self.tracking_uri))
        line = {"store": uri, "tags": dict(tags), "time": time.time_ns() // 1_000_000}
        if not fresh:
            return {"kind": "resume", "run": resume, **line}
        experiment = self.experiment
        if experiment == _EXPERIMENT:
            experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or experiment
        return {"kind": "run", "experiment": experiment, "name": name, "key": uuid.uuid4().hex, **line}

    def _address(self) -> str | None:
        """The store that was named here or by mlflow.set_tracking_uri, if either was."""
        uri = self.tracking_uri
        if uri is None and "mlflow" in sys.modules:
            uri = sys.modules["mlflow"].get_tracking_uri()
        return None if uri is None else absolute(uri)

    def _abandon(self, before: int, known: State) -> None:
        """Leave the folder as it was, for the run could not begin; `before` is what the outbox had, in bytes."""
        assert self._journal is not None
        assert self._dispatch is not None
        self._journal.close()
        self._dispatch.dismiss(5.0)
        self._journal = self._dispatch = None
        if before:
            os.truncate(self._folder / outbox.JOURNAL, before)
        else:
            outbox.clear(self._folder)
        if known == State():
            (self._folder / outbox.STATE).unlink()
        else:
            known.save(self._folder)
