"""Losses, against the definition written out."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqtoolkit.flow.batch import IGNORED, Batch
from seqtoolkit.flow.loss import CrossEntropy

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(2, 6), st.integers(0, 2**32))


def _case(shape):
    steps, size, classes, seed = shape
    torch.manual_seed(seed)
    targets = torch.randint(classes, (steps, size))
    targets[torch.rand(steps, size) < 0.3] = IGNORED
    counted = (targets != IGNORED) & (torch.rand(steps, size) < 0.7)  # what metrics count is no matter here
    batch = Batch(torch.zeros(steps, size, dtype=torch.int64), targets, counted)
    return torch.randn(steps, size, classes, dtype=torch.float64) * 3, batch


@given(SHAPES, st.sampled_from([0.0, 0.1, 0.5]))
def test_cross_entropy_against_loops(shape, smoothing):
    """The sum of -log p(target) over what is not ignored, smoothed as Szegedy et al. 2016 do, and how many there are."""
    predictions, batch = _case(shape)
    total, count = 0.0, 0
    for step in range(shape[0]):
        for row in range(shape[1]):
            target = int(batch.targets[step, row])
            if target == IGNORED:
                continue
            exps = [math.exp(each) for each in predictions[step, row].tolist()]
            logs = [math.log(each / sum(exps)) for each in exps]
            total -= (1 - smoothing) * logs[target] + smoothing * sum(logs) / len(logs)
            count += 1
    loss = CrossEntropy(smoothing)
    assert loss.total(predictions, batch).item() == pytest.approx(total, rel=1e-12, abs=1e-12)
    assert loss.count(batch).item() == count


@given(SHAPES, st.integers(1, 5))
def test_parts_add_up(shape, size):
    """Totals and counts of the parts of a batch add up to those of the whole, those that learn nothing included."""
    predictions, batch = _case(shape)
    loss = CrossEntropy(0.1)
    starts = range(0, batch.size, size)
    parts = [(predictions[:, start : start + size], batch.part(start, start + size)) for start in starts]
    assert sum(loss.count(part) for _, part in parts) == loss.count(batch)
    total = sum(loss.total(each, part) for each, part in parts)
    torch.testing.assert_close(total, loss.total(predictions, batch), rtol=1e-12, atol=1e-12)


def test_nothing_to_learn():
    """A batch of which everything is ignored has a total of 0, a count of 0, and a gradient of 0."""
    targets = torch.full((2, 3), IGNORED)
    batch = Batch(targets, targets, targets == 0)
    predictions = torch.randn(2, 3, 4, requires_grad=True)
    total = CrossEntropy(0.1).total(predictions, batch)
    total.backward()
    assert total.item() == CrossEntropy().count(batch).item() == 0
    assert not predictions.grad.any()


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_smoothing_is_a_share(share):
    """Label smoothing from 0 to below 1, or a line that says so."""
    with pytest.raises(ValueError, match="label_smoothing: wanted a share from 0 to below 1"):
        CrossEntropy(share)
