"""`seqtoolkit evaluate`: a checkpoint on any split and difficulty of its task."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from seqtoolkit.cli.completion import runs
from seqtoolkit.cli.completion import settings as completed_settings
from seqtoolkit.cli.run import AsJson, Folder
from seqtoolkit.cli.voice import quiet

if TYPE_CHECKING:
    from seqtoolkit.assess import Assessment, Cell


def evaluate(
    run: Annotated[
        str,
        typer.Argument(help="A run: its id, name or folder, latest; or a checkpoint's folder.", autocompletion=runs),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Of the pipeline's evaluate: block, such as examples=5000 source.length=7; several values make a table: "
            "source.length=1..5 source.nesting=1,2,4. Of a run that acts environment.mode=..., and examples are episodes.",
            autocompletion=completed_settings,
        ),
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="best, last, or a step.")] = "best",
    split: Annotated[
        str | None, typer.Option(help="Short for source.split=... or environment.split=...: train, valid or test.")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="A folder for the numbers, the table and the picture.")] = None,
    folder: Folder = Path("runs"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    as_json: AsJson = False,  # noqa: FBT002  a flag
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a line for each metric of each cell.")] = False,  # noqa: FBT002  a flag
) -> None:
    """Evaluate a trained model as its run did, or on other splits and difficulties: the test of how it generalizes."""
    if as_json and as_csv:
        raise ValueError("--json and --csv: wanted one of them")
    from seqtoolkit import assess
    from seqtoolkit.trained import Trained

    trained = Trained.find(run, checkpoint, folder)
    kind = trained.pipeline.plan.origin.kind
    words = [*(settings or []), *([f"{kind}.split={split}"] if split is not None else [])]
    found = assess.evaluate(trained, words, device=device, heard=_tell if sys.stderr.isatty() and not quiet() else None)
    if as_json or as_csv:
        typer.echo(found.json() if as_json else found.csv(), nl=False)
    else:
        _print(found)
    kept = assess.keep(found, trained, to)
    if as_json or as_csv:
        return
    for path in kept.paths:
        typer.echo(f"{ {'.json': 'numbers', '.csv': 'table', '.png': 'picture'}[path.suffix]:<8}{path}")
    if kept.unstored is not None:
        typer.echo(f"stored  no: {kept.unstored}")


def _tell(done: int, of: int, cell: Cell) -> None:
    if of > 1:
        sys.stderr.write(f"\r\x1b[K{done}/{of}  {_place(cell)}" + "\n" * (done == of))
        sys.stderr.flush()


def _print(found: Assessment) -> None:
    console = Console(highlight=False)
    origin = " ".join(f"{key}={value}" for key, value in found.origin.items() if not isinstance(value, dict | None))
    counts = sorted({cell.examples for cell in found.cells})
    count = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    console.print(f"{found.run}  step {found.step:,}", style="bold", soft_wrap=True)
    console.print(f"{origin}; {count} {found.counted}{' each' * bool(found.axes)}", soft_wrap=True)
    shape = [_single, _list, _square][len(found.axes)] if len(found.axes) < 3 else _list
    shape(found, console)
    if any(cell.intervals for cell in found.cells):
        told = {
            "examples": "Wilson's, an example being one draw",
            "episodes": "normal, of a mean over episodes; Wilson's of what is 0 or 1",
        }
        console.print(f"95 % intervals: {told[found.counted]}", soft_wrap=True)
    if found.axes and any(cell.trained for cell in found.cells):
        console.print("* of a difficulty that it was trained on", soft_wrap=True)
    for cell in found.cells:
        if cell.error is not None:
            console.print(f"{_place(cell)}: {cell.error}", soft_wrap=True)


def _single(found: Assessment, console: Console) -> None:
    (cell,) = found.cells
    rows = [(name, _number(cell.metrics[name]), _interval(cell, name)) for name in found.metrics]
    _table(console, ["metric", "value", "95 %"], rows)


def _list(found: Assessment, console: Console) -> None:
    """A row for each cell."""
    rows = [
        [*(str(each) for each in cell.at.values()), *(_value(cell, name) for name in found.metrics), "*" * cell.trained]
        for cell in found.cells
    ]
    _table(console, [*map(_short, found.axes), *found.metrics, ""], rows)


def _square(found: Assessment, console: Console) -> None:
    """A table for each metric: the first axis downwards, the second to the right."""
    (down, rows), (right, columns) = found.axes.items()
    for name in found.metrics:
        lines = []
        for place, value in enumerate(rows):
            cells = found.cells[place * len(columns) :][: len(columns)]
            lines.append([str(value), *(_value(cell, name) + "*" * cell.trained for cell in cells)])
        console.print(f"\n{name}", style="bold")
        _table(console, [f"{_short(down)} \\ {_short(right)}", *map(str, columns)], lines)


def _table(console: Console, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.text import Text

    table = Table(*heads, box=None, pad_edge=False, header_style="bold")
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for row in rows:
        table.add_row(*map(Text, row))
    console.width = max(console.width, 2 + sum(2 + max(map(len, each)) for each in zip(heads, *rows, strict=True)))
    console.print(table, soft_wrap=True)


def _value(cell: Cell, name: str) -> str:
    if cell.error is not None:
        return "none"
    return f"{_number(cell.metrics[name])} {_interval(cell, name)}".rstrip()


def _interval(cell: Cell, name: str) -> str:
    if name not in cell.intervals:
        return ""
    low, high = cell.intervals[name]
    return f"({low:.3f}{'-' if low >= 0 else ' to '}{high:.3f})"


def _number(value: Any) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "none"


def _place(cell: Cell) -> str:
    return " ".join(f"{_short(key)}={value}" for key, value in cell.at.items())


def _short(key: str) -> str:
    return key.partition(".")[2] or key
