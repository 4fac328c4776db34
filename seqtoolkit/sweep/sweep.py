"""Sweep: many runs of one pipeline, each in a process of its own, as trials of one Optuna study."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from optuna.trial import TrialState

from seqtoolkit.sweep import ledger
from seqtoolkit.sweep.crew import Crew
from seqtoolkit.sweep.design import Design, Objective
from seqtoolkit.sweep.parent import Parent
from seqtoolkit.sweep.row import Row, ranked
from seqtoolkit.sweep.shift import Shift, Watch
from seqtoolkit.sweep.study import Study
from seqtoolkit.train.stop import Stop
from seqtoolkit.train.tracking.lock import hold

JOURNAL = "study.jsonl"
LOCK = "sweep.lock"
LOGGER = logging.getLogger("seqtoolkit.sweep")


class Sweep:
    """Many runs of one pipeline.

    >>> sweep = Sweep.load("program_eval", ["model.core=rmc,lstm,dnc", "run.seed=0,1,2"])
    >>> rows = sweep.run(jobs=2)
    >>> print(rows[0].values, rows[0].best)
    """

    def __init__(self, design: Design, folder: str | Path = "runs", storage: str | None = None) -> None:
        if storage is not None and "://" not in storage:
            raise ValueError(f"--storage: wanted a URL such as sqlite:///{storage}, got {storage!r}")
        self.design, self.storage = design, storage
        self.runs = Path(folder)
        self.folder = self.runs / design.name
        """Where the sweep keeps what is its own; its runs are beside it."""
        self.objective: Objective = design.check()
        self.interrupted = False
        """Whether it was asked to stop before all was done."""
        self.idle = True
        """Whether there was nothing to do."""
        self.parent = Parent(self.objective.plan, self.name, self.folder, self.objective.better)

    @classmethod
    def load(
        cls,
        pipeline: str | Path | Mapping[str, Any],
        overrides: Sequence[str] = (),
        *,
        folder: str | Path = "runs",
        storage: str | None = None,
        **settings: Any,
    ) -> Self:
        """A sweep over a pipeline: a file, the name of a shipped one, or nested mappings.

        Args:
            pipeline: What is changed; its section `sweep` is where the other arguments begin from.
            overrides: `key=value` for all trials; `key=value,value` or `key=loguniform(1e-4, 1e-2)` to go through.
            folder: Where runs are kept.
            storage: A URL of SQLAlchemy's, where several machines share the trials; a file in the folder where None.
            **settings: search, trials, metric, prune, seed, match_parameters: those of the section `sweep`.

        Raises ConfigError that names all that is wrong with any of the trials.
        """
        return cls(Design.load(pipeline, overrides, settings), folder, storage)

    @property
    def name(self) -> str:
        """The same for the same pipeline, space and way to search."""
        return self.design.name

    def compare(self) -> Path | None:
        """Write the page that compares the finished runs, and keep it with the sweep in the tracking store.

        None where there is nothing to compare.
        """
        from seqtoolkit.compare import compare

        try:
            found = compare(self.name, (), (self.objective.metric,), None, self.runs)
            paths = found.write(self.folder / "compare")
            found.publish(paths)
        except ValueError as error:
            LOGGER.warning("no comparison: %s", error)
            return None
        return paths[0]

    def rows(self) -> list[Row]:
        """The trials as they stand, best first; none where none has begun. Raises StorageError where it cannot be read."""
        if self.storage is None and not (self.folder / JOURNAL).exists():
            return []
        return ranked(ledger.rows(self._study(), {}), self.objective.better)

    def run(self, jobs: int = 1, *, retry: bool = False, watch: Watch | None = None) -> list[Row]:
        """Run what is left of the trials, and return them all, best first.

        Trials that were interrupted or killed go on from their last checkpoints. Ctrl-C and SIGTERM have those under way
        save and end; a second Ctrl-C is at once.

        Args:
            jobs: How many trials run at a time.
            retry: Whether failed trials are run anew.
            watch: Is handed the trials by number several times a second.

        Raises:
            ValueError: another process is at work on this sweep, or the storage or the tracking store cannot be used.
            KeyboardInterrupt: Ctrl-C twice.
        """
        if jobs < 1:
            raise ValueError(f"jobs: wanted at least 1, got {jobs}")
        with ExitStack() as stack:
            first = self._enter(stack)
            study = self._study()
            study.fill(self.design.wanted())
            if retry:
                study.again(trial.number for trial in study.trials(TrialState.FAIL))
            crew, stop = Crew(jobs), Stop()
            stack.callback(crew.kill)
            given = (self.design, self.objective, study, crew, self.parent, self.runs)
            shift = Shift(*given, shared=self.storage is not None, records=first)
            with stop:
                shift.work(stop, watch)
            self.idle, self.interrupted = shift.idle, stop.asked
            rows = ranked(ledger.rows(study, {}), self.objective.better)
            done = any(row.status in ("finished", "pruned") for row in rows)
            self.parent.end(rows, "KILLED" if self.interrupted else "FINISHED" if done else "FAILED")
            return rows

    def _enter(self, stack: ExitStack) -> bool:
        """Make the sweep's folder, and hold it; False where another process on this machine shares the storage."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = hold(self.folder / LOCK)
        except OSError as error:
            raise ValueError(f"runs cannot be kept in {self.runs}: {error.strerror}; choose another --folder") from None
        if lock is not None:
            stack.enter_context(lock)
        elif self.storage is None:
            raise ValueError(
                f"{self.name}: another process is at work on this sweep; with --storage they would share it"
            )
        return lock is not None

    def _study(self) -> Study:
        where = self.storage or str(self.folder / JOURNAL)
        settings = self.design.settings
        return Study(self.name, where, self.design.space, self.objective.better, settings.search, settings.seed)
