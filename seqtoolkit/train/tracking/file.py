"""FileTracker: a run recorded as JSON lines in its own folder, for people with their own ways of looking."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from seqtoolkit.train.tracking.journal import Journal
from seqtoolkit.train.tracking.tracker import Status, Tracker, Value

logger = logging.getLogger(__name__)


class FileTracker(Tracker):
    """Writes `metrics.jsonl` (step, seconds since 1970, values) and `tracking.json` (name, params, tags, status).

    A run that goes on appends. Artifacts are in the run's folder already; nothing is copied.
    """

    def __init__(self) -> None:
        self._folder = Path()
        self._journal: Journal | None = None
        self._about: dict[str, object] = {}

    def start(
        self,
        *,
        name: str | None,
        params: Mapping[str, Value],
        tags: Mapping[str, str],
        folder: Path,
        resume: str | None = None,  # noqa: ARG002  (the folder is the run)
    ) -> None:
        """Begin, or go on, in the folder; there is no id. Raises ValueError where it cannot be written."""
        self._folder = folder
        self._about = {"name": name, "status": "RUNNING", "error": None, "params": dict(params), "tags": dict(tags)}
        try:
            self._write()
            self._journal = Journal(folder / "metrics.jsonl")
        except OSError as error:
            raise ValueError(f"{folder}: a run cannot be recorded here: {error.strerror or error}") from error

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Queue one line."""
        if self._journal is not None:
            self._journal.put({"step": step, "time": time.time(), **metrics})

    def artifact(self, path: Path, folder: str = "") -> None:
        """Leave it where it is."""

    def end(self, status: Status, error: str | None = None, timeout: float = 30.0) -> None:  # noqa: ARG002  (takes no time)
        """Write what is queued, and the status."""
        if self._journal is None:
            return
        self._journal.close()
        self._journal = None
        self._about |= {"status": status, "error": error}
        try:
            self._write()
        except OSError as failure:
            logger.warning("%s: the end cannot be recorded: %s", self._folder, failure.strerror or failure)

    def where(self) -> str:
        """Name the file."""
        return f"metrics: {self._folder / 'metrics.jsonl'}"

    def _write(self) -> None:
        beside = self._folder / "tracking.json.new"
        beside.write_text(json.dumps(self._about, indent=2) + "\n")
        beside.replace(self._folder / "tracking.json")
