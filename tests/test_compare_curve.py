"""Learning curves of groups: the mean of runs that are interpolated where all have values, and never beyond."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqtoolkit.compare.curve import POINTS, Line, band, line
from seqtoolkit.compare.statistic import intervals
from seqtoolkit.record import Curve, Record


def _record(**curves):
    made = {name: Curve(np.array(steps, np.int64), np.array(values, float)) for name, (steps, values) in curves.items()}
    return Record("one", "one", "FINISHED", {}, curves=made)


def _line(x, y):
    return Line(np.array(x, float), np.array(y, float))


def _between(x, xs, ys):
    """Linear interpolation by hand."""
    for (a, b), (c, d) in zip(itertools.pairwise(xs), itertools.pairwise(ys), strict=True):
        if a <= x <= b:
            return c + (x - a) / (b - a) * (d - c)
    assert xs == [x]
    return ys[0]


lines = st.lists(
    st.lists(
        st.tuples(st.integers(0, 60), st.floats(-10, 10)), min_size=1, max_size=8, unique_by=lambda each: each[0]
    ).map(sorted),
    min_size=1,
    max_size=5,
)


@given(lines)
def test_a_band_is_interpolation_by_hand(points):
    """Mean, least and greatest at each point of the grid are those of the runs, interpolated by hand."""
    xs, ys = [[float(x) for x, _ in each] for each in points], [[y for _, y in each] for each in points]
    found = band([_line(x, y) for x, y in zip(xs, ys, strict=True)])
    start, stop = max(x[0] for x in xs), min(x[-1] for x in xs)
    if start > stop:
        assert found is None
        return
    assert (found.x[0], found.x[-1], found.last) == (start, stop, max(x[-1] for x in xs))
    assert (np.diff(found.x) > 0).all()
    values = np.array([[_between(x, *each) for x in found.x] for each in zip(xs, ys, strict=True)])
    np.testing.assert_allclose(found.mean, values.mean(0), atol=1e-9)
    if len(points) < 3:
        np.testing.assert_allclose(found.low, values.min(0), atol=1e-9)
        np.testing.assert_allclose(found.high, values.max(0), atol=1e-9)
        assert found.kind == ("range" if len(points) == 2 else "line")
    else:
        low, high = intervals(values, 2000)
        np.testing.assert_allclose([found.low, found.high], [low, high], atol=1e-9)
        assert found.kind == "interval"


def test_the_grid_has_all_points_or_as_many_as_a_line_may():
    """Every point of every run within the common range is on the grid, or POINTS of them with both ends."""
    found = band([_line([0, 2, 5, 9], [0, 0, 0, 0]), _line([1, 2, 6, 7], [1, 1, 1, 1])])
    assert found.x.tolist() == [1, 2, 5, 6, 7]
    many = np.arange(1000)
    found = band([_line(many, many), _line(many, -many)])
    assert (len(found.x), found.x[0], found.x[-1]) == (POINTS, 0, 999)


def test_no_runs_and_no_common_range_have_no_band():
    """Where no value is common to all runs there is nothing to draw."""
    assert band([]) is None
    assert band([_line([0, 1], [0, 1]), _line([2, 3], [0, 1])]) is None


def test_a_line_by_what_training_had_taken():
    """By examples and seconds a value stands where these were at its step, interpolated between, left out beyond."""
    run = _record(
        loss=([5, 10, 15, 40], [4, 3, 2, 1]), seconds=([10, 20], [100.0, 300.0]), examples=([1, 41], [8, 328])
    )
    assert [each.tolist() for each in line(run, "loss", "step")] == [[5, 10, 15, 40], [4, 3, 2, 1]]
    assert [each.tolist() for each in line(run, "loss", "seconds")] == [[100, 200], [3, 2]]
    assert [each.tolist() for each in line(run, "loss", "examples")] == [[40, 80, 120, 320], [4, 3, 2, 1]]


def test_what_is_not_there_has_no_line():
    """No line without the metric, without the axis, or without a finite value; other values are left out."""
    run = _record(loss=([1, 2, 3, 4], [1, math.nan, math.inf, 4]), lost=([1], [math.nan]), empty=([], []))
    assert line(run, "none", "step") is None
    assert line(run, "loss", "seconds") is None
    assert line(run, "lost", "step") is None
    assert line(run, "empty", "step") is None
    assert [each.tolist() for each in line(run, "loss", "step")] == [[1, 4], [1, 4]]


def test_a_clock_that_stands_still_or_goes_back():
    """Of values at the same second the last counts, and a clock that was set back stands still."""
    run = _record(loss=([1, 2, 3, 4], [1, 2, 3, 4]), seconds=([1, 2, 3, 4], [5.0, 5.0, 4.0, 9.0]))
    assert [each.tolist() for each in line(run, "loss", "seconds")] == [[5, 9], [3, 4]]


@pytest.mark.parametrize("runs", [1, 2, 3, 5])
def test_equal_runs_have_a_band_of_no_width(runs):
    """Equal curves are their own mean, and nothing around it."""
    found = band([_line([0, 1, 2], [0.1, 0.7, 0.3])] * runs)
    for each in (found.mean, found.low, found.high):
        np.testing.assert_allclose(each, [0.1, 0.7, 0.3], rtol=1e-12)
