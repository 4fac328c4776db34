"""Picture: the curves of one metric as a PNG: by step, by examples, by seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqtoolkit.compare.comparison import Comparison, Measured
from seqtoolkit.compare.curve import AXES, Band
from seqtoolkit.compare.drawing import LABELS, logarithmic

_COLORS = ("#0072b2", "#d55e00", "#00875f", "#b8568f", "#b27600", "#2f93cf", "#7a5c2e", "#6f4ea1")
_DASHES = ("-", "--", ":", "-.")


def draw(comparison: Comparison, metric: Measured, path: Path) -> None:
    """Draw to the PNG at `path`, the same bytes every time. Raises OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    places = {group.name: place for place, group in enumerate(comparison.groups)}
    axes = [axis for axis in AXES if axis in metric.curves]
    figure = Figure(figsize=(5.2 * len(axes), 4.2), dpi=120, layout="constrained", facecolor="white")
    panels = figure.subplots(1, len(axes), squeeze=False)[0]
    for panel, axis in zip(panels, axes, strict=True):
        _panel(panel, metric.curves[axis], places)
        panel.set_xlabel(LABELS[axis])
    panels[0].set_ylabel(metric.name, parse_math=False)
    figure.suptitle(f"{comparison.name}: {metric.name}", fontsize=12, parse_math=False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False, fontsize=9)
    FigureCanvasAgg(figure).print_png(str(path), metadata={"Software": None})


def _panel(panel: Any, bands: Mapping[str, Band], places: Mapping[str, int]) -> None:
    marks = {"interval": "mean and 95% interval", "range": "mean, min to max", "line": "one run"}
    for name, each in bands.items():
        color, dash = _COLORS[places[name] % len(_COLORS)], _DASHES[places[name] // len(_COLORS) % len(_DASHES)]
        label = f"{name} ({each.runs} runs, {marks[each.kind]})" if each.runs > 1 else f"{name} (one run)"
        panel.plot(each.x, each.mean, dash, color=color, linewidth=1.8, label=label.replace("$", r"\$"))
        panel.fill_between(each.x, each.low, each.high, color=color, alpha=0.16, linewidth=0)
    if logarithmic(bands):
        panel.set_yscale("log")
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)
