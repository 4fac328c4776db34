"""Crew: the processes of the trials that are under way on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from seqtoolkit.folder import METRICS, RunFolder, row_of
from seqtoolkit.sweep.row import Better, Status, best_of
from seqtoolkit.sweep.trial import PRUNED, Order
from seqtoolkit.train.tracking.lock import Lock, hold

COMMAND = (sys.executable, "-m", "seqtoolkit.sweep.trial")
OUTPUT = "output.log"
"""What a trial prints, in its run's folder."""
_LOCK = ".trial.lock"
_LAST = 12


@dataclass
class Reading:
    """The step and the best value of a run, read as they are written."""

    path: Path
    metric: str
    better: Better
    step: int = 0
    best: float | None = None
    _offset: int = 0

    def read(self) -> None:
        """Take in what is new."""
        try:
            with self.path.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self._offset:
                    self._offset = 0  # a resumed run writes it anew
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return
        data = data[: data.rfind(b"\n") + 1]
        self._offset += len(data)
        for line in data.splitlines():
            row = row_of(line)
            if row is None:  # the end of a line, where a resumed run has come further meanwhile
                continue
            self.step = int(row["step"])
            values = [row[self.metric]] if self.metric in row else []
            self.best = best_of([*values, *([] if self.best is None else [self.best])], self.better)


@dataclass(frozen=True)
class Outcome:
    """How a trial's process has ended."""

    status: Status
    error: str | None = None
    log: str | None = None


@dataclass
class Member:
    """One trial under way."""

    order: Order
    place: RunFolder
    lock: Lock
    process: subprocess.Popen[bytes]
    earlier: float
    """Seconds that processes of the trial took before this one."""
    reading: Reading
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """That the trial has taken so far."""
        return self.earlier + time.monotonic() - self.began


class Crew:
    """The trials under way, by number; `jobs` at a time share the machine's cores."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.members: dict[int, Member] = {}
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._environment = {"OMP_NUM_THREADS": str(max(1, cores // jobs)), **os.environ}

    def start(self, order: Order, place: RunFolder, lock: Lock, earlier: float = 0.0) -> Member:
        """Begin, or go on with, a trial whose run is in `place`, which is held by `lock`."""
        with (place.path / OUTPUT).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603  our own module, no shell
                [*COMMAND, str(place.path)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C is handed on, once
                pass_fds=[lock.descriptor],  # held until the last of the two processes is gone
                env=self._environment,
            )
        member = Member(order, place, lock, process, earlier, reading(place, order.metric, order.better))
        self.members[order.number] = member
        assert process.stdin is not None
        with suppress(OSError):  # it has died, which is seen soon
            process.stdin.write(order.line())
            process.stdin.flush()
        return member

    def collect(self) -> Iterator[tuple[Member, Outcome]]:
        """Those whose processes have ended; each is a member no more, and still held while it is looked at."""
        for number, member in list(self.members.items()):
            code = member.process.poll()
            member.reading.read()
            if code is not None:
                with member.lock:
                    yield member, self._dismiss(number, code)

    def interrupt(self) -> None:
        """Have all of them save and end."""
        for member in self.members.values():
            member.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End all of them at once."""
        for number, member in list(self.members.items()):
            member.process.kill()
            with member.lock:
                self._dismiss(number, member.process.wait())

    def _dismiss(self, number: int, code: int) -> Outcome:
        member = self.members.pop(number)
        assert member.process.stdin is not None
        with suppress(OSError):  # what it did not read
            member.process.stdin.close()
        found = outcome(member.place, code)
        if found.status in ("failed", "killed"):
            member.place.note(status={"failed": "FAILED", "killed": "KILLED"}[found.status])
        return found


def reading(place: RunFolder, metric: str, better: Better) -> Reading:
    """A reading of the run in a folder, from its beginning."""
    found = Reading(place.path / METRICS, metric, better)
    found.read()
    return found


def claim(place: RunFolder) -> Lock | None:
    """The lock on a trial's run; None while a process is at work on it, be its sweep alive or not."""
    return hold(place.path / _LOCK)


def outcome(place: RunFolder, code: int | None = None) -> Outcome:
    """What became of a trial, by what its run's folder knows and its process's exit code, where there was one."""
    notes = place.notes
    status, stopped = notes.get("status"), str(notes.get("stopped", ""))
    if status == "FINISHED":
        return Outcome("finished", notes.get("stopped"))
    if status == "KILLED" and stopped.startswith(PRUNED):
        return Outcome("pruned", stopped)
    if code is not None and code < 0:
        return Outcome("killed", f"killed by {_signal(-code)}")
    if code is None or code in (130, 143):
        return Outcome("killed", "interrupted")
    lines = _last_lines(place.path / OUTPUT)
    error = notes.get("error") if status == "FAILED" else None
    return Outcome("failed", error or (lines[-1] if lines else f"exit code {code}"), "\n".join(lines))


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_lines(path: Path) -> list[str]:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-_LAST:]
