"""LSTM keeps the laws of cores, is nn.LSTM, and restarts rows at no cost to anyone else."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import seqtoolkit_lstm
from seqtoolkit.sdk import Core
from seqtoolkit.testing import CORE_LAWS, check_core
from seqtoolkit_lstm import LSTM


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("law", CORE_LAWS)
def test_laws(law, layers, dtype):
    """Every law of cores holds, with one layer and with several."""
    check_core(partial(LSTM, hidden_size=6, num_layers=layers), law, dtype=dtype)


def test_is_nn_lstm():
    """With the weights of an nn.LSTM a core gives its outputs and its states, the batch moved to the front."""
    theirs = nn.LSTM(5, 6, 2)
    core = LSTM(5, 6, 2)
    core.lstm.load_state_dict(theirs.state_dict())
    inputs = torch.randn(7, 3, 5)
    wanted, (hidden, cell) = theirs(inputs)
    outputs, state = core(inputs)
    assert torch.equal(outputs, wanted)
    assert torch.equal(state[0], hidden.transpose(0, 1))
    assert torch.equal(state[1], cell.transpose(0, 1))


def run(unroll, core, inputs, state, first):
    """Outputs, states, and all gradients of a sum of them."""
    inputs = inputs.clone().requires_grad_()
    state = tuple(each.clone().requires_grad_() for each in state)
    outputs, last = unroll(inputs, state, first)
    total = (outputs * torch.linspace(-1, 1, outputs.numel(), dtype=outputs.dtype).view_as(outputs)).sum()
    total = total + last[0].sin().sum() + last[1].cos().sum()
    return [outputs, *last, *torch.autograd.grad(total, [inputs, *state, *core.parameters()])]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.sampled_from([1.0, 30.0]),
    st.integers(0, 2**31),
)
def test_restarts(steps, rows, layers, often, scale, seed):
    """With restarts anywhere, outputs, states and gradients are those of stepping, however large the weights are."""
    torch.manual_seed(seed)
    core = LSTM(3, 4, layers).double()
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.mul_(scale)
    inputs = torch.randn(steps, rows, 3, dtype=torch.float64)
    state = (torch.randn(rows, layers, 4, dtype=torch.float64), 3 * torch.randn(rows, layers, 4, dtype=torch.float64))
    first = torch.rand(steps, rows) < often
    wanted = run(partial(Core.unroll, core), core, inputs, state, first)
    for got, right in zip(run(core.unroll, core, inputs, state, first), wanted, strict=True):
        torch.testing.assert_close(got, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_restart_is_exact(dtype):
    """A row that begins anew owes its past not one bit, and a row that does not keeps its own cell through others' restarts."""
    torch.manual_seed(0)
    core = LSTM(3, 64).to(dtype)
    inputs, first = torch.randn(9, 2, 3, dtype=dtype), torch.zeros(9, 2, dtype=torch.bool)
    first[4, 0] = first[6, 0] = True
    louder = inputs.clone()
    louder[:4, 0] *= 1000
    outputs, state = core(inputs, None, first)
    again, after = core(louder, None, first)
    assert torch.equal(outputs[4:], again[4:])
    assert not torch.equal(outputs[:4, 0], again[:4, 0])
    assert all(torch.equal(one, other) for one, other in zip(state, after, strict=True))


def test_one_call_serves_all_rows(monkeypatch):
    """Left-padded rows, each with its own beginning, take one call a layer of a sequence longer by one step."""
    core, lengths, original = LSTM(3, 4, 2), [], torch.lstm

    def counted(read, *others, **named):
        lengths.append(len(read))
        return original(read, *others, **named)

    monkeypatch.setattr(torch, "lstm", counted)
    first = torch.zeros(8, 5, dtype=torch.bool)
    first[torch.tensor([0, 3, 1, 5, 7]), torch.arange(5)] = True
    core(torch.randn(8, 5, 3), None, first)
    assert lengths == [9, 9]


