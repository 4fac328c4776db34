"""Page: a comparison as one HTML file that needs nothing else, and no script to be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from seqtoolkit.compare.comparison import Comparison, Measured
from seqtoolkit.compare.curve import AXES, Axis, Band
from seqtoolkit.compare.drawing import LABELS, chart, forest
from seqtoolkit.compare.markup import card, data, listed, remark, swatch
from seqtoolkit.compare.panel import costs, runs, same, seeds, settings
from seqtoolkit.compare.statistic import FEWEST, LEVEL, METHOD
from seqtoolkit.compare.table import headline, title

_HERE = Path(__file__).parent
_TABS: dict[Axis, str] = {"step": "by step", "examples": "by examples", "seconds": "by time"}


def page(comparison: Comparison) -> str:
    """The whole page."""
    metrics = comparison.metrics
    switches = "".join(_switch("metric", f"m{place}", each.name, first=not place) for place, each in enumerate(metrics))
    switches += "".join(_switch("axis", f"a{place}", _TABS[axis], first=not place) for place, axis in enumerate(AXES))
    tabs = "".join(f'<label for="m{place}">{escape(each.name)}</label>' for place, each in enumerate(metrics))
    body = [
        f"<header><div><h1>{escape(comparison.name)}</h1>",
        f'<p class="sub">{escape(headline(comparison))} · {escape(comparison.origin)}</p></div>',
        '<button class="plain" type="button">light / dark</button></header>',
        f'<div class="tabs">{tabs}</div>',
        _legend(comparison),
        *(_section(comparison, place, each) for place, each in enumerate(metrics)),
        costs(comparison),
        settings(comparison),
        card("How to read this", "", listed([f"{METHOD}.", *map(str, comparison.notes)])),
        runs(comparison),
        same(comparison),
        "<footer>Written by seqtoolkit compare.</footer>",
    ]
    names = [group.name for group in comparison.groups]
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(comparison.name)}: comparison</title>",
            f"<style>\n{(_HERE / 'page.css').read_text()}{_choices(len(metrics))}</style>\n</head>\n<body>",
            f"{switches}\n<main>",
            *body,
            '</main>\n<div id="tip" hidden></div>',
            data("names", names),
            data("curves", dict(_points(comparison))),
            f"<script>\n{(_HERE / 'page.js').read_text()}</script>\n</body>\n</html>\n",
        ]
    )


def _switch(name: str, identifier: str, label: str, *, first: bool) -> str:
    checked = " checked" if first else ""
    return f'<input class="switch" type="radio" name="{name}" id="{identifier}" aria-label="{escape(label)}"{checked}>'


def _choices(metrics: int) -> str:
    """The style that shows what is chosen, so that no script has to."""
    rules = []
    for each in [*(f"m{place}" for place in range(metrics)), *(f"a{place}" for place in range(len(AXES)))]:
        label = f'main label[for="{each}"]'
        rules.append(f"#{each}:checked ~ main .{each} {{ display: block; }}")
        rules.append(
            f"#{each}:checked ~ {label} {{ background: var(--ink); border-color: var(--ink); color: var(--card); }}"
        )
        rules.append(f"#{each}:focus-visible ~ {label} {{ outline: 2px solid var(--accent); outline-offset: 2px; }}")
    return "\n".join(rules) + "\n"


def _legend(comparison: Comparison) -> str:
    found = []
    for place, group in enumerate(comparison.groups):
        size = f"{len(group.records)} run{'s' if len(group.records) != 1 else ''}"
        found.append(
            f'<li><button type="button" aria-pressed="true" data-group="{place}">{swatch(place)}'
            f"{escape(group.name)} <small>{size}</small></button></li>"
        )
    return f'<ul class="legend">{"".join(found)}</ul>'


def _section(comparison: Comparison, place: int, metric: Measured) -> str:
    """All that is told of one metric."""
    verdict = metric.verdict
    won = " won" if verdict.winner else ""
    head = f"Final {escape(metric.name)}"
    picture = forest(metric.name, metric.final, comparison.groups)
    told = "A ring is a run, a bar the interval of the mean, and a stroke the mean."
    return "\n".join(
        [
            f'<section class="m m{place}" aria-label="{escape(metric.name)}">',
            f'<p class="verdict{won}">{escape(verdict.reason)}<small>{escape(title(metric))}</small></p>',
            card(
                head, "", f'{picture}<p class="caption">{told}</p>' if picture else remark("No run has a number here.")
            ),
            _learning(comparison, metric),
            card(f"Over seeds: {escape(metric.name)}", "", seeds(comparison, metric)),
            "</section>",
        ]
    )


def shown(comparison: Comparison, metric: Measured) -> Measured | None:
    """The metric whose curves are shown: its own, or those of the same quantity on another split."""
    quantity = metric.name.rpartition("/")[2]
    kin = [each for each in comparison.metrics if each.curves and each.name.rpartition("/")[2] == quantity]
    return metric if metric.curves else kin[0] if kin else None


def _learning(comparison: Comparison, metric: Measured) -> str:
    found = shown(comparison, metric)
    if found is None:
        return card("Learning curves", "", remark(f"{escape(metric.name)} was measured once a run: it has no curve."))
    places = {group.name: place for place, group in enumerate(comparison.groups)}
    tabs = "".join(f'<label for="a{place}">{_TABS[axis]}</label>' for place, axis in enumerate(AXES))
    figures = []
    for place, axis in enumerate(AXES):
        bands = found.curves.get(axis)
        if bands:
            drawn = chart(bands, places, axis, found.name)
            inner = f'{drawn}<figcaption class="caption">{_caption(bands, axis)}</figcaption>'
            key = f'data-key="{escape(found.name)} {axis}" data-axis="{LABELS[axis]}"'
        else:
            inner, key = remark(f"The runs have not recorded {axis}."), ""
        figures.append(f'<figure class="a a{place}" style="margin:0" {key}>{inner}</figure>')
    note = f"<small>{escape(found.name)}</small>"
    return card("Learning curves", note, "".join(figures), f'<div class="tabs">{tabs}</div>')


def _caption(bands: Mapping[str, Band], axis: Axis) -> str:
    kinds = {each.kind for each in bands.values()}
    words = ["Line: mean of the runs."]
    if "interval" in kinds:
        words.append(f"Band of {FEWEST} runs or more: {LEVEL:.0%} bootstrap interval of the mean.")
    if "range" in kinds:
        words.append("Band of two runs: from the lesser to the greater.")
    if "line" in kinds:
        words.append("A group of one run has no band.")
    if any(each.x[-1] < each.last for each in bands.values()):
        words.append(
            "A line ends where the first of its group's runs ends" + (", the fastest." if axis == "seconds" else ".")
        )
    return " ".join(words)


def _points(comparison: Comparison) -> Iterable[tuple[str, list[dict[str, Any]]]]:
    """The curves by `metric axis`, for the values under the pointer."""
    places = {group.name: place for place, group in enumerate(comparison.groups)}
    for metric in comparison.metrics:
        for axis, bands in metric.curves.items():
            yield (
                f"{metric.name} {axis}",
                [
                    {"group": places[name], "kind": each.kind}
                    | {
                        key: [float(f"{value:.6g}") for value in getattr(each, key)]
                        for key in ("x", "mean", "low", "high")
                    }
                    for name, each in bands.items()
                ],
            )
