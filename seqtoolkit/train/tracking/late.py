"""Late: a file handed to the store of a run that has ended."""

from __future__ import annotations

from pathlib import Path

from seqtoolkit.train.tracking import outbox
from seqtoolkit.train.tracking.dispatch import deliver
from seqtoolkit.train.tracking.journal import Journal
from seqtoolkit.train.tracking.lock import hold
from seqtoolkit.train.tracking.outbox import State


def attach(run: Path, path: Path, folder: str = "") -> str | None:
    """Copy a file to the store of the run in the folder `run`, under `folder` there; the run's status stays.

    Waits for the store as long as it answers. Returns why the store does not have the file yet, or None where it has.
    """
    if State.load(run).run is None and not (run / outbox.JOURNAL).exists():
        return "the run is in no tracking store"
    try:
        lock = hold(run / outbox.JOURNAL)
        if lock is None:
            return "the run is still at work, and its tracking store is left to it"
        lock.release()
        journal = Journal(run / outbox.JOURNAL)
        kept = outbox.snapshot(path, run)
    except OSError as error:
        return f"{run}: {error.strerror or error}"
    journal.put({"kind": "artifact", "path": str(kept.relative_to(run)), "folder": folder})
    journal.close()
    refused = run / outbox.REJECTED
    before = refused.stat().st_size if refused.exists() else 0
    left = deliver(run)
    if refused.exists() and refused.stat().st_size > before:
        return f"the tracking store refused it, see {refused}"
    return f"the tracking store does not have it yet, {run} keeps it for `seqtoolkit deliver`" if left else None
