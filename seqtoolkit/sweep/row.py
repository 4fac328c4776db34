"""Row: what is known of one trial of a sweep."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["waiting", "running", "finished", "pruned", "failed", "killed"]
ENDED: tuple[Status, ...] = ("finished", "pruned", "failed", "killed")
"""How a trial can have ended. One that was killed goes on with the next command; the others are over."""
Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Row:
    """One trial."""

    number: int
    status: Status
    values: Mapping[str, Any] = field(default_factory=dict)
    """What the sweep changes, by key, and the size that a core was given to match another."""
    best: float | None = None
    """The best value of the metric so far."""
    step: int = 0
    steps: int | None = None
    seconds: float | None = None
    """That its processes have taken."""
    run: str | None = None
    """The folder of its run."""
    run_id: str | None = None
    """The tracking store's name of the run, or the folder's."""
    machine: str | None = None
    parameters: int | None = None
    """Of its model."""
    error: str | None = None
    """Why it failed, or stopped early."""
    log: str | None = None
    """The last lines that it printed, where it failed."""

    def record(self) -> dict[str, Any]:
        """All of it as plain data."""
        return asdict(self)


def best_of(values: Iterable[float], better: Better) -> float | None:
    """The best of the values that are numbers; None where none is."""
    found = [value for value in values if math.isfinite(value)]
    return (max if better == "higher" else min)(found, default=None)


def ranked(rows: Iterable[Row], better: Better) -> list[Row]:
    """Rows, the best finished trial first, then the best pruned one; those without a value last."""
    sign = -1 if better == "higher" else 1

    def place(row: Row) -> tuple[int, float, int]:
        if row.best is None or row.status not in ("finished", "pruned"):
            return 2, 0.0, row.number
        return int(row.status == "pruned"), sign * row.best, row.number

    return sorted(rows, key=place)


def counts(rows: Iterable[Row]) -> dict[Status, int]:
    """How many rows there are of each status that occurs."""
    found: dict[Status, int] = dict.fromkeys(("running", *ENDED, "waiting"), 0)
    for row in rows:
        found[row.status] += 1
    return {status: count for status, count in found.items() if count}
