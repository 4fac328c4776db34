"""Board: the trials of a sweep as they go, a live table on a terminal and lines elsewhere; and the table at the end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from seqtoolkit.sweep.design import described, shown
from seqtoolkit.sweep.row import ENDED, Better, Row, best_of, counts

WIDTH = 120
"""Columns that a final table has at least: on a narrower terminal its lines break, and none of it is cut off."""
_STYLES = {"running": "cyan", "finished": "green", "pruned": "yellow", "failed": "red", "killed": "magenta"}
_FRAME = 5
_EVERY = 0.5


class Board:
    """Shows the trials to who watches a sweep.

    Args:
        name: The sweep's.
        metric: By which trials are judged.
        better: Which values of it are.
        jobs: How many trials run at a time.
        stream: Where to show them.
    """

    def __init__(self, name: str, metric: str, better: Better, jobs: int, stream: TextIO) -> None:
        self.name, self.metric, self.better, self.jobs = name, metric, better, jobs
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._live: Live | None = None
        if self._console.is_terminal and os.environ.get("TERM") != "dumb":
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._seen: dict[int, str] = {}
        self._due = 0.0

    def __call__(self, rows: list[Row]) -> None:
        """Hear how the trials stand."""
        if self._live is None:
            self._changes(rows)
        elif time.monotonic() >= self._due:
            self._due = time.monotonic() + _EVERY
            title = Text(f"{self.name}   {self._left(rows)}")
            some = _some(rows, max(4, self._console.height - _FRAME))
            self._live.update(Group(title, table(some, self.metric, runs=False)), refresh=True)

    def close(self) -> None:
        """Give the terminal back."""
        if self._live is not None:
            self._live.stop()

    def _changes(self, rows: list[Row]) -> None:
        """A line for each trial that is in another state than before."""
        new = [row for row in rows if row.status != self._seen.get(row.number, "waiting")]
        if not self._seen:
            new = [row for row in new if row.status == "running"]  # what an earlier command did is in the table
        self._seen = {row.number: row.status for row in rows}
        for row in new:
            words = [f"trial {row.number:<3} {row.status:<8} {described(row.values)}"]
            if row.status != "running":
                words += [f"{self.metric} {row.best:.4f}"] if row.best is not None else []
                words += [clock(row.seconds)] if row.seconds is not None else []
                words += [row.error] if row.error else []
            self._console.print("   ".join([*words, self._left(rows)]), soft_wrap=True)
            if row.log:
                self._console.print("\n".join(f"    {line}" for line in row.log.splitlines()), soft_wrap=True)

    def _left(self, rows: list[Row]) -> str:
        """What is left, and the best so far."""
        words = [f"{count} {status}" for status, count in counts(rows).items()]
        best = best_of((row.best for row in rows if row.best is not None), self.better)
        words += [] if best is None else [f"best {best:.4f}"]
        took = [row.seconds for row in rows if row.status in ("finished", "pruned") and row.seconds]
        left = sum(row.status in ("waiting", "running") for row in rows)
        words += [f"about {clock(left * sum(took) / len(took) / self.jobs)} left"] if took and left else []
        return ", ".join(words)


def table(rows: Iterable[Row], metric: str, *, runs: bool = True) -> Table:
    """Trials as a table, in the order given, with the names of their `runs` or without."""
    rows = list(rows)
    keys = list(dict.fromkeys(key for row in rows for key in row.values))
    sizes = ["parameters"] if any(row.parameters is not None for row in rows) else []
    heads = ("trial", "status", *_short(keys), *sizes, "step", metric, "time", *(["run"] if runs else []))
    found = Table(*heads, box=None, pad_edge=False, header_style="bold")
    for column in (found.columns[0], *found.columns[2 + len(keys) : 5 + len(keys) + len(sizes)]):
        column.justify, column.no_wrap = "right", True
    found.columns[1].no_wrap = True
    for column in found.columns[2 : 2 + len(keys)]:
        column.overflow = "fold"
    if runs:
        found.columns[-1].no_wrap = True
    for row in rows:
        values = [shown(row.values[key]) if key in row.values else "" for key in keys]
        cells = [
            *(["" if row.parameters is None else f"{row.parameters:,}"] if sizes else []),
            f"{row.step}/{row.steps}" if row.steps else "",
            "" if row.best is None else f"{row.best:.4f}",
            "" if row.seconds is None else clock(row.seconds),
            *([Path(row.run or "").name] if runs else []),
        ]
        texts = [Text(each, overflow="fold") for each in (*values, *cells)]
        found.add_row(str(row.number), Text(row.status, _STYLES.get(row.status, "")), *texts)
    return found


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, as short as it can be."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def _some(rows: list[Row], most: int) -> list[Row]:
    """As many rows as there is room for, by number: those under way, then the last that ended, then the next."""
    running = [row for row in rows if row.status == "running"]
    ended = [row for row in rows if row.status in ENDED]
    waiting = [row for row in rows if row.status == "waiting"]
    chosen = [*running, *ended[::-1], *waiting][:most]
    return sorted(chosen, key=lambda row: row.number)


def _short(keys: list[str]) -> list[str]:
    """Keys without what is before their last dot, where that tells them apart."""
    last = [key.removesuffix(".use").rpartition(".")[2] for key in keys]
    return [short if last.count(short) == 1 else key for short, key in zip(last, keys, strict=True)]
