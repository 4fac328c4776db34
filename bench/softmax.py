"""What a softmax over many classes takes, forward and backward, beside F.linear and F.cross_entropy on all logits.

    python bench/softmax.py [--repeats 5] [--threads 1] [--chunk 128]

Losses and all gradients are compared first, with what float64 gives: a way that errs more than twice as far as torch's
own is not timed, and the exit code is 1. Times are the least of the repeats, taken in turn; memory is the most that the
tensors of a run held at a time, without those that it was given.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from seqtoolkit.bench import cost, interleaved
from seqtoolkit.flow.likelihood import log_likelihood


class Setting(NamedTuple):
    """How many rows are predicted, from vectors of which size, among how many classes."""

    name: str
    rows: int
    size: int
    classes: int

    def leaves(self) -> tuple[list[Tensor], Tensor]:
        """Hidden, table and bias; and targets."""
        torch.manual_seed(0)
        hidden, table = torch.randn(self.rows, self.size), torch.randn(self.classes, self.size) * self.size**-0.5
        leaves = [hidden, table, torch.zeros(self.classes)]
        return [each.requires_grad_() for each in leaves], torch.randint(self.classes, (self.rows,))


SETTINGS = (
    Setting("words of a small corpus", 1120, 256, 10_000),
    Setting("250,000 words", 256, 128, 250_000),
)

Way = Callable[[list[Tensor], Tensor], list[Tensor]]


def plain(leaves: list[Tensor], targets: Tensor) -> list[Tensor]:
    """The mean loss and its gradients, by torch on all logits."""
    loss = F.cross_entropy(F.linear(*leaves), targets)
    return [loss, *torch.autograd.grad(loss, leaves)]


def chunked(chunk: int) -> Way:
    """The same by what the heads compute."""

    def run(leaves: list[Tensor], targets: Tensor) -> list[Tensor]:
        hidden, table, bias = leaves
        loss = -log_likelihood(hidden, table, bias, targets, chunk).sum() / len(targets)
        return [loss, *torch.autograd.grad(loss, leaves)]

    return run


def sound(way: Way, leaves: list[Tensor], targets: Tensor) -> bool:
    """Whether a way errs at most twice as far as torch's, by the norm, in the loss and each gradient."""
    truth = plain([each.detach().double().requires_grad_() for each in leaves], targets)
    offs = (
        [
            float((got.detach() - right.detach()).norm() / right.detach().norm())
            for got, right in zip(run(leaves, targets), truth, strict=True)
        ]
        for run in (way, plain)
    )
    return all(ours <= 2 * theirs + 1e-7 for ours, theirs in zip(*offs, strict=True))


def main() -> int:
    """Check, then time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--chunk", type=int, default=128)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    ours, red = chunked(asked.chunk), 0
    print(
        f"{'classes':>8} {'rows':>5} {'size':>5} {'plain ms':>9} {'ours ms':>9} {'ratio':>6} {'plain MB':>9} {'ours MB':>9}"
    )
    for setting in SETTINGS:
        leaves, targets = setting.leaves()
        if not sound(ours, leaves, targets):
            print(f"{setting.name}: wrong, not timed")
            red = 1
            continue
        runs = [lambda way=way, given=(leaves, targets): way(*given) for way in (plain, ours)]
        before, after = (min(each) * 1e3 for each in interleaved(runs, asked.repeats))
        most, least = (cost(run).peak / 1e6 for run in runs)
        sizes = f"{setting.classes:>8} {setting.rows:>5} {setting.size:>5}"
        print(f"{sizes} {before:>9.1f} {after:>9.1f} {before / after:>5.2f}x {most:>9.1f} {least:>9.1f}")
    return red


if __name__ == "__main__":
    raise SystemExit(main())
