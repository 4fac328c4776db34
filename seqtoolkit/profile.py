"""Profile: where the time of an update goes, measured in a few updates of a run: seconds a stage, and torch's trace."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile, record_function

from seqtoolkit.flow.batch import Batch
from seqtoolkit.host.hooks import hookimpl
from seqtoolkit.train.episode import Episodes
from seqtoolkit.train.evaluate import Evaluation
from seqtoolkit.train.run import Run
from seqtoolkit.train.stage import Clock, stages, watch, wrap

FOLDER, TRACE, STAGES = "profile", "trace.json.gz", "stages.json"
"""Where the results are: a folder in the run's own and among its artifacts, and the files in it."""
WARM, FEW = 10, 5
"""Updates before the measurement, and updates of each kind of measurement."""
BEFORE = ("source", "transform", "batch", "environment")
"""What makes a batch, on a thread of its own while the update before is at work, unless it is made on the device.

So is acting, unless it waits for the update: the policy's own choices are then a part of `wait`.
"""


def schedule(updates: int) -> tuple[range, range, range]:
    """Which of so many updates are timed as a whole, which stage by stage, and which are traced."""
    few = min(FEW, max(1, updates // 3))
    warm = max(0, min(WARM, updates - 2 * few))
    timed = range(warm, warm + few)
    return range(max(0, warm - few), warm), timed, timed if updates < 2 else range(warm + few, warm + 2 * few)


class Profile:
    """Watches some updates of a run after it has warmed up: first their stages by the clock, then torch's profiler.

    The numbers of the run stay the same, bit for bit. Between the measurements, and after them, nothing is watched. The
    updates that are watched are not replayed from CUDA graphs, in which no stage could be told from another.

    Args:
        evaluation: What evaluates the run.
    """

    def __init__(self, evaluation: Evaluation | Episodes) -> None:
        self.evaluation = evaluation
        self._done = 0
        self._away: int | None = None
        """The thread that evaluates, while it does."""
        self._waits: int | None = None
        """The thread that waits for a batch, while it does."""
        self._open = ExitStack()
        """What watches the updates of now."""
        self._undo = ExitStack()
        """What is in place as long as the run is at work."""

    @hookimpl
    def run_started(self, run: Run) -> None:
        """Begin to count updates."""
        self._run, self._learner = run, run.learner
        device = run.learner.device
        self._whole, self._clock, self._evaluations = Clock(device), Clock(device), Clock(device)
        self._plain, self._timed, self._traced = schedule(run.steps - run.begun)
        self._profiler: profile | None = None
        stream, step = run.learner.stream, run.learner.step
        self._learner.stream = lambda: self._stream(stream)  # type: ignore[method-assign]  # of this one alone, while it is watched
        self._learner.step = lambda batch: self._step(step, batch)  # type: ignore[method-assign]  # of this one alone, while it is watched
        self._undo.callback(vars(self._learner).__delitem__, "stream")
        self._undo.callback(vars(self._learner).__delitem__, "step")
        self._undo.enter_context(wrap(self.evaluation, ("__call__",), self._evaluating))

    @hookimpl(tryfirst=True)
    def run_ended(self, run: Run) -> None:
        """Keep what was found, and say it in a few lines."""
        if not hasattr(self, "_run"):
            return
        self._close()
        self._undo.close()
        if not self._clock.calls["update"]:
            run.note("profile: the run ended before an update was measured")
            return
        found = self._found()
        self._keep(STAGES, lambda path: path.write_text(json.dumps(found, indent=1) + "\n"))
        for line in table(found):
            run.note(line)

    def _stream(self, stream: Callable[[], Iterator[Batch]]) -> Iterator[Batch]:
        batches = stream()
        while True:
            self._begin()
            with self._around("wait"):
                self._waits = threading.get_ident()
                batch = next(batches, None)
                self._waits = None
            if batch is None:
                return
            yield batch

    def _step(self, step: Callable[[Batch], dict[str, Any]], batch: Batch) -> dict[str, Any]:
        with self._around("update"):
            told = step(batch)
        self._done += 1
        if self._done in (self._plain.stop, self._timed.stop, self._traced.stop):
            self._close()
        return told

    def _begin(self) -> None:
        """Open what this update is to be watched with, where it is the first of its kind."""
        if self._done in self._timed[:1] or self._done in self._traced[:1]:
            captures = getattr(self._learner, "captures", None)
            if captures is not None:
                captures.paused = True
                self._open.callback(captures.resume)
            self._open.enter_context(watch(self._learner, self._stage))
        if self._done in self._traced[:1]:
            activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (self._learner.device.type == "cuda")
            self._profiler = profile(activities=activities)
            try:
                with _hushed():
                    self._profiler.start()
            except RuntimeError as error:  # what the machine's own profiling refuses
                self._profiler = None
                self._run.note(f"profile: no trace: {error}")

    def _close(self) -> None:
        """No more is watched, until another measurement begins; a trace that is whole is kept."""
        self._open.close()
        if self._profiler is not None:
            profiler, self._profiler = self._profiler, None
            with _hushed():
                profiler.stop()
            self._keep(TRACE, lambda path: profiler.export_chrome_trace(str(path)))

    def _around(self, stage: str) -> AbstractContextManager[Any]:
        if self._done in self._plain:
            return self._whole(stage)
        return self._stage(stage) if self._profiler or self._done in self._timed else nullcontext()

    def _stage(self, stage: str) -> AbstractContextManager[Any]:
        here = threading.get_ident()
        if self._away == here or (self._waits == here and not self._makes(stage) and stage != "wait"):
            return nullcontext()
        return self._timing(stage) if self._done in self._timed else record_function(stage)

    @contextmanager
    def _timing(self, stage: str) -> Iterator[None]:
        with self._clock(stage), self._scope(stage):
            yield

    def _scope(self, stage: str) -> AbstractContextManager[Any]:
        return record_function(stage) if self._profiler else nullcontext()

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        self._away = threading.get_ident()
        try:
            with self._evaluations("evaluation"), self._scope("evaluation"):
                yield
        finally:
            self._away = None

    def _found(self) -> dict[str, Any]:
        clock, whole, count = self._clock, self._whole, self._clock.calls["update"]
        seconds = {stage: taken / count for stage, taken in clock.seconds.items()}
        wait = seconds.pop("wait")
        update = wait + seconds.pop("update")
        calls = {
            stage: clock.calls[stage] for stage in (each for each, _, _ in stages(self._learner)) if stage in seconds
        }
        rows = [self._row(stage, seconds[stage], many) for stage, many in calls.items()]
        wait -= sum(row["seconds"] for row in rows if self._makes(row["stage"]) and not row["ahead"])
        rows.insert(0, self._row("wait", max(0.0, wait), count))
        rest = update - sum(row["seconds"] for row in rows if not row["ahead"])
        rows.append(self._row("rest", max(0.0, rest), count))
        found = {"updates": count, "update": update, "stages": rows}
        many, plain = self._evaluations.calls["evaluation"], whole.calls["update"]
        return found | {
            "unwatched": sum(whole.seconds.values()) / plain if plain else None,
            "evaluation": self._evaluations.seconds["evaluation"] / many if many else None,
            "evaluations": many,
            "device": str(self._learner.device),
        }

    def _row(self, stage: str, seconds: float, calls: int) -> dict[str, Any]:
        return {"stage": stage, "seconds": seconds, "calls": calls, "ahead": self._ahead(stage)}

    def _ahead(self, stage: str) -> bool:
        graph = self._learner.graph
        aside = getattr(self._learner, "lag", 0) > 0 if graph.acting else not graph.source.on_device
        return self._makes(stage) and aside

    @staticmethod
    def _makes(stage: str) -> bool:
        """Whether a stage is a part of making a batch."""
        return stage.partition(".")[0] in BEFORE

    def _keep(self, name: str, write: Callable[[Path], object]) -> None:
        """Write a file into the run's folder and among its artifacts; a disk that is full is no end of a run."""
        path = self._run.folder / FOLDER / name
        try:
            path.parent.mkdir(exist_ok=True)
            write(path)
        except (OSError, RuntimeError) as error:
            self._run.note(f"profile: {name} could not be kept: {getattr(error, 'strerror', None) or error}")
        else:
            self._run.artifact(path, FOLDER)


@contextmanager
def _hushed() -> Iterator[None]:
    """Inside, nothing reaches stderr: torch's profiler writes there from C++ that it begins and ends."""
    with ExitStack() as undo:
        with suppress(OSError):
            kept = os.dup(2)
            undo.callback(os.close, kept)
            undo.callback(os.dup2, kept, 2)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            undo.callback(os.close, nowhere)
            os.dup2(nowhere, 2)
        yield


def table(found: dict[str, Any]) -> list[str]:
    """What was found, as lines for people: milliseconds of an update, stage by stage, and of an evaluation."""
    plain, evaluation = found["unwatched"], found["evaluation"]
    unwatched = "" if plain is None else f"; {1000 * plain:.2f} ms unwatched"
    update = max(found["update"], 1e-12)
    lines = [f"profile: {1000 * update:.2f} ms an update (mean of {found['updates']}{unwatched})"]
    for row in found["stages"]:
        aside = "on a thread of its own" if row["ahead"] else f"{row['seconds'] / update:6.1%}"
        lines.append(f"  {row['stage']:<26} {1000 * row['seconds']:10.3f} ms  {aside}")
    if evaluation is not None:
        lines.append(f"  {'evaluation':<26} {1000 * evaluation:10.3f} ms  each of {found['evaluations']}")
    return lines
