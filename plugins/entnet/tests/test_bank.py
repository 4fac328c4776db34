"""The bank is so many LSTMs as PyTorch computes them; keyed, it is a bank whose cells share all but what their key says."""

import pytest
import torch
from torch import nn

from seqtoolkit.sdk import Core
from seqtoolkit_entnet import EntNet, bank

NEVER, LATER = torch.zeros(7, 3, dtype=torch.bool), torch.zeros(7, 3, dtype=torch.bool)
LATER[4] = True
UNROLLS = {"unrolled": EntNet.unroll, "stepped": Core.unroll}


def twins(cells, *, bias):
    """An nn.LSTM for each cell of a bank, of the same weights."""
    made = []
    for cell in range(cells.from_input.shape[0]):
        gates, features = cells.from_input.shape[1:]
        lstm = nn.LSTM(features, gates // 4, bias=bias).double()
        with torch.no_grad():
            lstm.weight_ih_l0.copy_(cells.from_input[cell])
            lstm.weight_hh_l0.copy_(cells.from_hidden[cell])
            if bias:
                lstm.bias_ih_l0.copy_(cells.bias[cell])
                lstm.bias_hh_l0.zero_()
        made.append(lstm)
    return made


@pytest.mark.parametrize("unroll", UNROLLS.values(), ids=UNROLLS)
@pytest.mark.parametrize("first", [NEVER, LATER], ids=["no restart", "a restart"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("num_cells", [1, 3])
def test_lstms(num_cells, bias, first, unroll):
    """Outputs, states and gradients are those of one nn.LSTM a cell, summed; for one cell, those of one nn.LSTM."""
    torch.manual_seed(0)
    core = EntNet(5, num_cells=num_cells, cell_size=4, bias=bias).double()
    inputs = torch.randn(7, 3, 5, dtype=torch.float64)
    lstms = twins(core.cells, bias=bias)
    pieces = [inputs[:4], inputs[4:]] if first.any() else [inputs]
    wanted = sum(torch.cat([lstm(piece)[0] for piece in pieces]) for lstm in lstms)
    outputs, (h, c) = unroll(core, inputs, core.initial_state(3), first)
    torch.testing.assert_close(outputs, wanted, rtol=0, atol=1e-12)
    for cell, lstm in enumerate(lstms):
        _, (hidden, memory) = lstm(pieces[-1])
        torch.testing.assert_close((h[:, cell], c[:, cell]), (hidden[0], memory[0]), rtol=0, atol=1e-12)
    weights = torch.randn(7, 3, 4, dtype=torch.float64)
    (outputs * weights).sum().backward()
    (wanted * weights).sum().backward()
    for cell, lstm in enumerate(lstms):
        pairs = {"from_input": lstm.weight_ih_l0, "from_hidden": lstm.weight_hh_l0}
        pairs |= {"bias": lstm.bias_ih_l0} if bias else {}
        for name, parameter in pairs.items():
            torch.testing.assert_close(getattr(core.cells, name).grad[cell], parameter.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_keyed_is_a_bank(bias):
    """A keyed bank is a bank of equal weights, whose biases differ by V w_j, started at h_j = w_j."""
    torch.manual_seed(0)
    keyed = EntNet(5, "keyed", num_cells=3, cell_size=4, bias=bias).double()
    core, cells = EntNet(5, num_cells=3, cell_size=4).double(), keyed.cells
    with torch.no_grad():
        core.cells.from_input.copy_(cells.from_input.expand(3, -1, -1))
        core.cells.from_hidden.copy_(cells.from_hidden.expand(3, -1, -1))
        core.cells.bias.copy_(cells.keys @ cells.from_key.t() + (cells.bias if bias else 0))
    inputs, state = torch.randn(7, 2, 5, dtype=torch.float64), keyed.initial_state(2)
    assert torch.equal(state[0], cells.keys.expand(2, -1, -1))
    torch.testing.assert_close(keyed(inputs), core(inputs, state), rtol=0, atol=1e-12)


def test_equal_cells_stay_equal():
    """Cells of a bank whose weights are the same do the same: without keys, weights are what tells cells apart."""
    core = EntNet(5, num_cells=2, cell_size=4)
    with torch.no_grad():
        for parameter in core.parameters():
            parameter[1] = parameter[0]
    outputs, (h, _) = core(torch.randn(6, 2, 5))
    torch.testing.assert_close(h[:, 0], h[:, 1])
    torch.testing.assert_close(outputs[-1], 2 * h[:, 0])


@pytest.mark.parametrize("mode", ["bank", "keyed"])
def test_a_restart_at_the_first_step_is_a_state(mode, monkeypatch):
    """Rows that begin anew at the first step alone need no loop over time: they begin in another state."""
    core, inputs, first = EntNet(5, mode, 3, 4), torch.randn(7, 2, 5), torch.zeros(7, 2, dtype=torch.bool)
    first[0] = True
    monkeypatch.delattr(bank, "loop")
    state = tuple(torch.randn(2, 3, 4) for _ in range(2))
    torch.testing.assert_close(core(inputs, state, first), core(inputs))
