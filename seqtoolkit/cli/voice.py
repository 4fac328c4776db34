"""Voice: how much a command says, by -q and -v, which stand before a command or behind it."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

LOGGER = logging.getLogger("seqtoolkit")


class _Lines(logging.Handler):
    """What parts log, as lines on stderr, where no run shows it."""

    def emit(self, record: logging.LogRecord) -> None:
        if LOGGER.handlers == [self]:
            sys.stderr.write(f"{record.name}: {self.format(record)}\n")


class Voice:
    """How often -q and -v were given to the command at work."""

    def __init__(self) -> None:
        self.quiet = self.verbose = 0
        self._undo = ExitStack()

    def hush(self, context: typer.Context, count: int) -> None:
        """Count -q: once leaves errors and the result, twice errors."""
        self._add(0 if context.resilient_parsing else count, 0)

    def raise_(self, context: typer.Context, count: int) -> None:
        """Count -v: log lines, and where an error comes from."""
        self._add(0, 0 if context.resilient_parsing else count)

    def _add(self, quiet: int, verbose: int) -> None:
        self.quiet, self.verbose = self.quiet + quiet, self.verbose + verbose
        if self.quiet and self.verbose:
            raise ValueError("-q asks for fewer words and -v for more: wanted one of them")
        if quiet:
            LOGGER.setLevel(logging.ERROR)
            warnings.simplefilter("ignore")
            if self.quiet > 1:
                nowhere = self._undo.enter_context(Path(os.devnull).open("w"))  # noqa: SIM115  it is closed with the stack
                self._undo.enter_context(redirect_stdout(nowhere))
        if verbose and verbose == self.verbose:
            handler = _Lines()
            self._undo.callback(LOGGER.removeHandler, handler)
            LOGGER.addHandler(handler)
            LOGGER.setLevel(logging.DEBUG)

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """The time of one command; after it, all is as before."""
        level = LOGGER.level
        with warnings.catch_warnings(), self._undo:
            try:
                yield
            finally:
                LOGGER.setLevel(level)
                self.quiet = self.verbose = 0


VOICE = Voice()


def quiet() -> bool:
    """Whether a command is to say no more than its result, and what is wrong: no progress, no table that moves."""
    return VOICE.quiet > 0


Quiet = Annotated[
    int,
    typer.Option(
        "--quiet",
        "-q",
        count=True,
        expose_value=False,
        callback=VOICE.hush,
        show_default=False,
        help="Only errors and the result; twice: only errors.",
    ),
]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose", "-v", count=True, expose_value=False, callback=VOICE.raise_, show_default=False,
        help="Log lines too, and where an error comes from.",
    ),
]  # fmt: skip


class Commands(TyperGroup):
    """All commands: each takes -q and -v as the group itself does, and ends in one line where Ctrl-C ends it."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        shared = [each for each in self.params if each.name in ("quiet", "verbose")]
        waiting = list(self.commands.values())
        while waiting:
            command = waiting.pop()
            command.params += shared
            waiting += getattr(command, "commands", {}).values()

    def invoke(self, ctx: Any) -> Any:
        """Do what a command says."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.stderr.write("seqtoolkit: interrupted\n")
            raise typer.Exit(130) from None
