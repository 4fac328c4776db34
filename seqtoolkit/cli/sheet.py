"""Sheet: how runs are printed for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from seqtoolkit.archive import Description, Difference, Listed, Reproduction

WIDEST = 160
"""Columns that a table may take, be the terminal narrower: its lines break there, and none of it is cut off."""
_COLORS = {"FINISHED": "green", "RUNNING": "cyan", "STARTING": "cyan", "KILLED": "yellow", "UNSTARTED": "yellow"}


def _span(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def print_list(found: list[Listed], sort: str | None) -> None:
    """A line for each run."""
    heads = ["run", "begun", "trained", "pipeline", "core", "seed", "status", "step", "best", "test"]
    extra = [each for each in (sort,) if each is not None]
    sweep = any(each.sweep for each in found)
    table = Table(*heads, *extra, *(["sweep"] if sweep else []), box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        column.no_wrap = column.header in ("run", "begun", "status")
        column.justify = "right" if column.header in ("trained", "seed", "step", "test", sort) else "left"
    for each in found:
        best = f"{each.best.metric.partition('/')[2]} {_number(each.best.value)}" if each.best else ""
        progress = "" if each.step is None else f"{each.step}/{'?' if each.steps is None else each.steps}"
        cells = [
            Text(each.run),
            Text(f"{each.begun:%Y-%m-%d %H:%M}"),
            Text(_span(each.seconds)),
            *(Text("" if value is None else str(value)) for value in (each.pipeline, each.core, each.seed)),
            Text(each.status, style=_COLORS.get(each.status, "red")),
            Text(progress),
            Text(best),
            Text(_number(each.test.value) if each.test else ""),
            *(Text(_number(each.sorted_by)) for _ in extra),
            *([Text(f"{each.sweep} {each.trial}" if each.sweep else "")] if sweep else []),
        ]
        table.add_row(*cells)
    _print(table)
    for each in found:
        if each.status == "DAMAGED":
            Console(highlight=False).print(Text(f"damaged: {each.name}: {each.reason}", style="red"), soft_wrap=True)


def print_description(found: Description) -> None:
    """A run, a paragraph for each side of it."""
    run = found.run
    begun = f"{run.begun:%Y-%m-%d %H:%M:%S}"
    trained = f", trained for {_span(run.seconds)}" if run.seconds is not None else ""
    steps = "" if run.step is None else f", step {run.step} of {'?' if run.steps is None else run.steps}"
    _facts("", {
        "run": run.run_id,
        "folder": str(run.folder),
        "pipeline": " ".join([run.pipeline or "?", *found.changes]),
        "begun": f"{begun}{trained}",
        "status": f"{run.status}{steps}" + (f" ({run.reason})" if run.reason else ""),
        "sweep": f"{run.sweep}, trial {run.trial}" if run.sweep else "",
        "command": found.command or "",
    })  # fmt: skip
    for each in found.resumed:
        changed = f", with {' '.join(each.changed)}" if each.changed else ""
        typer.echo(f"resumed   after step {each.step}{changed}")
    _facts("config", _short(found.config))
    if found.metrics:
        typer.echo("")
        table = Table(
            "metric", "last", "lowest", "at step", "highest", "at step", box=None, pad_edge=False, header_style="bold"
        )
        for column in table.columns[1:]:
            column.justify = "right"
        for name, (last, *ends) in found.metrics.items():
            cells = [text for each in ends for text in (_number(each.value), str(each.step))]
            best = " (best checkpoint)" if run.best is not None and run.best.metric == name else ""
            table.add_row(Text(f"{name}{best}"), _number(last.value), *cells)
        _print(table)
    _facts("environment", found.environment)
    _facts("checkpoints", {f"step {each.step}": ", ".join(each.names) for each in found.checkpoints})
    _facts("files", {name: f"{size:,} bytes" for name, size in found.files.items()})
    if found.store is not None:
        waits = f"{found.store.undelivered} items wait for `seqtoolkit deliver`" if found.store.undelivered else ""
        facts = {"address": found.store.store, "experiment": found.store.experiment, "run": found.store.run}
        _facts("store", {name: value for name, value in {**facts, "undelivered": waits}.items() if value})


def print_difference(found: Difference) -> None:
    """What two runs do not share, side by side."""
    if found.equal:
        typer.echo("equal: settings, environment and final metrics are the same")
        return
    for title, differing in (("settings", found.config), ("environment", found.environment)):
        if differing:
            _sides(title, found, {name: [_side(each, side) for side in "ab"] for name, each in differing.items()})
        else:
            typer.echo(f"{title}: the same")
        typer.echo("")
    if found.metrics:
        rows = {name: [_number(each.get(side)) for side in "ab"] for name, each in found.metrics.items()}
        _sides("final metrics", found, rows)


def print_reproduction(found: Reproduction) -> None:
    """What came of doing a run again."""
    compared, first = found.comparison, found.comparison.first
    typer.echo(f"run       {found.run_id} ({found.status})")
    for note in found.notes:
        typer.echo(f"note      {note}")
    typer.echo(f"compared  {compared.values} values up to step {compared.upto}")
    if found.error is not None:
        typer.echo(f"different the new run failed: {found.error}")
    if found.equal:
        typer.echo("equal     every number is the same")
    elif first is None:
        typer.echo("different nothing could be compared")
    else:
        sizes = "" if first.relative is None else f", relative difference {first.relative:.2g}"
        was, now = ("nothing" if each is None else repr(each) for each in (first.was, first.now))
        typer.echo(f"different step {first.step}: {first.metric} was {was}, is now {now}{sizes}")
        typer.echo(f"          {compared.different} of {compared.values} values are not the same")


def _sides(title: str, found: Difference, rows: Mapping[str, list[str]]) -> None:
    table = Table(title, found.a, found.b, box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        column.overflow = "fold"
    for name, cells in rows.items():
        table.add_row(*map(Text, (name, *cells)))
    _print(table)


def _side(values: Mapping[str, Any], side: str) -> str:
    value = values.get(side)
    return {None: "null", True: "true", False: "false"}.get(value, str(value)) if side in values else "-"


def _facts(title: str, facts: Mapping[str, str]) -> None:
    """A title, and a line for each fact that is something."""
    if title and facts:
        typer.echo(f"\n{title}")
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        if value or title:
            typer.echo(f"{'  ' if title else ''}{name:<{width}}  {value}".rstrip())


def _short(config: Mapping[str, Any]) -> dict[str, str]:
    """A config with each block on a line; null and empty values are left out."""
    import yaml

    lines = {}
    for name, value in config.items():
        inside = value if isinstance(value, Mapping) else {}
        blocks = {key: each for key, each in inside.items() if isinstance(each, Mapping)}
        rest = {key: each for key, each in inside.items() if key not in blocks} if inside else value
        for key, each in {name: rest, **{f"{name}.{key}": each for key, each in blocks.items()}}.items():
            plain = {k: v for k, v in each.items() if v not in (None, [], {})} if isinstance(each, Mapping) else each
            if plain not in (None, [], {}):
                lines[key] = yaml.safe_dump(plain, default_flow_style=True, width=10**6, sort_keys=False).partition(
                    "\n"
                )[0]
    return lines


def _print(table: Table) -> None:
    console = Console(highlight=False)
    console.width = max(
        console.width, min(Measurement.get(console, console.options.update(width=WIDEST), table).maximum, WIDEST)
    )
    console.print(table)
