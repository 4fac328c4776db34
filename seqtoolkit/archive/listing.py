"""Listing: the runs in a folder, a few facts of each."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from seqtoolkit.archive.entry import STAMP, Entry, entries

STATUSES = ("RUNNING", "FINISHED", "FAILED", "KILLED", "DIED", "STARTING", "UNSTARTED", "DAMAGED")
_SHORTEST = 8


class Score(NamedTuple):
    """A value of a metric, and after how many updates it was that."""

    metric: str
    value: float
    step: int


@dataclass(frozen=True)
class Listed:
    """One run, in a few facts; None is what is not known."""

    run: str
    """What commands take for it: as short a beginning of its id, or of its folder's name, as no other run shares."""
    name: str
    run_id: str
    folder: Path
    begun: datetime
    seconds: float | None
    """of training, of all processes that had a part in it; evaluations are not counted"""
    pipeline: str | None
    core: str | None
    seed: int | None
    status: str
    """RUNNING, FINISHED, FAILED, KILLED; DIED: its process ended without a word; STARTING, UNSTARTED; DAMAGED"""
    reason: str | None
    """why it ended before its time, or what is damaged"""
    step: int | None
    """the last one that it recorded"""
    steps: int | None
    best: Score | None
    """by the metric that chooses its best checkpoint, at that checkpoint"""
    test: Score | None
    """the same metric on the test split"""
    sorted_by: float | None
    """its last value of the metric by which the runs were sorted"""
    sweep: str | None
    trial: str | None


class Listing(NamedTuple):
    """Runs that were asked for, and how many there are in all."""

    runs: list[Listed]
    total: int


def list_runs(
    folder: str | Path = "runs",
    *,
    pipeline: str | None = None,
    status: str | None = None,
    sort: str | None = None,
    reverse: bool = False,
    limit: int | None = 20,
) -> Listing:
    """The runs in `folder`, the newest first; reads no more of them than it takes, and changes nothing.

    Args:
        folder: Where runs are kept.
        pipeline: Only runs of the pipeline of this name.
        status: Only runs of this status, in capitals or not.
        sort: A metric, `valid/accuracy`: by its last value, the highest first, a loss with the lowest first.
        reverse: The other way around.
        limit: How many at most; None is all.

    Raises:
        ValueError: no run has the metric; there is no such status.
    """
    if status is not None and status.upper() not in STATUSES:
        raise ValueError(f"--status: wanted one of {', '.join(STATUSES).lower()}, got {status!r}")
    found = entries(Path(folder))
    words = handles(found)
    wanted = [each for each in found if pipeline is None or each.notes.get("name") == pipeline]
    if sort is not None:
        wanted = _sorted(wanted, sort, reverse=reverse)
    elif reverse:
        wanted = wanted[::-1]
    runs: list[Listed] = []
    for each in wanted:
        if limit is not None and len(runs) >= limit:
            break
        if status is None or each.status == status.upper():
            runs.append(listed(each, words[each.path], sort))
    return Listing(runs, len(found))


def listed(entry: Entry, word: str, sort: str | None = None) -> Listed:
    """The facts of one run."""
    notes, tags = entry.notes, entry.notes.get("tags", {})
    core = entry.setting("model", "core")
    last, judged = next(entry.rows_back(), None), entry.judged
    return Listed(
        run=word,
        name=entry.path.name,
        run_id=entry.run_id,
        folder=entry.path,
        begun=entry.begun,
        seconds=entry.last("seconds"),
        pipeline=notes.get("name"),
        core=core.get("use") if isinstance(core, dict) else core,
        seed=entry.setting("run", "seed"),
        status=entry.status,
        reason=entry.damage or notes.get("error") or notes.get("stopped"),
        step=None if last is None else int(last["step"]),
        steps=_steps(entry),
        best=_score(entry, judged, entry.named("best")),
        test=_score(entry, f"test/{judged.partition('/')[2]}", None),
        sorted_by=None if sort is None else entry.last(sort),
        sweep=tags.get("seqtoolkit.sweep"),
        trial=tags.get("seqtoolkit.trial"),
    )


def handles(found: Iterable[Entry]) -> dict[Path, str]:
    """By its folder: the shortest beginning of each run's id, or name, that `RunFolder.find` takes for it alone.

    None is so short that the next run is likely to share it: eight characters, or those that say the second.
    """
    found = list(found)
    ids = [each.run_id for each in found]
    twice = {word for word in ids if ids.count(word) > 1} if len(set(ids)) < len(ids) else set()
    words = sorted({*ids, *(each.path.name for each in found)})
    shared = dict.fromkeys(words, 0)
    for one, other in pairwise(words):
        length = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
        shared[one], shared[other] = max(shared[one], length), max(shared[other], length)
    chosen = {}
    for each in found:
        word = each.path.name if each.run_id in twice else each.run_id
        stamp = STAMP.match(word)
        chosen[each.path] = word[: max(shared[word] + 1, stamp.end() if stamp else _SHORTEST)]
    return chosen


def _sorted(found: list[Entry], metric: str, *, reverse: bool) -> list[Entry]:
    """By the last value of a metric; those that have none come last, either way."""
    values = {each: each.last(metric) for each in found}
    if found and all(value is None for value in values.values()):
        names = sorted({name for each in found[:20] for row in each.rows() for name in row if name != "step"})
        there = f"; there are: {', '.join(names)}" if names else ""
        raise ValueError(f"--sort: no run has the metric {metric!r}{there}")
    sign = 1 if (metric.rpartition("/")[2] == "loss") != reverse else -1

    def place(each: Entry) -> tuple[bool, float]:
        value = values[each]
        return (True, 0.0) if value is None or math.isnan(value) else (False, sign * value)

    return sorted(found, key=place)


def _steps(entry: Entry) -> int | None:
    """How many updates it is to take, as it was last told."""
    changes = [text for each in entry.resumed for text in each.changed]
    told = [match[1] for text in changes if (match := re.fullmatch(r"run\.steps=(\d+)", str(text)))]
    steps = told[-1] if told else entry.setting("run", "steps")
    return int(steps) if isinstance(steps, int) or str(steps).isdecimal() else None


def _score(entry: Entry, metric: str, step: int | None) -> Score | None:
    """The last value of a metric, or its value at a step."""
    for row in entry.rows_back(metric):
        if step is None or row["step"] == step:
            return Score(metric, row[metric], int(row["step"]))
    return None
