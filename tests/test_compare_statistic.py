"""The statistics over seeds: against numpy and scipy, against a bootstrap by hand, and what they may be used to say."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from seqtoolkit.compare.comparison import _small
from seqtoolkit.compare.statistic import ENOUGH, FEWEST, _student, intervals, judge, summarize

numbers = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8)


def _seeds(count):
    return [str(seed) for seed in range(count)]


def _summary(*values, seeds=None):
    return summarize(values, seeds or _seeds(len(values)))


@given(numbers)
def test_moments_are_numpys(values):
    """n, mean, standard deviation (of n - 1), least and greatest are those of numpy."""
    found = _summary(*values)
    assert (found.n, found.lacking, found.seeds) == (len(values), 0, len(values))
    assert found.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert found.deviation == pytest.approx(np.std(values, ddof=1), abs=1e-9)
    assert (found.low, found.high) == (min(values), max(values))


@pytest.mark.parametrize("freedom", [1, 2, 3, 5, 10, 30, 200])
def test_students_quantile_is_scipys(freedom):
    """The quantile of Student's t is scipy's."""
    assert _student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-6)


@pytest.mark.parametrize("n", [2, 3, 5, 8, 12])
def test_an_interval_is_a_bootstrap_by_hand(n):
    """It agrees with resampling by hand and scipy's percentile at the level that the expansion asks for."""
    values = np.random.default_rng(n).gamma(2.0, size=n)
    low, high = intervals(values[:, None])
    tail = stats.norm.cdf(-math.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1))
    random = np.random.default_rng(1000)
    means = np.array([random.choice(values, n).mean() for _ in range(20_000)])
    wide = np.ptp(means)
    np.testing.assert_allclose([low[0], high[0]], np.quantile(means, [tail, 1 - tail]), atol=0.03 * wide)
    theirs = stats.bootstrap(
        (values,), np.mean, confidence_level=1 - 2 * tail, n_resamples=20_000, method="percentile", rng=random
    )
    np.testing.assert_allclose([low[0], high[0]], theirs.confidence_interval, atol=0.03 * wide)


@given(numbers, st.floats(-100, 100), st.floats(0.1, 10))
def test_an_interval_moves_with_the_values(values, shift, scale):
    """It lies within the values and around their mean, and shifting and scaling these does the same to it."""
    found = _summary(*values)
    slack = 1e-9 * (1 + max(map(abs, values)))
    assert found.low <= found.interval.low <= found.mean + slack
    assert found.mean - slack <= found.interval.high <= found.high
    moved = _summary(*(scale * value + shift for value in values))
    wanted = [scale * end + shift for end in found.interval]
    assert list(moved.interval) == pytest.approx(wanted, abs=1e3 * slack)


def test_columns_are_taken_one_by_one():
    """The intervals of several columns are those of each."""
    values = np.random.default_rng(0).normal(size=(5, 4))
    together = intervals(values)
    for column in range(4):
        alone = intervals(values[:, column : column + 1])
        np.testing.assert_allclose([each[column] for each in together], [each[0] for each in alone], rtol=1e-12)


@pytest.mark.parametrize(("n", "wanted"), [(5, 92), (10, 94), (20, 95)])
def test_the_interval_holds_the_mean_nearly_as_often_as_it_says(n, wanted):
    """Of normal values it holds the true mean in nearly 95 of 100 cases from 5 values on."""
    low, high = intervals(np.random.default_rng(7).normal(size=(n, 3000)), 2000)
    assert 100 * ((low <= 0) & (high >= 0)).mean() == pytest.approx(wanted, abs=2)


