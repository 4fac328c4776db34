"""Library: what an MLflow store has, read back: experiments, runs, whole histories of metrics, artifacts."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from seqtoolkit.train.tracking.history import StoredCurve, of_client, of_file, unclamped
from seqtoolkit.train.tracking.store import (
    Refused,
    Store,
    Unreachable,
    alone,
    database,
    public,
    ready,
    resolve,
    translated,
)

PARENT_TAG = "mlflow.parentRunId"
SWEEP_TAG = "seqtoolkit.sweep"
KIND_TAG = "seqtoolkit.kind"
_PAGE = 1000


class LibraryError(ValueError):
    """The store cannot be read, or does not have what is asked for; one line that says where and what."""


class StoredExperiment(NamedTuple):
    """An experiment of a store."""

    experiment_id: str
    name: str
    updated: int
    """milliseconds since 1970"""


class StoredRun(NamedTuple):
    """What a store knows of a run."""

    run_id: str
    name: str
    status: str
    """RUNNING, FINISHED, FAILED, KILLED or SCHEDULED"""
    experiment_id: str
    begun: int
    """milliseconds since 1970"""
    ended: int | None
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    """The latest values."""
    curves: Mapping[str, StoredCurve]
    """Empty where they were not asked for."""

    @property
    def parent(self) -> str | None:
        """The id of the run that it is a part of."""
        return self.tags.get(PARENT_TAG)


class Library:
    """One MLflow store, for reading, and for what is added to runs that are over.

    Its methods raise LibraryError, a ValueError of one line with the store's address, without name and password.
    """

    def __init__(self, uri: str | None = None) -> None:
        """Open the store at `uri`, or the one that MLflow's own settings name; makes none where there is none."""
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # nobody waits minutes to hear that it is away
        with told():
            self.uri = resolve(uri)
            file = database(self.uri)
            if file is not None and not file.exists():
                raise LibraryError(f"there is no tracking store {file}; run something first, or name another store")
            with translated(self.uri, opening=True), alone(self.uri):
                self._client = ready().MlflowClient(self.uri)
                self._client.search_experiments(max_results=1)
            self._store = Store(self.uri)

    def __repr__(self) -> str:
        return f"Library({public(self.uri)!r})"

    def experiments(self) -> list[StoredExperiment]:
        """All that are not deleted, the latest first."""
        with told(), translated(self.uri):
            found = list(pages(self._client.search_experiments))
        rows = [StoredExperiment(each.experiment_id, each.name, each.last_update_time or 0) for each in found]
        return sorted(rows, key=lambda each: -each.updated)

    def experiment(self, name: str) -> str:
        """The id of the experiment of this name or id."""
        known = self.experiments()
        for each in known:
            if each.name == name:
                return each.experiment_id
        if any(each.experiment_id == name for each in known):
            return name
        names = [each.name for each in known]
        close = get_close_matches(name, names, n=1) or get_close_matches(name.lower(), names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(names[:10]) or 'none'}"
        raise LibraryError(f"no experiment {name!r} in {public(self.uri)}; {hint}")

    def runs(
        self,
        experiment: str | None = None,
        *,
        sweep: str | None = None,
        parent: str | None = None,
        kind: str | None = None,
        latest: int | None = None,
        curves: bool | Iterable[str] = False,
    ) -> list[StoredRun]:
        """The runs that are not deleted, the latest first.

        Args:
            experiment: Its name or id; every experiment where None.
            sweep: Only runs with this tag `seqtoolkit.sweep`: the parent and the trials.
            parent: Only runs that are part of the run with this id.
            kind: Only runs with this tag `seqtoolkit.kind`: `sweep`.
            latest: How many at most; all where None.
            curves: Whether the histories of the metrics are read as well: of all but `system/...`, or of those named.
        """
        wanted = {SWEEP_TAG: sweep, PARENT_TAG: parent, KIND_TAG: kind}
        text = " and ".join(f"tags.`{key}` = {quoted(value)}" for key, value in wanted.items() if value is not None)
        ids = (
            [each.experiment_id for each in self.experiments()] if experiment is None else [self.experiment(experiment)]
        )
        with told(), translated(self.uri):
            runs = pages(self._client.search_runs, ids, text, order_by=["attributes.start_time DESC"])
            found = list(islice(runs, latest))
        return [self._stored(each, curves=curves) for each in found]

    def run(self, run_id: str, *, curves: bool | Iterable[str] = False) -> StoredRun:
        """The run with this id."""
        with told(), translated(self.uri, opening=True):
            found = self._client.get_run(run_id)
        if found.info.lifecycle_stage != "active":
            raise LibraryError(f"the run {run_id} has been deleted from {public(self.uri)}: mlflow runs restore")
        return self._stored(found, curves=curves)

    def history(self, run_id: str, metrics: Iterable[str]) -> dict[str, StoredCurve]:
        """The whole history of each of these metrics that the run has."""
        names, file = list(dict.fromkeys(metrics)), database(self.uri)
        if file is not None:
            with suppress(sqlite3.Error):
                return of_file(file, run_id, names)
        with told(), translated(self.uri):
            return of_client(self._client, run_id, names)

    def artifacts(self, run_id: str, folder: str = "") -> list[str]:
        """The paths of the files and folders in `folder` of a run's artifacts."""
        with told(), translated(self.uri):
            return [each.path for each in self._client.list_artifacts(run_id, folder or None)]

    def download(self, run_id: str, artifact_path: str, to: Path) -> Path:
        """Copy an artifact, file or folder, into the folder `to`, which is made; returns where it is now."""
        to.mkdir(parents=True, exist_ok=True)
        with told(), translated(self.uri):
            return Path(self._client.download_artifacts(run_id, artifact_path, str(to)))

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        """Give a run a tag."""
        with told():
            self._store.tag(run_id, {key: value})

    def log_artifact(self, run_id: str, path: Path, folder: str = "") -> None:
        """Copy a file or directory to a run's artifacts, under `folder` there; the run's status stays."""
        with told():
            self._store.artifact(run_id, path, folder)

    def _stored(self, run: Any, *, curves: bool | Iterable[str]) -> StoredRun:
        info, data = run.info, run.data
        if curves is True:
            named = [name for name in data.metrics if not name.startswith("system/")]
        else:
            named = [name for name in curves or () if name in data.metrics]
        return StoredRun(
            run_id=info.run_id,
            name=info.run_name or "",
            status=info.status,
            experiment_id=info.experiment_id,
            begun=info.start_time,
            ended=info.end_time,
            params=data.params,
            tags=data.tags,
            metrics={name: float(unclamped(value)) for name, value in data.metrics.items()},
            curves=self.history(info.run_id, named),
        )


def pages(search: Any, *arguments: Any, **options: Any) -> Iterator[Any]:
    """Whatever a search of MLflow's client finds, page by page."""
    token = None
    while True:
        page = search(*arguments, max_results=_PAGE, page_token=token, **options)
        yield from page
        token = page.token
        if not token:
            return


def quoted(text: str) -> str:
    """A value in a filter of MLflow's, which knows no escapes. Raises LibraryError."""
    if '"' not in text:
        return f'"{text}"'
    if "'" not in text:
        return f"'{text}'"
    raise LibraryError(f"{text!r} has both kinds of quotes, and MLflow cannot search for it")


@contextmanager
def told() -> Iterator[None]:
    """What the store refuses, or cannot be asked, is told in one line."""
    try:
        yield
    except (Refused, Unreachable) as reason:
        raise LibraryError(f"the tracking store {reason}") from None
