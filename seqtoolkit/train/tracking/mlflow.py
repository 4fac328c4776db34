"""MLflowTracker: a run in an MLflow store, told by way of an outbox in the run's folder and a courier process."""

from __future__ import annotations

import atexit
import importlib.metadata
import json
import logging
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqtoolkit.train.tracking import outbox
from seqtoolkit.train.tracking.journal import Journal
from seqtoolkit.train.tracking.outbox import State
from seqtoolkit.train.tracking.store import absolute, public
from seqtoolkit.train.tracking.system import SystemMonitor
from seqtoolkit.train.tracking.tracker import Status, Tracker, Value

logger = logging.getLogger(__name__)
_COURIER = (sys.executable, "-m", "seqtoolkit.train.tracking.courier")
_DEFAULT_EXPERIMENT = "seqtoolkit"


class MLflowTracker(Tracker):
    """Records in the MLflow store at `tracking_uri`, by default the one that MLflow's own settings name.

    That is MLFLOW_TRACKING_URI, or the database mlflow.db in the working directory; no server is needed. Unless it is
    named here, the experiment may be named by MLFLOW_EXPERIMENT_NAME. `system_every` is in seconds.
    """

    def __init__(
        self,
        experiment: str = _DEFAULT_EXPERIMENT,
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
        self._process: subprocess.Popen[str] | None = None
        self._known = State()
        self._answered = threading.Event()
        self._refusal: str | None = None
        self._offline = False
        self._left: int | None = None
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

        Waits for the store `patience` seconds if it is a server, and as long as it takes if it is a file. Raises
        ValueError where the store, the experiment or the run cannot be had.
        """
        self._folder = folder.absolute()
        self._known = State.load(self._folder)
        if resume and self._known.run not in {None, resume}:
            raise ValueError(f"resume: {folder} belongs to the run {self._known.run}, not to {resume}")
        fresh = not (resume or self._known.run or (self._folder / outbox.JOURNAL).exists())
        try:
            self._journal = Journal(self._folder / outbox.JOURNAL)
            self._journal.put(self._opening(name, tags, resume, fresh=fresh))
            self._journal.put({"kind": "params", "params": {key: str(value) for key, value in params.items()}})
            self._journal.flush()
            self._dispatch()
        except OSError as error:
            raise ValueError(f"{folder}: a run cannot be recorded here: {error.strerror or error}") from error
        self._wait()
        if self._refusal is not None:
            self._abandon(fresh=fresh)
            raise ValueError(f"track: {self._refusal}")
        atexit.register(self._journal.close)
        if self.system_metrics:
            self._monitor = SystemMonitor(lambda values: self.log(values, self._step), self.system_every)
        return self._known.run

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
        line = {"kind": "artifact", "path": str(snapshot.relative_to(self._folder)), "folder": folder}
        self._journal.put(line)
        if earlier is not None:
            outbox.discard(earlier)

    def end(self, status: Status, error: str | None = None, timeout: float = 30.0) -> None:
        """End the run with this status, and wait for the courier at most `timeout` seconds."""
        if self._journal is None or self._process is None:
            return
        if self._monitor is not None:
            self._monitor.stop()
        now = time.time_ns() // 1_000_000
        self._journal.put({"kind": "end", "status": status, "error": error, "time": now})
        self._journal.close()
        atexit.unregister(self._journal.close)
        self._journal = None
        self._dismiss(timeout)
        left = outbox.backlog(self._folder)
        if left:
            logger.warning("%d items are not delivered yet; they are kept in %s", left, self._folder)

    def where(self) -> str:
        """The run's address, and the command or page that shows it."""
        store, run = self._known.store, self._known.run
        if store is None:
            return "MLflow: not started"
        if run is None:
            return f"MLflow: {store} does not answer; the run is kept in {self._folder} until it does"
        if store.startswith(("http://", "https://")):
            return f"MLflow: {store.rstrip('/')}/#/experiments/{self._known.experiment}/runs/{run}"
        return f"MLflow: run {run}; look at it with: {_install()}mlflow ui --backend-store-uri {store}"

    def _opening(self, name: str | None, tags: Mapping[str, str], resume: str | None, *, fresh: bool) -> dict[str, Any]:
        uri = None if self.tracking_uri is None else public(absolute(self.tracking_uri))
        line = {"store": uri, "tags": dict(tags), "time": time.time_ns() // 1_000_000}
        if not fresh:
            return {"kind": "resume", "run": resume or self._known.run, **line}
        experiment = self.experiment
        if experiment == _DEFAULT_EXPERIMENT:
            experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or experiment
        return {"kind": "run", "experiment": experiment, "name": name, "key": uuid.uuid4().hex, **line}

    def _dispatch(self) -> None:
        """Start the courier, in a session of its own: a Ctrl-C is not meant for it."""
        uri = self.tracking_uri
        if uri is None and "mlflow" in sys.modules:
            uri = sys.modules["mlflow"].get_tracking_uri()  # may have been set by mlflow.set_tracking_uri
        with (self._folder / outbox.LOG).open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  (our own module, no shell)
                [*_COURIER, str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                env=os.environ | ({} if uri is None else {"MLFLOW_TRACKING_URI": absolute(uri)}),
            )
        threading.Thread(target=self._listen, name="courier's reports", daemon=True).start()

    def _wait(self) -> None:
        """Wait until the store has answered, or a server has not for too long."""
        while not self._answered.wait(0.05):
            store = self._known.store
            if store is not None and not store.startswith("sqlite:"):
                self._answered.wait(self.patience)
                break
        if self._known.run is None and self._refusal is None and not self._offline:
            self._report_offline("no answer")

    def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._hear(json.loads(line))
        if self._left is None and self._refusal is None:
            logger.warning("the courier of %s has died (see %s); all is kept there", self._folder, outbox.LOG)
        self._answered.set()

    def _hear(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "store":
            self._known.store = event["store"]
        elif kind == "run":
            self._known.run, self._known.experiment = event["run"], event["experiment"]
            self._offline = False
            self._answered.set()
        elif kind == "mistake":
            self._refusal = event["text"]
            if self._answered.is_set():
                logger.warning("%s; all is kept in %s", self._refusal, self._folder)
            self._answered.set()
        elif kind == "offline" and not self._offline:
            self._report_offline(event["text"])
            self._answered.set()
        elif kind == "online" and self._offline:
            self._offline = False
            logger.warning("the tracking store answers again")
        elif kind == "warning":
            logger.warning("%s", event["text"])
        elif kind == "left":
            self._left = event["count"]

    def _report_offline(self, reason: str) -> None:
        self._offline = True
        logger.warning("the tracking store does not answer (%s); all is kept in %s meanwhile", reason, self._folder)

    def _dismiss(self, timeout: float) -> None:
        """Let the courier finish, in at most `timeout` seconds."""
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("end\n")
            self._process.stdin.close()
        except OSError:
            pass  # it has died, and that has been said
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._left = self._left or 0
            self._process.kill()
            self._process.wait()

    def _abandon(self, *, fresh: bool) -> None:
        """Leave no trace of a run that could not begin."""
        assert self._journal is not None
        self._journal.close()
        self._journal = None
        self._dismiss(5.0)
        if fresh:
            outbox.clear(self._folder)
            (self._folder / outbox.STATE).unlink()


def deliver(folder: Path) -> int:
    """Deliver what runs that have ended could not; return how many items are still undelivered.

    `folder` is a run's folder, or one of many runs' folders. What a living process still works on is left to it.
    """
    waiting = outbox.find(folder)
    if waiting:
        command = [*_COURIER, "--once", *map(str, waiting)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (our own module)
        for line in done.stdout.splitlines():
            logger.warning("%s", json.loads(line)["text"])
        if done.returncode:
            logger.warning("the outbox cannot be delivered: %s", done.stderr.strip().splitlines()[-1:])
    return sum(map(outbox.backlog, waiting))


def _install() -> str:
    """What it takes to have MLflow's pages."""
    try:
        importlib.metadata.version("mlflow")
    except importlib.metadata.PackageNotFoundError:
        return "pip install 'seqtoolkit[ui]' && "
    return ""
