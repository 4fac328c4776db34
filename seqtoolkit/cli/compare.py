"""`seqtoolkit compare`: finished runs side by side, with honest statistics over their seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seqtoolkit.cli.completion import keys
from seqtoolkit.cli.run import AsJson, Folder

if TYPE_CHECKING:
    from seqtoolkit.compare import Comparison, Measured

WIDTH = 90
"""Columns that a table has at least: on a narrower terminal its lines break, and none of it is cut off."""


def compare(
    experiment: Annotated[
        str, typer.Argument(help="An MLflow experiment or a sweep, by name or id, or a folder of runs.")
    ],
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY", help="A setting that makes groups, as model.core; several may be.", autocompletion=keys
        ),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="As valid/accuracy; those of evaluations if not given.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="The folder of the page, the tables and the pictures; a sweep's own, or one in --folder."),
    ] = None,
    as_json: AsJson = False,  # noqa: FBT002  a flag
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, in full precision.")] = False,  # noqa: FBT002  a flag
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,  # noqa: FBT002  a flag
    store: Annotated[
        str | None, typer.Option(metavar="URI", help="The MLflow store, if not that of its settings.")
    ] = None,
    folder: Folder = Path("runs"),
) -> None:
    """Compare finished runs in groups that differ in nothing but the seed: statistics, curves, and one page of both."""
    if as_json + as_csv + as_markdown > 1:
        raise ValueError("--json, --csv and --markdown exclude one another; all are written to the folder of --to")
    from seqtoolkit.compare import compare as compared
    from seqtoolkit.compare.output import ARTIFACTS, plain_name
    from seqtoolkit.compare.table import comma, dumps, markdown

    found = compared(experiment, by or (), metric or (), store, folder)
    place = found.selection.place
    paths = found.write(to or (folder / f"compare-{plain_name(found.name)}" if place is None else place / ARTIFACTS))
    unstored = found.publish(paths) if found.selection.parent or found.selection.own else None
    if as_json or as_csv or as_markdown:
        typer.echo((dumps if as_json else comma if as_csv else markdown)(found), nl=False)
        return
    _print(found)
    typer.echo(f"page    {paths[0]}")
    if unstored is not None:
        typer.echo(f"stored  no: {unstored}")


def _print(found: Comparison) -> None:
    from seqtoolkit.compare.statistic import METHOD
    from seqtoolkit.compare.table import headline, title

    console = Console(highlight=False)
    console.width = max(console.width, WIDTH)
    console.print(Text.assemble((found.name, "bold"), f": {headline(found)}"), soft_wrap=True)
    for metric in found.metrics:
        console.print(Text(f"\n{title(metric)}", "bold"))
        console.print(_table(found, metric))
        style = "green" if metric.verdict.winner else ""
        console.print(Text(metric.verdict.reason, style), soft_wrap=True)
    if found.costs:
        console.print(Text("\nwhat the runs have taken", "bold"))
        console.print(_costs(found))
    console.print()
    for note in (f"{METHOD}.", *found.notes):
        console.print(Text(f"* {note}"), soft_wrap=True)
    for left in found.left:
        console.print(Text(f"  left out: {left.name} ({left.reason})"), soft_wrap=True)
    console.print()


def _table(found: Comparison, metric: Measured) -> Table:
    from seqtoolkit.compare.table import count, ends, interval, spread

    best = metric.values.get("best")
    table = _framed("group", "runs", "mean ± sd", "95% interval", "min to max", *(["best ± sd"] if best else []))
    for group in found.groups:
        name, each = group.name, metric.final[group.name]
        cells = [count(each), spread(each), interval(each), ends(each)]
        cells += [spread(best[name])] if best else []
        style = "green" if name == metric.verdict.winner else ""
        table.add_row(*(Text(cell, style) for cell in (name, *cells)))
    return table


def _costs(found: Comparison) -> Table:
    from seqtoolkit.compare.table import spread

    table = _framed("group", *found.costs)
    for group in found.groups:
        table.add_row(
            *(Text(each) for each in (group.name, *(spread(cost[group.name]) for cost in found.costs.values())))
        )
    return table


def _framed(*heads: str) -> Table:
    table = Table(*heads, box=None, pad_edge=False, header_style="bold")
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    table.columns[0].overflow = "fold"
    return table
