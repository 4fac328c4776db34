"""Tracker: where a run is recorded; recording never stops, slows or breaks the training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

Value = str | int | float | bool | None
Status = Literal["FINISHED", "FAILED", "KILLED"]


class Tracker(ABC):
    """Records one run. No method but `start` blocks or raises, and `start` raises only for a mistake of the user's."""

    @abstractmethod
    def start(
        self,
        *,
        name: str | None,
        params: Mapping[str, Value],
        tags: Mapping[str, str],
        folder: Path,
        resume: str | None = None,
    ) -> str | None:
        """Begin a run, or go on with the run whose id is `resume`.

        `folder` is the run's own local directory, which exists; what could not be delivered is kept there. Returns the
        store's id of the run, or None where the store does not answer or there is none. Raises ValueError where the
        user asked for what cannot be: an unknown store, a run that does not exist, wrong credentials.
        """

    @abstractmethod
    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Note these values at this step; takes microseconds."""

    @abstractmethod
    def artifact(self, path: Path, folder: str = "") -> None:
        """Queue a file or directory to be copied to the store, under `folder` there.

        What is at `path` now is what will be copied, provided that files are replaced or removed, not written over.
        """

    @abstractmethod
    def end(self, status: Status, error: str | None = None, timeout: float = 30.0) -> None:
        """Deliver what is left, in at most `timeout` seconds; what stays undelivered is kept and said in one line."""

    @abstractmethod
    def where(self) -> str:
        """One line for the user: where the run is, and how to look at it."""


class NullTracker(Tracker):
    """Records nothing."""

    def start(
        self,
        *,
        name: str | None,  # noqa: ARG002  (the interface's)
        params: Mapping[str, Value],  # noqa: ARG002  (the interface's)
        tags: Mapping[str, str],  # noqa: ARG002  (the interface's)
        folder: Path,  # noqa: ARG002  (the interface's)
        resume: str | None = None,  # noqa: ARG002  (the interface's)
    ) -> str | None:
        """Begin nothing; there is no id."""
        return None

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Drop the values."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Copy nothing."""

    def end(self, status: Status, error: str | None = None, timeout: float = 30.0) -> None:
        """End nothing."""

    def where(self) -> str:
        """Say that there is nothing to look at."""
        return "the run is not tracked (use: none)"
