"""Learning curves: one picture of how training went."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

Points = Sequence[tuple[int, float]]
_COLORS = {"train": "#4477aa", "valid": "#cc6677", "test": "#228833"}
_SMOOTH = 0.02
"""The part of a curve that its smoothed line averages over, about."""


def curves(history: Mapping[str, Points], path: Path) -> Path | None:
    """Draw (step, value) points of each metric to the PNG at `path`; one panel a quantity, one line a split.

    `train/loss` and `valid/loss` share the panel `loss`; a name without a split is train's. Values that are no numbers
    are gaps. Returns None, with a logged line, where matplotlib is absent, there is nothing to draw, or the file cannot
    be written.
    """
    panels = _panels(history)
    if not panels:
        logger.info("no learning curves: there is nothing to draw yet")
        return None
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        logger.info("no learning curves: matplotlib is not installed (pip install 'seqtoolkit[plots]')")
        return None
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.8 * columns + 0.4, 3.4 * rows), dpi=110, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (quantity, splits) in zip(axes, panels.items(), strict=False):
        _draw(axis, quantity, splits)
    for axis in axes[len(panels) :]:
        axis.remove()
    beside = path.with_name(f".{path.name}")
    try:
        FigureCanvasAgg(figure).print_png(str(beside))
        beside.replace(path)
    except OSError as error:
        logger.warning("no learning curves: %s cannot be written: %s", path, error.strerror or error)
        return None
    return path


def _panels(history: Mapping[str, Points]) -> dict[str, dict[str, Points]]:
    """Quantity, then split, to its points."""
    panels: dict[str, dict[str, Points]] = {}
    for name, points in history.items():
        split, _, quantity = name.rpartition("/")
        if points:
            panels.setdefault(quantity, {})[split or "train"] = points
    return panels


def _draw(axis: Any, quantity: str, splits: Mapping[str, Points]) -> None:
    for split, points in splits.items():
        steps, values = [step for step, _ in points], [float(value) for _, value in points]
        color, many = _COLORS.get(split), len(points) > 100
        if many:
            (raw,) = axis.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
            axis.plot(steps, _smoothed(values), color=raw.get_color(), linewidth=1.6, label=split)
        else:
            axis.plot(steps, values, color=color, linewidth=1.6, marker="o", markersize=3.5, label=split)
    axis.set_title(quantity.replace("_", " "), fontsize=11)
    axis.set_xlabel("step")
    axis.set_ylabel(quantity.replace("_", " "))
    if "accuracy" in quantity:
        axis.set_ylim(-0.02, 1.02)
    elif _spread(splits):
        axis.set_yscale("log")
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)


def _spread(splits: Mapping[str, Points]) -> bool:
    """Whether values are positive and differ so much that only a logarithmic axis shows them."""
    values = [value for points in splits.values() for _, value in points if abs(value) < math.inf]
    return bool(values) and min(values) > 0 and max(values) > 50 * min(values)


def _smoothed(values: Sequence[float]) -> list[float]:
    """The mean so far, in which the last part of the curve counts most; what is no number is passed over."""
    window = max(1, round(len(values) * _SMOOTH))
    mean, count, means = math.nan, 0, []
    for value in values:
        if abs(value) < math.inf:
            count += 1
            weight = 1 / min(count, window)
            mean = value if count == 1 else mean * (1 - weight) + value * weight
        means.append(mean)
    return means
