"""What a sequence has to have before any backend sees it: a step, and restarts that are bool and of its shape."""

import pytest
import torch

from seqtoolkit_rmc import RelationalMemory

BACKENDS = ("auto", "reference", "fused", "native")


def core(backend):
    """A core so small that its size costs nothing."""
    return RelationalMemory(5, mem_slots=3, head_size=4, num_heads=2, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("first", "got"),
    [
        (torch.zeros(7, 3, dtype=torch.int64), r"int64 \[7, 3\] on cpu"),
        (torch.zeros(7, 3), r"float32 \[7, 3\] on cpu"),
        (torch.zeros(7, 2, dtype=torch.bool), r"bool \[7, 2\] on cpu"),
        (torch.zeros(6, 3, dtype=torch.bool), r"bool \[6, 3\] on cpu"),
        (torch.zeros(7, 1, dtype=torch.bool), r"bool \[7, 1\] on cpu"),
        (torch.zeros(3, dtype=torch.bool), r"bool \[3\] on cpu"),
        (torch.zeros(7, 3, dtype=torch.bool, device="meta"), r"bool \[7, 3\] on meta"),
    ],
)
def test_restarts_that_do_not_fit(backend, first, got):
    """No backend takes restarts of another dtype, shape or device: one that reads them by address would misread them."""
    inputs, message = torch.zeros(7, 3, 5), rf"^first: wanted bool \[7, 3\] on cpu, got {got}$"
    with pytest.raises(ValueError, match=message):
        core(backend)(inputs, None, first)
    with pytest.raises(ValueError, match=message):
        core(backend).attention(inputs, None, first)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_step(backend):
    """A sequence without a step is refused in one line, by every backend alike."""
    with pytest.raises(ValueError, match=r"^inputs: wanted at least one step, got \[0, 3\] for \[T B\]$"):
        core(backend)(torch.zeros(0, 3, 5))
    with pytest.raises(ValueError, match=r"^inputs: wanted at least one step, got \[0, 3\] for \[T B\]$"):
        core(backend).attention(torch.zeros(0, 3, 5))


@pytest.mark.parametrize(
    "options", [{}, {"gate_style": None, "num_blocks": 2}, {"gate_style": "memory", "mem_slots": 1}]
)
@pytest.mark.parametrize("backend", ["auto", "reference", "fused"])
def test_no_sample(backend, options):
    """A batch of nothing gives outputs and a state of nothing, and gradients of zero, whatever unrolls."""
    made = RelationalMemory(5, **({"mem_slots": 3, "head_size": 4, "num_heads": 2, "backend": backend} | options))
    inputs = torch.zeros(7, 0, 5, requires_grad=True)
    outputs, state = made(inputs, None, torch.zeros(7, 0, dtype=torch.bool))
    outputs.sum().backward()
    assert (outputs.shape, state.shape) == ((7, 0, made.output_size), (0, made.mem_slots, 8))
    assert inputs.grad is not None
    assert all(torch.equal(each.grad, torch.zeros_like(each)) for each in made.parameters())
