"""`seqtoolkit play`: episodes that a trained model plays, line by line, and one of them to look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from seqtoolkit.cli.completion import runs, settings
from seqtoolkit.cli.run import AsJson, Folder


def play(
    run: Annotated[
        str,
        typer.Argument(help="A run: its id, name or folder, latest; or a checkpoint's folder.", autocompletion=runs),
    ],
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Of the pipeline's evaluate: block, such as environment.split=test greedy=true.",
            autocompletion=settings,
        ),
    ] = None,
    episodes: Annotated[int, typer.Option(help="How many are played.")] = 4,
    out: Annotated[Path | None, typer.Option(help="The replay of the first one: .gif, or .png for a strip.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the worlds and of what is drawn; the run's if not given.")
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="best, last, or a step.")] = "best",
    folder: Folder = Path("runs"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    as_json: AsJson = False,  # noqa: FBT002  a flag
) -> None:
    """Have a trained model play some episodes in the worlds of its evaluation, and watch it."""
    from seqtoolkit.flow.replay import check_ending, ready, write
    from seqtoolkit.play import play as watch
    from seqtoolkit.trained import Trained

    if out is not None:
        check_ending(out)
        ready()
    trained = Trained.find(run, checkpoint, folder)
    found = watch(trained, changes or [], episodes, seed=seed, watched=out is not None, device=device)
    if out is not None:
        replay = found[0].replay
        if replay is None:
            raise ValueError(f"--out: the environment {trained.pipeline.plan.origin.use} draws no pictures")
        write(replay, out)
    if as_json:
        record = {
            "run": trained.place.path.name,
            "step": trained.step,
            "episodes": [dict(each.facts) for each in found],
        }
        typer.echo(json.dumps(record | ({} if out is None else {"replay": str(out)}), indent=2))
        return
    for number, each in enumerate(found, 1):
        typer.echo(f"episode {number:<4} {each}")
    if out is not None:
        typer.echo(f"replay  {out}")
