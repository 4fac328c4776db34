"""Assessment: what was found of a trained model, setting by setting."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from seqtoolkit.assess.interval import Interval


@dataclass(frozen=True)
class Cell:
    """One evaluation."""

    at: Mapping[str, Any]
    """The value of each axis."""
    examples: int
    """How many, or how many episodes."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """`loss` and the pipeline's."""
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    """95 %: of the metrics that are shares Wilson's, of as many draws as there are examples; of means over episodes normal,
    but Wilson's of what is 0 or 1."""
    trained: bool = False
    """Whether the model was trained on examples of this difficulty."""
    error: str | None = None
    """Why there are no metrics: the task has no such examples."""

    def record(self) -> dict[str, Any]:
        """As plain data; what is no number is null."""
        values = {name: value if math.isfinite(value) else None for name, value in self.metrics.items()}
        intervals = {name: list(each) for name, each in self.intervals.items()}
        found = {"at": dict(self.at), "examples": self.examples, "trained": self.trained}
        return found | ({"metrics": values, "intervals": intervals} if self.error is None else {"error": self.error})


@dataclass(frozen=True)
class Assessment:
    """A trained model on a grid of settings."""

    run: str
    """The name of the run's folder."""
    run_id: str
    step: int
    """Of the checkpoint."""
    settings: tuple[str, ...]
    """As they were given."""
    kind: str
    """What the task is: source, or environment."""
    origin: Mapping[str, Any]
    """The source or environment that evaluates, with every setting that is no axis."""
    axes: Mapping[str, tuple[Any, ...]]
    """The settings with several values, by key: `source.length`."""
    metrics: Mapping[str, Literal["higher", "lower"]]
    """Which is better, by name; the pipeline's own, then `loss`."""
    cells: tuple[Cell, ...]
    """Each combination, the last axis fastest."""

    @property
    def counted(self) -> str:
        """What was counted: examples, or episodes."""
        return "episodes" if self.kind == "environment" else "examples"

    @property
    def split(self) -> str:
        """Which split it is of; of several, their names."""
        splits = self.axes.get(f"{self.kind}.split") or (self.origin.get("split", ""),)
        return ",".join(map(str, splits))

    def cell(self, *values: Any) -> Cell:
        """The cell at some values, one for each axis. Raises KeyError where there is none."""
        for cell in self.cells:
            if tuple(cell.at.values()) == values:
                return cell
        raise KeyError(f"no cell at {', '.join(map(str, values))}; the axes are {', '.join(self.axes) or 'none'}")

    def record(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {
            "run": self.run,
            "run_id": self.run_id,
            "step": self.step,
            "settings": list(self.settings),
            self.kind: dict(self.origin),
            "axes": {key: list(values) for key, values in self.axes.items()},
            "better": dict(self.metrics),
            "cells": [cell.record() for cell in self.cells],
        }

    def json(self) -> str:
        """The record as text."""
        return json.dumps(self.record(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def csv(self) -> str:
        """A line for each metric of each cell; of a cell without metrics, one that says why."""
        file = io.StringIO()
        write = csv.writer(file, lineterminator="\n").writerow
        write([*self.axes, "metric", "value", "low", "high", "examples", "trained", "error"])
        for cell in self.cells:
            rows: list[list[Any]] = [
                [name, cell.metrics[name], *cell.intervals.get(name, ("", ""))]
                for name in self.metrics
                if name in cell.metrics
            ]
            for row in rows or [["", "", "", ""]]:
                write([*cell.at.values(), *row, cell.examples, int(cell.trained), cell.error or ""])
        return file.getvalue()
