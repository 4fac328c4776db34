"""`seqtoolkit export` and `seqtoolkit register`: a trained model for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqtoolkit.cli.completion import runs
from seqtoolkit.cli.run import Folder

Run = Annotated[
    str,
    typer.Argument(
        help="A run: its id, name or folder, or latest; a checkpoint's folder; models:/NAME/1.", autocompletion=runs
    ),
]
Checkpoint = Annotated[str, typer.Option(help="best, last, or a step.")]
Store = Annotated[str | None, typer.Option(help="The address of the tracking store, where it is not the run's own.")]


def export(
    run: Run,
    to: Annotated[Path, typer.Option(help="The folder to write.")],
    checkpoint: Checkpoint = "best",
    force: Annotated[bool, typer.Option("--force", help="Replace a model that was exported there.")] = False,  # noqa: FBT002  a flag
    folder: Folder = Path("runs"),
    store: Store = None,
) -> None:
    """Write a trained model as a folder that MLflow serves and loads, without pickle."""
    from seqtoolkit.export import export as write
    from seqtoolkit.trained import Trained

    trained = Trained.find(run, checkpoint, folder, store=store)
    write(trained, to, force=force)
    typer.echo(f"model {to}")
    typer.echo(f"of    {trained.place.run_id}, step {trained.step}")
    typer.echo(f"serve mlflow models serve --model-uri {to} --env-manager local --host 127.0.0.1 --port 5001")


def register(
    run: Run,
    name: Annotated[str, typer.Argument(help="The registered model, which gets a new version.")],
    checkpoint: Checkpoint = "best",
    alias: Annotated[str | None, typer.Option(help="A name for this version, which no other keeps.")] = None,
    folder: Folder = Path("runs"),
    store: Store = None,
) -> None:
    """Register a trained model in the model registry of its run's tracking store."""
    from seqtoolkit.export import register as enter
    from seqtoolkit.trained import Trained

    trained = Trained.find(run, checkpoint, folder, store=store)
    typer.echo(enter(trained, name, alias=alias, store=store).uri)
