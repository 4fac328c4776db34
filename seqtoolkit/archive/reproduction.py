"""Reproduction: a run done again from what its folder keeps, and whether its numbers came out equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from seqtoolkit.archive.comparison import Comparison, compare
from seqtoolkit.archive.difference import Sides, differences, environment
from seqtoolkit.archive.entry import Entry
from seqtoolkit.folder import RunFolder
from seqtoolkit.host.hooks import hookimpl

if TYPE_CHECKING:
    from seqtoolkit.train.run import Run
    from seqtoolkit.train.tracking.progress import Progress

TAG = "seqtoolkit.reproduces"
"""The tag of the new run, with the id of the one that it does again."""
_SIGNALS = ("SIGINT", "SIGTERM")
Hear = Callable[[Mapping[str, Sides]], None]


@dataclass(frozen=True)
class Reproduction:
    """A run done again."""

    original: str
    """the id of the run"""
    run_id: str
    """the id of the new one"""
    folder: Path
    """the new one's"""
    status: str
    interrupted: bool
    """whether the new run was stopped by a signal"""
    environment: dict[str, Sides]
    """what differs: `a` is the run's, `b` is now"""
    notes: list[str]
    """what to know of the comparison: why it goes no further, what cannot be the same"""
    comparison: Comparison
    error: str | None
    """what the new run failed of, where the first one did not"""

    @property
    def equal(self) -> bool:
        """Whether every number that was compared is the same."""
        return self.error is None and self.comparison.different == 0 and self.comparison.values > 0


class _End(NamedTuple):
    """Where the first numbers end that one config made, and how."""

    step: int
    status: str
    notes: list[str]


def reproduce(
    run: str | Path,
    folder: str | Path = "runs",
    *,
    steps: int | None = None,
    progress: Progress | None = None,
    hear: Hear | None = None,
) -> Reproduction:
    """Train a run again, by its config and seed, in a new folder inside `folder`, and compare every number, exactly.

    Those of the machine are left out: speed, seconds, memory, `system/`. The new run goes no further than the first one
    did, and is recorded where the pipeline says, with the tag `seqtoolkit.reproduces`.

    Args:
        run: Its id, its folder's name (or the beginning of either) or its path.
        folder: Where runs are kept.
        steps: Go no further than this; the config stays as it is, its schedule too.
        progress: Who shows it.
        hear: Is told what of the environment differs, before the training begins.

    Raises:
        RunError: there is no such run.
        ConfigError: the pipeline cannot be built here.
        ValueError: there is nothing to compare with.
    """
    from seqtoolkit.run import Pipeline

    if steps is not None and steps < 1:
        raise ValueError(f"--steps: wanted at least 1, got {steps}")
    place = RunFolder.find(run, Path(folder))
    entry = Entry(place.path)
    rows = list(entry.rows())
    end = _end(entry, rows, steps)
    failed = entry.status == end.status == "FAILED"
    wanted = sum(row["step"] == end.step for row in rows) + failed  # to see whether it fails again
    guide = _Guide(end.step, wanted, environment(entry.notes), hear)
    failure = None
    try:
        pipeline = Pipeline.of(place)
        pipeline.run(folder, progress=progress, tags={TAG: place.run_id}, observers={"seqtoolkit.guide": guide})
    except Exception as error:  # noqa: BLE001  a part of the pipeline may raise anything
        if guide.folder is None:
            raise _explained(error, entry) from None
        failure = f"{type(error).__name__}: {error}"
    assert guide.folder is not None
    notes = [*end.notes, *_cautions(entry, guide)]
    return _judged(entry, Entry(guide.folder), end, guide, notes, failure)


class _Guide:
    """Goes with the new run: compares its environment as it begins, and ends it where there is no more to compare.

    That is after the step `until`, once as many rows of it are recorded as are `wanted`.
    """

    def __init__(self, until: int, wanted: int, recorded: Mapping[str, str], hear: Hear | None) -> None:
        self.until, self.wanted, self.recorded, self.hear = until, wanted, recorded, hear
        self.folder: Path | None = None
        self.differing: dict[str, Sides] = {}
        self.dirty = self.timed = False
        self._seen = 0

    @hookimpl(tryfirst=True)
    def run_started(self, run: Run) -> None:
        """Say what of the environment differs."""
        self.folder = run.folder
        now = environment(Entry(run.folder).notes)
        self.differing = differences(self.recorded, now)
        self.timed = run.config["run"]["time_limit"] is not None
        self.dirty = "true" in (self.recorded.get("git dirty"), now.get("git dirty"))
        if self.hear is not None:
            self.hear(self.differing)

    @hookimpl
    def logged(self, run: Run, step: int) -> None:
        """One more row."""
        self._count(run, step)

    @hookimpl
    def evaluated(self, run: Run, step: int) -> None:
        """One more row."""
        self._count(run, step)

    def _count(self, run: Run, step: int) -> None:
        self._seen += step == self.until
        over = step > self.until or (step == self.until and self._seen >= self.wanted)
        if over and self.until < run.steps and not run.halt.asked:  # it may end there by itself, as the first one did
            run.stop(f"a reproduction up to step {self.until}", "KILLED")


