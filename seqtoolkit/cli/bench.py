"""`seqtoolkit bench`: what things cost on the machine at hand."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seqtoolkit.cli.completion import cores

if TYPE_CHECKING:
    from seqtoolkit.bench.core import Row, Setting

WIDTH = 90
"""Columns that a table has at least: on a narrower terminal its lines break, and none of it is cut off."""

app = typer.Typer(help="What things cost on the machine at hand.", no_args_is_help=True)


@app.callback()
def _bench() -> None:
    pass


@app.command()
def core(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="rmc, or '{use: rmc, mem_slots: 8}'.", autocompletion=cores)
    ],
    steps: Annotated[int, typer.Option(help="Steps of a sequence, T.")] = 32,
    batch_size: Annotated[int, typer.Option(help="Sequences, B.")] = 16,
    input_size: Annotated[int, typer.Option(help="Features of an input, D.")] = 64,
    hidden_size: Annotated[int, typer.Option(help="Units of the nn.LSTM that all are compared with.")] = 128,
    repeats: Annotated[int, typer.Option(help="Timings of each, in turn; medians are told.")] = 10,
    threads: Annotated[int, typer.Option(help="Threads of a CPU.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "cpu",
    dtype: Annotated[Literal["float32", "float64", "bfloat16"], typer.Option(help="Of all numbers.")] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs to read.")] = False,  # noqa: FBT002  a flag
) -> None:
    """Time memory cores side by side with nn.LSTM, after checking each against its reference in float64."""
    import torch

    from seqtoolkit.bench.core import Setting, bench, read_core, record
    from seqtoolkit.host.registry import discover
    from seqtoolkit.testing import LawBroken
    from seqtoolkit.train.optimize import choose_device

    registry = discover()
    if threads < 1:
        raise ValueError(f"threads: wanted at least 1, got {threads}")
    setting = Setting(steps, batch_size, input_size, hidden_size, repeats, str(choose_device(device)), dtype)
    blocks = [read_core(registry, name) for name in names]
    torch.set_num_threads(threads)
    try:
        rows = bench(blocks, setting)
    except LawBroken as broken:
        sys.stderr.write(f"seqtoolkit: {broken}\n")
        raise typer.Exit(1) from None
    found = record(rows, setting)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    _print(rows, setting, found["machine"])


def _print(rows: list[Row], setting: Setting, machine: dict[str, object]) -> None:
    console = Console(highlight=False)
    where = machine.get("gpu", machine["processor"]) if setting.device != "cpu" else machine["processor"]
    console.print(
        f"T {setting.steps}, B {setting.batch_size}, D {setting.input_size}, {setting.dtype}, {setting.device} ({where}),"
        f" threads: {machine['threads']}, torch {machine['torch']}; medians of {setting.repeats}; (times nn.LSTM)",
        soft_wrap=True,
    )
    heads = ("core", "parameters", "forward ms", "+ backward", "step us", "operations", "MiB")
    table = Table(*heads, box=None, pad_edge=False, header_style="bold")
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    table.columns[0].overflow = "fold"
    base = rows[0]
    for row in rows:
        cells = [f"{row.parameters:,}"]
        for name, factor in (("forward", 1e3), ("train", 1e3), ("step", 1e6)):
            value = getattr(row, name)
            cells.append(f"{factor * value:.{0 if factor * value >= 100 else 2}f} ({value / getattr(base, name):.1f})")
        backward = row.train_operations - row.forward_operations
        cells += [" + ".join(f"{each:.{0 if each >= 10 else 1}f}" for each in (row.forward_operations, backward))]
        table.add_row(Text(row.name), *cells, f"{row.memory / 2**20:.1f}")
    console.width = max(console.width, WIDTH)
    console.print(table)
