"""Reading leaves steps out and changes nothing: states and gradients are those of the whole unrolling."""

import pytest
import torch
from torch import nn

from seqtoolkit.flow.core import Core
from seqtoolkit.flow.reading import read


class Cell(Core):
    """A core whose state is a nest, and that counts the rows it has stepped."""

    def __init__(self):
        super().__init__()
        self.input_size, self.output_size, self.rows = 3, 4, 0
        self.cell = nn.LSTMCell(3, 4).double()

    def initial_state(self, batch_size):
        """Zeros, in a dict and a tuple."""
        return {"pair": tuple(torch.zeros(batch_size, 4, dtype=torch.double) for _ in range(2))}

    def step(self, inputs, state):
        """A step of the cell."""
        self.rows += len(inputs)
        hidden, carry = self.cell(inputs, state["pair"])
        return hidden, {"pair": (hidden, carry)}


@pytest.mark.parametrize("chance", [0.0, 0.05, 0.4, 1.0])
@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (7, 5), (11, 9), (3, 16)])
@pytest.mark.parametrize("given", [True, False])
def test_reading_is_unrolling(chance, steps, batch, given):
    """Whatever restarts there are, from a given state or a fresh one, the state and every gradient are the same."""
    torch.manual_seed(steps * batch)
    core = Cell()
    inputs = torch.randn(steps, batch, 3, dtype=torch.double, requires_grad=True)
    first = torch.rand(steps, batch) < chance
    start = None
    if given:
        start = {"pair": tuple(torch.randn(batch, 4, dtype=torch.double, requires_grad=True) for _ in range(2))}
    weights = torch.randn(batch, 4, dtype=torch.double)
    found = []
    for state in (read(core, inputs, start, first), core(inputs, start, first)[1]):
        hidden, carry = state["pair"]
        loss = ((hidden + carry**2) * weights).sum()
        asked = [inputs, *core.parameters(), *(start["pair"] if given else ())]
        gradients = torch.autograd.grad(loss, asked, allow_unused=True, materialize_grads=True)
        found.append([hidden, carry, *gradients])
    for mine, wanted in zip(*found, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=0, atol=1e-12)


def test_steps_that_are_forgotten_are_not_computed():
    """Questions padded on the left cost about as many rows as they have steps, not as the longest of them has."""
    core = Cell()
    begins = torch.arange(16)
    first = torch.arange(16).unsqueeze(1) == begins
    read(core, torch.randn(16, 16, 3, dtype=torch.double), None, first)
    steps = int((16 - begins).sum())
    assert steps <= core.rows <= 1.5 * steps


def test_no_restart_is_one_unrolling():
    """Without restarts nothing is left out."""
    core = Cell()
    read(core, torch.randn(5, 4, 3, dtype=torch.double), None, None)
    assert core.rows == 20
