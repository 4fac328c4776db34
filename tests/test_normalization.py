"""Normalization: Pop-Art keeps what the head says, and learns the targets' moments."""

import copy
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqtoolkit.flow.policy import ActorCritic, split
from seqtoolkit.flow.spec import Spec
from seqtoolkit.train.normalization import GREATEST, LEAST, PopArt


def made(rate=0.1, dtype=torch.float32):
    """A head of 3 actions, and what normalizes its values."""
    torch.manual_seed(0)
    head = ActorCritic(4, Spec.parse("i64<3>[U B]"), [6]).to(dtype)
    return head, PopArt(head, rate=rate)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_what_the_head_says_is_kept(dtype, tolerance):
    """However the moments move, values at the scale of returns stay the same, and logits stay the same bit for bit."""
    head, norm = made(dtype=dtype)
    outputs = torch.randn(5, 2, 4, dtype=dtype)
    for scale, shift in ((1, 0), (30, 100), (0.02, 90), (500, -2000), (3, 0)):
        before = split(head(outputs))
        wanted, std = norm.denormalize(before[1]).detach(), norm.std
        norm.update(shift + scale * torch.randn(7, 2))
        after = split(head(outputs))
        error = (norm.denormalize(after[1]) - wanted).abs().max()
        assert error <= tolerance * (wanted.abs().max() + norm.mean.abs() + norm.std)
        assert torch.equal(after[0], before[0])
        assert norm.std != std


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=4), min_size=1, max_size=8), st.floats(0.01, 1))
def test_moments_are_weighed_averages(batches, rate):
    """Each update weighs (1 - rate) less than the one after it, the weights add up to 1, and the start counts nothing."""
    _, norm = made(rate)
    for each in batches:
        norm.update(torch.tensor(each, dtype=torch.float64))
    weights = torch.tensor([(1 - rate) ** age for age in reversed(range(len(batches)))], dtype=torch.float64)
    weights /= weights.sum()
    means = [torch.tensor([[x, x * x] for x in each], dtype=torch.float64).mean(0) for each in batches]
    first, second = (weights[:, None] * torch.stack(means)).sum(0)
    torch.testing.assert_close(norm.mean, first, rtol=1e-9, atol=1e-9)
    std = (second - first**2).clamp(min=0).sqrt().clamp(min=LEAST)
    torch.testing.assert_close(norm.std, std, rtol=1e-6, atol=2e-4)


def test_the_first_update_is_believed():
    """At the start nothing is known: mean 0, deviation 1. The first targets are taken for what they are."""
    _, norm = made(rate=3e-4)
    values = torch.tensor([1.0, -2.0, 5.0])
    assert torch.equal(norm.normalize(values), values)
    targets = torch.tensor([[3.0, 5.0], [7.0, 9.0]])
    norm.update(targets)
    assert norm.mean.item() == pytest.approx(6)
    assert norm.std.item() == pytest.approx(targets.std(correction=0).item())


def test_moments_converge():
    """Of a stream of numbers of mean 3 and deviation 2 these are found; of another one later, its own."""
    _, norm = made(rate=0.02)
    generator = torch.Generator().manual_seed(0)
    for mean, std in ((3, 2), (-50, 0.5)):
        for _ in range(600):
            norm.update(mean + std * torch.randn(200, generator=generator))
        assert norm.mean.item() == pytest.approx(mean, abs=0.1 * std)
        assert norm.std.item() == pytest.approx(std, rel=0.05)


def test_there_and_back():
    """Normalizing is undone by denormalizing, in the targets' dtype; normalized targets have mean 0 and deviation 1."""
    _, norm = made()
    targets = 40 + 7 * torch.randn(50, 4)
    norm.update(targets)
    normal = norm.normalize(targets)
    assert normal.dtype == torch.float32
    assert normal.mean().item() == pytest.approx(0, abs=1e-5)
    assert normal.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(norm.denormalize(normal), targets)


@pytest.mark.parametrize(("targets", "std"), [([5.0, 5.0], LEAST), ([-1e9, 1e9], GREATEST)])
def test_the_deviation_has_bounds(targets, std):
    """Targets that are all alike, or without measure, leave a deviation to divide by, and the head's weights finite."""
    head, norm = made()
    norm.update(torch.tensor(targets))
    assert norm.std.item() == pytest.approx(std)
    assert all(each.isfinite().all() for each in head.parameters())


def test_it_goes_on_where_it_stood():
    """A state is of plain tensors, of its own memory, and another that loads it goes on bit for bit."""
    torch.manual_seed(1)
    batches = 100 * torch.randn(6, 5)
    head, norm = made()
    for each in batches[:3]:
        norm.update(each)
    file = io.BytesIO()
    saved = norm.state_dict()
    torch.save(saved, file)
    weights = copy.deepcopy(head.state_dict())
    for each in batches[3:]:
        norm.update(each)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert all(torch.equal(state[name], each) for name, each in saved.items()), "what was saved moved on"
    other_head, other = made()
    other.load_state_dict(state)
    other_head.load_state_dict(weights)
    for each in batches[3:]:
        other.update(each)
    assert torch.equal(other.mean, norm.mean)
    assert torch.equal(other.std, norm.std)
    assert all(map(torch.equal, other_head.parameters(), head.parameters()))


def test_targets_that_never_change():
    """Rounding makes no variance below 0 of them: the deviation is the least, whatever the number."""
    for value in torch.linspace(-300, 301, 41, dtype=torch.float64):
        _, norm = made(rate=0.3)
        for _ in range(5):
            norm.update(value.expand(7))
            assert norm.std.item() == pytest.approx(LEAST)


@pytest.mark.parametrize("rate", [0, -0.1, 1.5, float("nan")])
def test_a_rate_that_cannot_be(rate):
    """A step size is above 0 and at most 1."""
    with pytest.raises(ValueError, match=r"^rate: wanted above 0 and at most 1, got"):
        made(rate)
