"""`seqtoolkit run` and `seqtoolkit check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seqtoolkit.cli.completion import overrides as completed_overrides
from seqtoolkit.cli.completion import pipelines, runs
from seqtoolkit.cli.voice import quiet

if TYPE_CHECKING:
    from seqtoolkit.experiment import Result
    from seqtoolkit.flow.graph import Graph

Which = Annotated[
    str,
    typer.Argument(
        metavar="PIPELINE", help="A pipeline file, or the name of a shipped pipeline.", autocompletion=pipelines
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Changes, such as model.core=lstm run.steps=100.",
        autocompletion=completed_overrides,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs to read.")]
Folder = Annotated[Path, typer.Option(help="Where runs are kept.")]


def run(
    pipeline: Annotated[
        str | None,
        typer.Argument(metavar="[PIPELINE]", help="A file, or a shipped pipeline's name.", autocompletion=pipelines),
    ] = None,
    overrides: Overrides = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Go on with a run: its id, name or folder, or latest.", autocompletion=runs),
    ] = None,
    folder: Folder = Path("runs"),
    as_json: AsJson = False,  # noqa: FBT002  a flag
) -> None:
    """Train a pipeline, evaluate it, and record the run."""
    changes = [*([pipeline] if pipeline and resume is not None else []), *(overrides or [])]
    if resume is not None:
        if named := [each for each in changes if "=" not in each and not each.startswith("~")]:
            raise ValueError(
                f"--resume takes the pipeline of the run, so {named[0]!r} has no place; changes are KEY=VALUE"
            )
    elif pipeline is None:
        raise ValueError("run wants a pipeline: a file or a name; `seqtoolkit pipelines` lists those that are shipped")
    from seqtoolkit.run import Pipeline
    from seqtoolkit.train.tracking.progress import Progress

    progress = Progress(0, quiet=True) if quiet() else None
    if resume is not None:
        result = Pipeline.resume(resume, changes, folder, progress=progress)
    else:
        result = Pipeline.load(str(pipeline), changes).run(folder, progress=progress)
    if as_json:
        typer.echo(json.dumps(_record(result), indent=2))
    else:
        _summarize(result)
    if result.status == "KILLED":
        raise typer.Exit(130)


def check(
    pipeline: Which,
    overrides: Overrides = None,
    graph: Annotated[Path | None, typer.Option(help="Draw the graph: .svg, or .mmd for Mermaid text.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="One update on a tiny batch, timed by stage.")] = False,  # noqa: FBT002  a flag
    as_json: AsJson = False,  # noqa: FBT002  a flag
) -> None:
    """Show what flows through a pipeline, or all that is wrong with it."""
    from seqtoolkit.run import Pipeline

    loaded = Pipeline.load(pipeline, overrides or [])
    built = loaded.check()
    if not as_json:
        typer.echo(built.describe())
    if graph is not None:
        from seqtoolkit.flow.picture import draw

        draw(built, graph)
        if not as_json:
            typer.echo(f"graph: {graph}")
    seconds: dict[str, float] = {}
    if dry_run:
        from seqtoolkit.experiment import Experiment
        from seqtoolkit.rehearsal import rehearse

        seconds = rehearse(Experiment(loaded.plan, loaded.registry))
    if as_json:
        typer.echo(json.dumps(_stages(built) | ({"seconds": seconds} if dry_run else {}), indent=2))
        return
    for stage, taken in seconds.items():
        typer.echo(f"{stage:<14} {1000 * taken:9.2f} ms")


def deliver(
    folder: Folder = Path("runs"),
    as_json: AsJson = False,  # noqa: FBT002  a flag
) -> None:
    """Hand over to the tracking store what it could not take while it was away."""
    from seqtoolkit.train.tracking import deliver as hand_over

    left = hand_over(folder)
    if as_json:
        typer.echo(json.dumps({"undelivered": left, "folder": str(folder)}, indent=2))
        return
    typer.echo(f"{left} items are still undelivered, kept in {folder}" if left else "everything is delivered")


def _summarize(result: Result) -> None:
    typer.echo("")
    width = max(map(len, result.metrics), default=0)
    for name, value in result.metrics.items():
        typer.echo(f"{name:<{max(width, 24)}} {value:.4f}")
    typer.echo(f"run        {result.run_id} ({result.status})")
    typer.echo(f"checkpoint {result.checkpoint}")
    if result.where:
        typer.echo(f"look       {result.where}")
    if result.status == "KILLED":
        typer.echo(f"resume     seqtoolkit run --resume {result.run_id}")


def _record(result: Result) -> dict[str, object]:
    facts = ("status", "run_id", "metrics", "where")
    places = {"folder": str(result.folder), "checkpoint": str(result.checkpoint)}
    return {fact: getattr(result, fact) for fact in facts} | places


def _stages(graph: Graph) -> dict[str, object]:
    heads = ("key", "part", "reads", "writes")
    stages = [
        dict(zip(heads, row, strict=False)) | {"parameters": stage.parameters}
        for row, stage in zip(graph.rows(), graph.stages, strict=True)
    ]
    return {"stages": stages, "parameters": graph.parameters}
