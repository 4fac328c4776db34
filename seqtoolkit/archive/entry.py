"""Entry: what is in a run's folder, read without trust: whatever is damaged is said, and the rest is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from seqtoolkit.folder import CHECKPOINTS, CONFIG, METRICS, NOTES, facts_of, row_of
from seqtoolkit.train.tracking.lock import held
from seqtoolkit.train.tracking.outbox import JOURNAL

STAMP = re.compile(r"\d{8}-\d{6}(?=-)")
"""How the name of a run's folder begins: when it was made."""
_STEP = re.compile(r"step_(\d+)")
_CHUNK = 1 << 16


class Resumed(NamedTuple):
    """One time that a run went on."""

    step: int
    """after which"""
    status: str | None
    """what it had been until then"""
    changed: list[str]
    """changes to its config, `run.steps=100`"""


class Entry:
    """One run's folder; reading it changes nothing there, whoever is at work in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _notes(self) -> tuple[dict[str, Any], str | None]:
        found = _read(self.path / NOTES)
        if found[1] is not None:
            return {}, found[1]
        notes = facts_of(found[0])
        return ({}, f"{NOTES} is not JSON that a run writes") if notes is None else (notes, None)

    @property
    def notes(self) -> dict[str, Any]:
        """What `run.json` has; nothing where it is damaged."""
        return self._notes[0]

    @cached_property
    def _config(self) -> tuple[dict[str, Any], str | None]:
        import yaml

        found = _read(self.path / CONFIG)
        if found[1] is not None:
            return {}, found[1]
        try:
            config = yaml.load(found[0], getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  both are safe
        except (yaml.YAMLError, ValueError, RecursionError):
            config = None
        return (config, None) if isinstance(config, dict) else ({}, f"{CONFIG} is not a pipeline")

    def setting(self, *key: str) -> Any:
        """A value of the config, `setting("run", "seed")`; None where there is none."""
        value: Any = self._config[0]
        for name in key:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    @property
    def damage(self) -> str | None:
        """What cannot be read, if anything cannot."""
        return self._config[1] or self._notes[1]

    @property
    def run_id(self) -> str:
        """The tracking store's name of the run, or else the folder's."""
        return str(self.notes.get("run_id") or self.path.name)

    @cached_property
    def begun(self) -> datetime:
        """When it was made: by its name, or else by its oldest file."""
        stamp = STAMP.match(self.path.name)
        if stamp is not None:
            try:
                return datetime.strptime(stamp[0], "%Y%m%d-%H%M%S").astimezone()
            except ValueError:
                pass
        times = [each.stat().st_mtime for each in (self.path, self.path / CONFIG) if each.exists()]
        return datetime.fromtimestamp(min(times, default=0.0)).astimezone()

    @cached_property
    def status(self) -> str:
        """RUNNING, FINISHED, FAILED, KILLED; DIED: its process ended without a word; STARTING, or UNSTARTED; DAMAGED."""
        if self.damage is not None:
            return "DAMAGED"
        status = self.notes.get("status")
        if status is None:
            return "STARTING" if held(self.path / JOURNAL) else "UNSTARTED"
        if status == "RUNNING" and not (held(self.path / METRICS) or held(self.path / JOURNAL)):
            return "DIED"
        return str(status)

    def rows(self) -> Iterator[dict[str, float]]:
        """The rows of metrics, in order; what is no row is left out."""
        try:
            data = (self.path / METRICS).read_bytes()
        except OSError:
            return
        yield from (row for line in data.splitlines() if (row := row_of(line)) is not None)

    def rows_back(self, having: str = "step") -> Iterator[dict[str, float]]:
        """The rows that have a metric, the last one first; reads no more of the file than it is asked for."""
        name = json.dumps(having).encode()
        for line in _lines_back(self.path / METRICS):
            row = row_of(line) if name in line else None
            if row is not None and having in row:
                yield row

    def last(self, metric: str) -> float | None:
        """The last value of a metric."""
        row = next(self.rows_back(metric), None)
        return None if row is None else row[metric]

    @property
    def judged(self) -> str:
        """The metric by which its best checkpoint is chosen."""
        first = self.setting("metric")
        first = first[0] if isinstance(first, list) and first else first
        first = first.get("use") if isinstance(first, Mapping) else first
        kind = "source" if self.setting("environment") is None else "environment"
        first = first or ("episode_return" if kind == "environment" else "loss")
        split = self.setting("evaluate", kind, "split") or "valid"
        return f"{split}/{self.setting('evaluate', 'best') or first}"

    def named(self, name: str) -> int | None:
        """The step of the checkpoint that is the `best` or the `last`."""
        text, _ = _read(self.path / CHECKPOINTS / name)
        match = _STEP.fullmatch(text.strip())
        return int(match[1]) if match else None

    def checkpoints(self) -> list[int]:
        """The steps of the checkpoints that are there."""
        found = (self.path / CHECKPOINTS).glob("step_*/manifest.json")
        return sorted(int(match[1]) for each in found if (match := _STEP.fullmatch(each.parent.name)))

    @property
    def resumed(self) -> list[Resumed]:
        """Each time that it went on, but for those of which nothing is left: later it went on from before them."""
        kept: list[Resumed] = []
        for each in self.notes.get("resumed", []):
            if isinstance(each, dict) and type(each.get("step")) is int:
                changed = each.get("changed")
                now = Resumed(each["step"], each.get("status"), changed if isinstance(changed, list) else [])
                kept = [*(former for former in kept if former.step <= now.step), now]
        return kept


def entries(folder: Path) -> list[Entry]:
    """The runs in a folder, the newest first; folders that are no run's are passed over."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if (path / NOTES).is_file() or (path / CONFIG).is_file()]
    return sorted(map(Entry, found), key=lambda entry: (entry.begun, entry.path.name), reverse=True)


def _read(path: Path) -> tuple[str, str | None]:
    """What a file holds, and why that cannot be had."""
    try:
        return path.read_text(encoding="utf-8"), None
    except FileNotFoundError:
        return "", f"{path.name} is missing"
    except OSError as error:
        return "", f"{path.name} cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        return "", f"{path.name} is no text"


def _lines_back(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            end, rest = file.seek(0, 2), b""
            while end > 0:
                start = max(0, end - _CHUNK)
                file.seek(start)
                rest, *lines = (file.read(end - start) + rest).split(b"\n")
                yield from reversed(lines)
                end = start
            yield rest
    except OSError:
        return
