"""Restarts inside a sequence are exact, cost one call a layer, and heal what is not a number."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqtoolkit.sdk import Core
from seqtoolkit_lstm import GRU, LSTM

KINDS = pytest.mark.parametrize("kind", [LSTM, GRU])


def tensors(state):
    """The tensors of a state: h and c, or h."""
    return [state] if isinstance(state, torch.Tensor) else list(state)


def run(unroll, core, inputs, parts, first):
    """Outputs, states, and all gradients of a sum of them."""
    inputs = inputs.clone().requires_grad_()
    parts = [each.clone().requires_grad_() for each in parts]
    outputs, last = unroll(inputs, parts[0] if isinstance(core, GRU) else tuple(parts), first)
    total = (outputs * torch.linspace(-1, 1, outputs.numel(), dtype=outputs.dtype).view_as(outputs)).sum()
    total = total + sum((each * each.cos()).sum() for each in tensors(last))
    return [outputs, *tensors(last), *torch.autograd.grad(total, [inputs, *parts, *core.parameters()])]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([LSTM, GRU]),
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.sampled_from([1.0, 30.0]),
    st.integers(0, 2**31),
)
def test_restarts(kind, steps, rows, layers, wired, often, scale, seed):
    """With restarts anywhere, outputs, states and gradients are those of stepping, however large the weights are."""
    torch.manual_seed(seed)
    core = kind(3, 4, layers, skip_connections=wired, concatenate_outputs=wired).double()
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.mul_(scale)
    inputs = torch.randn(steps, rows, 3, dtype=torch.float64)
    parts = [size * torch.randn(rows, layers, 4, dtype=torch.float64) for size in (1, 3)[: len(core.names)]]
    first = torch.rand(steps, rows) < often
    wanted = run(partial(Core.unroll, core), core, inputs, parts, first)
    for got, right in zip(run(core.unroll, core, inputs, parts, first), wanted, strict=True):
        torch.testing.assert_close(got, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@KINDS
def test_restart_is_exact(kind, dtype):
    """A row that begins anew owes its past not one bit, nor one bit of gradient; others keep theirs through it."""
    torch.manual_seed(0)
    core = kind(3, 64).to(dtype)
    inputs, first = torch.randn(9, 2, 3, dtype=dtype), torch.zeros(9, 2, dtype=torch.bool)
    first[4, 0] = first[6, 0] = True
    louder = inputs.clone()
    louder[:4, 0] *= 1000
    louder.requires_grad_()
    outputs, state = core(inputs, None, first)
    again, after = core(louder, None, first)
    assert torch.equal(outputs[4:], again[4:])
    assert not torch.equal(outputs[:4, 0], again[:4, 0])
    assert all(torch.equal(one, other) for one, other in zip(tensors(state), tensors(after), strict=True))
    (gradient,) = torch.autograd.grad(again[4:].sum(), louder)
    assert not gradient[:4, 0].any()
    assert gradient[:4, 1].all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@KINDS
def test_restart_heals(kind, bad):
    """A state or an input that is no number ends at the row's restart, and never reaches another row."""
    core = kind(3, 4, 2)
    state = core.initial_state(3)
    tensors(state)[-1][0] = bad
    inputs, first = torch.randn(6, 3, 3), torch.zeros(6, 3, dtype=torch.bool)
    inputs[1, 1] = bad
    first[3, :2] = first[2, 2] = True
    outputs, last = core(inputs, state, first)
    fresh, after = core(inputs[3:, :2])
    torch.testing.assert_close(outputs[3:, :2], fresh)
    for got, wanted in zip(tensors(last), tensors(after), strict=True):
        torch.testing.assert_close(got[:2], wanted)
        assert got.isfinite().all()
    assert outputs[:, 2].isfinite().all()


def lengths(monkeypatch, kind):
    """Where a core's calls of PyTorch's recurrence leave the numbers of their steps."""
    seen, original = [], kind.recurrence

    def counted(read, *others, **named):
        seen.append(len(read))
        return original(read, *others, **named)

    monkeypatch.setattr(kind, "recurrence", staticmethod(counted))
    return seen


@KINDS
def test_one_call_serves_all_rows(monkeypatch, kind):
    """Rows that begin anew once after the first step, each elsewhere, take one call a layer, longer by one step."""
    core, seen = kind(3, 4, 2), lengths(monkeypatch, kind)
    first = torch.zeros(8, 5, dtype=torch.bool)
    first[torch.tensor([0, 3, 1, 5, 7]), torch.arange(5)] = True
    first[0, 1:3] = True
    core(torch.randn(8, 5, 3), None, first)
    assert seen == [9, 9]


@pytest.mark.parametrize("begins", [False, True])
@KINDS
def test_restarts_at_the_first_step_cost_nothing(monkeypatch, kind, begins):
    """Where no row begins anew, or at the first step alone, one call runs all layers over the steps as they are."""
    core, seen = kind(3, 4, 2), lengths(monkeypatch, kind)
    first = torch.zeros(8, 5, dtype=torch.bool)
    first[0, :3] = begins
    parts = [torch.ones(5, 2, 4) for _ in core.names]
    outputs, _ = core(torch.zeros(8, 5, 3), parts[0] if kind is GRU else tuple(parts), first)
    assert seen == [8]
    assert begins == torch.allclose(outputs[:, :1], core(torch.zeros(8, 1, 3))[0])
    assert begins != torch.equal(outputs[:, 0], outputs[:, 3])


@KINDS
def test_autocast(kind):
    """Under autocast to bfloat16 restarts are still exact, and outputs are near those of float32."""
    torch.manual_seed(0)
    core, inputs = kind(3, 16, 2), torch.randn(9, 2, 3)
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
