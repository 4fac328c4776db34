"""The outbox: what a run has to tell its store, kept in the run's folder until the store has it.

outbox.jsonl           everything in order, a line each: run | resume, params, metrics, artifact, end
outbox/                the files and directories to be copied, as links
outbox.rejected.jsonl  what the store refused for good, with its reason
tracking.json          the state: which store, which run, how many bytes of outbox.jsonl have been delivered
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

JOURNAL = "outbox.jsonl"
FILES = "outbox"
REJECTED = "outbox.rejected.jsonl"
LOCK = "outbox.lock"
STATE = "tracking.json"
LOG = "outbox.log"


@dataclass
class State:
    """How far the delivery of a run has come."""

    store: str | None = None
    experiment: str | None = None
    run: str | None = None
    creating: bool = False
    """Whether the run may have been created without our learning its id."""
    sent: int = 0
    """How many bytes of the journal have been delivered."""
    ended: bool = False
    postponed: list[dict[str, Any]] = field(default_factory=list)
    """Artifacts that the store would not take while it took the rest."""

    @classmethod
    def load(cls, folder: Path) -> State:
        """Read the state of the run in `folder`; a fresh one where there is none."""
        try:
            found = json.loads((folder / STATE).read_text())
        except (OSError, ValueError):
            return cls()
        if not isinstance(found, dict):
            return cls()
        known = {each.name for each in fields(cls)}
        return cls(**{key: value for key, value in found.items() if key in known})

    def save(self, folder: Path) -> None:
        """Replace the stored state in one move."""
        beside = folder / f"{STATE}.new"
        beside.write_text(json.dumps(asdict(self)))
        beside.replace(folder / STATE)


class Line(NamedTuple):
    """One line of the journal, and where in the file it ends."""

    item: dict[str, Any]
    end: int


def read(folder: Path, start: int, size: int = 1 << 16) -> list[Line]:
    """The whole lines of the journal from byte `start` on, about `size` bytes of them; unreadable lines are empty."""
    try:
        with (folder / JOURNAL).open("rb") as file:
            file.seek(start)
            data = file.read(size) + file.readline()
    except FileNotFoundError:
        return []
    lines = []
    for raw in data.splitlines(keepends=True):
        if not raw.endswith(b"\n"):
            break
        start += len(raw)
        lines.append(Line(_parse(raw), start))
    return lines


def backlog(folder: Path) -> int:
    """How many items of the run in `folder` are still to be delivered."""
    state = State.load(folder)
    count, start = len(state.postponed), state.sent
    while lines := read(folder, start):
        count += len(lines)
        start = lines[-1].end
    return count


def find(folder: Path) -> list[Path]:
    """The run folders with an outbox: `folder` itself, or those directly within it."""
    if (folder / JOURNAL).exists():
        return [folder]
    return sorted(path.parent for path in folder.glob(f"*/{JOURNAL}"))


def snapshot(path: Path, folder: Path) -> Path:
    """Link the file or directory at `path` into the outbox, so that it outlives its removal or replacement.

    Copies where the file system does not link. Raises OSError.
    """
    path = path.resolve(strict=True)
    target = folder / FILES / uuid.uuid4().hex[:12] / path.name
    target.parent.mkdir(parents=True)
    if path.is_dir():
        shutil.copytree(path, target, copy_function=_link)
    else:
        _link(str(path), str(target))
    return target


def discard(snapshotted: Path) -> None:
    """Remove what `snapshot` made."""
    shutil.rmtree(snapshotted.parent, ignore_errors=True)


def clear(folder: Path) -> None:
    """Remove the outbox of a run that has been delivered; the state stays, so that the run can go on later."""
    state = State.load(folder)
    state.sent = 0
    state.save(folder)  # first: what is delivered twice does no harm
    (folder / JOURNAL).unlink(missing_ok=True)
    shutil.rmtree(folder / FILES, ignore_errors=True)
    for name in (LOG, LOCK):
        (folder / name).unlink(missing_ok=True)


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        item = json.loads(raw)
    except ValueError:
        return {}
    return item if isinstance(item, dict) else {}


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
