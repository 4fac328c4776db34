"""Checkpoint: everything of a run that moves, saved so that it is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

FORMAT = 1
WEIGHTS, STATE, MANIFEST = "model.safetensors", "state.pt", "manifest.json"
_NAME = re.compile(r"step_(\d+)")


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or cannot be saved."""


class Checkpoints:
    """The checkpoints of one run: a folder each, `step_00000500`, and the names `last` and `best` for two of them.

    Args:
        folder: Where they are kept.
        keep_every: Besides the last and the best, keep one each so many updates; 0 keeps no other.
    """

    def __init__(self, folder: Path, keep_every: int = 0) -> None:
        self.folder, self.keep_every = folder, keep_every

    def save(self, step: int, weights: Mapping[str, Tensor], state: Mapping[str, Any], *, best: bool = False) -> Path:
        """Save one, make it the last (and the best), drop those no longer kept; return its folder.

        Raises CheckpointError where the disk refuses; what was saved before is then still there, whole.
        """
        target = self.folder / f"step_{step:08d}"
        draft = self.folder / f".step_{step:08d}.{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            _write(draft, step, weights, state)
            if target.exists():  # the same step again, after a resume: the numbers are the same
                shutil.rmtree(target)
            draft.rename(target)
            self._name("last", target)
            if best:
                self._name("best", target)
        except (OSError, SafetensorError, RuntimeError) as error:
            shutil.rmtree(draft, ignore_errors=True)
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise CheckpointError(
                f"the checkpoint of step {step} could not be saved to {self.folder}: {reason}"
            ) from None
        self._drop()
        return target

    def find(self, name: str = "last") -> Path | None:
        """The folder that `last`, `best` or a step's number stands for; None where there is none."""
        if name in ("last", "best"):
            pointer = self.folder / name
            named = self.folder / pointer.read_text().strip() if pointer.is_file() else None
            if named is not None and (named / MANIFEST).is_file():
                return named
            return max(self._all(), default=None) if name == "last" else None
        target = self.folder / f"step_{int(name):08d}"
        return target if target.is_dir() else None

    def _all(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(each for each in self.folder.iterdir() if _NAME.fullmatch(each.name))

    def _name(self, name: str, target: Path) -> None:
        draft = self.folder / f".{name}.{os.getpid()}"
        draft.write_text(target.name + "\n")
        draft.replace(self.folder / name)
        _sync(self.folder)

    def _drop(self) -> None:
        kept = {self.find("last"), self.find("best")}
        for each in self._all():
            step = int(each.name.removeprefix("step_"))
            if each not in kept and not (self.keep_every and step % self.keep_every == 0):
                shutil.rmtree(each, ignore_errors=True)


def load_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint, on the CPU. Raises CheckpointError where they are not what was saved."""
    _verify(folder, WEIGHTS)
    try:
        return load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder / WEIGHTS} is no safetensors file: {error}") from None


def load_state(folder: Path) -> dict[str, Any]:
    """What else moves, on the CPU; no code in the file is run. Raises CheckpointError as `load_weights` does."""
    _verify(folder, STATE)
    try:
        return torch.load(folder / STATE, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{folder / STATE} cannot be read: {str(error).splitlines()[0]}") from None


def _write(folder: Path, step: int, weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    save_file(
        {name: each.detach().to("cpu", copy=True).contiguous() for name, each in weights.items()}, folder / WEIGHTS
    )
    torch.save(dict(state), folder / STATE)
    sums = {name: _digest(folder / name) for name in (WEIGHTS, STATE)}
    (folder / MANIFEST).write_text(json.dumps({"format": FORMAT, "step": step, "sha256": sums}, indent=1) + "\n")
    for name in (WEIGHTS, STATE, MANIFEST):
        _sync(folder / name)
    _sync(folder)


def _verify(folder: Path, name: str) -> None:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        version, wanted = manifest["format"], manifest["sha256"][name]
        found = _digest(folder / name)
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is no checkpoint: {Path(error.filename).name} is missing") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder} is no checkpoint of seqtoolkit: {error!r}") from None
    if version != FORMAT:
        raise CheckpointError(f"{folder} has checkpoint format {version}, this version of seqtoolkit reads {FORMAT}")
    if found != wanted:
        raise CheckpointError(f"{folder / name} is damaged: its checksum is not the one that was saved")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
