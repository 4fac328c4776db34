"""Heatmap: attention from step to step as one picture, a row a case (Santoro et al. 2018, Figure 3)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqtoolkit.flow.view import View

ENDINGS = (".png", ".svg", ".pdf")
DPI = 100
_WIDE, _TALL = 1600, 1800
"""How many pixels the matrices have at most, all together."""
_LARGEST, _SMALLEST = 16, 4
"""How many pixels the side of one weight has."""
_STEPS = 16
"""How many steps are shown where nothing is said."""
_LEFT, _RIGHT, _TOP, _BOTTOM, _BETWEEN = 62, 84, 80, 84, 50
_NARROWEST, _LOWEST = 660, 96
"""How wide a picture is at least, for its words, and how high the matrices are, for the color bar's."""
_GAP = 1
"""Between two matrices, in weights."""
_RED, _GRAY = "#cc3311", "#888888"
_ENDS = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
"""What keeps the time out of a file."""


@dataclass(frozen=True)
class Choice:
    """What of the attention is drawn.

    `head` is a number, or `mean` of all, or `all`, a row each; `steps` are from and to (which is left out), the first
    ones that can be read where None. All count from 0.
    """

    head: int | str = "mean"
    block: int = 0
    steps: tuple[int, int] | None = None

    def text(self, view: View) -> str:
        """In words: which heads, which block."""
        blocks, heads = view.weights.shape[1:3]
        if heads == 1:
            which = "1 head"
        elif isinstance(self.head, int):
            which = f"head {self.head} of {heads}"
        else:
            which = "each head" if self.head == "all" else f"mean of {heads} heads"
        return f"{which}, block {self.block} of {blocks}" if blocks > 1 else which


MEAN = Choice()
"""What is drawn where nothing is said: the mean of the heads of the first block."""


@dataclass(frozen=True)
class _Row:
    name: str
    weights: np.ndarray
    """[T slots keys], of the steps that are shown"""
    marked: frozenset[int]