def _end(entry: Entry, rows: list[dict[str, float]], steps: int | None) -> _End:
    """Where the numbers of the first config end. Raises ValueError where there are none."""
    last, status, notes = max((int(row["step"]) for row in rows), default=0), entry.status, []
    cut = next((each for each in entry.resumed if each.changed or each.status == "FINISHED"), None)
    if cut is not None:
        changes = f"with {' '.join(cut.changed)}" if cut.changed else "though it had ended"
        notes.append(f"after step {cut.step} the run went on {changes}: compared up to there")
        again = cut.status == "FINISHED"  # then it may have been tested there a second time
        last, status = min(last, cut.step), "" if again else cut.status or ""
    else:
        reason = entry.notes.get("error") or entry.notes.get("stopped")
        if status != "FINISHED" or reason:
            what = status + (f", {reason}" if reason else "")
            notes.append(f"the run ended after step {last} ({what}): compared up to there")
        if entry.resumed:
            notes.append("the run went on once or more; its environment is that of the last time")
    if steps is not None and steps < last:
        last, status = steps, ""
        notes.append(f"compared up to step {steps}, as asked")
    first = min((int(row["step"]) for row in rows), default=None)
    if first is None or first > last:
        what = "no metrics" if first is None else f"no metrics up to step {last}, the first of step {first}"
        raise ValueError(f"the run in {entry.path} has recorded {what}: there is nothing to compare with")
    return _End(last, status, notes)


def _cautions(entry: Entry, guide: _Guide) -> list[str]:
    notes = []
    if guide.timed:
        notes.append("run.time_limit ends a run by the clock: the two may end after different steps")
    if guide.dirty:
        notes.append("files differ from their commit, and nothing tells which: the code may not be the same")
    if not entry.notes.get("environment"):
        notes.append("the run has no environment recorded")
    return notes


def _judged(
    entry: Entry, again: Entry, end: _End, guide: _Guide, notes: list[str], failure: str | None
) -> Reproduction:
    """What came of it."""
    rows, remade = list(entry.rows()), list(again.rows())
    reached = int(max((row["step"] for row in remade), default=0))
    upto = min(end.step, reached)
    whole = reached == end.step and end.status == again.status == "FINISHED"
    if failure is not None and failure == entry.notes.get("error"):
        notes.append(f"the new run failed as the first one did: {failure}")
        failure = None
    elif failure is None and end.status == entry.status == "FAILED":
        notes.append("the new run did not fail")
    if upto < end.step:
        why = again.notes.get("stopped") or again.status
        notes.append(f"the new run ended after step {upto} ({why}), before the first: compared up to there")
    return Reproduction(
        original=entry.run_id,
        run_id=again.run_id,
        folder=again.path,
        status=again.status,
        interrupted=again.notes.get("stopped") in _SIGNALS,
        environment=guide.differing,
        notes=notes,
        comparison=compare(rows, remade, upto, whole=whole),
        error=failure,
    )


def _explained(error: Exception, entry: Entry) -> Exception:
    """Why the new run could not begin, and what else is there than was there for the first one."""
    if not isinstance(error, ValueError):
        return error
    from seqtoolkit.train.tracking import environment_tags

    then = environment(entry.notes)
    now = environment(
        {"environment": environment_tags(packages=[name for name in then if name.startswith("seqtoolkit")])}
    )
    lines = [told(name, each) for name, each in differences(then, now).items() if "b" in each]
    return ValueError("\n".join([str(error), *lines]))


def told(name: str, values: Sides) -> str:
    """A difference of the environment, in a line."""
    return f"{name}: was {values.get('a', 'not recorded')}, is now {values.get('b', 'not there')}"
