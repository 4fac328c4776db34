"""What unrolling a bank of cells saves over stepping it: time and operations, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor

from seqtoolkit.bench import cost, interleaved
from seqtoolkit.sdk import Core
from seqtoolkit_entnet import EntNet

REPEATS = 15
SETTINGS: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "bank, 4 cells x 32": ({"cell_size": 32}, (20, 32, 64)),
    "bank, 4 cells x 256": ({}, (20, 64, 64)),
    "keyed, 4 cells x 32": ({"mode": "keyed", "cell_size": 32}, (20, 32, 64)),
    "keyed, 4 cells x 256": ({"mode": "keyed"}, (20, 64, 64)),
    "henaff, 4 cells x 32": ({"mode": "henaff", "cell_size": 32}, (20, 32, 64)),
    "henaff, 20 cells x 100": ({"mode": "henaff", "num_cells": 20, "cell_size": 100}, (20, 32, 100)),
    "henaff, 4 cells x 256": ({"mode": "henaff"}, (20, 64, 64)),
}
"""Options, and T, B, D."""

Run = Callable[[], Tensor]


def gradients(core: EntNet, run: Run) -> list[Tensor]:
    """The gradient of every parameter in the sum of the outputs."""
    return list(torch.autograd.grad(run().sum(), list(core.parameters())))


def measure(name: str, options: dict[str, Any], sizes: tuple[int, int, int]) -> None:
    """Check that both give the same, gradients included, then say what each takes."""
    steps, rows, features = sizes
    core, inputs = EntNet(features, **options), torch.randn(*sizes)
    first = torch.zeros(steps, rows, dtype=torch.bool)
    first[torch.randint(1, steps, (rows,)), torch.arange(rows)] = True
    for label, marks in (("no restarts", None), ("one a row", first)):
        stepping: Run = lambda marks=marks: Core.unroll(core, inputs, core.initial_state(rows), marks)[0]  # noqa: E731
        unrolling: Run = lambda marks=marks: core(inputs, None, marks)[0]  # noqa: E731
        torch.testing.assert_close(unrolling(), stepping(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(gradients(core, unrolling), gradients(core, stepping), rtol=1e-2, atol=1e-3)
        passes = [lambda run=run: run().sum().backward() for run in (stepping, unrolling)]
        slow, fast = map(median, interleaved(passes, REPEATS))
        more, fewer = (cost(each).operations / steps for each in passes)
        print(
            f"{name:23} T {steps:3} B {rows:3}  {label:11}  {1e3 * slow:6.1f} -> {1e3 * fast:6.1f} ms,"
            f" {slow / fast:.2f}x; {more:.0f} -> {fewer:.0f} operations a step"
        )


def main() -> None:
    """Every setting, on one thread."""
    torch.set_num_threads(1)
    print("stepping -> unrolling, forward and backward, one thread, float32")
    for name, (options, sizes) in SETTINGS.items():
        measure(name, options, sizes)


if __name__ == "__main__":
    main()
