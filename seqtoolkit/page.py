"""Page: MLflow's pages of the store in use: its server started with light settings, or found, and the page's address."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import webbrowser
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple, Self
from urllib.parse import quote

from seqtoolkit.folder import CONFIG, RunError, RunFolder
from seqtoolkit.train.tracking.courier import with_password
from seqtoolkit.train.tracking.layout import RUNS, layout
from seqtoolkit.train.tracking.library import Library, LibraryError
from seqtoolkit.train.tracking.mlflow import TRAINING
from seqtoolkit.train.tracking.outbox import STATE, State
from seqtoolkit.train.tracking.store import Refused, Store, Unreachable, database, public

USUAL = 5000
"""The port that MLflow's pages are usually at."""
LIGHT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
_WEB = ("http://", "https://")
_RECENT = 200


class Goal(NamedTuple):
    """What is to be seen: a run of an experiment, an experiment, or (both None) all experiments of a store."""

    store: str
    experiment: str | None = None
    run: str | None = None


def find(what: str | None = None, store: str | None = None, folder: Path = Path("runs")) -> Goal:
    """What is meant: a run's folder, or an experiment or a run of a store; by default the experiment of the latest run.

    Args:
        what: An experiment's name or id; a run's id, folder, or the beginning of one of these.
        store: The address of the store; by default that of the run, or else what MLflow's own settings name.
        folder: Where runs are kept.

    Raises:
        ValueError: There is no such store, experiment or run; one line.
    """
    if what is None:
        library = Library(store)
        runs = library.runs(latest=1)
        return Goal(library.uri, runs[0].experiment_id if runs else None)
    if store is None and any((Path(what) / name).is_file() for name in (CONFIG, STATE)):
        return _of_folder(Path(what))
    try:
        library = Library(store)
        return Goal(library.uri, library.experiment(what))
    except LibraryError as error:
        found = _of_run(what, store, folder)
        if found is None:
            raise error from None
        return found


def arrange(goal: Goal) -> bool:
    """Have the experiment's page open with columns and charts that compare its runs; whether the store took that."""
    if goal.experiment is None:
        return False
    try:
        library = Library(goal.store)
        runs = library.runs(goal.experiment, latest=_RECENT)
        Store(goal.store).label(goal.experiment, layout(runs, time.time_ns() // 1_000_000))
    except (LibraryError, Refused, Unreachable):
        return False
    return True


def address(base: str, goal: Goal, *, arranged: bool = False) -> str:
    """The address of the goal's page at the server `base`."""
    root = f"{public(base).rstrip('/')}/#/experiments"
    if goal.experiment is None:
        return f"{root}?{TRAINING}"
    if goal.run is not None:
        return f"{root}/{quote(goal.experiment)}/runs/{quote(goal.run)}?{TRAINING}"
    view = f"&viewStateShareKey={RUNS}" if arranged else ""
    return f"{root}/{quote(goal.experiment)}/runs?{TRAINING}{view}"


class Server:
    """MLflow's server of a store, in processes of its own that end with the `with` block, however that ends.

    Args:
        store: The address of the store, a database.
        host: Where it listens.
        port: By default 5000, or a free one where that is taken.

    Raises:
        ValueError: MLflow's server is not installed, the store has none, or the port is taken.
    """

    def __init__(self, store: str, host: str = "127.0.0.1", port: int | None = None) -> None:
        _demand(store)
        self.store, self.host, self.port = store, host, _port(host, port)
        shown = "127.0.0.1" if host in {"0.0.0.0", ""} else f"[{host}]" if ":" in host else host  # noqa: S104  compared
        self.base = f"http://{shown}:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  it goes with the server
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        """Start it; `ready` waits for it."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                self._before[number] = signal.signal(number, _leave)
        command = [sys.executable, "-m", "mlflow", "server", "--host", self.host, "--port", str(self.port)]
        file = database(self.store)
        self._process = subprocess.Popen(  # noqa: S603  (MLflow's own command, no shell)
            [*command, "--workers", "1", "--no-serve-artifacts"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=None if file is None else file.parent,
            env={**os.environ, **LIGHT, "MLFLOW_BACKEND_STORE_URI": self.store},  # not where `ps` shows a password
            start_new_session=True,  # a Ctrl-C is for us to pass on, and all that it starts is one group
        )
        return self

    def __exit__(self, *error: object) -> None:
        """End it and all that it started."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal gave
        assert self._process is not None
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
                self._process.wait(5)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        self._process.wait()
        self._log.close()

    def ready(self, patience: float = 120.0) -> None:
        """Wait until it answers. Raises ValueError where it ends, or does not answer in `patience` seconds."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            self._alive()
            try:
                with urllib.request.urlopen(f"{self.base}/health", timeout=5) as answer:  # noqa: S310  our own http
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.1)
        raise ValueError(f"MLflow's server does not answer at {self.base} after {patience:.0f} s: {self._last()}")

    def wait(self) -> None:
        """Wait until it ends, or Ctrl-C. Raises ValueError where it ends by itself."""
        while True:
            self._alive()
            time.sleep(0.5)

    def _alive(self) -> None:
        assert self._process is not None
        if self._process.poll() is not None:
            raise ValueError(f"MLflow's server has ended (exit code {self._process.returncode}): {self._last()}")

    def _last(self) -> str:
        """The last line that it wrote."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def browse(page: str) -> bool:
    """Open a page in the browser, where there is a display; whether that was tried."""
    if sys.platform.startswith("linux") and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        return False
    return webbrowser.open(page)


def remote(store: str) -> bool:
    """Whether a store is a server, which has its pages itself."""
    return store.startswith(_WEB)


def _leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  what signal.signal calls
    raise SystemExit(128 + number)


def _demand(store: str) -> None:
    if remote(store) or "://" not in store:
        raise ValueError(f"{public(store)} is no database that MLflow's server could show")
    try:
        importlib.metadata.version("mlflow")
    except importlib.metadata.PackageNotFoundError:
        raise ValueError("MLflow's pages are not in mlflow-skinny: pip install mlflow") from None


def _port(host: str, port: int | None) -> int:
    """The port that is asked for, else the usual one, else a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    reason: OSError | None = None
    for number in (USUAL, 0) if port is None else (port,):
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((host, number))
            except (OSError, OverflowError) as error:
                reason = error if isinstance(error, OSError) else OSError(0, "wanted a port from 1 to 65535")
            else:
                return int(trial.getsockname()[1])
    assert reason is not None
    raise ValueError(f"cannot listen at {host}:{port or USUAL}: {reason.strerror or reason}; name another by --port")


def _of_folder(place: Path) -> Goal:
    state = State.load(place)
    if state.store is None or state.run is None:
        raise ValueError(f"the run in {place} is in no tracking store; `seqtoolkit deliver` hands over what waits")
    return Goal(with_password(state.store), state.experiment, state.run)


def _of_run(what: str, store: str | None, folder: Path) -> Goal | None:
    """The goal of a run of this name, id or beginning, in `folder` or in the store."""
    with suppress(RunError):
        place = RunFolder.find(what, folder).path
        if store is None:
            return _of_folder(place)
        what = State.load(place).run or what
    with suppress(LibraryError):
        library = Library(store)
        run = library.run(what)
        return Goal(library.uri, run.experiment_id, run.run_id)
    return None
