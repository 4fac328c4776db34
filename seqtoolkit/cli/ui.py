"""`seqtoolkit ui`: runs in MLflow's pages."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from seqtoolkit.cli.completion import runs
from seqtoolkit.cli.run import Folder


def ui(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[EXPERIMENT]",
            help="An experiment's name, or a run; the experiment of the latest run if not given.",
            autocompletion=runs,
        ),
    ] = None,
    store: Annotated[
        str | None, typer.Option(metavar="URI", help="The tracking store; the run's, or that of MLflow's settings.")
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="5000, or a free one where that is taken.", min=1, max=65535)] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Print the address only.")] = False,  # noqa: FBT002  a flag
    folder: Folder = Path("runs"),
) -> None:
    """Look at runs in MLflow's pages, arranged such that cores can be compared at once; Ctrl-C ends it."""
    from seqtoolkit.page import Server, address, arrange, browse, find, remote

    goal = find(what, store, folder)
    if remote(goal.store):
        page = address(goal.store, goal, arranged=arrange(goal))
        typer.echo(page)
        if not no_open:
            browse(page)
        return
    with suppress(KeyboardInterrupt), Server(goal.store, host, port) as server:
        arranged = arrange(goal)
        server.ready()
        page = address(server.base, goal, arranged=arranged)
        typer.echo(f"{page}\nCtrl-C ends it")
        if not no_open:
            browse(page)
        server.wait()
