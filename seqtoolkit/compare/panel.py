"""Panel: the tables of a comparison's page."""

from __future__ import annotations

from html import escape

from seqtoolkit.compare.comparison import Comparison, Measured
from seqtoolkit.compare.group import seed_of
from seqtoolkit.compare.markup import card, cell, framed, heads, prose, remark, swatch
from seqtoolkit.compare.metric import final
from seqtoolkit.compare.statistic import LEVEL, Summary
from seqtoolkit.compare.table import NONE, count, interval, number, spread

_HEADS = ("mean", "sd", f"{LEVEL:.0%} interval", "min", "max")


def seeds(comparison: Comparison, metric: Measured) -> str:
    """The statistics of one metric, a line a group."""
    kinds = metric.values
    top = "".join(f'<th colspan="{len(_HEADS)}" scope="colgroup">{kind} values</th>' for kind in kinds)
    header = heads(["group", "runs", *(each for _ in kinds for each in _HEADS)])
    lines = []
    for place, group in enumerate(comparison.groups):
        final_summary = metric.final[group.name]
        cells = [
            f'<th scope="row" data-value="{escape(group.name)}">{swatch(place)}{escape(group.name)}</th>',
            cell(count(final_summary), 0 if final_summary is None else final_summary.n),
        ]
        for found in kinds.values():
            cells += _statistics(found[group.name])
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return framed(f"<tr><td></td><td></td>{top}</tr>{header}", lines)


def _statistics(summary: Summary | None) -> list[str]:
    if summary is None:
        return [cell(NONE, None)] * len(_HEADS)
    low = summary.interval.low if summary.interval else None
    return [
        cell(number(summary.mean), summary.mean),
        cell(number(summary.deviation), summary.deviation),
        cell(interval(summary), low),
        cell(number(summary.low), summary.low),
        cell(number(summary.high), summary.high),
    ]


def costs(comparison: Comparison) -> str:
    """What the runs have taken, a line a group."""
    if not comparison.costs:
        return ""
    sizes = [{each.config.get("parameters", "") for each in group.records} for group in comparison.groups]
    sized = all(len(each) == 1 and next(iter(each)).isdecimal() for each in sizes)
    header = heads(
        ["group", *(["parameters"] if sized else []), *(name.replace("_", " ") for name in comparison.costs)]
    )
    lines = []
    for place, group in enumerate(comparison.groups):
        cells = [f'<th scope="row" data-value="{escape(group.name)}">{swatch(place)}{escape(group.name)}</th>']
        if sized:
            (size,) = sizes[place]
            cells.append(cell(f"{int(size):,}", int(size)))
        for found in comparison.costs.values():
            each = found[group.name]
            cells.append(cell(spread(each), None if each is None else each.mean))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    note = "<small>mean ± standard deviation, of training alone, on the machines that the runs had</small>"
    return card("What the runs have taken", note, framed(header, lines))


def settings(comparison: Comparison) -> str:
    """The settings that differ, a line each and a column for each group."""
    differ, by = comparison.grouping.differ, comparison.grouping.by
    if not differ:
        return card("Settings that differ", "", remark("None but the seed."))
    header = heads(["setting", *(group.name for group in comparison.groups)])
    ordered = sorted(differ.items(), key=lambda each: each[0] not in by)
    lines = [
        f"<tr>{cell(key, key, head=True)}{''.join(cell(value, value) for value in values)}</tr>"
        for key, values in ordered
    ]
    return card("Settings that differ", f"<small>groups by {escape(', '.join(by))}</small>", framed(header, lines))


def runs(comparison: Comparison) -> str:
    """All runs: those that count with their values, and those that are left out."""
    shown = [metric.name for metric in comparison.metrics]
    header = heads(["run", "id", "group", "seed", *shown], {"id", "group"})
    lines = []
    for place, group in enumerate(comparison.groups):
        for each in group.records:
            values = (final(each, name) for name in shown)
            cells = [
                cell(each.name, each.name, head=True),
                _linked(comparison, each.run_id),
                f'<td data-value="{escape(group.name)}" class="text">{swatch(place)} {escape(group.name)}</td>',
                cell(seed_of(each), seed_of(each)),
                *(cell(number(value), value) for value in values),
            ]
            lines.append(f'<tr id="run-{escape(each.run_id)}">{"".join(cells)}</tr>')
    parts = [card("Runs", "<small>final values</small>", framed(header, lines))]
    if comparison.left:
        out = [
            f"<tr>{cell(each.name, each.name, head=True)}{_linked(comparison, each.run_id)}{prose(each.reason)}</tr>"
            for each in comparison.left
        ]
        parts.append(card("Runs that are left out", "", framed(heads(["run", "id", "why"], {"id", "why"}), out)))
    return "\n".join(parts)


def _linked(comparison: Comparison, run_id: str) -> str:
    """A cell with a run's id, a link where the store has pages of its own."""
    short = f"<code>{escape(run_id[:8] if len(run_id) == 32 else run_id)}</code>"
    address = comparison.selection.address(run_id)
    inner = f'<a href="{escape(address)}">{short}</a>' if address else short
    return f'<td class="text" data-value="{escape(run_id)}" title="{escape(run_id)}">{inner}</td>'


def same(comparison: Comparison) -> str:
    """The settings that all runs share, folded."""
    lines = [f"<tr>{cell(key, key, head=True)}{prose(value)}</tr>" for key, value in comparison.grouping.same.items()]
    inner = framed(heads(["setting", "value"], {"value"}), lines)
    return f'<details class="card"><summary>Settings that are the same in all runs ({len(lines)})</summary>{inner}</details>'
