"""Selection: the runs that are meant by an experiment, a sweep or a folder, be they in a tracking store or on the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from seqtoolkit.compare.metric import TAKEN, choose
from seqtoolkit.folder import CONFIG, RunFolder
from seqtoolkit.host.problem import one_line, suggest
from seqtoolkit.record import Curve, Record
from seqtoolkit.train.measure import MEASURED
from seqtoolkit.train.tracking.library import KIND_TAG, SWEEP_TAG, Library, LibraryError, StoredRun
from seqtoolkit.train.tracking.outbox import JOURNAL, State
from seqtoolkit.train.tracking.store import public

SWEEP = "sweep"


class Left(NamedTuple):
    """A run that is not counted."""

    run_id: str
    name: str
    reason: str


@dataclass(frozen=True)
class Selection:
    """Finished runs with their curves, and the others."""

    name: str
    origin: str
    """Where the runs are from, for people."""
    records: tuple[Record, ...]
    """The latest first."""
    left: tuple[Left, ...]
    metrics: tuple[str, ...]
    """Those to be compared, the one that matters most first."""
    parent: str | None = None
    """The run of the store that the runs are part of."""
    library: Library | None = None
    experiments: Mapping[str, str] = field(default_factory=dict)
    """The experiments of the store's runs, by run."""
    place: Path | None = None
    """The folder of the sweep, where it has one here."""
    own: bool = False
    """Whether that folder knows the sweep's run in a store, or is to be delivered to one."""

    def address(self, run_id: str) -> str | None:
        """The page that a run has in its store, where that is a server."""
        if self.library is None or not self.library.uri.startswith(("http://", "https://")):
            return None
        return f"{public(self.library.uri).rstrip('/')}/#/experiments/{self.experiments[run_id]}/runs/{run_id}"

    @classmethod
    def find(cls, experiment: str | Path, metrics: Sequence[str], store: str | None, folder: Path) -> Self:
        """The runs of an experiment or a sweep, by name or id, or of a folder of runs.

        Raises ValueError where there is no such thing, where none of its runs is finished, where none has a metric.
        """
        path, word = Path(experiment), str(experiment)
        if path.is_dir():
            if places := _places(path):
                return cls._of_places(path.resolve().name, places, metrics)
            path = path.resolve()
            word, folder = path.name, path.parent
        place, state = folder / word, State.load(folder / word)
        own = state.run is not None or (place / JOURNAL).exists()
        sweep = [each for each in _places(folder) if each.notes.get("tags", {}).get(SWEEP_TAG) == word]
        try:
            found = cls._of_store(word, metrics, Library(store or state.store))
        except LibraryError as error:
            if not sweep:
                raise ValueError(
                    f"{error}; nor is {str(experiment)!r} a folder of runs, or a sweep with runs in {folder}/"
                ) from None
            found = cls._of_places(word, sweep, metrics)
        return replace(found, place=place, own=own) if place.is_dir() and (sweep or own) else found

    @classmethod
    def _of_places(cls, name: str, places: Sequence[RunFolder], metrics: Sequence[str]) -> Self:
        finished, left = [], []
        for place in places:
            try:
                record = Record.of_folder(place)
            except ValueError as error:
                left.append(Left(place.run_id, place.path.name, f"cannot be read: {one_line(error)}"))
                continue
            if record.status == "FINISHED":
                finished.append(record)
            else:
                left.append(Left(record.run_id, record.name, place.notes.get("stopped") or record.status.lower()))
        origin = f"the folder {places[0].path.parent.name}/"
        known = {metric for record in finished for metric in record.curves}
        return cls(name, origin, tuple(finished), tuple(left), _choose(name, finished, left, known, metrics))

    @classmethod
    def _of_store(cls, word: str, metrics: Sequence[str], library: Library) -> Self:
        name, stored, parent = _stored(word, library)
        runs = [run for run in stored if run.tags.get(KIND_TAG) != SWEEP]
        finished = [Record.of_stored(run) for run in runs if run.status == "FINISHED"]
        left = [Left(run.run_id, run.name, run.status.lower()) for run in runs if run.status != "FINISHED"]
        homes = {run.run_id: run.experiment_id for run in runs}
        latest = {run.run_id: run.metrics for run in runs}
        known = {metric for record in finished for metric in latest[record.run_id]}
        chosen = _choose(name, finished, left, known, metrics)
        whole = (*chosen, *TAKEN)
        records = []
        for record in finished:
            found = latest[record.run_id]
            history = library.history(record.run_id, [metric for metric in whole if metric in found])
            curves = {metric: Curve(*each) for metric, each in history.items()}
            curves |= {metric: _alone(found[metric]) for metric in MEASURED if metric in found and metric not in curves}
            records.append(replace(record, curves=curves))
        return cls(name, public(library.uri), tuple(records), tuple(left), chosen, parent, library, homes)


def _stored(word: str, library: Library) -> tuple[str, list[StoredRun], str | None]:
    """The name, the runs and the parent run of an experiment or a sweep."""
    sweeps = library.runs(kind=SWEEP)
    for sweep in sweeps:
        if sweep.run_id == word:
            return sweep.tags.get(SWEEP_TAG, sweep.name), library.runs(sweep.experiment_id, parent=word), word
    named = {each.name: each.experiment_id for each in library.experiments()}
    names = {sweep.tags[SWEEP_TAG]: sweep for sweep in reversed(sweeps) if SWEEP_TAG in sweep.tags}
    if word in names and word not in named:
        sweep = names[word]
        return word, library.runs(sweep.experiment_id, sweep=word), sweep.run_id
    if not (word in named or word in named.values()):
        hint = suggest(word, [*named, *names]) or f"; there are: {', '.join([*named, *names][:10]) or 'none'}"
        raise LibraryError(f"no experiment or sweep {word!r} in {public(library.uri)}{hint}")
    runs = library.runs(word)
    parents = {sweep.run_id for sweep in sweeps} & {run.run_id for run in runs}
    whole = len(parents) == 1 and all(run.run_id in parents or run.parent in parents for run in runs)
    name = word if word in named else next(name for name, identifier in named.items() if identifier == word)
    return name, runs, next(iter(parents)) if whole else None


def _choose(
    name: str, finished: Sequence[Record], left: Sequence[Left], known: set[str], wanted: Sequence[str]
) -> tuple[str, ...]:
    if not finished:
        others = ", ".join(f"{each.name} ({each.reason})" for each in left[:5]) or "there are no runs at all"
        more = f", and {len(left) - 5} more" if len(left) > 5 else ""
        raise ValueError(f"no run of {name!r} is finished, so there is nothing to compare: {others}{more}")
    return choose(known, wanted, finished[0].config)


def _places(folder: Path) -> list[RunFolder]:
    """The runs' folders in a folder, or in the folders in it; the latest first."""
    found = sorted(folder.glob(f"*/{CONFIG}")) or sorted(folder.glob(f"*/*/{CONFIG}"))
    return [RunFolder(path.parent.resolve()) for path in reversed(found)]


def _alone(value: float) -> Curve:
    """A metric of which the latest value is all that is wanted."""
    return Curve(np.array([0], np.int64), np.array([value]))
