"""`seqtoolkit sweep`: many runs of one pipeline."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.text import Text

from seqtoolkit.cli.completion import cores
from seqtoolkit.cli.completion import overrides as completed
from seqtoolkit.cli.run import AsJson, Folder, Which
from seqtoolkit.cli.voice import quiet

if TYPE_CHECKING:
    from seqtoolkit.sweep.row import Row
    from seqtoolkit.sweep.sweep import Sweep


def sweep(
    pipeline: Which,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE,VALUE]...",
            help="What to go through, such as model.core=rmc,lstm run.seed=0,1,2 or 'learner.optimizer.lr=loguniform(1e-4,1e-2)';"
            " one value alone is for all trials.",
            autocompletion=completed,
        ),
    ] = None,
    search: Annotated[Literal["grid", "random", "optuna"] | None, typer.Option(help="grid if not given.")] = None,
    trials: Annotated[int | None, typer.Option(help="How many, of a random or optuna search; 20 if not given.")] = None,
    metric: Annotated[str | None, typer.Option(help="Whose best value counts, such as valid/accuracy.")] = None,
    prune: Annotated[bool | None, typer.Option("--prune/--no-prune", help="End trials early that fall behind.")] = None,
    seed: Annotated[int | None, typer.Option(help="From which random and optuna draw.")] = None,
    match_parameters: Annotated[
        str | None,
        typer.Option(
            metavar="CORE",
            help="Make other cores as large as this one, by parameters of the model.",
            autocompletion=cores,
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(help="How many trials run at a time.")] = 1,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A database (SQLAlchemy's URL) through which machines share trials."),
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Run failed trials anew.")] = False,  # noqa: FBT002  a flag
    folder: Folder = Path("runs"),
    as_json: AsJson = False,  # noqa: FBT002  a flag
) -> None:
    """Run a pipeline with many settings: a grid, or a search. The same command again goes on with what is left."""
    from seqtoolkit.sweep.board import Board
    from seqtoolkit.sweep.sweep import Sweep

    given = {"search": search, "trials": trials, "metric": metric, "prune": prune, "seed": seed}
    given["match_parameters"] = match_parameters
    made = Sweep.load(pipeline, overrides or [], folder=folder, storage=storage, **given)
    board = None if quiet() else Board(made.name, made.objective.metric, made.objective.better, jobs, sys.stderr)
    try:
        rows = made.run(jobs, retry=retry, watch=board)
    finally:
        if board is not None:
            board.close()
    if as_json:
        best = next((row.record() for row in rows if row.status == "finished"), None)
        found = {"sweep": made.name, "metric": made.objective.metric, "best": best}
        typer.echo(json.dumps({**found, "trials": [row.record() for row in rows]}, indent=2))
    else:
        _print(made, rows)
    if made.interrupted:
        sys.stderr.write(f"seqtoolkit: interrupted; the same command goes on: {_command()}\n")
        raise typer.Exit(130)
    if not any(row.status in ("finished", "pruned") for row in rows):
        raise typer.Exit(1)


def _print(made: Sweep, rows: list[Row]) -> None:
    from seqtoolkit.sweep.board import WIDTH, table
    from seqtoolkit.sweep.design import described

    console = Console(highlight=False)
    console.width = max(console.width, WIDTH)
    console.print(table(rows, made.objective.metric))
    if made.idle:
        typer.echo("nothing was left to do")
    for row in rows:
        if row.error and row.status in ("failed", "killed"):
            console.print(Text(f"trial {row.number} {row.status}: {row.error}", "red"), soft_wrap=True)
    for status, what in (("failed", "--retry runs them anew"), ("killed", "the same command goes on with them")):
        count = sum(row.status == status for row in rows)
        if count:
            typer.echo(f"{status:<7} {count} of {len(rows)}; {what}")
    best = next((row for row in rows if row.status == "finished"), None)
    if best is not None:
        typer.echo(f"best    trial {best.number}: {made.objective.metric} {best.best:.4f}, {described(best.values)}")
    typer.echo(f"sweep   {made.name}")
    if where := made.parent.where():
        typer.echo(f"look    {where}")
    if not made.interrupted and best is not None:
        if not made.idle and (page := made.compare()):
            typer.echo(f"page    {page}")
        typer.echo(f"compare seqtoolkit compare {made.name}")


def _command() -> str:
    """What was typed, without a password."""
    from seqtoolkit.train.tracking.store import public

    return shlex.join(["seqtoolkit", *(public(word) if "://" in word else word for word in sys.argv[1:])])
