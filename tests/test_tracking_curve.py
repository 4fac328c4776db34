"""Learning curves: one picture, one panel a quantity."""

import builtins
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqtoolkit.train.tracking import curve, curves

PNG = b"\x89PNG"


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, instead of only their files."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    drawn, real = [], FigureCanvasAgg.print_png

    def print_png(canvas, *arguments):
        drawn.append(canvas.figure)
        return real(canvas, *arguments)

    monkeypatch.setattr(FigureCanvasAgg, "print_png", print_png)
    return drawn


def test_train_and_validation_share_a_panel(tmp_path, figures):
    """Each quantity has one labeled panel, each split one named line that passes through its points."""
    history = {
        "loss": [(0, 3.0), (10, 2.0)],
        "valid/loss": [(10, 2.5), (20, 1.5)],
        "train/accuracy": [(0, 0.1)],
        "valid/sequence_accuracy": [(10, 0.0)],
        "empty": [],
    }
    path = tmp_path / "curves.png"
    assert curves(history, path) == path
    assert path.read_bytes().startswith(PNG)
    assert [each.name for each in tmp_path.iterdir()] == ["curves.png"]
    (figure,) = figures
    assert [axis.get_ylabel() for axis in figure.axes] == ["loss", "accuracy", "sequence accuracy"]
    assert {axis.get_xlabel() for axis in figure.axes} == {"step"}
    loss = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}
    assert loss == {"train": [[0.0, 3.0], [10.0, 2.0]], "valid": [[10.0, 2.5], [20.0, 1.5]]}
    bottom, top = figure.axes[1].get_ylim()
    assert bottom <= 0
    assert top >= 1


def test_many_points_are_smoothed(tmp_path, figures):
    """A long curve is drawn faint as it is, and strong as its moving mean; gaps do not spread."""
    values = [math.nan if step == 500 else float(step % 2) for step in range(1000)]
    curves({"loss": list(enumerate(values))}, tmp_path / "c.png")
    raw, smooth = (line.get_ydata() for line in figures[0].axes[0].lines)
    assert len(raw) == len(smooth) == 1000
    assert smooth[900] == pytest.approx(0.5, abs=0.05)
    assert not any(map(math.isnan, smooth))


def test_without_matplotlib_there_is_no_picture(tmp_path, monkeypatch, caplog):
    """Where matplotlib is absent, nothing is drawn, and how to get it is logged."""
    real = builtins.__import__

    def without(name, *arguments):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with caplog.at_level("INFO"):
        assert curves({"loss": [(0, 1.0)]}, tmp_path / "c.png") is None
    assert "seqtoolkit[plots]" in caplog.text


def test_nothing_to_draw_and_nowhere_to_draw(tmp_path, caplog):
    """An empty history, or a folder that is not there, gives None and a line."""
    with caplog.at_level("INFO"):
        assert curves({"loss": []}, tmp_path / "c.png") is None
        assert "nothing to draw" in caplog.text
        assert curves({"loss": [(0, 1.0)]}, tmp_path / "none" / "c.png") is None
    assert "cannot be written: No such file" in caplog.text
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.floats(), min_size=1, max_size=150))
@settings(max_examples=15, deadline=None)
def test_any_values_can_be_drawn(tmp_path_factory, values):
    """Infinities, NaN and numbers of any size neither raise nor hide the rest."""
    path = tmp_path_factory.mktemp("picture") / "c.png"
    assert curves({"loss": list(enumerate(values))}, path) == path


@given(st.lists(st.floats(allow_infinity=False), min_size=1, max_size=300))
def test_smoothing_is_a_mean(values):
    """A smoothed value lies among the numbers so far, which it averages evenly as long as they are few."""
    window = max(1, round(len(values) * 0.02))
    smoothed = curve._smoothed(values)
    for end, smooth in enumerate(smoothed, start=1):
        numbers = [value for value in values[:end] if not math.isnan(value)]
        if not numbers:
            assert math.isnan(smooth)
            continue
        slack = 1e-9 * max(map(abs, numbers))
        assert min(numbers) - slack <= smooth <= max(numbers) + slack
        if len(numbers) <= window:
            assert abs(smooth - sum(number / len(numbers) for number in numbers)) <= slack
