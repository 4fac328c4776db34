"""History: all values that a run in an MLflow store has of its metrics."""

from __future__ import annotations

import gc
import sqlite3
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

Told = tuple[int, float | None]
"""A step and a value; None stands for nan."""

_AT_ONCE = 500
"""Metrics in one question to SQLite."""


class StoredCurve(NamedTuple):
    """The whole history of a metric; of several values at a step the one told last counts."""

    steps: np.ndarray
    """[n] int64, ascending"""
    values: np.ndarray
    """[n] float64"""


def of_client(client: Any, run_id: str, names: Iterable[str]) -> dict[str, StoredCurve]:
    """By MLflow's client, all pages of it. Raises what the client does."""
    found = {}
    for name in names:
        with _uncollected():
            points = client.get_metric_history(run_id, name)
        if points:
            ordered = sorted(points, key=lambda each: each.timestamp)
            found[name] = _curve([(each.step, each.value) for each in ordered])
    return found


def of_file(path: Path, run_id: str, names: Sequence[str]) -> dict[str, StoredCurve]:
    """From the table of an SQLite store, where MLflow's client, which makes objects of all rows, takes ten times as long.

    Raises sqlite3.Error where the table is not as expected, or the file is in use.
    """
    told: dict[str, list[Told]] = defaultdict(list)
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=30)) as connection:
        for start in range(0, len(names), _AT_ONCE):
            part = names[start : start + _AT_ONCE]
            question = (
                "SELECT key, step, CASE is_nan WHEN 1 THEN NULL ELSE value END FROM metrics"  # noqa: S608  question marks
                f" WHERE run_uuid = ? AND key IN ({', '.join('?' * len(part))}) ORDER BY timestamp, step, value"
            )
            for name, step, value in connection.execute(question, (run_id, *part)):
                told[name].append((step, value))
    return {name: _curve(told[name]) for name in names if name in told}


def unclamped(values: Any) -> np.ndarray:
    """Infinity again, in whose place MLflow keeps the largest number."""
    return np.where(np.abs(values) >= sys.float_info.max, np.copysign(np.inf, values), values)


def _curve(told: Sequence[Told]) -> StoredCurve:
    """The curve of steps and values in the order in which they were told."""
    last = dict(told)
    steps = np.array(sorted(last), np.int64)
    return StoredCurve(steps, unclamped(np.array([last[step] for step in steps.tolist()], np.float64)))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, whose rounds over the many rows of a history take as long as reading them."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