@pytest.mark.parametrize("n", range(2, ENOUGH))
def test_what_few_seeds_are_worth_is_said(n):
    """The note of a few seeds has how often intervals of normal values hold the mean, and lie apart from equal ones."""
    random = np.random.default_rng(7)
    (low, high), (less, more) = (intervals(random.normal(size=(n, 6000)), 2000) for _ in range(2))
    told = [int(number) for number in re.findall(r"about (\d+) of 100", _small(n))]
    assert 100 * ((low <= 0) & (high >= 0)).mean() == pytest.approx(told[0], abs=1.5)
    assert 100 * ((high < less) | (more < low)).mean() == pytest.approx(told[1], abs=1.5)


def test_the_same_values_have_the_same_interval():
    """Nothing is drawn anew from one call to the next."""
    assert _summary(1.0, 2.0, 4.0) == _summary(1.0, 2.0, 4.0)


def test_one_value_has_no_interval():
    """Of one value neither a deviation nor an interval is told."""
    found = _summary(0.5)
    assert (found.n, found.mean, found.low, found.high) == (1, 0.5, 0.5, 0.5)
    assert found.deviation is None
    assert found.interval is None


@given(st.floats(-1e100, 1e100), st.integers(2, 9))
def test_equal_values_have_an_interval_of_no_width(value, count):
    """Where all are equal, the interval is that value, whatever rounding does."""
    assert _summary(*[value] * count).interval == (value, value)


def test_what_is_no_finite_number_is_counted_apart():
    """Nan and infinity are in no statistic, and their number is kept; where there is nothing else, there are none."""
    found = _summary(1.0, math.nan, 3.0, math.inf)
    assert (found.n, found.lacking, found.mean, found.seeds) == (2, 2, 2.0, 2)
    assert _summary(math.nan, -math.inf) is None
    assert summarize([], []) is None


HIGH, LOW, MIDDLE = (0.9, 0.91, 0.92), (0.1, 0.11, 0.12), (0.5, 0.7, 0.905)


@pytest.mark.parametrize(
    ("groups", "better", "winner", "reason"),
    [
        ({"a": HIGH, "b": LOW}, "higher", "a", "a is better over 3 seeds: its interval lies above that of b."),
        ({"a": HIGH, "b": LOW}, "lower", "b", "b is better over 3 seeds: its interval lies below that of a."),
        ({"a": LOW, "b": HIGH, "c": LOW}, "higher", "b", "above those of a and c."),
        ({"a": HIGH, "b": MIDDLE, "c": LOW}, "higher", None, "the interval of a overlaps with that of b."),
        ({"a": HIGH, "b": MIDDLE, "c": HIGH}, "higher", None, "that of c and that of b."),
        ({"a": HIGH, "b": HIGH}, "higher", None, "overlaps"),
        ({"a": HIGH, "b": LOW}, None, None, "not known"),
        ({"a": HIGH}, "higher", None, "one group only"),
        (
            {"a": HIGH[:2], "b": LOW},
            "higher",
            None,
            f"{FEWEST} seeds are the least to tell one, and there are fewer of a (2)",
        ),
        ({"a": (*HIGH, math.nan), "b": LOW}, "higher", None, "not all runs of a have a number"),
        ({"a": HIGH, "b": (math.nan,)}, "higher", None, "not all runs of b have a number"),
    ],
)
def test_a_winner_is_named_only_where_nothing_speaks_against_it(groups, better, winner, reason):
    """A winner's interval lies apart from all others', in the direction that is better, over enough seeds of all."""
    verdict = judge({name: _summary(*values) for name, values in groups.items()}, better)
    assert verdict.winner == winner
    assert reason in verdict.reason


def test_runs_of_one_seed_are_no_seeds():
    """Three runs of the same seed, whatever else they differ in, name no winner."""
    groups = {"a": _summary(*HIGH, seeds=["0", "0", "0"]), "b": _summary(*LOW)}
    assert "fewer of a (1)" in judge(groups, "higher").reason


def test_touching_intervals_overlap():
    """Intervals that share an end are not apart."""
    groups = {"a": _summary(1.0, 1.0, 1.0), "b": _summary(1.0, 1.0, 1.0)}
    assert judge(groups, "higher").winner is None
