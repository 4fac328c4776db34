"""The equations: against sums written out in numpy, against nn.LSTM, and the fast way against the plain one."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from seqtoolkit.sdk import Core
from seqtoolkit.testing import KERNEL_LAWS, check_kernel
from seqtoolkit_conv_lstm import ConvLSTM, reference
from seqtoolkit_conv_lstm.reference import Weights
from seqtoolkit_conv_lstm.unroll import unroll


def summed(maps, kernel):
    """A convolution of maps [B C Y X], sum by sum; what lies beyond the edges is zero, and the size stays."""
    (rows, _, height, width), (features, _, size, _) = maps.shape, kernel.shape
    out = np.zeros((rows, features, height, width))
    for y, x, dy, dx in np.ndindex(height, width, size, size):
        row, column = y + dy - (size - 1) // 2, x + dx - (size - 1) // 2
        if 0 <= row < height and 0 <= column < width:
            out[:, :, y, x] += np.einsum("fc,bc->bf", kernel[:, :, dy, dx], maps[:, :, row, column])
    return out


def spelled(core, inputs, hidden, cell):
    """One step in numpy."""
    from_input, from_hidden, bias = (each.detach().numpy() for each in core.parameters())
    gates = summed(inputs, from_input) + summed(hidden, from_hidden) + bias[:, None, None]
    enter, forget, candidate, leave = np.split(gates, 4, axis=1)
    squash = lambda value: 1 / (1 + np.exp(-value))  # noqa: E731  a formula
    cell = squash(forget) * cell + squash(enter) * np.tanh(candidate)
    return squash(leave) * np.tanh(cell), cell


@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4])
def test_brute_force(kernel_size):
    """Steps and unrolling give, to 1e-12, what sums over every place and every tap of the kernels give."""
    torch.manual_seed(kernel_size)
    core = ConvLSTM((2, 3, 4), channels=3, kernel_size=kernel_size).double()
    nn.init.normal_(core.bias)
    inputs, state = torch.randn(4, 2, 2, 3, 4).double(), tuple(torch.randn(2, 2, 3, 3, 4).double())
    outputs, last = core(inputs, state)
    wanted = [each.numpy() for each in state]
    with torch.no_grad():
        for now, output in zip(inputs, outputs, strict=True):
            _, state = core.step(now, state)
            wanted = spelled(core, now.numpy(), *wanted)
            np.testing.assert_allclose(output, wanted[0].reshape(2, -1), rtol=1e-12, atol=1e-12)
    for stepped, unrolled, right in zip(state, last, wanted, strict=True):
        np.testing.assert_allclose(stepped, right, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(unrolled.detach(), right, rtol=1e-12, atol=1e-12)


def test_same_as_torch():
    """Maps are padded as torch's 'same' pads them: an even kernel looks one further down and to the right."""
    maps, kernel = torch.randn(2, 3, 4, 5), torch.randn(6, 3, 2, 2)
    wanted = nn.functional.conv2d(nn.functional.pad(maps, (0, 1, 0, 1)), kernel)
    torch.testing.assert_close(reference.convolve(maps, kernel), wanted)
    maps[:, :, :, 0] += 1
    assert torch.equal(reference.convolve(maps, kernel)[..., 1:], wanted[..., 1:])


