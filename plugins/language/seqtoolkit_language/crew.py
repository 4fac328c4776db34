"""Crew: processes that share the tasks of a job, and end with the process that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from types import TracebackType
from typing import Any, Protocol, Self

from seqtoolkit_language.shelf import CacheError

MOST = 8
"""Processes at most, so that their memory together stays within bounds."""
_TICK = 0.5
_ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")


class Job(Protocol):
    """What each process of a crew does; plain data, for it is pickled."""

    def work(self, number: int, task: Any) -> Iterator[Step]:
        """Do a task; each step says how far it has come."""

    def rest(self) -> Any:
        """What is left to say when all tasks are done."""


@dataclass(frozen=True)
class Step:
    """Some of a task is done."""

    task: int
    size: int
    """Bytes of text done since the step before."""
    result: Any = None
    last: bool = False


@dataclass(frozen=True)
class Failure:
    """A process met an error."""

    error: Exception


@dataclass(frozen=True)
class Rest:
    """A process has nothing more to do."""

    result: Any


def cores() -> int:
    """Processor cores that this process may use, up to `MOST`."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(found, MOST)


def _start() -> Member:
    """A worker of its own session, so that a Ctrl-C reaches it through its crew alone."""
    line, theirs = Pipe()
    with theirs:
        process = subprocess.Popen(  # noqa: S603  our own module, no shell
            [sys.executable, "-P", "-m", "seqtoolkit_language.worker", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[theirs.fileno()],
            env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    return Member(process, line)


def _lost(process: subprocess.Popen[bytes]) -> CacheError:
    code = process.wait()
    if code < 0:
        how = f"was killed by {signal.Signals(-code).name}: if memory has run out, free some, and run again"
    else:
        how = f"ended with code {code}: what it has printed says why"
    return CacheError(f"a process that reads the corpus {how}")


@dataclass
class Member:
    """One process, and the way to talk to it."""

    process: subprocess.Popen[bytes]
    line: Connection
    busy: bool = False
    rests: bool = False


class Crew:
    """Processes at work on the tasks of a job, in order; none begins a task from number `until` on."""

    def __init__(self, job: Job, tasks: Sequence[Any], workers: int) -> None:
        self.job, self.tasks, self.until = job, tasks, len(tasks)
        self.rests: list[Any] = []
        self._next = 0
        self._members: list[Member] = []
        self._workers = workers

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self._end)
            for _ in range(self._workers):
                self._members.append(_start())
            for member in self._members:
                self._tell(member, self.job)
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def steps(self) -> Iterator[Step | None]:
        """The steps of all tasks as they come, None where a while has passed without; then `rests` is filled.

        Raises:
            ValueError: what one of the processes raised, or that one was killed.
        """
        while len(self.rests) < len(self._members):
            for member in self._members:
                self._engage(member)
            lines = {member.line: member for member in self._members if not member.rests}
            ready = wait(list(lines), _TICK)
            if not ready:
                yield None
            for line, member in lines.items():
                if line in ready and (step := self._hear(member)) is not None:
                    yield step

    def _engage(self, member: Member) -> None:
        """Give an idle process its next task, or let it go."""
        if member.busy or (self.until <= self._next < len(self.tasks)):
            return
        member.busy = True
        if self._next < len(self.tasks):
            self._tell(member, (self._next, self.tasks[self._next]))
            self._next += 1
        else:
            self._tell(member, None)

    def _hear(self, member: Member) -> Step | None:
        try:
            said = member.line.recv()
        except (EOFError, ConnectionError):
            raise _lost(member.process) from None
        if isinstance(said, Failure):
            raise said.error
        if isinstance(said, Rest):
            member.rests = True
            self.rests.append(said.result)
            return None
        member.busy = not said.last
        return said

    def _tell(self, member: Member, what: Any) -> None:
        try:
            member.line.send(what)
        except ConnectionError:
            while True:  # until it raises what the process has said, or that it is gone
                self._hear(member)

    def _end(self) -> None:
        for member in self._members:
            member.process.kill()
        for member in self._members:
            member.process.wait()
            member.line.close()


class Alone:
    """The same without other processes, for little work."""

    def __init__(self, job: Job, tasks: Sequence[Any]) -> None:
        self.job, self.tasks, self.until = job, tasks, len(tasks)
        self.rests: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...

    def steps(self) -> Iterator[Step | None]:
        """The steps of all tasks, one task after another."""
        for number, task in enumerate(self.tasks):
            yield from self.job.work(number, task)
        self.rests.append(self.job.rest())
