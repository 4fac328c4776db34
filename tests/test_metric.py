"""Metrics, against loops over characters and answers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqtoolkit.flow.batch import IGNORED, Batch
from seqtoolkit.flow.metric import Accuracy, SequenceAccuracy

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(0, 2**32))


def _case(shape, classes=3):
    """Answers that end early, targets that are learned but not counted, predictions that are often right."""
    steps, size, seed = shape
    torch.manual_seed(seed)
    targets = torch.randint(classes, (steps, size))
    ends = torch.randint(0, steps + 1, (size,))
    targets[torch.arange(steps)[:, None] >= ends] = IGNORED
    mask = (targets != IGNORED) & (torch.rand(steps, size) < 0.8)
    said = torch.where(torch.rand(steps, size) < 0.7, targets.clamp(min=0), torch.randint(classes, (steps, size)))
    predictions = torch.nn.functional.one_hot(said, classes) * 5.0 + torch.rand(steps, size, classes)
    return predictions, said, Batch(torch.zeros(steps, size, dtype=torch.int64), targets, mask)


@given(SHAPES)
def test_against_loops(shape):
    """Characters: the counted ones that are right. Answers: those of which all that is learned is right."""
    predictions, said, batch = _case(shape)
    steps, size = batch.targets.shape
    right = counted = whole = 0
    for row in range(size):
        pairs = [(int(said[step, row]), int(batch.targets[step, row])) for step in range(steps)]
        places = [step for step in range(steps) if batch.mask[step, row]]
        counted += len(places)
        right += sum(pairs[step][0] == pairs[step][1] for step in places)
        whole += all(answer == target for answer, target in pairs if target != IGNORED)
    assert Accuracy().measure(predictions, batch).tolist() == [right, counted]
    assert SequenceAccuracy().measure(predictions, batch).tolist() == [whole, size]
    assert SequenceAccuracy().result(SequenceAccuracy().measure(predictions, batch)) == whole / size


@given(SHAPES, st.integers(1, 6))
def test_parts_add_up(shape, size):
    """The sums of the parts of a batch add up to those of the whole, exactly."""
    predictions, _, batch = _case(shape)
    for metric in (Accuracy(), SequenceAccuracy()):
        starts = range(0, batch.size, size)
        parts = [metric.measure(predictions[:, at : at + size], batch.part(at, at + size)) for at in starts]
        assert torch.equal(sum(parts), metric.measure(predictions, batch))


def test_sums_are_exact():
    """Sums are of a dtype that counts beyond what float32 can."""
    predictions, _, batch = _case((2, 2, 0))
    for metric in (Accuracy(), SequenceAccuracy()):
        sums = metric.measure(predictions, batch)
        assert (sums + 2**24 + 1)[0] - 2**24 == sums[0] + 1


def test_nothing_counted():
    """Where nothing was counted the result is nan, not an error and not 0."""
    assert math.isnan(Accuracy().result(torch.zeros(2)))
    assert Accuracy().result(torch.tensor([1, 4])) == pytest.approx(0.25)
    assert Accuracy().better == SequenceAccuracy().better == "higher"