@pytest.mark.parametrize("shape", [5, (5, 1, 1)], ids=["vectors", "maps of one place"])
@pytest.mark.parametrize("kernel_size", [1, 2, 3])
def test_is_an_lstm(kernel_size, shape):
    """On one place it is nn.LSTM with the one tap of the kernels that meets it; gradients and state included."""
    core = ConvLSTM(shape, channels=4, kernel_size=kernel_size).double()
    theirs, tap = nn.LSTM(5, 4).double(), (kernel_size - 1) // 2
    weights = [core.from_input[..., tap, tap], core.from_hidden[..., tap, tap], core.bias, torch.zeros(16)]
    for mine, own in zip(weights, theirs.parameters(), strict=True):
        own.data.copy_(mine)
    inputs, first = torch.randn(6, 3, 5, dtype=torch.float64), torch.zeros(6, 3, dtype=torch.bool)
    outputs, last = core(inputs if shape == 5 else inputs[..., None, None], None, first)
    wanted, ends = theirs(inputs)
    torch.testing.assert_close(outputs, wanted, rtol=1e-12, atol=1e-12)
    for mine, own in zip(last, ends, strict=True):
        torch.testing.assert_close(mine.flatten(1), own[0], rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(outputs.square().sum(), list(core.parameters()))
    right = torch.autograd.grad(wanted.square().sum(), list(theirs.parameters())[:3])
    live = [got[0][..., tap, tap], got[1][..., tap, tap], got[2]]
    torch.testing.assert_close(live, list(right), rtol=1e-12, atol=1e-12)
    assert sum(each.count_nonzero() for each in got) == sum(each.count_nonzero() for each in live)


def test_moves_with_its_inputs():
    """What happens elsewhere on a map happens the same there, away from the edges: one kernel serves every place."""
    core = ConvLSTM((1, 9, 9), channels=3)
    here, there = torch.zeros(3, 1, 1, 9, 9), torch.zeros(3, 1, 1, 9, 9)
    here[:, 0, 0, 4, 4] = there[:, 0, 0, 5, 3] = 1
    (_, (one, _)), (_, (other, _)) = core(here), core(there)
    torch.testing.assert_close(one[..., 1:5, 3:6], other[..., 2:6, 2:5])
    assert not torch.allclose(one, other)


def make_inputs(generator):
    """Weights, inputs, a state and restarts of drawn sizes."""
    steps, rows, inputs, channels, size, height, width = (
        int(torch.randint(1, most, (), generator=generator)) for most in (7, 4, 5, 5, 5, 6, 6)
    )
    drawn = partial(torch.randn, generator=generator, dtype=torch.float64)
    weights = Weights(
        drawn(4 * channels, inputs, size, size) / (size * inputs**0.5),
        drawn(4 * channels, channels, size, size) / (size * channels**0.5),
        drawn(4 * channels),
    )
    state = (drawn(rows, channels, height, width) for _ in range(2))
    return weights, drawn(steps, rows, inputs, height, width), *state, drawn(steps, rows) > 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("law", KERNEL_LAWS)
def test_laws_of_unrolling(law, dtype):
    """Unrolling keeps every law of kernels against the plain equations, in three dtypes, its gradients included."""
    check_kernel(unroll, reference.unroll, make_inputs, law, dtype=dtype)


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(*[st.integers(1, 4)] * 3),
    st.integers(1, 3),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.2, 1.0]),
    st.integers(0, 2**31),
)
def test_unrolling_is_stepping(shape, channels, kernel_size, often, seed):
    """Outputs, states and all gradients are those of stepping, to 1e-12, with restarts anywhere, on maps of any size."""
    torch.manual_seed(seed)
    core = ConvLSTM(shape, channels, kernel_size).double()
    inputs, first = torch.randn(5, 2, *shape, dtype=torch.float64, requires_grad=True), torch.rand(5, 2) < often
    state = [torch.randn_like(part).requires_grad_() for part in core.initial_state(2)]
    found = []
    for way in (Core.unroll, ConvLSTM.unroll):
        outputs, last = way(core, inputs, tuple(state), first)
        parts = [outputs, *last]
        total = sum((part * torch.linspace(-1, 2, part.numel()).view_as(part)).sum() for part in parts)
        found.append([*parts, *torch.autograd.grad(total, [inputs, *state, *core.parameters()])])
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_restart_heals(bad):
    """A state or an input that is no number ends at the row's restart, and never reaches another row."""
    core = ConvLSTM((2, 3, 3), channels=2)
    state = core.initial_state(3)
    state[1][0] = bad
    inputs, first = torch.randn(6, 3, 2, 3, 3), torch.zeros(6, 3, dtype=torch.bool)
    inputs[1, 1] = bad
    first[3, :2] = True
    outputs, last = core(inputs, state, first)
    fresh, after = core(inputs[3:, :2])
    torch.testing.assert_close(outputs[3:, :2], fresh)
    torch.testing.assert_close([part[:2] for part in last], list(after))
    assert outputs[:, 2].isfinite().all()
