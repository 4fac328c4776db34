"""What unrolling a DNC takes beside stepping the equations, and beside the fastest other DNC in PyTorch that we know.

The other is `dnc` 1.1.0 (ixaxaar's), timed where it can be imported:
`pip install --no-deps --target SOME_FOLDER dnc==1.1.0`, then `PYTHONPATH=SOME_FOLDER python bench/unroll.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

from seqtoolkit.bench import cost, interleaved
from seqtoolkit.sdk import Core, map_state
from seqtoolkit_dnc import DNC

HIDDEN, SLOTS, WORD, READS, FEATURES = 128, 64, 32, 4, 64
STEPS, ROWS = 32, 16

Run = Callable[[], Tensor]


class Reference(DNC):
    """The equations, step by step."""

    unroll = Core.unroll

    step = DNC.reference_step


def check(core: DNC, equations: DNC) -> None:
    """Outputs and all gradients, in float64 and from a state without ties, are those of the equations."""
    core, equations = core.double(), equations.double()
    inputs = torch.randn(STEPS, ROWS, FEATURES, dtype=torch.float64)
    state = map_state(lambda leaf: torch.softmax(torch.randn_like(leaf), -1) / 2, core.initial_state(ROWS))
    found = []
    for each in (core, equations):
        outputs, last = each(inputs, state)
        found.append([outputs, *torch.autograd.grad(outputs.sin().sum() + last.memory.sum(), list(each.parameters()))])
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)
    core.float(), equations.float()


def theirs() -> nn.Module | None:
    """The other DNC, of the same sizes, clipped alike."""
    try:
        from dnc import dnc
    except ImportError as error:
        print(f"dnc 1.1.0 is left out ({error}): pip install --no-deps --target FOLDER dnc==1.1.0; PYTHONPATH=FOLDER")
        return None
    sizes = {"nr_cells": SLOTS, "cell_size": WORD, "read_heads": READS}
    return dnc.DNC(FEATURES, HIDDEN, num_layers=1, num_hidden_layers=1, batch_first=False, clip=20, **sizes)


def main() -> None:
    """Check, then time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    core = DNC(FEATURES, HIDDEN, SLOTS, WORD, READS)
    equations = Reference(FEATURES, HIDDEN, SLOTS, WORD, READS)
    equations.load_state_dict(core.state_dict())
    check(core, equations)
    inputs = torch.randn(STEPS, ROWS, FEATURES)
    runs: dict[str, Run] = {
        "unroll": lambda: core(inputs)[0],
        "step by step": lambda: Core.unroll(core, inputs, core.initial_state(ROWS))[0],
        "the equations, step by step": lambda: equations(inputs)[0],
    }
    if (other := theirs()) is not None:
        runs["dnc 1.1.0"] = lambda: other(inputs)[0]
    print(
        f"{SLOTS} slots x {WORD}, {READS} read heads, hidden {HIDDEN}, T {STEPS}, B {ROWS}, {options.threads} threads"
    )
    passes = [lambda run=run: run().sum().backward() for run in runs.values()]
    times = [median(each) for each in interleaved(passes, options.repeats)]
    for name, run, whole, time in zip(runs, runs.values(), passes, times, strict=True):
        forward = cost(run).operations / STEPS
        backward = cost(whole).operations / STEPS - forward
        each = f"{1e3 * time:7.1f} ms, {time / times[0]:5.2f} x unroll"
        print(f"{name:28} {each}; operations a step {forward:4.0f} forward, {backward:4.0f} backward")


if __name__ == "__main__":
    main()
