"""Observers: what the host itself does with a run, by the life-cycle hooks that any plugin has."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from seqtoolkit.flow.heatmap import draw
from seqtoolkit.flow.replay import ENDINGS, Replay, write
from seqtoolkit.flow.source import Sample
from seqtoolkit.flow.view import View
from seqtoolkit.folder import METRICS, RunFolder
from seqtoolkit.host.hooks import hookimpl
from seqtoolkit.train.run import Run
from seqtoolkit.train.tracking import curves
from seqtoolkit.train.tracking.lock import Lock, hold
from seqtoolkit.train.tracking.progress import Progress

LOGGER = "seqtoolkit"
"""What parts of a run log under this name, a plugin's as `seqtoolkit.rmc`, is shown to who watches the run."""
ATTENTION = "attention"
"""The folder of pictures in the run's own, and among its artifacts."""
REPLAYS = "replays"
"""The folder of episodes, likewise."""


class Screen(logging.Handler):
    """Shows a run to who watches it, what its parts log as well: from INFO on, or from the level of their logger."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.progress = progress
        self._logger = logging.getLogger(LOGGER)
        self._level = self._logger.level

    def emit(self, record: logging.LogRecord) -> None:
        """Show what a part logs."""
        self.progress.note(self.format(record))

    @hookimpl
    def run_started(self) -> None:
        """Listen to the parts."""
        self._level = self._logger.level
        self._logger.addHandler(self)
        self._logger.setLevel(min(self._level or logging.INFO, logging.INFO))

    @hookimpl
    def logged(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show the training metrics."""
        if "examples_per_second" in metrics:  # the loop's own
            self.progress.update(step, metrics, metrics["examples_per_second"])

    @hookimpl
    def evaluated(self, step: int, metrics: Mapping[str, float], samples: list[Sample]) -> None:
        """Show an evaluation, and what the model answers."""
        shown = {name: value for name, value in metrics.items() if "/" in name}
        self.progress.evaluated(step, shown, samples)

    @hookimpl
    def noted(self, text: str) -> None:
        """Show a line."""
        self.progress.note(text)

    @hookimpl(trylast=True)
    def run_ended(self) -> None:
        """Give the terminal back."""
        self._logger.removeHandler(self)
        self._logger.setLevel(self._level)
        self.progress.close()


class Diary:
    """Keeps the metrics in the run's folder, a line each time, whatever becomes of the tracking store.

    Their file is locked while the run is at work, which tells others that its process lives.
    """

    def __init__(self) -> None:
        self._file: TextIO | None = None
        self._lock: Lock | None = None

    @hookimpl(tryfirst=True)
    def run_started(self, run: Run) -> None:
        """Drop what was recorded after the step from which the run goes on: it comes again."""
        path = run.folder / METRICS
        kept = [json.dumps(row) for row in RunFolder(run.folder).rows() if row["step"] <= run.begun]
        self._lock = hold(path, wait=1.0)
        self._file = path.open("w", buffering=1)
        self._file.writelines(f"{line}\n" for line in kept)

    @hookimpl
    def logged(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        """Keep training metrics."""
        self._keep(run, step, metrics)

    @hookimpl
    def evaluated(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        """Keep an evaluation."""
        self._keep(run, step, metrics)

    @hookimpl(tryfirst=True)
    def run_ended(self) -> None:
        """Nothing more is coming."""
        if self._file is not None:
            self._file.close()
        if self._lock is not None:
            self._lock.release()

    def _keep(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        assert self._file is not None
        try:
            self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        except OSError as error:
            run.note(f"metrics of step {step} could not be kept in {run.folder}: {error.strerror}")


class Plots:
    """Draws the learning curves when a run is over, and what its core attends to and how it acts at each evaluation."""

    @hookimpl
    def evaluated(self, run: Run, step: int, views: list[View], replays: Sequence[Replay]) -> None:
        """Draw what the core attends to, and write how it acts; a picture that cannot be drawn stops nobody."""
        if views:
            self._draw(run, step, views)
        if replays:
            self._write(run, step, replays)

    def _draw(self, run: Run, step: int, views: list[View]) -> None:
        path = run.folder / ATTENTION / f"step_{step:08d}.png"
        try:
            path.parent.mkdir(exist_ok=True)
            draw(views, path, f"attention of {run.folder.name}\nstep {step}")
        except (OSError, ValueError) as error:
            run.note(f"attention at step {step} could not be drawn: {error}")
        else:
            run.artifact(path, ATTENTION)

    def _write(self, run: Run, step: int, replays: Sequence[Replay]) -> None:
        folder = run.folder / REPLAYS
        names = [f"step_{step:08d}_{number}" for number in range(1, len(replays) + 1)]
        paths = [
            (replay, folder / f"{name}{end}") for replay, name in zip(replays, names, strict=True) for end in ENDINGS
        ]
        try:
            folder.mkdir(exist_ok=True)
            for replay, path in paths:
                write(replay, path)
        except (OSError, ValueError) as error:
            run.note(f"replays at step {step} could not be written: {error}")
        else:
            for _, path in paths:
                run.artifact(path, REPLAYS)

    @hookimpl
    def run_ended(self, run: Run) -> None:
        """Draw the curves of the whole run, from what was kept in its folder."""
        history: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for row in RunFolder(run.folder).rows():
            step = row.pop("step")
            for name, value in row.items():
                history[name].append((int(step), value))
        path = curves(history, run.folder / "curves.png") if history else None
        if path is not None:
            run.artifact(path)


class Tracking:
    """Tells the tracking store: what a training had taken by a step, `seconds`, once a step.

    MLflow draws a metric over another by their order, and would pair later points with earlier seconds.
    """

    def __init__(self) -> None:
        self._step, self._taken = -1, set[str]()

    @hookimpl
    def logged(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        """Record training metrics."""
        self._tell(run, step, metrics)

    @hookimpl
    def evaluated(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        """Record an evaluation."""
        self._tell(run, step, metrics)

    def _tell(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        if step != self._step:
            self._step, self._taken = step, set()
        run.tracker.log({name: value for name, value in metrics.items() if name not in self._taken}, step)
        self._taken |= {name for name in metrics if "/" not in name}

    @hookimpl(trylast=True)
    def run_ended(self, run: Run, status: Any) -> None:
        """Hand over the checkpoints, and end the run there."""
        checkpoints: Path = RunFolder(run.folder).checkpoints
        if checkpoints.exists():
            run.artifact(checkpoints, "checkpoints")
        run.tracker.end(status, run.error)


def observers(progress: Progress) -> dict[str, object]:
    """The host's own, by name."""
    return {"seqtoolkit.diary": Diary(), "seqtoolkit.plots": Plots(), "seqtoolkit.tracking": Tracking()} | {
        "seqtoolkit.screen": Screen(progress)
    }
