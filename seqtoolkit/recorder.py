"""Recorder: tells the tracker, the progress display, the run's own folder and the plugins what a run does."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqtoolkit.flow.heatmap import draw
from seqtoolkit.flow.source import Sample
from seqtoolkit.flow.view import View
from seqtoolkit.host.registry import Registry
from seqtoolkit.train.tracking import Tracker, curves
from seqtoolkit.train.tracking.progress import Progress

METRICS = "metrics.jsonl"
LOGGER = "seqtoolkit"
"""What parts of a run log under this name, a plugin's as `seqtoolkit.rmc`, is shown to who watches the run."""


class _Listener(logging.Handler):
    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.INFO)
        self.progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        self.progress.note(record.getMessage())


ATTENTION = "attention"
"""The folder of pictures in the run's own, and among its artifacts."""


class Recorder:
    """What the loop reports to. The metrics are kept in the run's folder whatever becomes of the tracking store.

    Args:
        run: Handed to the life-cycle hooks.
        folder: The run's own.
        tracker: The store.
        progress: What the user sees.
        registry: Whose plugins hear of it.
        step: From where the run goes on; what was recorded after it is dropped, for it comes again.
    """

    def __init__(
        self, run: Any, folder: Path, tracker: Tracker, progress: Progress, registry: Registry, step: int
    ) -> None:
        self.run, self.folder, self.tracker, self.progress, self.registry = run, folder, tracker, progress, registry
        self._listener, self._logger = _Listener(progress), logging.getLogger(LOGGER)
        self._level = self._logger.level
        self._logger.addHandler(self._listener)
        self._logger.setLevel(logging.INFO)
        path = folder / METRICS
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        self._file = path.open("w", buffering=1)
        self._file.writelines(f"{line}\n" for line in kept)

    def logged(self, step: int, metrics: Mapping[str, float]) -> None:
        """Training metrics, averaged since the last time."""
        self._record(step, metrics)
        self.progress.update(step, metrics, metrics.get("examples_per_second", 0.0))

    def evaluated(self, step: int, metrics: Mapping[str, float], samples: list[Sample]) -> None:
        """An evaluation is done."""
        self._record(step, metrics)
        self.progress.evaluated(step, metrics, samples)
        self.registry.notify("evaluated", run=self.run, step=step, metrics=metrics)

    def looked(self, step: int, views: list[View]) -> None:
        """Draw what the core attends to; a picture that cannot be drawn stops nobody."""
        path = self.folder / ATTENTION / f"step_{step:08d}.png"
        try:
            path.parent.mkdir(exist_ok=True)
            draw(views, path, f"attention of {self.folder.name}\nstep {step}")
        except (OSError, ValueError) as error:
            self.progress.note(f"attention at step {step} could not be drawn: {error}")
        else:
            self.tracker.artifact(path, ATTENTION)

    def saved(self, step: int, path: Path, *, best: bool) -> None:  # noqa: ARG002  the tracker keeps the last and best at the end
        """A checkpoint is on the disk."""
        self.registry.notify("checkpoint_saved", run=self.run, step=step, path=str(path))

    def warned(self, message: str) -> None:
        """Something went wrong that does not end the run."""
        self.progress.note(message)

    def picture(self) -> Path | None:
        """Draw the learning curves of the whole run, from what was recorded; None where matplotlib is not there."""
        history: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for line in (self.folder / METRICS).read_text().splitlines():
            row = json.loads(line)
            step = row.pop("step")
            for name, value in row.items():
                history[name].append((step, value))
        return curves(history, self.folder / "curves.png") if history else None

    def close(self) -> None:
        """Nothing more is coming."""
        self._logger.removeHandler(self._listener)
        self._logger.setLevel(self._level)
        self._file.close()
        self.progress.close()

    def _record(self, step: int, metrics: Mapping[str, float]) -> None:
        self.tracker.log(metrics, step)
        try:
            self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        except OSError as error:
            self.progress.note(f"metrics of step {step} could not be kept in {self.folder}: {error.strerror}")
