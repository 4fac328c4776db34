"""Prompts of `seqtoolkit predict`: texts that a person begins, and what a model writes after them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqtoolkit.cli.voice import quiet

if TYPE_CHECKING:
    from seqtoolkit.writer import Writer

_PANEL = "How a text goes on"
PromptText = Annotated[
    str | None,
    typer.Option("--prompt", metavar="TEXT", help="A text to go on with; - is stdin.", rich_help_panel=_PANEL),
]
Tokens = Annotated[int, typer.Option(help="How long: words, characters or bytes.", min=1, rich_help_panel=_PANEL)]
Count = Annotated[int, typer.Option(help="How many texts, each from a seed.", min=1, rich_help_panel=_PANEL)]
Temperature = Annotated[
    float, typer.Option(help="Below 1 the likely is likelier; 0 is no chance.", rich_help_panel=_PANEL)
]
TopK = Annotated[int, typer.Option(help="Only so many of the likeliest; 0 is all.", rich_help_panel=_PANEL)]
TopP = Annotated[
    float, typer.Option(help="As few of the likeliest as together have this probability.", rich_help_panel=_PANEL)
]
Seed = Annotated[int, typer.Option(help="Of the first text; one more for each.", rich_help_panel=_PANEL)]
Unknown = Annotated[bool, typer.Option("--unknown", help="Let it write unknown words.", rich_help_panel=_PANEL)]
StopAtEnd = Annotated[bool, typer.Option("--stop-at-end", help="End where the document does.", rich_help_panel=_PANEL)]
_OPTIONS = ("tokens", "count", "temperature", "top_k", "top_p", "seed", "unknown", "stop_at_end")
_HINT = "A text to go on with.\nAn empty line ends it; Ctrl-C drops it, or ends the model's, Ctrl-D leaves."
_CONTROLS = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""What a terminal might obey."""


def chosen(ctx: typer.Context) -> str:
    """The first option on the command line that says how a text goes on; empty where there is none."""
    typed = (name for name in _OPTIONS if getattr(ctx.get_parameter_source(name), "name", "") == "COMMANDLINE")
    return next((f"--{name.replace('_', '-')}" for name in typed), "")


def write(writer: Writer, prompt: str | None, tokens: int, count: int, *, as_json: bool) -> None:
    """Go on with a prompt, `count` times; where there is none, with each that is typed, from the next seeds each time."""
    if prompt is not None:
        if as_json:
            typer.echo(json.dumps(list(_records(writer, prompt, tokens, count)), indent=2))
        else:
            _tell(writer, prompt, tokens, count)
        return
    for each in typed(_HINT):
        try:
            if as_json:
                for record in _records(writer, each, tokens, count):
                    typer.echo(json.dumps(record))
            else:
                _tell(writer, each, tokens, count)
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
        writer.sampling = replace(writer.sampling, seed=writer.sampling.seed + count)


def _records(writer: Writer, prompt: str, tokens: int, count: int) -> Iterator[dict[str, Any]]:
    for seed, text in enumerate(writer.continue_(prompt, tokens, count), writer.sampling.seed):
        yield {"prompt": prompt, "text": text, "seed": seed}


def _tell(writer: Writer, prompt: str, tokens: int, count: int) -> None:
    """One text as it is written; several once they are, an empty line between."""
    if count > 1:
        _show("\n".join(f"{prompt}{each}\n" for each in writer.continue_(prompt, tokens, count)))
        return
    pieces = writer.stream(prompt, tokens)
    try:
        _show(prompt)
        for piece in pieces:
            _show(piece)
    finally:
        _show("\n")


def _show(text: str) -> None:
    sys.stdout.write(text.translate(_CONTROLS) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def typed(hint: str) -> Iterator[str]:
    """Texts of one or more lines, as they are typed; an empty line, or the end, ends each. Ctrl-C drops what was typed of one.

    At a terminal the hint is shown before.
    """
    if sys.stdin.isatty():
        with suppress(ImportError):
            import readline  # noqa: F401  makes input() remember lines
        if not quiet():
            sys.stderr.write(f"{hint}\n")
    first, more = ("> ", ". ") if sys.stdin.isatty() else ("", "")
    lines: list[str] = []
    while True:
        try:
            line = input(more if lines else first)
        except KeyboardInterrupt:
            sys.stderr.write("\n")
            lines = []
            continue
        except EOFError:
            if lines:
                yield "\n".join(lines)
            return
        if line.strip():
            lines.append(line)
        elif lines:
            yield "\n".join(lines)
            lines = []
