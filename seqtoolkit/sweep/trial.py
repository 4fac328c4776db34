"""Trial: one trial of a sweep, in the process of its own in which it runs.

`python -m seqtoolkit.sweep.trial RUN` trains in the run's folder, from its last checkpoint if it has one. The first line of
its standard input, JSON, is its Order; when that input closes, the sweep is gone, and the trial saves and ends.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqtoolkit.sdk import Run, hookimpl
from seqtoolkit.sweep.row import Better

if TYPE_CHECKING:
    from optuna.trial import Trial

PRUNED = "pruned: "
"""What the reason begins with for which a pruned run was stopped."""
INTERRUPTED = 130


@dataclass(frozen=True)
class Order:
    """What a trial's process is told."""

    sweep: str
    """The name of the sweep, and of its study."""
    storage: str
    number: int
    metric: str
    better: Better
    prune: bool
    tags: Mapping[str, str]
    """For the run."""

    def line(self) -> bytes:
        """As it is sent."""
        return json.dumps(asdict(self)).encode() + b"\n"


class Reporter:
    """Tells Optuna of each evaluation, and ends the run where Optuna's pruner gives it up."""

    def __init__(self, trial: Trial, metric: str, *, prune: bool) -> None:
        self.trial, self.metric, self.prune = trial, metric, prune
        self._known = dict(trial.study.trials[trial.number].intermediate_values)

    @hookimpl
    def evaluated(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        """Report the metric; a value of a step that was reported before the run was resumed is known."""
        value = metrics.get(self.metric, math.nan)
        if math.isnan(value):
            return
        if step not in self._known:
            self.trial.report(value, step)
        if self.prune and step < run.steps and self.trial.should_prune():
            run.stop(
                f"{PRUNED}{self.metric} {value:.4g} after {step} updates is worse than the trials before", "KILLED"
            )


def work(folder: Path, order: Order) -> str:
    """Train in a run's folder; return how it ended."""
    from seqtoolkit.experiment import Experiment
    from seqtoolkit.folder import RunFolder
    from seqtoolkit.run import Pipeline
    from seqtoolkit.sweep.study import seat

    place = RunFolder(folder)
    pipeline = Pipeline.of(place)
    experiment = Experiment(pipeline.plan, pipeline.registry)
    reporter = Reporter(seat(order.sweep, order.storage, order.number), order.metric, prune=order.prune)
    return experiment(place, None, tags=order.tags, also={"seqtoolkit.sweep": reporter}).status


def main(arguments: list[str]) -> int:
    """Do the work; 0 where the run came to its end, 130 where it was stopped."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin deaf to it
    try:
        order = Order(**_first_line())
        threading.Thread(target=_follow, name="the sweep's life", daemon=True).start()
        status = work(Path(arguments[0]), order)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0 if status == "FINISHED" else INTERRUPTED


def _first_line() -> dict[str, Any]:
    """Read without Python's buffer, which a thread that waits for more would keep locked at the end of the process."""
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(0, 1)
        if not more:
            raise ValueError("a trial is begun by a sweep: seqtoolkit sweep PIPELINE KEY=VALUE,VALUE")
        line += more
    return json.loads(line)


def _follow() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
