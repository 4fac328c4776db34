"""Picture: an assessment drawn, a panel for each metric: a heat map over two axes, a curve over one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqtoolkit.assess.assessment import Assessment, Cell

DPI = 120
MOST_COLUMNS, MOST_ROWS = 40, 40
"""Of how many values an axis of a heat map has at most: more cannot be read."""
_RED, _BLUE = "#cc3311", "#4477aa"


def draw(found: Assessment, path: Path) -> Path | None:
    """Draw an assessment to the PNG at `path`; the same bytes each time.

    Cells of the difficulties that the model was trained on are framed in red, stretches of a curve shaded. Returns None
    where there is nothing to draw: no axis, more than two, more values than can be read, or no matplotlib.

    Raises OSError where the file cannot be written.
    """
    names = [name for name in found.metrics if name != "loss"] or ["loss"]
    sizes = [len(values) for values in found.axes.values()]
    if len(sizes) not in (1, 2) or (len(sizes) == 2 and (sizes[0] > MOST_ROWS or sizes[1] > MOST_COLUMNS)):
        return None
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    wide, tall = (max(4.6, 1.6 + 0.62 * sizes[1]), max(3.2, 1.4 + 0.5 * sizes[0])) if len(sizes) == 2 else (4.8, 3.6)
    figure = Figure(figsize=(wide * len(names), tall + 0.6), dpi=DPI, layout="constrained", facecolor="white")
    figure.suptitle(_title(found), fontsize=9, parse_math=False)
    for axis, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        (_heat_map if len(sizes) == 2 else _curve)(axis, found, name)
    beside = path.with_name(f".{path.name}")
    try:
        FigureCanvasAgg(figure).print_png(str(beside), metadata={"Software": None})
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    return path


def _title(found: Assessment) -> str:
    examples = sorted({cell.examples for cell in found.cells})
    counted = f"{examples[0]:,}" if len(examples) == 1 else f"{examples[0]:,} to {examples[-1]:,}"
    frame = "; red: trained on" if any(cell.trained for cell in found.cells) else ""
    return f"{found.run}, step {found.step:,}\n{found.split or found.counted}, {counted} {found.counted} each{frame}"


def _heat_map(axis: Any, found: Assessment, name: str) -> None:
    """One metric over two axes: the first downwards, the second to the right."""
    import numpy as np

    (down, rows), (right, columns) = found.axes.items()
    cells = [found.cells[row * len(columns) :][: len(columns)] for row in range(len(rows))]
    values = np.array([[cell.metrics.get(name, math.nan) for cell in line] for line in cells])
    share = _share(found, name)
    image = axis.imshow(values, cmap="viridis", aspect="auto", **({"vmin": 0, "vmax": 1} if share else {}))
    for row, line in enumerate(cells):
        for column, cell in enumerate(line):
            value = values[row, column]
            dark = not math.isfinite(value) or image.norm(value) < 0.6
            color = "white" if dark and math.isfinite(value) else "black"
            text = _number(value, share=share) if math.isfinite(value) else "none"
            axis.text(column, row, text, ha="center", va="center", fontsize=9, color=color)
            _frame(axis, cells, row, column, cell)
    axis.set_xticks(range(len(columns)), labels=[str(each) for each in columns])
    axis.set_yticks(range(len(rows)), labels=[str(each) for each in rows])
    axis.set_xlabel(_label(right))
    axis.set_ylabel(_label(down))
    axis.set_title(name.replace("_", " "), fontsize=11)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.figure.colorbar(image, ax=axis)


def _frame(axis: Any, cells: Sequence[Sequence[Cell]], row: int, column: int, cell: Cell) -> None:
    """The edges of a cell that was trained on, where its neighbor was not."""
    if not cell.trained:
        return
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        y, x = row + down, column + right
        if 0 <= y < len(cells) and 0 <= x < len(cells[0]) and cells[y][x].trained:
            continue
        ends = ([column + right / 2] * 2, [row - 0.5, row + 0.5])
        if down:
            ends = ([column - 0.5, column + 0.5], [row + down / 2] * 2)
        axis.plot(*ends, color=_RED, linewidth=2.5, solid_capstyle="projecting", clip_on=False, zorder=5)


def _curve(axis: Any, found: Assessment, name: str) -> None:
    """One metric over one axis, with its interval; values are evenly spaced."""
    ((key, values),) = found.axes.items()
    places = range(len(values))
    heights = [cell.metrics.get(name, math.nan) for cell in found.cells]
    intervals = [cell.intervals.get(name) for cell in found.cells]
    for place, cell in zip(places, found.cells, strict=True):
        if cell.trained:
            axis.axvspan(place - 0.5, place + 0.5, color=_RED, alpha=0.12, linewidth=0)
    axis.plot(places, heights, color=_BLUE, marker="o", markersize=4, linewidth=1.6)
    if any(intervals):
        lows, highs = zip(*(each or (math.nan, math.nan) for each in intervals), strict=True)
        axis.fill_between(places, lows, highs, color=_BLUE, alpha=0.25, linewidth=0)
    if _share(found, name):
        axis.set_ylim(-0.02, 1.02)
    axis.set_xticks(places, labels=[str(each) for each in values])
    axis.set_xlim(-0.5, len(values) - 0.5)
    axis.set_xlabel(_label(key))
    axis.set_title(name.replace("_", " "), fontsize=11)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def _share(found: Assessment, name: str) -> bool:
    """Whether a metric is a share: of those of examples, each that has an interval."""
    return found.kind == "source" and any(name in cell.intervals for cell in found.cells)


def _label(key: str) -> str:
    return key.partition(".")[2].replace("_", " ") or key


def _number(value: float, *, share: bool) -> str:
    return f"{value:.2f}" if share or 0.01 <= abs(value) < 100 else f"{value:.2g}"
