"""Folder: where a run lives on the disk: its config, its checkpoints, its metrics, and what it is called."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from omegaconf import OmegaConf

if TYPE_CHECKING:
    from torch import Tensor, nn

    from seqtoolkit.flow.origin import Origin

CONFIG, NOTES, CHECKPOINTS, METRICS, SOURCE = "config.yaml", "run.json", "checkpoints", "metrics.jsonl", "source"
_KINDS = {
    "name": str,
    "run_id": str,
    "status": str,
    "environment": dict,
    "tags": dict,
    "changes": list,
    "resumed": list,
}
LATEST = "latest"
"""The word for the run that was begun last."""


class RunError(ValueError):
    """A run cannot be found, or its folder cannot be used."""


class RunFolder:
    """One run's folder: `config.yaml` (resolved, runs again), `run.json`, `metrics.jsonl`, `checkpoints/`, and `source/`.

    The last is what its source has kept, where that keeps anything.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.config, self.checkpoints, self.source = path, path / CONFIG, path / CHECKPOINTS, path / SOURCE

    @classmethod
    def create(cls, parent: Path, name: str, resolved: Mapping[str, Any]) -> Self:
        """A new folder inside `parent`; raises RunError where that cannot be written."""
        stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
        path = parent / f"{stamp}-{name.replace('/', '-')}-{secrets.token_hex(2)}"
        try:
            path.mkdir(parents=True)
            place = cls(path.resolve())
            place.config.write_text(OmegaConf.to_yaml(OmegaConf.create(dict(resolved))))
            place.note(name=name)
        except OSError as error:
            raise RunError(f"runs cannot be kept in {parent}: {error.strerror}; choose another with --folder") from None
        return place

    @classmethod
    def find(cls, run: str | Path, parent: Path) -> Self:
        """The folder of a run: by its path, its name or id or the beginning of one, or `latest`. Raises RunError."""
        path = Path(run)
        if (path / CONFIG).is_file():
            return cls(path.resolve())
        places = [cls(each.resolve()) for each in sorted(parent.iterdir())] if parent.is_dir() else []
        places = [each for each in places if each.config.is_file()]
        word = str(run)
        if word == LATEST and places:
            return max(places, key=lambda each: each.config.stat().st_mtime_ns)
        for fits in (lambda name: name == word, lambda name: name.startswith(word)):
            found = [each for each in places if any(map(fits, {each.path.name, each.run_id}))]
            if len(found) == 1:
                return found[0]
            if found:
                names = ", ".join(each.path.name for each in found)
                raise RunError(f"{word!r} is the beginning of {len(found)} runs: {names}")
        recent = ", ".join(each.path.name for each in places[-3:]) or "none"
        raise RunError(f"no run {word!r} in {parent}/; the latest there: {recent}")

    @property
    def notes(self) -> dict[str, Any]:
        """What is known of the run."""
        try:
            return facts_of((self.path / NOTES).read_text()) or {}
        except (OSError, ValueError):
            return {}

    @property
    def tracked(self) -> str | None:
        """The tracking store's name of the run, if it has one."""
        return self.notes.get("run_id")

    @property
    def run_id(self) -> str:
        """The tracking store's name of the run, or else the folder's."""
        return self.tracked or self.path.name

    def note(self, **facts: Any) -> None:
        """Remember facts of the run; None is no fact, and forgets what was known."""
        known = {name: value for name, value in {**self.notes, **facts}.items() if value is not None}
        draft = self.path / f".{NOTES}"
        draft.write_text(json.dumps(known, indent=1) + "\n")
        draft.replace(self.path / NOTES)

    def resuming(self, changes: Sequence[str]) -> None:
        """Remember that the run goes on from its last checkpoint, and with which changes to its config."""
        from seqtoolkit.train.checkpoint import Checkpoints

        last, notes = Checkpoints(self.checkpoints).find("last"), self.notes
        step = 0 if last is None else int(last.name.removeprefix("step_"))
        now = {"step": step, "status": notes.get("status"), "changed": list(changes)}
        self.note(resumed=[*notes.get("resumed", []), now])

    def rows(self) -> list[dict[str, float]]:
        """The metrics that were recorded, in order, a dict for each time: `step`, and values by name; what is no row is left out."""
        path = self.path / METRICS
        lines = path.read_bytes().splitlines() if path.exists() else []
        return [row for line in lines if (row := row_of(line)) is not None]

    def checkpoint(self, name: str) -> Path:
        """The folder of the `last`, `best` or n-th checkpoint. Raises RunError where there is none."""
        from seqtoolkit.train.checkpoint import Checkpoints

        found = Checkpoints(self.checkpoints).find(name)
        if found is None:
            there = ", ".join(map(str, Checkpoints(self.checkpoints).steps())) or "none"
            raise RunError(f"the run in {self.path} has no checkpoint {name!r}; there are: {there}")
        return found

    def keep(self, origin: Origin) -> None:
        """Keep what the ids of a source or an environment stand for, all of it or nothing, unless that is kept. Raises RunError."""
        if self.source.exists():
            return
        draft = self.path / f".{SOURCE}"
        shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed meanwhile
        try:
            origin.keep(draft)
            if draft.exists():
                draft.rename(self.source)
        except OSError as error:
            raise RunError(f"{self.source} cannot be written: {error.strerror or error}") from None

    def restore(self, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Give a model the weights of a checkpoint; raises CheckpointError, one line, where they are another model's."""
        from seqtoolkit.train.checkpoint import CheckpointError

        try:
            model.load_state_dict(dict(weights), strict=True)
        except RuntimeError as error:
            reasons = [line.strip() for line in str(error).splitlines()[1:]]
            raise CheckpointError(
                f"the checkpoint in {self.path} is of another model: {' '.join(reasons)[:300]}"
            ) from None


def facts_of(text: str) -> dict[str, Any] | None:
    """What the text of a `run.json` says; None where it is none that a run writes."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(found, dict) and all(isinstance(found.get(name, kind()), kind) for name, kind in _KINDS.items())
    return found if whole else None


def row_of(line: bytes) -> dict[str, float] | None:
    """The row of metrics that a line is; None where it is none, such as one that was cut off."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        return None
    return {name: value for name, value in row.items() if isinstance(value, int | float)}
