"""`seqtoolkit plugins new`: a distribution to begin from."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from seqtoolkit.host.registry import discover


def new(
    kind: Annotated[
        str, typer.Argument(help="core: a memory core. task: a source of examples. environment: worlds to act in.")
    ],
    name: Annotated[str, typer.Argument(help="Its name in pipelines: lower-case letters, digits and _.")],
    into: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder in which to make the folder NAME.")] = Path(),
) -> None:
    """Begin a plugin: a distribution of its own, with a core, a task or an environment that runs, its tests and a pipeline.

    It is the folder FOLDER/NAME, with the package seqtoolkit_NAME.

    Its tests pass and its pipeline trains at once; then make it yours.
    """
    from seqtoolkit.scaffold.distribution import write

    target = write(kind, name, into, discover())
    typer.echo(
        f"{target}: {sum(path.is_file() for path in target.rglob('*'))} files. Install it, test it, train with it:"
    )
    place = str(target) if target.is_absolute() else f"./{target}"
    typer.echo(f"  pip install -e {shlex.quote(f'{place}[test]')}")
    typer.echo(f"  pytest {shlex.quote(place)}")
    typer.echo(f"  seqtoolkit run {name}")
