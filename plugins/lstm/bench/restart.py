"""What restarts cost: extra steps of one call against a loop of steps, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import process_time

import torch
from torch import Tensor

from seqtoolkit.sdk import Core
from seqtoolkit_lstm import LSTM

REPEATS = 7
SETTINGS = {"H 64": (64, 1, 30, 32), "H 256": (256, 1, 40, 64), "H 256, 2 layers": (256, 2, 40, 64)}
"""hidden_size, num_layers, T, B"""

Run = Callable[[], Tensor]


def seconds(runs: list[Run]) -> list[float]:
    """Process time of forward and backward, each run in turn: medians of repeats, warm."""
    times: list[list[float]] = [[] for _ in runs]
    for repeat in range(REPEATS + 1):
        for run, kept in zip(runs, times, strict=True):
            begun = process_time()
            run().sum().backward()
            if repeat:
                kept.append(process_time() - begun)
    return [median(kept) for kept in times]


def measure(name: str, hidden_size: int, num_layers: int, steps: int, rows: int) -> None:
    """Check that both give the same, then say what each takes."""
    core, inputs = LSTM(64, hidden_size, num_layers), torch.randn(steps, rows, 64)
    state = core.initial_state(rows)
    one = torch.zeros(steps, rows, dtype=torch.bool)
    one[torch.randint(1, steps // 2, (rows,)), torch.arange(rows)] = True
    patterns = {"none": None, "one a row": one, "a tenth": torch.rand(steps, rows) < 0.1, "every step": one | True}
    print(f"{name}, T {steps}, B {rows}")
    for label, first in patterns.items():
        stepping: Run = lambda first=first: Core.unroll(core, inputs, state, first)[0]  # noqa: E731
        unrolling: Run = lambda first=first: core.unroll(inputs, state, first)[0]  # noqa: E731
        torch.testing.assert_close(unrolling(), stepping(), rtol=1e-4, atol=1e-5)
        slow, fast = seconds([stepping, unrolling])
        print(f"    {label:10}  {1e3 * slow:6.1f} -> {1e3 * fast:6.1f} ms, {slow / fast:.2f}x")


def main() -> None:
    """Every setting, on one thread."""
    torch.set_num_threads(1)
    print("restarts: a loop of steps -> this core, forward and backward, one thread, float32")
    for name, sizes in SETTINGS.items():
        measure(name, *sizes)


if __name__ == "__main__":
    main()
