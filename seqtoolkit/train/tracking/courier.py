"""Courier: carries a run's outbox to its store, each line once however often it is interrupted."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from seqtoolkit.train.tracking import outbox
from seqtoolkit.train.tracking.outbox import Line, State
from seqtoolkit.train.tracking.store import (
    KEY_TAG,
    METRICS_PER_CALL,
    Point,
    Refused,
    Store,
    Unreachable,
    public,
    resolve,
)

Say = Callable[..., None]


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
            for _ in range(len(self.state.postponed)):
                self._artifact(self.state.postponed[0])
                del self.state.postponed[0]
        self.state.save(self.folder)
        if self.state.ended and not self.state.postponed:
            outbox.clear(self.folder)
        return outbox.backlog(self.folder)

    def _connected(self) -> Store:
        if self._store is None:
            self._store = self._connect(with_password(self.state.store or resolve()))
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


def with_password(uri: str) -> str:
    """The address in MLFLOW_TRACKING_URI where it is the same but for a name and password: those are never stored."""
    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    return given if public(given) == uri else uri