def ready() -> None:
    """Raises ValueError where pictures cannot be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("a picture wants matplotlib, which is not installed: pip install matplotlib")


def draw(views: Sequence[View], path: Path, title: str, choice: Choice = MEAN) -> tuple[int, int]:
    """Draw what each case attends to, a row a case and a matrix a step, to a .png, .svg or .pdf file.

    `title` is completed by which heads are shown. The picture has at most about 1750 x 1950 pixels; the same arguments
    give the same bytes. Returns the steps that are shown, from and to.

    Raises:
        ValueError: another ending, no case, a head, a block or steps that are not there, more than can be read, no
            matplotlib.
        OSError: the file cannot be written.
    """
    check_ending(path)
    ready()
    if not views:
        raise ValueError("there is no case to draw")
    _check(views, choice)
    count = len(views) * (views[0].weights.shape[2] if choice.head == "all" else 1)
    start, stop = choice.steps or (0, _fitting(views, count))
    stop = min(stop, max(len(each.weights) for each in views))
    side = _side(views, count, stop - start)
    if side < _SMALLEST:
        slots, keys = views[0].weights.shape[-2:]
        raise ValueError(
            f"{count} x {stop - start} matrices of {slots} x {keys} are more than can be read; choose fewer --steps"
            + ", or one --head" * (choice.head == "all")
        )
    rows = [row for view in views for row in _rows(view, choice, start, stop)]
    _save(_figure(rows, views[0].rows, (start, stop), side, f"{title}, {choice.text(views[0])}"), path)
    return start, stop


def check_ending(path: Path) -> None:
    """Raises ValueError for a file of another kind than can be drawn."""
    if path.suffix not in ENDINGS:
        raise ValueError(f"wanted a file ending in {', '.join(ENDINGS)}, got {path}")


def _check(views: Sequence[View], choice: Choice) -> None:
    blocks, heads = views[0].weights.shape[1:3]
    if not 0 <= choice.block < blocks:
        raise ValueError(f"block: wanted one from 0 to {blocks - 1}, got {choice.block}")
    if choice.head not in ("mean", "all", *range(heads)):
        raise ValueError(f"head: wanted mean, all, or one from 0 to {heads - 1}, got {choice.head}")
    longest = max(len(each.weights) for each in views)
    if choice.steps is not None and not 0 <= choice.steps[0] < min(choice.steps[1], longest):
        start, stop = choice.steps
        raise ValueError(f"steps: wanted FROM:TO within the {longest} steps, 0:{longest}, got {start}:{stop}")


def _side(views: Sequence[View], count: int, steps: int) -> int:
    """How many pixels the side of a weight has, if so many steps are shown."""
    slots, keys = views[0].weights.shape[-2:]
    wide, tall = _WIDE // (steps * (keys + _GAP)), (_TALL // count - _BETWEEN) // slots
    return min(_LARGEST, wide, tall)


def _fitting(views: Sequence[View], count: int) -> int:
    """The most steps that are shown where nothing is said."""
    steps = min(_STEPS, max(len(each.weights) for each in views))
    while steps > 1 and _side(views, count, steps) < _SMALLEST:
        steps -= 1
    return steps


def _rows(view: View, choice: Choice, start: int, stop: int) -> list[_Row]:
    weights = view.weights[start:stop, choice.block]
    marked = frozenset(step - start for step in view.marked)
    if choice.head == "mean":
        return [_Row(view.name, weights.mean(1), marked)]
    if isinstance(choice.head, int):
        return [_Row(view.name, weights[:, choice.head], marked)]
    return [_Row(f"{view.name}, head {head}", weights[:, head], marked) for head in range(weights.shape[1])]


def _figure(rows: Sequence[_Row], inputs: int, window: tuple[int, int], side: int, title: str) -> Any:
    """The picture, laid out in pixels so that each weight is a square of the same size."""
    from matplotlib.figure import Figure

    slots, keys = rows[0].weights.shape[1:]
    steps = window[1] - window[0]
    columns = steps * (keys + _GAP) - _GAP
    wide, tall = columns * side, slots * side
    width = max(_NARROWEST, _LEFT + wide + _RIGHT)
    body = max(_LOWEST, len(rows) * (tall + _BETWEEN) - _BETWEEN)
    height = _TOP + body + _BOTTOM
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    scale = _scale(rows)
    image: Any = None
    for number, row in enumerate(rows):
        bottom = height - _TOP - (number + 1) * tall - number * _BETWEEN
        axis = figure.add_axes((_LEFT / width, bottom / height, wide / width, tall / height))
        image = _draw(axis, row, inputs, window, scale)
    bar = figure.add_axes(
        ((_LEFT + wide + 18) / width, _BOTTOM / height, 12 / width, (height - _TOP - _BOTTOM) / height)
    )
    figure.colorbar(image, cax=bar, ticks=np.linspace(0, scale, 6)).ax.tick_params(labelsize=8)
    marked = any(row.marked for row in rows)
    for text, top, size in ((title, 10, 10.5), (_legend(inputs, marked=marked), height - 42, 8.5)):
        figure.text(_LEFT / width, 1 - top / height, text, fontsize=size, va="top", parse_math=False)
    return figure


def _scale(rows: Sequence[_Row]) -> float:
    """The weight at the end of the color bar: one of a few, so that pictures can be compared."""
    most = max(float(np.nan_to_num(row.weights).max(initial=0)) for row in rows)
    return next((each for each in (0.25, 0.5, 1.0) if most <= each), most)


def _legend(inputs: int, *, marked: bool) -> str:
    what = "the input" if inputs == 1 else f"the input's {inputs} rows"
    red = "\nred: the steps that matter most" if marked else ""
    return f"rows: slots; columns: the slots and (right of the line) {what} that they attend to{red}"


def _draw(axis: Any, row: _Row, inputs: int, window: tuple[int, int], scale: float) -> Any:
    """One row of matrices on one axis; what is no number is left white."""
    from matplotlib.patches import Rectangle

    slots, keys = row.weights.shape[1:]
    start, stop = window
    pitch = keys + _GAP
    field = np.full((slots, (stop - start) * pitch - _GAP), np.nan, np.float32)
    for step, matrix in enumerate(row.weights):
        field[:, step * pitch : step * pitch + keys] = matrix
    extent = (0, field.shape[1], slots, 0)
    image = axis.imshow(
        field, cmap="viridis", vmin=0, vmax=scale, extent=extent, aspect="auto", interpolation="nearest"
    )
    for step in range(len(row.weights)):
        left, marked = step * pitch, step in row.marked
        axis.plot([left + keys - inputs] * 2, [0, slots], color="white", linewidth=1.4, solid_capstyle="butt")
        frame = Rectangle((left, 0), keys, slots, fill=False, clip_on=False, zorder=3 + marked)
        frame.set(edgecolor=_RED if marked else _GRAY, linewidth=2.2 if marked else 0.6)
        axis.add_patch(frame)
    axis.set_xticks([step * pitch + keys / 2 for step in range(len(row.weights))])
    axis.set_xticklabels(range(start, start + len(row.weights)), fontsize=8)
    for step, label in enumerate(axis.get_xticklabels()):
        if step in row.marked:
            label.set(color=_RED, fontweight="bold")
    every = max(1, -(-slots // 8))
    axis.set_yticks([slot + 0.5 for slot in range(0, slots, every)], labels=range(0, slots, every), fontsize=8)
    axis.set_ylabel("slot", fontsize=9)
    axis.set_xlabel("step", fontsize=9, labelpad=1)
    axis.set_title(row.name, fontsize=9, loc="left", pad=5, parse_math=False)
    axis.tick_params(length=0, pad=3)
    axis.spines[:].set_visible(False)
    axis.set_xlim(0, field.shape[1])
    axis.set_ylim(slots, 0)
    return image


def _save(figure: Any, path: Path) -> None:
    """Write the file in one move, in the same bytes every time."""
    import matplotlib as mpl

    beside = path.with_name(f".{path.name}")
    try:
        with mpl.rc_context({"svg.hashsalt": "seqtoolkit"}):
            figure.savefig(beside, format=path.suffix[1:], metadata=_ENDS[path.suffix])
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
