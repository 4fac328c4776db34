"""Checkpoint: everything of a run that moves, saved so that it is there whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import re
import shutil
from collections import OrderedDict
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
_PLAIN = (type(None), bool, int, float, complex, str, bytes)


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
        _check(state, "state")
        target, draft = self.folder / f"step_{step:08d}", self.folder / ".draft"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            _write(draft, step, weights, state)
            if target.exists():
                if best:
                    self._name("best", target)
                aside = self.folder / f".{target.name}"
                shutil.rmtree(aside, ignore_errors=True)
                target.rename(aside)
            draft.rename(target)
            for name in ("best", "last") if best else ("last",):  # what `last` has learned of the best, `best` names
                self._name(name, target)
        except (OSError, SafetensorError, RuntimeError) as error:
            shutil.rmtree(draft, ignore_errors=True)
            self._recover()
            reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
            raise CheckpointError(
                f"the checkpoint of step {step} could not be saved to {self.folder}: {reason}"
            ) from None
        self._drop()
        return target

    def find(self, name: str = "last") -> Path | None:
        """The folder that `last`, `best` or a step's number stands for; None where there is none that is whole."""
        self._recover()
        whole = self._all()
        if name not in ("last", "best"):
            return whole.get(int(name)) if name.isdecimal() else None
        try:
            match = _NAME.fullmatch((self.folder / name).read_text(errors="replace").strip())
        except OSError:
            match = None
        if match and int(match[1]) in whole:
            return whole[int(match[1])]
        return whole[max(whole)] if whole and name == "last" else None

    def steps(self) -> list[int]:
        """After how many updates those that are there were saved."""
        return sorted(self._all())

    def _all(self) -> dict[int, Path]:
        found = [each for each in self.folder.glob("step_*") if _NAME.fullmatch(each.name)]
        return {int(each.name.removeprefix("step_")): each for each in found if (each / MANIFEST).is_file()}

    def _name(self, name: str, target: Path) -> None:
        draft = self.folder / f".{name}"
        draft.write_text(target.name + "\n")
        _sync(draft)
        draft.replace(self.folder / name)
        _sync(self.folder)

    def _recover(self) -> None:
        """Put back a checkpoint that was about to be replaced by one of the same step."""
        for aside in self.folder.glob(".step_*"):
            with contextlib.suppress(OSError):  # it was replaced
                aside.rename(self.folder / aside.name[1:])

    def _drop(self) -> None:
        """Remove what is no longer kept, by a name under which it is nothing any more once that has begun."""
        for aside in self.folder.glob(".step_*"):
            shutil.rmtree(aside, ignore_errors=True)
        kept = {self.find("last"), self.find("best")}
        for step, each in self._all().items():
            if each not in kept and not (self.keep_every and step % self.keep_every == 0):
                with contextlib.suppress(OSError):
                    each.rename(self.folder / f".old_{each.name}")
        for old in self.folder.glob(".old_*"):
            shutil.rmtree(old, ignore_errors=True)


def load_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint, on the CPU. Raises CheckpointError where they are not what was saved."""
    verify(folder, WEIGHTS)
    try:
        return load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder / WEIGHTS} is no safetensors file: {' '.join(str(error).split())}") from None


def load_state(folder: Path) -> dict[str, Any]:
    """What else moves, on the CPU; no code in the file is run. Raises CheckpointError as `load_weights` does."""
    verify(folder, STATE)
    try:
        return torch.load(folder / STATE, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(f"{folder / STATE} is not read: it holds more than plain data, which could run") from None
    except Exception as error:  # noqa: BLE001  a foreign file may make torch raise anything
        raise CheckpointError(f"{folder / STATE} cannot be read: {type(error).__name__}") from None


def _write(folder: Path, step: int, weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    save_file(
        {name: each.detach().to("cpu", copy=True).contiguous() for name, each in weights.items()}, folder / WEIGHTS
    )
    packed = io.BytesIO()  # on a full disk torch's own writer fails without the reason
    torch.save(dict(state), packed)
    (folder / STATE).write_bytes(packed.getbuffer())
    sums = {name: digest(folder / name) for name in (WEIGHTS, STATE)}
    (folder / MANIFEST).write_text(json.dumps({"format": FORMAT, "step": step, "sha256": sums}, indent=1) + "\n")
    for name in (WEIGHTS, STATE, MANIFEST):
        _sync(folder / name)
    _sync(folder)


def manifest(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of itself: `format`, `step`, `sha256` by file. Raises CheckpointError where it is none."""
    try:
        found = json.loads((folder / MANIFEST).read_text())
        version = found["format"]
        whole = version != FORMAT or (type(found["step"]) is int and isinstance(found["sha256"], dict))
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is no checkpoint: {Path(error.filename).name} is missing") from None
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise CheckpointError(f"{folder} is no checkpoint of seqtoolkit: its {MANIFEST} is not one")
    if version != FORMAT:
        raise CheckpointError(
            f"{folder} has checkpoint format {version}, this version of seqtoolkit reads format {FORMAT}"
        )
    return found


def verify(folder: Path, name: str) -> None:
    """Raises CheckpointError where a file of a checkpoint is not the one that was saved."""
    sums = manifest(folder)["sha256"]
    if name not in sums:
        raise CheckpointError(f"{folder} is no checkpoint of seqtoolkit: its {MANIFEST} does not know {name}")
    try:
        whole = sums[name] == digest(folder / name)
    except FileNotFoundError:
        raise CheckpointError(f"{folder} is no checkpoint: {name} is missing") from None
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror}") from None
    if not whole:
        remedy = f"; remove {folder.name} to go on from the checkpoint before" if _NAME.fullmatch(folder.name) else ""
        raise CheckpointError(f"{folder / name} is damaged: its checksum is not the one that was saved{remedy}")


def _check(value: Any, key: str) -> None:
    """Refuse at the save what `load_state` would refuse, so that no run ends with a state that nothing can read."""
    if type(value) in (dict, OrderedDict):
        for name, each in value.items():
            _check(name, f"the key {name!r} of {key}")
            _check(each, f"{key}.{name}")
    elif type(value) in (list, tuple):
        for number, each in enumerate(value):
            _check(each, f"{key}.{number}")
    elif not isinstance(value, Tensor) and type(value) not in _PLAIN:
        raise CheckpointError(
            f"{key} cannot be saved: wanted tensors, numbers, text, or dicts and lists of them, got {type(value).__name__}"
        )


def digest(path: Path) -> str:
    """The sha256 of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
