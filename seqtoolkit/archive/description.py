"""Description: all that a run's folder tells of the run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from seqtoolkit.archive.difference import COMMAND, config_of, environment
from seqtoolkit.archive.entry import Entry, Resumed, entries
from seqtoolkit.archive.listing import Listed, handles, listed
from seqtoolkit.folder import CHECKPOINTS, RunFolder
from seqtoolkit.train.tracking import outbox


class Point(NamedTuple):
    """A value, and the step at which it was first that."""

    value: float
    step: int


class Range(NamedTuple):
    """The course of a metric, in three points; NaN is never the lowest or the highest while there is another."""

    last: Point
    lowest: Point
    highest: Point


class Saved(NamedTuple):
    """A checkpoint, and the names that stand for it: `best`, `last`."""

    step: int
    names: list[str]


class Stored(NamedTuple):
    """Where a run is recorded, and how much its folder keeps that is not there yet."""

    store: str
    experiment: str | None
    run: str | None
    undelivered: int


@dataclass(frozen=True)
class Description:
    """All that a run's folder tells of the run."""

    run: Listed
    config: dict[str, Any]
    """the resolved one, that it was started with"""
    changes: list[str]
    """by which that differs from the pipeline, `model.core=lstm`"""
    resumed: list[Resumed]
    metrics: dict[str, Range]
    environment: dict[str, str]
    command: str | None
    checkpoints: list[Saved]
    files: dict[str, int]
    """what else is in the folder, with sizes in bytes"""
    store: Stored | None


def describe_run(run: str | Path, folder: str | Path = "runs") -> Description:
    """All that is known of a run, named by its id, its folder's name (or the beginning of either) or its path.

    Raises RunError where there is no such run, ConfigError where its config is damaged.
    """
    place = RunFolder.find(run, Path(folder))
    entry = Entry(place.path)
    beside = [each for each in entries(place.path.parent) if each.path != place.path]
    names = {step: [name for name in ("best", "last") if entry.named(name) == step] for step in entry.checkpoints()}
    command = (entry.notes.get("environment") or {}).get(COMMAND)
    return Description(
        run=listed(entry, handles([entry, *beside])[place.path]),
        config=config_of(entry),
        changes=[str(each) for each in entry.notes.get("changes") or ()],
        resumed=entry.resumed,
        metrics=_ranges(entry),
        environment=environment(entry.notes),
        command=command,
        checkpoints=[Saved(*each) for each in names.items()],
        files=_files(place.path),
        store=_stored(place.path),
    )


def _ranges(entry: Entry) -> dict[str, Range]:
    found: dict[str, Range] = {}
    for row in entry.rows():
        for name, value in row.items():
            if name == "step":
                continue
            point = Point(value, int(row["step"]))
            known = found.get(name, Range(point, point, point))
            lowest = point if value < known.lowest.value or math.isnan(known.lowest.value) else known.lowest
            highest = point if value > known.highest.value or math.isnan(known.highest.value) else known.highest
            found[name] = Range(point, lowest, highest)
    return found


def _files(folder: Path) -> dict[str, int]:
    """What is in the folder but for the checkpoints and what waits to be delivered; a folder with all it has."""
    skipped = {CHECKPOINTS, outbox.FILES, outbox.JOURNAL, outbox.LOCK, outbox.LOG, outbox.STATE}
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name in skipped or path.name.startswith("."):
            continue
        if path.is_dir():
            inside = [each.stat().st_size for each in path.rglob("*") if each.is_file()]
            found[f"{path.name}/ ({len(inside)} files)"] = sum(inside)
        else:
            found[path.name] = path.stat().st_size
    return found


def _stored(folder: Path) -> Stored | None:
    state = outbox.State.load(folder)
    left = outbox.backlog(folder)
    if state.store is None and not left:
        return None
    from seqtoolkit.train.tracking.store import public

    store = "not known yet" if state.store is None else public(state.store)
    return Stored(store, state.experiment, state.run, left)
