"""Table: a comparison as rows, as plain data, as Markdown, as CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from seqtoolkit.compare.comparison import Comparison, Kind, Measured
from seqtoolkit.compare.group import seed_of
from seqtoolkit.compare.metric import final
from seqtoolkit.compare.statistic import LEVEL, METHOD, Summary

NONE = "-"
"""What stands where there is no number."""


class Row(NamedTuple):
    """The statistics of one quantity of one group."""

    metric: str
    value: Kind
    group: str
    summary: Summary | None


def rows(comparison: Comparison) -> Iterator[Row]:
    """Metric by metric and group by group: the final values and the best ones, and then what the runs have taken."""
    names = [group.name for group in comparison.groups]
    for metric in comparison.metrics:
        for kind, found in metric.values.items():
            yield from (Row(metric.name, kind, name, found[name]) for name in names)
    for cost, found in comparison.costs.items():
        yield from (Row(cost, "final", name, found[name]) for name in names)


def number(value: float | None) -> str:
    """A number for people: four decimals, or as many digits as matter."""
    if value is None or math.isnan(value):
        return NONE
    return f"{value:.3g}" if abs(value) >= 1e9 or 0 < abs(value) < 1e-3 else f"{value:,.{_decimals(value)}f}"


def spread(summary: Summary | None) -> str:
    """Mean and standard deviation."""
    if summary is None:
        return NONE
    if summary.deviation is None:
        return number(summary.mean)
    shown = f"{summary.deviation:,.{_decimals(summary.mean)}f}"
    return f"{number(summary.mean)} ± {shown if float(shown.replace(',', '')) or not summary.deviation else number(summary.deviation)}"


def _decimals(value: float) -> int:
    return 4 if abs(value) < 10 else 2 if abs(value) < 1000 else 0


def interval(summary: Summary | None) -> str:
    """The interval of the mean."""
    found = None if summary is None else summary.interval
    return NONE if found is None else f"[{number(found.low)}, {number(found.high)}]"


def ends(summary: Summary | None) -> str:
    """The least and the greatest value."""
    return NONE if summary is None else f"{number(summary.low)} to {number(summary.high)}"


def count(summary: Summary | None) -> str:
    """How many runs, and how many seeds where these are fewer."""
    if summary is None:
        return "0"
    return str(summary.n) if summary.seeds == summary.n else f"{summary.n} ({summary.seeds} seeds)"


def title(metric: Measured) -> str:
    """A metric's name, and which way it is better."""
    return metric.name if metric.better is None else f"{metric.name} ({metric.better} is better)"


def markdown(comparison: Comparison) -> str:
    """The whole comparison but for the curves."""
    names = [group.name for group in comparison.groups]
    parts = [f"# {comparison.name}\n", f"{comparison.origin}; {headline(comparison)}\n"]
    for metric in comparison.metrics:
        cells = [
            [name, kind, count(found[name]), spread(found[name]), interval(found[name]), ends(found[name])]
            for kind, found in metric.values.items()
            for name in names
        ]
        heads = ["group", "value", "n", "mean ± sd", f"{LEVEL:.0%} interval", "min to max"]
        parts += [f"## {title(metric)}\n", _markdown(heads, cells), f"{metric.verdict.reason}\n"]
    if comparison.costs:
        cells = [[name, *(spread(found[name]) for found in comparison.costs.values())] for name in names]
        parts += ["## What the runs have taken\n", _markdown(["group", *comparison.costs], cells)]
    if comparison.grouping.differ:
        differ = [[key, *values] for key, values in comparison.grouping.differ.items()]
        parts += ["## Settings that differ\n", _markdown(["setting", *names], differ)]
    parts += ["## Notes\n", "".join(f"* {note}\n" for note in (f"{METHOD}.", *comparison.notes))]
    if comparison.left:
        parts += [
            "## Runs that are left out\n",
            _markdown(["run", "id", "why"], [[each.name, each.run_id, each.reason] for each in comparison.left]),
        ]
    return "\n".join(parts)


def headline(comparison: Comparison) -> str:
    """How many groups and runs there are."""
    runs = sum(len(group.records) for group in comparison.groups)
    by = ", ".join(comparison.grouping.by)
    text = f"{_many(runs, 'finished run')} in {_many(len(comparison.groups), 'group')}" + (f" by {by}" if by else "")
    return text + (f", {len(comparison.left)} left out" if comparison.left else "")


def comma(comparison: Comparison) -> str:
    """CSV of all statistics, in full precision; empty where there is no number."""
    heads = [
        "metric",
        "value",
        "group",
        "n",
        "seeds",
        "lacking",
        "mean",
        "deviation",
        "interval_low",
        "interval_high",
        "min",
        "max",
    ]
    lines = []
    for row in rows(comparison):
        plain = data(row.summary)
        low, high = plain.get("interval") or (None, None)
        statistics = (plain.get(key) for key in ("n", "seeds", "lacking", "mean", "deviation"))
        lines.append([row.metric, row.value, row.group, *statistics, low, high, plain.get("low"), plain.get("high")])
    return _csv(heads, lines)


def curves(comparison: Comparison) -> str:
    """CSV of all curves, point by point."""
    lines = [
        [metric.name, axis, group, each.kind, *map(float, point)]
        for metric in comparison.metrics
        for axis, found in metric.curves.items()
        for group, each in found.items()
        for point in zip(each.x, each.mean, each.low, each.high, strict=True)
    ]
    return _csv(["metric", "axis", "group", "band", "x", "mean", "low", "high"], lines)


def data(summary: Summary | None) -> dict[str, Any]:
    """The statistics as plain data; empty where there are none."""
    return {} if summary is None else {"n": summary.n, **asdict(summary)}


def plain(comparison: Comparison) -> dict[str, Any]:
    """The whole comparison as data for JSON, but for the curves."""
    grouping = comparison.grouping
    names = [metric.name for metric in comparison.metrics]
    return {
        "name": comparison.name,
        "origin": comparison.origin,
        "by": list(grouping.by),
        "level": LEVEL,
        "method": METHOD,
        "groups": [
            {
                "name": group.name,
                "settings": dict(group.settings),
                "runs": [
                    {
                        "id": each.run_id,
                        "name": each.name,
                        "seed": seed_of(each),
                        **{name: final(each, name) for name in names},
                    }
                    for each in group.records
                ],
            }
            for group in comparison.groups
        ],
        "metrics": [
            {
                "name": each.name,
                "better": each.better,
                **{kind: {name: data(one) for name, one in found.items()} for kind, found in each.values.items()},
                "winner": each.verdict.winner,
                "verdict": each.verdict.reason,
            }
            for each in comparison.metrics
        ],
        "costs": {
            name: {group: data(each) for group, each in found.items()} for name, found in comparison.costs.items()
        },
        "differ": {
            key: dict(zip((group.name for group in comparison.groups), values, strict=True))
            for key, values in grouping.differ.items()
        },
        "mixed": list(grouping.mixed),
        "same": dict(grouping.same),
        "left": [each._asdict() for each in comparison.left],
        "notes": list(comparison.notes),
    }


def dumps(comparison: Comparison) -> str:
    """The whole comparison as JSON, but for the curves; what is no finite number is null."""
    return json.dumps(_finite(plain(comparison)), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _csv(heads: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(lines)
    return text.getvalue()


def _markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    cells = [[each.replace("|", "\\|") for each in line] for line in lines]
    return "\n".join("| " + " | ".join(each) + " |" for each in [heads, ["---"] * len(heads), *cells]) + "\n"


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
