"""Tally: counts of any number of different tokens in bounded memory, spilled to disk in order and merged."""

from __future__ import annotations

import heapq
import json
import os
from collections.abc import Iterator
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path

ENTRIES = 3_000_000
"""Different tokens that all processes together count in memory."""
_BATCH = 4096
_FILES = 64
"""Spilled tables that are read at a time."""


class Tally:
    """Counts in `table`, which `trim` keeps short, and in `files`, each in order of the tokens; `merged` reads them.

    Attributes:
        limit: different tokens that the table may hold.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self.table: dict[str, int] = {}
        self.files: list[Path] = []

    def trim(self) -> None:
        """Spill the table if it holds more than it may."""
        if len(self.table) > self.limit:
            self.spill()

    def spill(self) -> None:
        """Write the table to a file, and empty it."""
        if self.table:
            self.files.append(self.folder / f"{os.getpid()}-{len(self.files)}.counts")
            _write(self.files[-1], iter(sorted(self.table.items())))
            self.table.clear()


def merged(files: list[Path], folder: Path) -> Iterator[tuple[str, int]]:
    """Each token of the spilled tables once, with the sum of its counts, in the order of the tokens."""
    files = list(files)
    for number in range(len(files)):
        if len(files) <= _FILES:
            break
        some, files = files[:_FILES], files[_FILES:]
        files.append(folder / f"merged-{number}.counts")
        _write(files[-1], _summed(some))
        for file in some:
            file.unlink()
    return _summed(files)


def _summed(files: list[Path]) -> Iterator[tuple[str, int]]:
    rows = heapq.merge(*map(_read, files), key=itemgetter(0))
    for token, group in groupby(rows, itemgetter(0)):
        yield token, sum(count for _, count in group)


def _write(file: Path, rows: Iterator[tuple[str, int]]) -> None:
    """Rows, in order, as lines of JSON of some thousands each."""
    with file.open("w", encoding="ascii") as lines:
        while batch := list(islice(rows, _BATCH)):
            lines.write(json.dumps(batch, separators=(",", ":")) + "\n")


def _read(file: Path) -> Iterator[tuple[str, int]]:
    with file.open(encoding="ascii") as lines:
        for line in lines:
            yield from json.loads(line)
