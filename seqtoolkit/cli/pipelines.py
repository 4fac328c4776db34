"""`seqtoolkit pipelines`: the experiments that plugins ship, listed and copied out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seqtoolkit.cli import completion
from seqtoolkit.host.problem import ConfigError
from seqtoolkit.host.resource import find_pipeline, shipped

app = typer.Typer(help="The experiments that plugins ship.")


@app.callback(invoke_without_command=True)
def pipelines(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs to read.")] = False,  # noqa: FBT002  typer makes a flag of it
) -> None:
    """List the pipelines that `seqtoolkit run` knows by name."""
    if context.invoked_subcommand:
        return
    if as_json:
        rows = [
            {"name": name, "distribution": distribution, "description": _description(path), "path": str(path)}
            for name, (path, distribution) in shipped("pipelines").items()
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("pipeline", "from", "what it is", box=None, pad_edge=False, header_style="bold")
    for name, (path, distribution) in shipped("pipelines").items():
        table.add_row(*map(Text, (name, distribution, _description(path))))
    console = Console(highlight=False)
    console.print(table if table.row_count else "No plugin ships a pipeline.")


@app.command()
def copy(
    name: Annotated[
        str,
        typer.Argument(help="The name of a pipeline, as the list shows it.", autocompletion=completion.pipelines),
    ],
    destination: Annotated[Path, typer.Argument(help="The file to write, or the folder to write it to.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,  # noqa: FBT002  typer makes a flag of it
) -> None:
    """Copy a pipeline out, to make it your own."""
    source = find_pipeline(name)
    target = destination / source.name if destination.is_dir() else destination
    try:
        content = source.read_bytes()
        with target.open("wb" if force else "xb") as file:
            file.write(content)
    except FileExistsError:
        raise ConfigError([f"{target} is there already; --force writes over it"]) from None
    except OSError as error:
        raise ConfigError([f"{error.filename or target}: {error.strerror}"]) from None
    typer.echo(f"{target}")


def _description(path: Path) -> str:
    """The first line of a pipeline, where it is a comment, to the first wide gap."""
    try:
        with path.open(encoding="utf-8") as file:
            line = file.readline().strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return line.removeprefix("#").strip().partition("  ")[0] if line.startswith("#") else ""
