"""`seqtoolkit predict`: what a trained model answers, beside the true answer, or how it goes on."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, TextIO

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seqtoolkit.cli.completion import runs
from seqtoolkit.cli.prompt import (
    Count,
    PromptText,
    Seed,
    StopAtEnd,
    Temperature,
    Tokens,
    TopK,
    TopP,
    Unknown,
    chosen,
    typed,
    write,
)
from seqtoolkit.cli.run import AsJson, Folder
from seqtoolkit.cli.voice import quiet

if TYPE_CHECKING:
    from seqtoolkit.question import Answered, Asker, Tally

_STDIN = Path("-")
_SHOWN = {True: ("right", "green"), False: ("wrong", "red"), None: ("", "")}


def predict(
    ctx: typer.Context,
    run: Annotated[
        str,
        typer.Argument(help="A run: its id, name or folder, latest; or a checkpoint's folder.", autocompletion=runs),
    ],
    questions: Annotated[
        list[str] | None,
        typer.Argument(metavar="[QUESTION]...", help="Questions; a prompt asks for them if not given."),
    ] = None,
    file: Annotated[Path | None, typer.Option(help="A file that is one question; - is stdin.")] = None,
    batch: Annotated[
        Path | None, typer.Option(help='JSON lines, {"question": ...} or text, for JSON lines; - is stdin.')
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Where --batch writes to; stdout if not given.")] = None,
    checkpoint: Annotated[str, typer.Option(help="best, last, or a step.")] = "best",
    prompt: PromptText = None,
    tokens: Tokens = 100,
    count: Count = 1,
    temperature: Temperature = 1.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    seed: Seed = 0,
    unknown: Unknown = False,  # noqa: FBT002  a flag
    stop_at_end: StopAtEnd = False,  # noqa: FBT002  a flag
    folder: Folder = Path("runs"),
    as_json: AsJson = False,  # noqa: FBT002  a flag
) -> None:
    """Ask a trained model questions of its task, beside the true answers, or have it go on with a text."""
    given = {"QUESTION": questions, "--file": file, "--batch": batch, "--prompt": prompt is not None}
    way = _way([name for name, each in given.items() if each], chosen(ctx))
    if to is not None and batch is None:
        raise ValueError("--to: wanted --batch too, whose answers it takes")
    from seqtoolkit.flow.continuation import Sampling, textual
    from seqtoolkit.question import Asker, source_of
    from seqtoolkit.trained import Trained

    sampling = Sampling(temperature, top_k, top_p, seed)
    trained = Trained.find(run, checkpoint, folder)
    source = source_of(trained)
    if way == "--prompt" or (not way and textual(source)):
        from seqtoolkit.writer import Writer

        writer = Writer(trained, sampling, unknown=unknown, stop_at_end=stop_at_end, source=source)
        write(writer, _read(_STDIN) if prompt == str(_STDIN) else prompt, tokens, count, as_json=as_json)
    elif not source.asks and textual(source):
        raise ValueError(f"{way}: the task {trained.pipeline.plan.origin.use} takes no questions; give it a --prompt")
    else:
        asked = questions or ([] if file is None else [_read(file)])
        _answer(Asker(trained, source=source), asked, batch, to, as_json=as_json)


def _way(ways: list[str], alone: str) -> str:
    """The way in which a model is asked; `alone` is an option that only prompts have. Raises ValueError where it is none."""
    if len(ways) > 1:
        raise ValueError(f"{' and '.join(ways)}: wanted one of them")
    if not alone:
        return "".join(ways)
    if ways not in ([], ["--prompt"]):
        raise ValueError(f"{alone}: wanted --prompt, not {ways[0]}: it says how a text goes on")
    return "--prompt"


def _answer(asker: Asker, questions: list[str], batch: Path | None, to: Path | None, *, as_json: bool) -> None:
    """Answers, and how many of them are right."""
    from seqtoolkit.question import Tally

    tally = Tally()
    if batch is not None:
        _batch(asker, batch, to, tally)
    elif questions:
        _all(asker, questions, tally, as_json=as_json)
    else:
        _prompt(asker, tally, as_json=as_json)
    if not quiet() and (batch is not None or tally.right + tally.wrong + tally.unknown + tally.errors > 1):
        sys.stderr.write(f"{tally}\n")
    if tally.errors:
        raise typer.Exit(1)


def _read(file: Path) -> str:
    """A whole file as one question, or as a prompt, without the break at its end."""
    try:
        return (sys.stdin.read() if file == _STDIN else file.read_text(encoding="utf-8")).rstrip("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{'stdin' if file == _STDIN else file}: byte {error.start} is no UTF-8") from None


def _all(asker: Asker, questions: list[str], tally: Tally, *, as_json: bool) -> None:
    """Questions of the command line, as one table or one JSON list."""
    found = list(asker.stream(questions))
    for each in found:
        tally.add(each)
    if as_json:
        typer.echo(json.dumps([each.record() for each in found], indent=2))
        return
    table = Table("question", "answer", "expected", "", box=None, pad_edge=False, header_style="bold")
    for each in found:
        if each.error is None:
            word, color = _SHOWN[each.correct]
            table.add_row(Text(each.shown), Text(str(each.answer)), Text(each.expected or ""), Text(word, color))
    if table.row_count:
        Console(highlight=False).print(table)
    for each in found:
        if each.error is not None:
            where = "" if len(found) == 1 else f"{' '.join(each.question.split())}: "
            sys.stderr.write(f"seqtoolkit: {where}{each.error}\n")


def _batch(asker: Asker, given: Path, to: Path | None, tally: Tally) -> None:
    """JSON lines in, JSON lines out, some at a time."""
    from seqtoolkit.question import answer_lines

    with ExitStack() as stack:
        if to is not None and to.exists() and given != _STDIN and to.samefile(given):
            raise ValueError(f"--to: {to} is what --batch reads")
        source: BinaryIO = sys.stdin.buffer if given == _STDIN else stack.enter_context(given.open("rb"))
        target: TextIO = sys.stdout if to is None else stack.enter_context(to.open("w", encoding="utf-8"))
        for records in answer_lines(asker, source, tally):
            target.writelines(f"{json.dumps(each)}\n" for each in records)
            target.flush()


def _prompt(asker: Asker, tally: Tally, *, as_json: bool) -> None:
    """Questions as they are typed, each answered at once."""
    for question in typed(f"{asker.source.asks}\nAn empty line ends a question; Ctrl-C drops it, Ctrl-D leaves."):
        (answered,) = asker([question])
        tally.add(answered)
        if as_json:
            typer.echo(json.dumps(answered.record()))
        else:
            _tell(answered)


def _tell(answered: Answered) -> None:
    if answered.error is not None:
        sys.stderr.write(f"seqtoolkit: {answered.error}\n")
        return
    word, color = _SHOWN[answered.correct]
    console = Console(highlight=False)
    console.print(Text(f"answer    {answered.answer}"), Text(word, color), soft_wrap=True)
    if answered.expected is not None:
        console.print(Text(f"expected  {answered.expected}"), soft_wrap=True)
