"""The courier: a process beside the training that carries a run's outbox to its store.

It is a process of its own because a thread that talks to MLflow holds the interpreter for a tenth of a millisecond a
value, and each time makes the training wait. `python -m seqtoolkit.train.tracking.courier FOLDER` follows one run until
its standard input closes; with `--once` it delivers what the folders have, and ends. It reports by JSON lines.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from seqtoolkit.train.tracking import outbox
from seqtoolkit.train.tracking.lock import hold
from seqtoolkit.train.tracking.outbox import Line, State
from seqtoolkit.train.tracking.store import (
    KEY_TAG,
    METRICS_PER_CALL,
    Point,
    Refused,
    Store,
    Unreachable,
    public,
    ready,
    resolve,
)

Say = Callable[..., None]
LAST_TRIES = 3
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


class Courier:
    """Carries the outbox of one run, in order; `say` hears what happens."""

    def __init__(self, folder: Path, say: Say, connect: Callable[[str], Store] = Store) -> None:
        self.folder, self.state = folder, State.load(folder)
        self._say, self._connect = say, connect
        self._store: Store | None = None
        self.failures = 0
        """How many times in a row the store did not answer."""

    def empty(self) -> bool:
        """Deliver all there is; False where the store does not answer. Raises Refused as `advance` does."""
        try:
            while self.advance():
                if self.failures:
                    self._say(event="online")
                self.failures = 0
        except Unreachable as reason:
            self.failures += 1
            self._say(event="offline", text=str(reason))
            return False
        return True

    def advance(self) -> bool:
        """Deliver the next part; False where there is none.

        Raises Unreachable where the store does not answer; then nothing has moved. Raises Refused where it will not
        have the run at all.
        """
        lines = outbox.read(self.folder, self.state.sent)
        if not lines:
            return False
        group = _group(lines)
        kind = group[0].item.get("kind")
        if kind in {"run", "resume"}:
            self._open(group[0].item)
        elif self.state.run is not None:
            self._carry(kind, group)
        self.state.sent = group[-1].end
        self.state.save(self.folder)
        return True

    def finish(self) -> int:
        """Say KILLED for a run that ended without a word, try once more what was postponed; return what is left."""
        if outbox.read(self.folder, self.state.sent):
            return outbox.backlog(self.folder)
        with suppress(Unreachable, Refused):
            if self.state.run is not None and not self.state.ended:
                self._connected().end(self.state.run, "KILLED", None, time.time_ns() // 1_000_000)
                self.state.ended = True
            postponed, self.state.postponed = self.state.postponed, []
            for item in postponed:
                self._artifact(item)
        self.state.save(self.folder)
        if self.state.ended and not self.state.postponed:
            outbox.clear(self.folder)
        return outbox.backlog(self.folder)

    def _connected(self) -> Store:
        if self._store is None:
            self._store = self._connect(_with_password(self.state.store or resolve()))
        return self._store

    def _open(self, item: dict[str, Any]) -> None:
        """Create the run, or go on with it."""
        state = self.state
        state.store = public(resolve(item["store"] or state.store))
        state.save(self.folder)
        self._say(event="store", store=state.store)
        store = self._connected()
        if item["kind"] == "resume":
            state.run = item.get("run") or state.run
        if state.run is not None:
            state.experiment = store.reopen(state.run, item["tags"])
        else:
            state.experiment = store.experiment(item["experiment"])
            state.run = store.find(state.experiment, item["key"]) if state.creating else None
            state.creating = True
            state.save(self.folder)
            tags = {**item["tags"], KEY_TAG: item["key"]}
            state.run = state.run or store.create(state.experiment, item["name"], item["time"], tags)
        state.creating, state.ended = False, False
        self._say(event="run", run=state.run, experiment=state.experiment, store=state.store)

    def _carry(self, kind: str | None, group: list[Line]) -> None:
        """Deliver lines of one kind; what the store refuses is set aside with its reason."""
        item = group[0].item
        try:
            if kind == "metrics":
                self._connected().metrics(self._run, _points(group))
            elif kind == "params":
                self._connected().params(self._run, item["params"])
            elif kind == "artifact":
                self._artifact(item)
            elif kind == "end":
                self._connected().end(self._run, item["status"], item["error"], item["time"])
                self.state.ended = True
        except Refused as reason:
            if len(group) > 1:
                for line in group:
                    self._carry(kind, [line])
            else:
                self._reject(item, str(reason))

    @property
    def _run(self) -> str:
        assert self.state.run is not None
        return self.state.run

    def _artifact(self, item: dict[str, Any]) -> None:
        path = self.folder / item["path"]
        if not path.exists():
            return  # a newer one has taken its place
        store = self._connected()
        try:
            store.artifact(self._run, path, item["folder"])
        except (Refused, Unreachable) as reason:
            if not store.answers():
                raise Unreachable(str(reason)) from reason
            self.state.postponed.append(item)
            self._say(event="warning", text=f"{path.name} cannot be stored now ({reason}); it is kept")
            return
        outbox.discard(path)

    def _reject(self, item: dict[str, Any], reason: str) -> None:
        with (self.folder / outbox.REJECTED).open("a") as file:
            file.write(json.dumps({"reason": reason, **item}) + "\n")
        self._say(event="warning", text=f"refused for good, kept in {self.folder / outbox.REJECTED}: {reason}")


def follow(folder: Path, closed: threading.Event, say: Say) -> int:
    """Carry what the run in `folder` has to tell until `closed` is set; return how much is left."""
    while (lock := hold(folder / outbox.LOCK, wait=1.0)) is None:  # the courier of a process that this one goes on for
        if closed.is_set():
            return outbox.backlog(folder)
    courier, siblings = Courier(folder, say), leftovers(folder, say)
    with lock:
        try:
            while not closed.is_set():
                if not courier.empty():
                    closed.wait(min(30.0, 0.5 * 2**courier.failures))
                elif next(siblings, None) is None:
                    closed.wait(1.0)
            for _ in range(LAST_TRIES):
                if courier.empty():
                    return _finish(courier)
                time.sleep(0.5)
        except Refused as reason:
            say(event="mistake", text=str(reason))
    return outbox.backlog(folder)


def _finish(courier: Courier) -> int:
    """Finish for a run whose process has ended, unless another one goes on with it already."""
    writer = hold(courier.folder / outbox.JOURNAL)
    if writer is None:
        return outbox.backlog(courier.folder)
    with writer:
        return courier.finish()


def leftovers(folder: Path, say: Say) -> Iterator[bool]:
    """Deliver, a part at a time, what earlier runs beside this one have left."""
    for sibling in outbox.find(folder.parent):
        if sibling != folder:
            yield from _settle(sibling, say)


def settle(folder: Path, say: Say) -> int:
    """Deliver the outbox of a run that no process works on any more; return how much is left."""
    for _ in _settle(folder, say):
        pass
    return outbox.backlog(folder)


def _settle(folder: Path, say: Say) -> Iterator[bool]:
    with suppress(OSError):
        courier_lock = hold(folder / outbox.LOCK)
        writer_lock = hold(folder / outbox.JOURNAL)
        try:
            if courier_lock is None or writer_lock is None:
                say(event="warning", text=f"{folder}: a process is still at work on it")
                return
            courier = Courier(folder, _only_warnings(say))
            while courier.advance():
                yield True
            courier.finish()
        except (Refused, Unreachable) as reason:
            say(event="warning", text=f"{folder}: {reason}")
        finally:
            for lock in (courier_lock, writer_lock):
                if lock is not None:
                    lock.release()


def _only_warnings(say: Say) -> Say:
    def filtered(**event: object) -> None:
        if event["event"] == "warning":
            say(**event)

    return filtered


def _group(lines: list[Line]) -> list[Line]:
    """The first line, and the lines after it that can go in the same call: metrics, as many as one call takes."""
    group, count = lines[:1], 0
    for line in lines[1:] if lines[0].item.get("kind") == "metrics" else []:
        count += len(group[-1].item["values"])
        if line.item.get("kind") != "metrics" or count + len(line.item["values"]) > METRICS_PER_CALL:
            break
        group.append(line)
    return group


def _points(group: list[Line]) -> list[Point]:
    return [
        Point(key, value, line.item["time"], line.item["step"])
        for line in group
        for key, value in line.item["values"].items()
    ]


def _with_password(uri: str) -> str:
    """The address in MLFLOW_TRACKING_URI where it is the same but for a name and password: those are never stored."""
    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    return given if public(given) == uri else uri


def main(arguments: list[str] | None = None) -> int:
    """Follow one run, or deliver what some have left."""
    parser = argparse.ArgumentParser(prog="courier")
    parser.add_argument("folder", type=Path, nargs="+")
    parser.add_argument("--once", action="store_true")
    given = parser.parse_args(arguments)
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    say = _reporter()
    if given.once:
        for folder in given.folder:
            settle(folder, say)
        return 0
    with suppress(Refused):
        ready()  # takes seconds, which should not count as the store's
    closed = threading.Event()
    threading.Thread(target=_watch, args=(closed,), daemon=True).start()
    say(event="left", count=follow(given.folder[0], closed, say))
    return 0


def _watch(closed: threading.Event) -> None:
    sys.stdin.readline()  # a word, or the end of the process that might have said it
    closed.set()


def _reporter() -> Say:
    """Reports go to the standard output as it was; from here on, what others print (MLflow does) goes to the log."""
    reports = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(**event: object) -> None:
        with suppress(OSError):  # whoever listened may be dead
            reports.write(json.dumps(event) + "\n")

    return say


if __name__ == "__main__":
    sys.exit(main())
