"""The command line: parse and print, nothing else."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from seqtoolkit.cli import (
    bench,
    compare,
    evaluate,
    export,
    pipelines,
    play,
    plot,
    plugins,
    predict,
    run,
    runs,
    sweep,
    ui,
)
from seqtoolkit.cli.completion import answering
from seqtoolkit.cli.voice import LOGGER, VOICE, Commands, Quiet, Verbose

app = typer.Typer(
    cls=Commands,
    help="Sequence-modelling experiments with pluggable memory cores and tasks.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001  typer calls it with the flag
    if wanted:
        typer.echo(f"seqtoolkit {version('seqtoolkit')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    quiet: Quiet = 0,
    verbose: Verbose = 0,
) -> None:
    pass


app.command("run")(run.run)
app.command("check")(run.check)
app.command("sweep")(sweep.sweep)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("play")(play.play)
app.command("compare")(compare.compare)
app.command("ui")(ui.ui)
app.command("deliver")(run.deliver)
app.command("export")(export.export)
app.command("register")(export.register)
app.add_typer(runs.app, name="runs")
app.add_typer(plugins.app, name="plugins")
app.add_typer(pipelines.app, name="pipelines")
app.add_typer(plot.app, name="plot")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Run the command line. A user's mistake is one line a problem and exit code 2, the machine's exit code 1."""
    with VOICE.speaking(), answering():
        try:
            app(prog_name="seqtoolkit")
        except ValueError as error:
            _explain(error, *str(error).splitlines())
            sys.exit(2)
        except OSError as error:
            _explain(error, str(error))
            sys.exit(1)
        except KeyboardInterrupt:
            _explain(None, "interrupted")
            sys.exit(130)


def _explain(error: Exception | None, *lines: str) -> None:
    LOGGER.debug("raised here", exc_info=error)
    for line in lines:
        sys.stderr.write(f"seqtoolkit: {line}\n")
