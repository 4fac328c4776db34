"""`seqtoolkit plot`: pictures of what a run has learned."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from seqtoolkit.cli.completion import runs
from seqtoolkit.cli.run import AsJson, Folder

app = typer.Typer(help="Pictures of what a run has learned.", no_args_is_help=True)


@app.callback()
def _plot() -> None:
    pass


@app.command()
def attention(
    run: Annotated[str, typer.Argument(help="A run: its id, name or folder, or latest.", autocompletion=runs)],
    checkpoint: Annotated[str, typer.Option(help="best, last, or a step.")] = "best",
    to: Annotated[
        Path | None, typer.Option(help="The picture, .png, .svg or .pdf; in the run's folder if not given.")
    ] = None,
    folder: Folder = Path("runs"),
    head: Annotated[str, typer.Option(help="mean, all (a row each), or a number from 0.")] = "mean",
    block: Annotated[int, typer.Option(help="The round of attention in a step, from 0.")] = 0,
    steps: Annotated[str | None, typer.Option(metavar="FROM:TO", help="Which steps, from 0, without TO.")] = None,
    data: Annotated[Path | None, typer.Option(help="A file for the numbers, .npz.")] = None,
    as_json: AsJson = False,  # noqa: FBT002  a flag
) -> None:
    """Draw who attends to whom in a run's core, step by step: a row for each case of the task."""
    chosen = (int(head) if head.isdecimal() else head, block, _steps(steps))
    from seqtoolkit.flow.heatmap import Choice
    from seqtoolkit.plot import plot_attention

    plotted = plot_attention(run, checkpoint, folder, to=to, data=data, choice=Choice(*chosen))
    start, stop = plotted.steps
    if as_json:
        places = {"picture": str(plotted.path), "numbers": None if data is None else str(data)}
        shown = {"steps": [start, stop], "of": plotted.longest, "unstored": plotted.unstored}
        typer.echo(json.dumps(places | shown, indent=2))
        return
    if (start, stop) != (0, plotted.longest):
        typer.echo(f"steps   {start}:{stop} of {plotted.longest}; --steps FROM:TO shows others")
    typer.echo(f"picture {plotted.path}")
    if data is not None:
        typer.echo(f"numbers {data}")
    if plotted.unstored is not None:
        typer.echo(f"stored  no: {plotted.unstored}")


def _steps(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if match is None:
        raise ValueError(f"--steps: wanted FROM:TO, such as 0:12, got {text!r}")
    return int(match[1]), int(match[2])
