"""Plot: pictures of what a run has learned, from its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seqtoolkit.flow.heatmap import MEAN, Choice, check_ending, draw
from seqtoolkit.flow.view import View, look
from seqtoolkit.observer import ATTENTION
from seqtoolkit.requirement import require_attention
from seqtoolkit.train.tracking import attach
from seqtoolkit.trained import Trained


class Plotted(NamedTuple):
    """A picture, and what is worth saying of it."""

    path: Path
    steps: tuple[int, int]
    """from and to, of those that are shown"""
    longest: int
    """how many steps the longest case has"""
    unstored: str | None
    """why the tracking store does not have it; None where it has"""


def plot_attention(
    run: str | Path,
    checkpoint: str = "best",
    folder: str | Path = "runs",
    *,
    to: Path | None = None,
    data: Path | None = None,
    choice: Choice = MEAN,
) -> Plotted:
    """Draw what the core of a run attends to in the cases of its task (Santoro et al. 2018, Figure 3).

    The cases are those of the source that evaluates the run. The picture is kept with the run's artifacts too.

    Args:
        run: A run's id, its folder's name (or the beginning of either) or its path.
        checkpoint: `best`, `last`, or a step.
        folder: Where runs are kept.
        to: The picture, .png, .svg or .pdf; in the run's folder where None.
        data: An .npz file for the numbers: `names`, `rows` (how many of the keys, the last, are the input's), and for
            the case i `weights_i` [T blocks heads slots keys] and `marked_i`.
        choice: Which heads, block and steps.

    Raises:
        ValueError: there is no such run or checkpoint, its core has no attention to show, what is asked for is not
            there, a file cannot be written.
    """
    if to is not None:
        check_ending(to)
    if data is not None and data.suffix != ".npz":
        raise ValueError(f"wanted a file ending in .npz for the numbers, got {data}")
    trained = Trained.find(run, checkpoint, folder)
    place, pipeline, graph = trained.place, trained.pipeline, trained.graph
    if pipeline.plan.acting:
        raise ValueError(f"{place.path.name} acts in an environment: what is drawn are the cases of a source")
    require_attention(graph.model, pipeline.plan, pipeline.registry)
    views = look(graph, pipeline.evaluated())
    path = place.path / ATTENTION / f"{trained.weights.name}{_suffix(choice)}.png" if to is None else to
    title = f"attention of {place.path.name}\nstep {trained.step}"
    try:
        if to is None:
            path.parent.mkdir(exist_ok=True)
        if data is not None:
            _save(views, data)
        steps = draw(views, path, title, choice)
    except OSError as error:
        raise ValueError(f"{error.filename or path} cannot be written: {error.strerror or error}") from None
    return Plotted(path, steps, max(len(each.weights) for each in views), attach(place.path, path, ATTENTION))


def _suffix(choice: Choice) -> str:
    """What tells a picture from that of an evaluation."""
    head = "" if choice.head == "mean" else f"-head_{choice.head}"
    block = f"-block_{choice.block}" if choice.block else ""
    steps = "-steps_{}_{}".format(*choice.steps) if choice.steps else ""
    return f"{head}{block}{steps}"


def _save(views: Sequence[View], path: Path) -> None:
    arrays = {"names": np.array([each.name for each in views]), "rows": np.array(views[0].rows)}
    for number, view in enumerate(views):
        arrays[f"weights_{number}"] = view.weights
        arrays[f"marked_{number}"] = np.array(view.marked, np.int64)
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # its stub takes the names for allow_pickle
