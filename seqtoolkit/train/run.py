"""Run: a run at work, as the life-cycle hooks are handed it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seqtoolkit.flow.replay import Replay
from seqtoolkit.flow.source import Sample
from seqtoolkit.flow.view import View
from seqtoolkit.train.learner import Learner
from seqtoolkit.train.stop import Status, Stop
from seqtoolkit.train.tracking import Tracker

Notify = Callable[..., None]


class Run:
    """A run at work: what it is, and what those who listen to it can have it do.

    Args:
        name: The name of its pipeline.
        folder: The run's own, on this machine.
        config: The whole pipeline with every default, as plain data.
        learner: What learns; its `graph` has the source, the model and the metrics.
        tracker: Where it is recorded.
        steps: How many updates it will take.
        notify: Calls a hook by name, with this run, in all who listen.
    """

    def __init__(
        self,
        *,
        name: str,
        folder: Path,
        config: Mapping[str, Any],
        learner: Learner,
        tracker: Tracker,
        steps: int,
        notify: Notify,
    ) -> None:
        self.name, self.folder, self.config = name, folder, config
        self.learner, self.tracker, self.steps = learner, tracker, steps
        self.run_id: str | None = None
        """The tracking store's name of the run, where it has one."""
        self.begun = 0
        """The update after which this process went on with the run."""
        self.error: str | None = None
        """What the run failed of, once it has."""
        self.halt = Stop()
        """What the loop looks at between two updates."""
        self._notify = notify

    def tell(self, hook: str, **facts: Any) -> None:
        """Call a hook of the life cycle in all who listen."""
        self._notify(hook, run=self, **facts)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record metrics beside those of the loop; everyone who listens hears of them."""
        self.tell("logged", step=step, metrics=metrics)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Have the tracking store keep what is at `path` now, a file or a directory, under `folder` there."""
        self.tracker.artifact(path, folder)

    def evaluated(
        self,
        step: int,
        metrics: Mapping[str, float],
        samples: list[Sample],
        views: list[View],
        replays: Sequence[Replay] = (),
    ) -> None:
        """Tell of an evaluation; the loop does."""
        self.tell("evaluated", step=step, metrics=metrics, samples=samples, views=views, replays=replays)

    def saved(self, step: int, path: Path, *, best: bool) -> None:
        """Tell of a checkpoint; the loop does."""
        self.tell("checkpoint_saved", step=step, path=str(path), best=best)

    def note(self, text: str) -> None:
        """Say a line to who watches."""
        self.tell("noted", text=text)

    def stop(self, reason: str, status: Status = "FINISHED") -> None:
        """End the run after this update, for a reason that is recorded; it is evaluated and saved as at its last step.

        With the status KILLED it ends as after Ctrl-C: saved, so that it can go on, and not tested.
        """
        self.halt.ask(reason, status)
