"""Cores, sequences and outcomes for tests that hold one way to unroll against another."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from seqtoolkit.sdk import map_state
from seqtoolkit_rmc import RelationalMemory, reference


def drawn(lowest: int, highest: int, generator: torch.Generator) -> int:
    """A whole number, both ends included."""
    return int(torch.randint(lowest, highest + 1, (), generator=generator))


def make_core(generator: torch.Generator, dtype: torch.dtype = torch.float64, **options) -> RelationalMemory:
    """A core whose parameters, gains and biases too, are anything but what they begin with."""
    features = drawn(1, 7, generator)
    size = (drawn(1, 4, generator), features) if options.get("treat_input_as_matrix") else features
    with torch.random.fork_rng():
        torch.manual_seed(drawn(0, 10**6, generator))
        core = RelationalMemory(size, **{"mem_slots": 4, "num_heads": 2, "head_size": 6} | options).to(dtype)
    with torch.no_grad():
        for parameter in core.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.1 * noise)
    return core


def sequence(core: RelationalMemory, steps: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs [T B n D] and a memory [B N M]."""
    shapes = (steps, batch, core.input_rows, core.input_size), (batch, core.mem_slots, core.mem_size)
    dtype = next(core.parameters()).dtype
    inputs, memory = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes)
    return inputs, memory


def plain(parameters: reference.Parameters) -> reference.Parameters:
    """Without history."""
    return map_state(lambda leaf: None if leaf is None else leaf.detach(), parameters)


def marks(steps: int, batch: int, generator: torch.Generator) -> Tensor:
    """Restarts, [T B]; none at some steps."""
    return torch.rand(steps, batch, generator=generator) * torch.rand(steps, 1, generator=generator) > 0.5


def loss(memories: Tensor) -> Tensor:
    """A sum with drawn weights, the same each time."""
    weights = torch.randn(memories.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    return (memories * weights.to(memories)).sum()


def run(unroll, core: RelationalMemory, inputs: Tensor, memory: Tensor, first: Tensor | None = None) -> list[Tensor]:
    """Memories, and the gradients of inputs, memory and all parameters."""
    leaves = [inputs.clone().requires_grad_(), memory.clone().requires_grad_()]
    memories = unroll(core.parameters_of(), core.settings, *leaves, core.initial_state(1).detach(), first)
    return [memories, *torch.autograd.grad(loss(memories), [*leaves, *core.parameters()])]


def close(gots: list[Tensor], wanteds: list[Tensor], tolerance: float) -> None:
    """Relative to what is large, absolute where nothing is."""
    for got, wanted in zip(gots, wanteds, strict=True):
        assert (got - wanted).abs().max() <= tolerance * max(1, wanted.abs().max())


@pytest.fixture(scope="session")
def trial():
    """What tests draw and compare."""
    return SimpleNamespace(
        drawn=drawn, make_core=make_core, sequence=sequence, plain=plain, marks=marks, loss=loss, run=run, close=close
    )
