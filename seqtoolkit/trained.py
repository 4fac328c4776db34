"""Trained: a trained model with the pipeline that it is of, from a run, a checkpoint's folder or a model registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from seqtoolkit.flow.graph import Graph
from seqtoolkit.flow.model import Model
from seqtoolkit.folder import RunFolder
from seqtoolkit.run import Pipeline
from seqtoolkit.train.checkpoint import load_weights


@dataclass(frozen=True)
class Trained:
    """A trained model, and what it is of."""

    pipeline: Pipeline
    weights: Path
    """The folder that has `model.safetensors`: a checkpoint, or an exported model's."""
    place: RunFolder
    """The run's own folder, or the copy of it that was fetched from its store."""
    step: int
    """After how many updates it was saved."""

    @classmethod
    def find(
        cls,
        run: str | Path,
        checkpoint: str = "best",
        folder: str | Path = "runs",
        overrides: Sequence[str] = (),
    ) -> Self:
        """What `run` names: a run's id, its folder's name (or the beginning of either) or path, or a checkpoint's path.

        Args:
            run: The run, or the folder of one of its checkpoints.
            checkpoint: `best`, `last` or a step, of a run.
            folder: Where runs are kept.
            overrides: Changes to the pipeline, `key=value`; the model has to stay the same.

        Raises:
            RunError: there is no such run or checkpoint.
            ConfigError: the pipeline cannot be built here, a plugin may be missing.
        """
        path = Path(run)
        if (path / "manifest.json").is_file():
            place, weights = RunFolder.find(path.resolve().parent.parent, Path(folder)), path.resolve()
        else:
            place = RunFolder.find(run, Path(folder))
            weights = place.checkpoint(checkpoint)
        step = int(weights.name.removeprefix("step_"))
        return cls(Pipeline.load(place.config, overrides), weights, place, step)

    @cached_property
    def graph(self) -> Graph:
        """The typed graph, its model with the weights, on the CPU, in evaluation mode. Raises CheckpointError."""
        graph = self.pipeline.build()
        self.place.restore(graph.model, load_weights(self.weights))
        graph.model.eval()
        return graph

    @property
    def model(self) -> Model:
        """The model with its weights, on the CPU, in evaluation mode."""
        return self.graph.model


def load_model(run: str | Path, checkpoint: str = "best", folder: str | Path = "runs") -> Model:
    """The model of a run, in evaluation mode on the CPU, with the weights of its `best`, `last` or n-th checkpoint."""
    return Trained.find(run, checkpoint, folder).model
