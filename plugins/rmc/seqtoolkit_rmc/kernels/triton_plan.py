"""Plan: how a problem is cut into tiles, and where things lie in the buffers that the kernels share with torch."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqtoolkit_rmc.kernels.triton_tile import Tile
from seqtoolkit_rmc.reference import EPSILON, Settings

LEAST = 16
"""Rows and columns of the smallest product that the matrix units take."""


class Problem(NamedTuple):
    """What the plan depends on."""

    settings: Settings
    batch: int
    slots: int
    arrivals: int
    size: int
    layers: int
    gates: int
    restarts: bool
    kept: bool
    exact: bool
    """Operands of float32 or float64, not bfloat16"""
    precision: str
    processors: int
    """Multiprocessors of the device; 0 under the interpreter, whose tiles are the smallest, so that all loops are tried"""


def plan(problem: Problem) -> Tile:
    """The tile: as many rows as a product of one warp group has, or fewer where programs would be too few for the device."""
    key, value = problem.settings.key_size, problem.settings.head_size
    size, qkv = problem.size, problem.settings.num_heads * (2 * key + value)
    rows = _rows(problem)
    samples = rows // max(problem.slots, problem.arrivals)
    chunk = LEAST if not problem.processors else 128 if rows < 64 and not problem.exact else 64
    depth = LEAST if not problem.processors else 64 if not problem.exact else 32
    tape = _running(squashed=size, raw=size * (problem.gates > 0), attended=qkv, hidden=size)
    tape["candidate"] = tape["hidden"] + (problem.layers - 1) * size
    tape["gates"] = tape["candidate"] + size
    return Tile(
        slots=problem.slots,
        arrivals=problem.arrivals,
        size=size,
        heads=problem.settings.num_heads,
        key=key,
        read=value,
        qkv=qkv,
        layers=problem.layers,
        gates=problem.gates,
        restarts=problem.restarts,
        kept=problem.kept,
        epsilon=EPSILON,
        precision=problem.precision,
        widened=not problem.processors,
        samples=samples,
        rows=rows,
        inputs=max(LEAST, _power(samples * problem.arrivals)),
        chunk=min(chunk, max(LEAST, _power(size))),
        depth=min(depth, max(LEAST, _power(size))),
        narrow=min(depth, max(LEAST, _power(max(key, value)))),
        **{f"tape_{name}": place for name, place in tape.items()},
        tape_width=_even(tape["gates"] + problem.gates),
        delta_mlp=qkv,
        delta_gates=qkv + problem.layers * size,
        delta_width=_even(qkv + problem.layers * size + problem.gates),
        scratch_width=_even(size + qkv),
        sums_width=2 * qkv + 3 * size,
    )


def programs(tile: Tile, batch: int) -> int:
    """How many programs share a batch."""
    return -(-batch // tile.samples)


def shape(tile: Tile) -> tuple[int, int]:
    """Warps and stages of a pipeline. With four warps an H100's multiprocessor holds two programs of 64 rows."""
    return (4, 3) if tile.rows >= 64 else (8, 4)


def launch(kernel: Any, tile: Tile, steps: int, batch: int, *tensors: Tensor) -> None:
    """Run a kernel over a batch."""
    warps, stages = shape(tile)
    with torch.cuda.device_of(tensors[0]):
        kernel[(programs(tile, batch),)](*tensors, steps, batch, tile, num_warps=warps, num_stages=stages)


def _rows(problem: Problem) -> int:
    """Rows of a program: all of at least one sample, and up to 64 while programs fill most of the device."""
    least = max(LEAST, _power(max(problem.slots, problem.arrivals)))
    rows = least
    while rows < 64 and 2 * rows // problem.slots * problem.processors * 3 < 4 * problem.batch:
        rows *= 2
    return rows if problem.processors else least


def _running(**widths: int) -> dict[str, int]:
    """Where each section begins, from the width of what precedes it."""
    places, place = {}, 0
    for name, width in widths.items():
        place += width
        places[name] = place
    return places


def _power(count: int) -> int:
    """The least power of two that is not less."""
    return 1 << (count - 1).bit_length()


def _even(width: int) -> int:
    """A width that keeps rows aligned for wide loads."""
    return -(-width // 16) * 16
