"""What unrolling a relational memory core saves over stepping it: time and operations, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor

from seqtoolkit.bench import cost, interleaved
from seqtoolkit.sdk import Core
from seqtoolkit_rmc import RelationalMemory

REPEATS = 15
SETTINGS: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "1 slot x 4 heads x 32, unit": ({"mem_slots": 1}, (18, 128, 64)),
    "4 slots x 4 heads x 32, unit": ({}, (20, 64, 64)),
    "4 slots x 4 heads x 32, memory": ({"gate_style": "memory"}, (20, 64, 64)),
    "4 slots x 4 heads x 8, unit": ({"head_size": 8}, (20, 16, 64)),
    "8 slots x 1 head x 256, unit": ({"mem_slots": 8, "head_size": 256, "num_heads": 1}, (8, 64, 40)),
}
"""Options, and T, B, D."""

Run = Callable[[], Tensor]


def measure(name: str, options: dict[str, Any], sizes: tuple[int, int, int]) -> None:
    """Check that both give the same, then say what each takes."""
    steps, rows, features = sizes
    core, inputs = RelationalMemory(features, **options), torch.randn(*sizes)
    first = torch.zeros(steps, rows, dtype=torch.bool)
    first[torch.randint(0, steps // 2, (rows,)), torch.arange(rows)] = True
    state = core.initial_state(rows)
    for label, marks in (("no restarts", None), ("one a row", first)):
        stepping: Run = lambda marks=marks: Core.unroll(core, inputs, state, marks)[0]  # noqa: E731
        unrolling: Run = lambda marks=marks: core.unroll(inputs, state, marks)[0]  # noqa: E731
        torch.testing.assert_close(unrolling(), stepping(), rtol=1e-4, atol=1e-5)
        passes = [lambda run=run: run().sum().backward() for run in (stepping, unrolling)]
        slow, fast = map(median, interleaved(passes, REPEATS))
        more, fewer = (cost(each).operations / steps for each in passes)
        print(
            f"{name:31} T {steps:3} B {rows:3}  {label:11}  {1e3 * slow:6.1f} -> {1e3 * fast:6.1f} ms,"
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
