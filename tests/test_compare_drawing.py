"""What is drawn stands where its values are."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqtoolkit.compare import Selection
from seqtoolkit.compare.curve import Band
from seqtoolkit.compare.drawing import Scale, chart, decades, forest, tick, ticks
from seqtoolkit.compare.group import Group
from seqtoolkit.compare.statistic import summarize
from seqtoolkit.compare.table import number, spread
from seqtoolkit.record import Curve, Record


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(3, 10))
def test_ticks_are_round_and_within(low, width, most):
    """Ticks ascend by one step of 1, 2 or 5 times a power of ten, within the range, and about as many as wanted."""
    found = ticks(low, low + width, most)
    slack = 1e-6 * (width + abs(low) * 1e-6)
    assert all(low - slack <= each <= low + width + slack for each in found)
    assert most / 3 <= len(found) + 1
    assert len(found) <= most + 1
    if len(found) > 1:
        step = found[1] - found[0]
        np.testing.assert_allclose(np.diff(found), step, rtol=1e-3)
        digits = step / 10 ** np.floor(np.log10(step * (1 + 1e-6)))
        assert min(abs(digits - each) for each in (1, 2, 5, 10)) < 1e-2


def test_decades():
    """Powers of ten within the range, and their double and fivefold where there are few."""
    assert decades(0.9, 11) == [1, 2, 5, 10]
    assert decades(1e-6, 2) == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1])


@pytest.mark.parametrize(
    ("value", "short"),
    [(0.30000000000000004, "0.3"), (9000, "9000"), (20000, "20k"), (2.5e6, "2.5M"), (3e9, "3G"), (-1e4, "-10k")],
)
def test_ticks_are_short(value, short):
    """Large numbers have a letter."""
    assert tick(value) == short


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.1235"),
        (12.3456, "12.35"),
        (12345.6, "12,346"),
        (1e-5, "1e-05"),
        (2e9, "2e+09"),
        (0.0, "0.0000"),
        (None, "-"),
    ],
)
def test_numbers_for_people(value, text):
    """Four decimals, or as many digits as matter."""
    assert number(value) == text


def test_a_deviation_has_the_digits_of_its_mean():
    """Mean and deviation are told to the same decimal, unless nothing would be left of the deviation."""
    assert spread(summarize([930.0, 940.0], ["0", "1"])) == "935.00 ± 7.07"
    assert spread(summarize([0.5, 0.5000001], ["0", "1"])) == "0.5000 ± 7.07e-08"
    assert spread(summarize([500.0, 500.0], ["0", "1"])) == "500.00 ± 0.00"
    assert spread(summarize([0.5], ["0"])) == "0.5000"
    assert spread(None) == "-"


def test_scales():
    """Ends of the range are at the ends in pixels; logarithms in between where wanted."""
    assert [Scale(2, 4, 10, 110).at(value) for value in (2, 3, 4)] == [10, 60, 110]
    assert Scale(1, 100, 0, 100, log=True).at(10) == pytest.approx(50)


def _band(*values, runs=3):
    x = np.arange(len(values), dtype=float)
    mean = np.array(values, float)
    return Band(x, mean, mean - 0.1, mean + 0.1, runs, x[-1])


def test_lines_stand_where_the_values_are():
    """The points of a mean line, read back by the scales that the page's script has, are the values."""
    svg = chart(
        {"a": _band(0.2, 0.9, 0.5), "b": _band(0.3, 0.3, 0.4, runs=1)}, {"a": 0, "b": 9}, "step", "valid/accuracy"
    )
    x0, x1 = map(float, re.search(r'data-x="(\S+) (\S+)"', svg).groups())
    y0, y1 = map(float, re.search(r'data-y="(\S+) (\S+)"', svg).groups())
    left, right, top, bottom = map(float, re.search(r'data-frame="(\S+) (\S+) (\S+) (\S+)"', svg).groups())
    first, second = re.findall(r'<path class="mean"([^>]*) d="M([^"]+)"', svg)
    for (_, path), wanted in ((first, [0.2, 0.9, 0.5]), (second, [0.3, 0.3, 0.4])):
        points = [tuple(map(float, each.split())) for each in path.split("L")]
        for (x, y), place, value in zip(points, range(3), wanted, strict=True):
            assert x0 + (x - left) / (right - left) * (x1 - x0) == pytest.approx(place, abs=0.001)
            assert y0 + (bottom - y) / (bottom - top) * (y1 - y0) == pytest.approx(value, abs=0.001)
    assert svg.count('class="band"') == 1
    assert "stroke-dasharray" not in first[0]
    assert "stroke-dasharray" in second[0]
    assert "c1" in svg
    assert y1 <= 1


def test_a_wide_range_is_logarithmic():
    """Positive values over more than a factor of 50 stand on a logarithmic axis, others do not."""
    wide, narrow = _band(0.11, 20.0), _band(0.2, 0.4)
    assert 'data-log="1"' in chart({"a": wide}, {"a": 0}, "step", "loss")
    assert 'data-log="0"' in chart({"a": narrow}, {"a": 0}, "step", "loss")
    assert 'data-log="0"' in chart({"a": _band(-1.0, 20.0)}, {"a": 0}, "step", "loss")


@pytest.mark.parametrize("values", [(1.0, 1.0, 1.0), (0.0, 0.0), (1e-9, 1.0, 5.0), (-3.0, 1e9), (0.1, 0.1 + 1.4e-17)])
def test_every_run_is_in_the_picture(values):
    """Each run has its ring, within the picture, whatever the values are; a group without any has its name."""
    records = tuple(
        Record(f"id{seed}", f"run{seed}", "FINISHED", {}, curves={"m": Curve(np.array([1]), np.array([value]))})
        for seed, value in enumerate(values)
    )
    groups = [Group("some <b>", {}, records), Group("none", {}, ())]
    svg = forest("m", {"some <b>": summarize(values, [each.run_id for each in records]), "none": None}, groups)
    rings = [float(each) for each in re.findall(r'<circle class="run" r="4" cx="(\S+)"', svg)]
    assert len(rings) == len(values)
    assert all(0 < each < 960 for each in rings)
    assert rings == sorted(rings)
    assert "some &lt;b&gt;" in svg
    assert ">none<" in svg
    assert forest("m", {"none": None}, groups[1:]) == ""


def test_runs_of_a_server_have_its_pages():
    """A run's id leads to its page where the store is a server, without name and password; else nowhere."""
    server = Selection(
        "a", "b", (), (), (), library=SimpleNamespace(uri="http://me:secret@host:5000/"), experiments={"r": "7"}
    )
    assert server.address("r") == "http://host:5000/#/experiments/7/runs/r"
    assert Selection("a", "b", (), (), (), library=SimpleNamespace(uri="sqlite:///a.db")).address("r") is None
    assert Selection("a", "b", (), (), ()).address("r") is None
