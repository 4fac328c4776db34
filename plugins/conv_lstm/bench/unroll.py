"""What unrolling a convolutional LSTM saves over stepping it: time and operations, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from seqtoolkit.bench import cost, interleaved
from seqtoolkit.sdk import Core, State
from seqtoolkit_conv_lstm import ConvLSTM

REPEATS = 9
SETTINGS: dict[str, tuple[int | tuple[int, int, int], dict[str, Any], tuple[int, int]]] = {
    "5x5, 26 -> 64, kernel 2": ((26, 5, 5), {}, (40, 32)),
    "5x5, 26 -> 16, kernel 2": ((26, 5, 5), {"channels": 16}, (20, 64)),
    "5x5, 26 -> 32, kernel 3": ((26, 5, 5), {"channels": 32, "kernel_size": 3}, (20, 16)),
    "14x14, 26 -> 16, kernel 3": ((26, 14, 14), {"channels": 16, "kernel_size": 3}, (20, 64)),
    "15x19, 34 -> 32, kernel 2": ((34, 15, 19), {"channels": 32}, (20, 16)),
    "vectors, 64 -> 64": (64, {}, (20, 32)),
}
"""What is read, options, and T, B; the first is that of Santoro et al. 2018, A.3."""

Run = Callable[[], Tensor]


def run(way: Callable[..., tuple[Tensor, State]], core: ConvLSTM, inputs: Tensor, first: Tensor | None) -> Tensor:
    """The outputs, by one way to unroll."""
    return way(core, inputs, core.initial_state(inputs.shape[1]), first)[0]


def gradients(core: ConvLSTM, outputs: Run) -> list[Tensor]:
    """The gradient of every parameter in the mean of the outputs."""
    return list(torch.autograd.grad(outputs().mean(), list(core.parameters())))


def train(outputs: Run) -> None:
    """Both passes."""
    outputs().sum().backward()


@torch.no_grad()
def forward(outputs: Run) -> None:
    """The forward pass alone, as in acting."""
    outputs()


def measure(name: str) -> None:
    """Check that both give the same, gradients included, then say what each takes."""
    size, options, (steps, rows) = SETTINGS[name]
    core = ConvLSTM(size, **options)
    inputs = torch.randn(steps, rows, *core.input_shape)
    first = torch.zeros(steps, rows, dtype=torch.bool)
    first[torch.randint(1, steps, (rows,)), torch.arange(rows)] = True
    for label, marks in (("no restarts", None), ("one a row", first)):
        stepping, unrolling = (partial(run, way, core, inputs, marks) for way in (Core.unroll, ConvLSTM.unroll))
        torch.testing.assert_close(unrolling(), stepping(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(gradients(core, unrolling), gradients(core, stepping), rtol=1e-3, atol=1e-5)
        passes = [partial(train, stepping), partial(train, unrolling)]
        slow, fast = map(median, interleaved(passes, REPEATS))
        before, after = map(median, interleaved([partial(forward, stepping), partial(forward, unrolling)], REPEATS))
        more, fewer = (cost(each).operations / steps for each in passes)
        print(
            f"{name:26} T {steps:3} B {rows:3}  {label:11}  {1e3 * slow:6.1f} -> {1e3 * fast:6.1f} ms, {slow / fast:.2f}x;"
            f" forward {1e3 * before:6.1f} -> {1e3 * after:6.1f} ms, {before / after:.2f}x;"
            f" {more:.0f} -> {fewer:.0f} operations a step"
        )


def main() -> None:
    """Every setting, on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("stepping -> unrolling, forward and backward, then forward alone, one thread, float32")
    for name in SETTINGS:
        measure(name)


if __name__ == "__main__":
    main()
