"""Trained: a trained model with the pipeline that it is of, from a run, a checkpoint, a store, or an exported model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Self

import torch
from torch.optim import SGD

from seqtoolkit.fetch import PACKAGE, fetch_model, fetch_run, package
from seqtoolkit.flow.graph import Graph
from seqtoolkit.flow.model import Model
from seqtoolkit.folder import CONFIG, RunError, RunFolder
from seqtoolkit.run import Pipeline
from seqtoolkit.train.checkpoint import MANIFEST, WEIGHTS, load_weights, manifest, verify
from seqtoolkit.train.optimize import Update, choose_device

NEEDS, FILES = "needs", "files"
"""What an exported model's manifest says beside a checkpoint's: the versions of the distributions that it needs, and which
keys of its config name files that it brings."""
_RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Trained:
    """A trained model, and what it is of."""

    pipeline: Pipeline
    weights: Path
    """The folder that has `model.safetensors`: a checkpoint, or an exported model's."""
    place: RunFolder
    """The run's own folder, the copy of it that was fetched from its store, or the data of an exported model."""
    step: int
    """After how many updates it was saved."""

    @classmethod
    def find(
        cls,
        run: str | Path,
        checkpoint: str = "best",
        folder: str | Path = "runs",
        overrides: Sequence[str] = (),
        *,
        store: str | None = None,
    ) -> Self:
        """What `run` names.

        That is a run: its id, its folder's name (or the beginning of either) or its path, or an id that only the tracking
        store knows; or one checkpoint of it: a checkpoint's path, an exported model's, or a registered model,
        `models:/name/1` or `models:/name@alias`. What a store has is fetched into `.fetched` in `folder`, once.

        Args:
            run: The run, checkpoint, or model.
            checkpoint: `best`, `last` or a step, of a run.
            folder: Where runs are kept.
            overrides: Changes to the pipeline, `key=value`; the model has to stay the same.
            store: The address of the tracking store to look in; where None, the one that MLflow's own settings name.

        Raises:
            ValueError: there is no such run, checkpoint or model, or the store does not answer (one line).
            ConfigError: the pipeline cannot be built here, a plugin may be missing.
            CheckpointError: an exported model is damaged.
        """
        place, weights = _locate(run, checkpoint, Path(folder), store)
        changes = _unpack(weights, str(run)) if weights == place.path else []
        return cls(Pipeline.of(place, [*changes, *overrides]), weights, place, manifest(weights)["step"])

    @cached_property
    def graph(self) -> Graph:
        """The typed graph, its model with the weights, on the CPU, in evaluation mode. Raises CheckpointError."""
        graph = self.pipeline.build()
        self.place.restore(graph.model, load_weights(self.weights))
        graph.model.eval()
        return graph

    @contextmanager
    def computing(self, device: str = "auto") -> Iterator[Update]:
        """The model on a device, in the precision and on the threads of its run; on the CPU again afterwards."""
        run, model = self.pipeline.plan.sections["run"], self.model
        chosen, threads = choose_device(device), torch.get_num_threads()
        try:
            if run.threads:
                torch.set_num_threads(run.threads)
            model.to(chosen)
            yield Update(model, SGD(model.parameters(), lr=0.0), lambda _: 1.0, None, chosen, run.precision)
        finally:
            model.cpu()
            torch.set_num_threads(threads)

    @property
    def model(self) -> Model:
        """The model with its weights, on the CPU, in evaluation mode."""
        return self.graph.model


def load_model(run: str | Path, checkpoint: str = "best", folder: str | Path = "runs") -> Model:
    """The model of a run, in evaluation mode on the CPU, with the weights of its `best`, `last` or n-th checkpoint."""
    return Trained.find(run, checkpoint, folder).model


def _locate(run: str | Path, checkpoint: str, folder: Path, store: str | None) -> tuple[RunFolder, Path]:
    """Where a run and its checkpoint are; an exported model is its own checkpoint."""
    word, path, weights = str(run), Path(run), None
    if word.startswith("models:"):
        place = fetch_model(word, folder, store)
    elif (path / PACKAGE).is_file():
        place = package(path)
    elif (path / MANIFEST).is_file() and (path / CONFIG).is_file():
        place = RunFolder(path.resolve())
    elif (path / MANIFEST).is_file():
        place, weights = _run_of(path.resolve()), path.resolve()
    else:
        return _locate_run(word, checkpoint, folder, store)
    weights = weights or place.path
    if checkpoint not in ("best", str(step := manifest(weights)["step"])):
        raise RunError(f"{word} is one checkpoint, that of step {step}; {checkpoint!r} can be had of its run alone")
    return place, weights


def _run_of(checkpoint: Path) -> RunFolder:
    """The run that a checkpoint lies in. Raises RunError."""
    place = RunFolder(checkpoint.parent.parent)
    if not place.config.is_file():
        raise RunError(f"{checkpoint} is a checkpoint outside of its run: it has no {CONFIG} two folders above")
    return place


def _locate_run(word: str, checkpoint: str, folder: Path, store: str | None) -> tuple[RunFolder, Path]:
    """Where a run is: on this machine, or else the copy of what the store has."""
    try:
        place = RunFolder.find(word, folder)
    except RunError as missing:
        if not _RUN_ID.fullmatch(word):
            raise
        try:
            fetched = fetch_run(word, checkpoint, folder, store)
        except ValueError as error:
            raise RunError(f"{missing}; and {error}") from None
        return fetched.place, fetched.weights
    return place, place.checkpoint(checkpoint)


def _unpack(model: Path, name: str) -> list[str]:
    """What changes in the pipeline of an exported model: where the files are that came along.

    Raises CheckpointError where a file is not the one that was exported, RunError where a distribution is not installed.
    """
    known = manifest(model)
    for file in (CONFIG, WEIGHTS, *known["sha256"]):
        verify(model, file)
    needs, along = known.get(NEEDS, {}), known.get(FILES, {})
    if missing := [f"{each}=={wanted}" for each, wanted in needs.items() if not _installed(each)]:
        raise RunError(f"{name} needs what is not installed here: pip install {' '.join(missing)}")
    return [f"{key}={json.dumps(str(model / file))}" for key, file in along.items()]


def _installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True