def test_restarts_at_the_first_step_cost_nothing(monkeypatch):
    """Where rows begin anew at the first step alone, nn.LSTM runs as it is."""
    monkeypatch.setattr(torch, "lstm", None)
    first = torch.zeros(8, 5, dtype=torch.bool)
    first[0, :3] = True
    core = LSTM(3, 4)
    state = tuple(torch.ones(5, 1, 4) for _ in range(2))
    outputs, _ = core(torch.zeros(8, 5, 3), state, first)
    torch.testing.assert_close(outputs[:, :1], core(torch.zeros(8, 1, 3))[0])
    assert not torch.equal(outputs[:, 0], outputs[:, 3])


def test_autocast():
    """Under autocast to bfloat16 restarts are still exact, and outputs are near those of float32."""
    torch.manual_seed(0)
    core, inputs = LSTM(3, 16, 2), torch.randn(9, 2, 3)
    first = torch.zeros(9, 2, dtype=torch.bool)
    first[4, 0] = True
    wanted, _ = core(inputs, None, first)
    louder = inputs.clone()
    louder[:4, 0] *= 100
    with torch.autocast("cpu", torch.bfloat16):
        outputs, _ = core(inputs, None, first)
        again, _ = core(louder, None, first)
    assert torch.equal(outputs[4:], again[4:])
    torch.testing.assert_close(outputs.float(), wanted, rtol=0.1, atol=0.1)


def test_forget_bias():
    """The forget gate's bias, and nothing else, starts higher by what is asked for."""
    torch.manual_seed(0)
    plain = LSTM(3, 4, 2).state_dict()
    torch.manual_seed(0)
    raised = LSTM(3, 4, 2, forget_bias=1.5).state_dict()
    for name, parameter in raised.items():
        wanted = plain[name].clone()
        if "bias_ih" in name:
            wanted[4:8] += 1.5
        assert torch.equal(parameter, wanted), name


@pytest.mark.parametrize(("features", "hidden", "layers"), [(5, 6, 1), (5, 6, 3), (1, 1, 1)])
def test_parameter_count(features, hidden, layers):
    """A core has as many parameters as the README's formula says."""
    count = sum(parameter.numel() for parameter in LSTM(features, hidden, layers).parameters())
    assert count == 4 * hidden * (features + hidden + 2) + (layers - 1) * 4 * hidden * (2 * hidden + 2)


def test_state_dict_names():
    """The parameters are nn.LSTM's, under `lstm.`."""
    wanted = {f"lstm.{name}" for name in nn.LSTM(5, 6, 2).state_dict()}
    assert LSTM(5, 6, 2).state_dict().keys() == wanted


@pytest.mark.parametrize("name", ["input_size", "hidden_size", "num_layers"])
@pytest.mark.parametrize("value", [0, -1, 2.0])
def test_bad_options(name, value):
    """A size that is none is refused by name, with what was given."""
    with pytest.raises(ValueError, match=f"{name}: wanted a whole number of at least 1, got {value}"):
        LSTM(**{"input_size": 5, name: value})


@pytest.mark.parametrize("first", [None, torch.ones(7, 3, dtype=torch.bool)])
def test_bad_inputs(first):
    """Inputs and states of wrong shapes are refused with the shape that is wanted, with and without restarts."""
    core = LSTM(5, 6, 2)
    with pytest.raises(ValueError, match=r"inputs: wanted \[T B 5\], got \[7, 3, 4\]"):
        core(torch.zeros(7, 3, 4), None, first)
    with pytest.raises(ValueError, match=r"inputs: wanted \[B 5\], got \[7, 3, 5\]"):
        core.step(torch.zeros(7, 3, 5), core.initial_state(3))
    hidden, cell = core.initial_state(3)
    with pytest.raises(ValueError, match=r"state: wanted c of the shape \[3, 2, 6\], got \[2, 2, 6\]"):
        core(torch.zeros(7, 3, 5), (hidden, cell[1:]), first)


def test_plugin():
    """The plugin brings the core by name; its public names are there, and no others."""
    assert seqtoolkit_lstm.cores() == {"lstm": "seqtoolkit_lstm.core:LSTM"}
    assert seqtoolkit_lstm.LSTM is LSTM
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = seqtoolkit_lstm.nonsense
