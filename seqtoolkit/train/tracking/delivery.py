"""The process beside a training in which its courier works.

It is a process of its own because a thread that talks to MLflow holds the interpreter for a tenth of a millisecond a
value, and each time makes the training wait. `python -m seqtoolkit.train.tracking.delivery FOLDER` follows one run until
its standard input says so or closes; with `--once` it delivers what the folders have, and ends. It reports by JSON lines.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from seqtoolkit.train.tracking import outbox
from seqtoolkit.train.tracking.courier import Courier, Say
from seqtoolkit.train.tracking.lock import hold
from seqtoolkit.train.tracking.store import Refused, Unreachable, ready

LAST_TRIES = 3
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


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


def main(arguments: list[str] | None = None) -> int:
    """Follow one run, or deliver what some have left."""
    parser = argparse.ArgumentParser(prog="delivery")
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
    follow(given.folder[0], closed, say)
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
