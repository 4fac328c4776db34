"""Store: an MLflow tracking store, spoken to in its own terms: how it is written to; library.py reads it."""

from __future__ import annotations

import os
import posixpath
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from seqtoolkit.train.tracking.lock import hold

METRICS_PER_CALL = 1000
PARAMS_PER_CALL = 100
KEY_TAG = "seqtoolkit.key"
EXPERIMENT = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": "Runs of seqtoolkit. `seqtoolkit ui` fills the menu *Views*, `seqtoolkit compare` weighs cores.",
}
"""The tags of an experiment: what it is to MLflow's pages, which else take it for one of language models."""
_LONGEST = {"param": 6000, "tag": 8000, "key": 250}
_REFUSED = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}
_DENIED = {"PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED", "UNAUTHENTICATED", "ENDPOINT_NOT_FOUND"}


class Unreachable(Exception):  # noqa: N818  (a state of the world, not a fault)
    """The store does not answer now; it may later."""


class Refused(Exception):  # noqa: N818  (the store's answer, not a fault)
    """The store will never take this."""


class Point(NamedTuple):
    """One value of one metric; `time` in milliseconds since 1970."""

    key: str
    value: float
    time: int
    step: int


class Store:
    """One MLflow store. Its methods raise Refused or Unreachable, and nothing else."""

    def __init__(self, uri: str) -> None:
        """Open the store at `uri`; makes an SQLite database where there is none."""
        client = ready().MlflowClient
        self.uri = uri
        with translated(uri, opening=True), alone(uri):
            self._client = client(uri)

    def experiment(self, name: str) -> str:
        """The id of the experiment of this name, made where there is none."""
        with translated(self.uri, opening=True), alone(self.uri):
            found = self._client.get_experiment_by_name(name)
            if found is None:
                return self._client.create_experiment(name, tags=EXPERIMENT)
        if found.lifecycle_stage != "active":
            raise Refused(
                f"the experiment {name!r} has been deleted: restore it (mlflow experiments restore) or name another"
            )
        return found.experiment_id

    def create(self, experiment: str, name: str | None, time: int, tags: Mapping[str, str]) -> str:
        """Create a run and return its id."""
        with translated(self.uri, opening=True):
            run = self._client.create_run(experiment, start_time=time, tags=_tags(tags), run_name=name)
        return run.info.run_id

    def find(self, experiment: str, key: str) -> str | None:
        """The id of the run that was created with this key, if it was."""
        with translated(self.uri):
            found = self._client.search_runs([experiment], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
        return found[0].info.run_id if found else None

    def reopen(self, run: str, tags: Mapping[str, str]) -> str:
        """Set a run that has ended to running; return the id of its experiment."""
        with translated(self.uri, opening=True):
            info = self._client.get_run(run).info
            if info.lifecycle_stage != "active":
                raise Refused(f"the run {run} has been deleted: restore it (mlflow runs restore) or start anew")
            self._client.update_run(run, status="RUNNING")
            for key, value in _tags(tags).items():
                self._client.set_tag(run, key, value)
        return info.experiment_id

    def params(self, run: str, params: Mapping[str, str]) -> None:
        """Record parameters; one that the run has already with another value goes to the tag `changed.<key>`."""
        from mlflow.entities import Param, RunTag

        named = dict(
            zip(tidy(params), (shorten(str(value), _LONGEST["param"]) for value in params.values()), strict=True)
        )
        with translated(self.uri):
            known = self._client.get_run(run).data.params
            fresh = [Param(key, value) for key, value in named.items() if key not in known]
            for part in _parts(fresh, PARAMS_PER_CALL):
                self._client.log_batch(run, params=part)
            changed = [
                RunTag(*each)
                for key, value in named.items()
                if known.get(key, value) != value
                for each in _tags({f"changed.{key}": f"{known[key]} -> {value}"}).items()
            ]
            for part in _parts(changed, PARAMS_PER_CALL):
                self._client.log_batch(run, tags=part)

    def metrics(self, run: str, points: Iterable[Point]) -> None:
        """Record values; recording one a second time changes nothing."""
        from mlflow.entities import Metric

        points = list(points)
        keys = sorted({point.key for point in points})
        tidied = dict(zip(keys, tidy(keys), strict=True))
        metrics = [Metric(tidied[point.key], float(point.value), point.time, point.step) for point in points]
        with translated(self.uri):
            for part in _parts(metrics, METRICS_PER_CALL):
                self._client.log_batch(run, metrics=part)

    def tag(self, run: str, tags: Mapping[str, str]) -> None:
        """Give a run tags."""
        with translated(self.uri):
            for key, value in _tags(tags).items():
                self._client.set_tag(run, key, value)

    def label(self, experiment: str, tags: Mapping[str, str]) -> None:
        """Give an experiment tags; a longer one than the store takes is refused."""
        with translated(self.uri):
            for key, value in tags.items():
                self._client.set_experiment_tag(experiment, key, value)

    def artifact(self, run: str, path: Path, folder: str) -> None:
        """Copy a file or directory."""
        with translated(self.uri):
            self._client.log_artifact(run, str(path), folder or None)

    def end(self, run: str, status: str, error: str | None, time: int) -> None:
        """Give the run its final status."""
        with translated(self.uri):
            if error:
                self._client.set_tag(run, "error", shorten(error, _LONGEST["tag"]))
            self._client.set_terminated(run, status, end_time=time)

    def answers(self) -> bool:
        """Whether the store is there."""
        try:
            with translated(self.uri):
                self._client.search_experiments(max_results=1)
        except (Refused, Unreachable):
            return False
        return True


def resolve(uri: str | None = None) -> str:
    """The address of the store that is meant: `uri`, or else what MLflow's own settings name."""
    return absolute(uri or ready().get_tracking_uri())


def absolute(uri: str) -> str:
    """The same store wherever one stands: sqlite:///mlflow.db names a file in the working directory."""
    path = database(uri)
    return uri if path is None else f"sqlite:///{path}"


def database(uri: str) -> Path | None:
    """The file of an SQLite store."""
    if not uri.startswith("sqlite:///") or uri.startswith("sqlite:///:memory:"):
        return None
    return Path(uri.removeprefix("sqlite:///")).absolute()


def public(uri: str) -> str:
    """The address of a store without the name and password in it."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if parts.netloc else uri


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, and a mark where there were more."""
    mark = f"... ({len(text)} characters)"
    return text if len(text) <= limit else text[: limit - len(mark)] + mark


def tidy(keys: Iterable[str]) -> list[str]:
    """Keys that MLflow allows, as many and in the same order, different where they were different."""
    tidied: dict[str, str] = {}
    for key in keys:
        name = re.sub(r"[^\w\-. :/]", "_", key)
        if posixpath.normpath(name) != name or name == "." or name.startswith(("..", "/")):
            name = re.sub(r"[/.]", "_", name) or "_"
        if len(name) > _LONGEST["key"] or name in tidied:
            name = f"{name[:200].rstrip('/.')}-{zlib.crc32(key.encode()):08x}"
        tidied[name] = key
    return list(tidied)


def ready() -> ModuleType:
    """The part of MLflow that mlflow-skinny has; takes a second the first time. Raises Refused where it is absent."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        return import_module("mlflow.tracking")
    except ImportError as error:
        raise Refused(f"MLflow cannot be imported ({error}): pip install mlflow-skinny sqlalchemy alembic") from error


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: shorten(str(value), _LONGEST["tag"]) for key, value in zip(tidy(tags), tags.values(), strict=True)}


def _parts(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


@contextmanager
def alone(uri: str) -> Iterator[None]:
    """Keep other processes from making the same SQLite database, which takes seconds and fails when two do it."""
    path = database(uri)
    try:
        lock = None if path is None else hold(path.with_name(f".{path.name}.lock"), wait=120)
    except OSError:
        lock = None  # a directory that cannot be written: opening the database says so better
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


@contextmanager
def translated(uri: str, *, opening: bool = False) -> Iterator[None]:
    """Turn whatever MLflow raises into Refused or Unreachable, with the address and the first line of its reason."""
    try:
        yield
    except (Refused, Unreachable):
        raise
    except Exception as error:
        reason = f"{public(uri)}: {_reason(error)}"
        raise (Refused if _final(uri, error, opening=opening) else Unreachable)(reason) from error


def _reason(error: BaseException) -> str:
    """What went wrong in one line: the system's own word for it where there is one, and never a password."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and (inner.strerror or isinstance(inner, TimeoutError)):
            lines = [inner.strerror or str(inner)]
        inner = inner.__cause__ or inner.__context__
    return shorten(re.sub(r"//[^/@\s]+@", "//", lines[0]), 300)


def _final(uri: str, error: Exception, *, opening: bool) -> bool:
    """Whether trying again is in vain."""
    code = getattr(error, "error_code", "INTERNAL_ERROR")
    if code in _REFUSED or (opening and code in _DENIED):
        return True
    if not opening or "locked" in str(error) or code == "TEMPORARILY_UNAVAILABLE":
        return False
    if uri.startswith(("http://", "https://", "databricks")):
        return False
    return database(uri) is not None or "OperationalError" not in f"{type(error)} {error}"
