"""`seqtoolkit runs`: what is kept of runs: listed, shown, told apart, done again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from seqtoolkit.cli import sheet
from seqtoolkit.cli.completion import pipelines
from seqtoolkit.cli.completion import runs as completed
from seqtoolkit.cli.run import AsJson, Folder
from seqtoolkit.cli.voice import quiet

Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run: its id, name or folder, the beginning of one, or latest.", autocompletion=completed
    ),
]

app = typer.Typer(help="What is kept of runs: listed, shown, told apart, done again.")


@app.callback(invoke_without_command=True)
@app.command("list")
def list_(
    context: typer.Context,
    folder: Folder = Path("runs"),
    pipeline: Annotated[str | None, typer.Option(help="Only runs of this pipeline.", autocompletion=pipelines)] = None,
    status: Annotated[
        str | None, typer.Option(help="Only these: running, finished, failed, killed, died, unstarted, damaged.")
    ] = None,
    sort: Annotated[
        str | None, typer.Option(metavar="METRIC", help="By its last value, as valid/accuracy; a loss lowest first.")
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="The other way around.")] = False,  # noqa: FBT002  a flag
    limit: Annotated[int, typer.Option("-n", min=0, help="How many at most; 0 is all.")] = 20,
    as_json: AsJson = False,  # noqa: FBT002  a flag
) -> None:
    """List runs, the newest first."""
    if context.invoked_subcommand is not None:
        sources = {name: context.get_parameter_source(name) for name in context.params}
        given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
        if given:
            what = " and ".join(given)
            raise ValueError(f"options stand behind `{context.invoked_subcommand}`: {what} would be lost before it")
        return
    from seqtoolkit.archive.listing import list_runs

    found, total = list_runs(folder, pipeline=pipeline, status=status, sort=sort, reverse=reverse, limit=limit or None)
    if as_json:
        typer.echo(_json(found))
    elif not total:
        typer.echo(f"no runs in {folder}/: `seqtoolkit run PIPELINE` makes one, --folder looks elsewhere")
    elif not found:
        typer.echo(f"none of the {total} runs in {folder}/ is of that pipeline and status")
    else:
        sheet.print_list(found, sort)
        if len(found) == limit < total:
            typer.echo(f"{limit} of {total}; -n 0 lists all")


@app.command()
def show(
    run: Run,
    folder: Folder = Path("runs"),
    config: Annotated[bool, typer.Option("--config", help="Print its whole config alone, as YAML that runs.")] = False,  # noqa: FBT002  a flag
    as_json: AsJson = False,  # noqa: FBT002  a flag
) -> None:
    """Show a run: its settings, metrics, environment, checkpoints and files."""
    from seqtoolkit.archive.description import describe_run

    found = describe_run(run, folder)
    if config:
        typer.echo((found.run.folder / "config.yaml").read_text(), nl=False)
    elif as_json:
        typer.echo(_json(found))
    else:
        sheet.print_description(found)


@app.command()
def diff(a: Run, b: Run, folder: Folder = Path("runs"), as_json: AsJson = False) -> None:  # noqa: FBT002  a flag
    """Say what two runs do not share: settings, environment, final metrics."""
    from seqtoolkit.archive.difference import diff_runs

    found = diff_runs(a, b, folder)
    if as_json:
        typer.echo(_json(found))
    else:
        sheet.print_difference(found)


@app.command()
def reproduce(
    run: Run,
    folder: Folder = Path("runs"),
    steps: Annotated[int | None, typer.Option(help="Go no further than this.")] = None,
    as_json: AsJson = False,  # noqa: FBT002  a flag
) -> None:
    """Do a run again by its config and seed, and say whether its numbers came out equal: exit code 0, or 1."""
    from seqtoolkit.archive.reproduction import reproduce as do_again
    from seqtoolkit.archive.reproduction import told
    from seqtoolkit.train.tracking.progress import Progress

    def hear(differing: Mapping[str, Any]) -> None:
        lines = [told(*each) for each in differing.items()] or [
            "nothing of the environment, as far as that was recorded"
        ]
        typer.echo("\n".join(f"differs   {line}" for line in lines), err=as_json)

    found = do_again(run, folder, steps=steps, progress=Progress(0, quiet=True) if quiet() else None, hear=hear)
    if as_json:
        typer.echo(_json(found))
    else:
        sheet.print_reproduction(found)
    if found.interrupted:
        raise typer.Exit(130)
    raise typer.Exit(0 if found.equal else 1)


def _json(found: Any) -> str:
    return json.dumps(_plain(found), indent=2)


def _plain(value: Any) -> Any:
    """What the archive returns as JSON has it; `equal`, where it says so, comes first. NaN is what Python's json writes."""
    if is_dataclass(value):
        judged = {"equal": value.equal} if hasattr(value, "equal") else {}
        return judged | {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value
