"""Fetch: runs and registered models that only a tracking store has, copied into a folder of this machine, once."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from seqtoolkit.folder import CHECKPOINTS, CONFIG, SOURCE, RunError, RunFolder
from seqtoolkit.train.checkpoint import MANIFEST, WEIGHTS, Checkpoints
from seqtoolkit.train.tracking.library import Library, LibraryError, StoredRun
from seqtoolkit.train.tracking.outbox import State
from seqtoolkit.train.tracking.registry import ModelRegistry
from seqtoolkit.train.tracking.store import public

FETCHED = ".fetched"
"""Where copies are kept, inside the folder where runs are."""
PACKAGE = "MLmodel"
"""The file that makes a folder an exported model."""


class Fetched(NamedTuple):
    """A copy of a run, with one of its checkpoints."""

    place: RunFolder
    weights: Path


def fetch_run(run_id: str, checkpoint: str, folder: Path, store: str | None = None) -> Fetched:
    """A run of the store, as a folder that has its config and, of its checkpoints, those that were asked for.

    Args:
        run_id: The store's name of the run.
        checkpoint: `best`, `last` or a step.
        folder: Where runs are kept; the copy is made inside of `.fetched` there, and made anew where the run has gone on.
        store: The address of the store; that of the copy, or else the one that MLflow's own settings name, where None.

    Raises:
        ValueError: the store does not answer, or has no such run or checkpoint; one line.
    """
    home = folder / FETCHED / run_id
    place = RunFolder(home.resolve())
    try:
        library = Library(store or State.load(home).store)
        run = library.run(run_id)
    except LibraryError:
        if (home / CONFIG).is_file() and store is None and (found := _copied(place, checkpoint)):
            return Fetched(place, found)
        raise
    if place.notes.get("ended") != run.ended or not place.config.is_file():
        _fetch_config(library, run, home)
    found = _copied(place, checkpoint)
    return Fetched(place, found or _fetch_checkpoint(library, run, checkpoint, place))


def fetch_model(address: str, folder: Path, store: str | None = None) -> RunFolder:
    """A registered model, `models:/name/1` or `models:/name@alias`, as the folder of its data.

    Raises ValueError, one line, where the store does not answer, has no such model, or has one that is none of ours.
    """
    registry = ModelRegistry(store)
    version = registry.find(address)
    home = folder / FETCHED / version.key
    if not home.is_dir():
        with _kept(home) as copy:
            model = registry.download(version, copy)
            place = package(model, address)
            if version.run_id is not None:
                experiment = registry.library.run(version.run_id).experiment_id
                State(store=public(registry.uri), experiment=experiment, run=version.run_id, ended=True).save(
                    place.path
                )
            _move(model, home)
    return package(home, address)


def package(model: Path, name: str | None = None) -> RunFolder:
    """The data of an exported model: a folder with `config.yaml`, `model.safetensors`, `manifest.json`.

    Raises RunError, which calls the model by `name`, where it is none.
    """
    found = [each.parent for each in model.glob(f"data/*/{MANIFEST}")]
    if len(found) != 1:
        raise RunError(f"{name or model} is no model that seqtoolkit has exported: it has no data/*/{MANIFEST}")
    return RunFolder(found[0].resolve())


def _fetch_config(library: Library, run: StoredRun, home: Path) -> None:
    """Begin the copy of a run: its config, what it is called, and where its store is."""
    if CONFIG not in library.artifacts(run.run_id):
        raise RunError(
            f"the run {run.run_id} in {public(library.uri)} has no {CONFIG}: seqtoolkit did not make it, or it is not delivered"
        )
    with _kept(home) as copy:
        library.download(run.run_id, CONFIG, copy)
        if SOURCE in library.artifacts(run.run_id):
            library.download(run.run_id, SOURCE, copy)
        metrics = {name: value for name, value in run.metrics.items() if name.startswith(("valid/", "test/"))}
        name = run.tags.get("seqtoolkit.pipeline", run.name)
        RunFolder(copy).note(name=name, run_id=run.run_id, status=run.status, ended=run.ended, metrics=metrics)
        state = State(store=public(library.uri), experiment=run.experiment_id, run=run.run_id, ended=True)
        state.save(copy)
        shutil.rmtree(home, ignore_errors=True)
        _move(copy, home)


def _fetch_checkpoint(library: Library, run: StoredRun, name: str, place: RunFolder) -> Path:
    """Copy one checkpoint, without what only training needs."""
    base = CHECKPOINTS
    there = library.artifacts(run.run_id, base)
    if f"{base}/{base}" in there:  # MLflow keeps the folder itself, with all that is in it
        base = f"{base}/{base}"
        there = library.artifacts(run.run_id, base)
    steps = sorted(each.rpartition("/")[2] for each in there if "/step_" in each)
    with _kept(place.checkpoints) as copy:
        wanted = f"step_{int(name):08d}" if name.isdecimal() else ""
        if not wanted and f"{base}/{name}" in there:
            wanted = library.download(run.run_id, f"{base}/{name}", copy).read_text(errors="replace").strip()
        if wanted not in steps:
            listed = ", ".join(str(int(each.removeprefix("step_"))) for each in steps) or "none"
            later = "; it is at work, and hands them over when it ends" if run.status == "RUNNING" else ""
            where = public(library.uri)
            raise RunError(f"the run {run.run_id} in {where} has no checkpoint {name!r}; there are: {listed}{later}")
        whole = copy / "whole"
        whole.mkdir(parents=True)
        for file in (WEIGHTS, MANIFEST):  # where the download puts a file depends on the store
            library.download(run.run_id, f"{base}/{wanted}/{file}", copy).rename(whole / file)
        place.checkpoints.mkdir(exist_ok=True)
        _move(whole, place.checkpoints / wanted)
        if not name.isdecimal():
            (place.checkpoints / name).write_text(f"{wanted}\n")
    return place.checkpoints / wanted


def _copied(place: RunFolder, name: str) -> Path | None:
    """The checkpoint of this name, where the copy has that very one."""
    if name.isdecimal() or (place.checkpoints / name).is_file():
        return Checkpoints(place.checkpoints).find(name)
    return None


@contextmanager
def draft(target: Path) -> Iterator[Path]:
    """A name beside `target` for a folder to be filled and moved; what is still there afterwards goes away."""
    beside = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def _kept(target: Path) -> Iterator[Path]:
    """The same for a copy. Raises RunError where the disk refuses it."""
    try:
        with draft(target) as beside:
            yield beside
    except OSError as error:
        raise RunError(f"what is fetched cannot be kept in {target.parent}: {error.strerror or error}") from None


def _move(filled: Path, target: Path) -> None:
    """Put a filled folder in its place, unless another process has just done so. Raises OSError."""
    try:
        filled.rename(target)
    except OSError:
        if not target.is_dir():
            raise
