"""Heatmaps: the numbers are in the picture, which can be read, and is the same every time."""

import re
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from seqtoolkit.flow import heatmap
from seqtoolkit.flow.heatmap import Choice, draw
from seqtoolkit.flow.view import View

KINDS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
RED = np.array(to_rgb("#cc3311"))


def _view(steps=8, heads=2, slots=4, keys=5, *, blocks=1, rows=1, marked=(), name="a case", seed=0):
    """Random weights that add up to 1."""
    weights = np.random.default_rng(seed).exponential(size=(steps, blocks, heads, slots, keys)) ** 2
    return View(name, (weights / weights.sum(-1, keepdims=True)).astype(np.float32), rows, marked)


@pytest.fixture(scope="module")
def figures():
    """The figures that are drawn, beside their files."""
    drawn, real = [], Figure.savefig

    def savefig(figure, *arguments, **options):
        drawn.append(figure)
        return real(figure, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", savefig)
        yield drawn


def _pixels(path):
    """The picture, its first row at the bottom as figures count."""
    return imread(path)[::-1, :, :3]


def _colors(figure, path, row, step, slots, keys):
    """The color in the middle of each weight of a matrix, off any line: [slots keys 3]."""
    axis, pixels = figure.axes[row], _pixels(path)
    places = [[(step * (keys + 1) + key + 0.5, slot + 0.5) for key in range(keys)] for slot in range(slots)]
    spots = axis.transData.transform(np.array(places).reshape(-1, 2)).astype(int)
    return pixels[spots[:, 1], spots[:, 0]].reshape(slots, keys, 3)


@settings(max_examples=10, phases=[Phase.generate])  # smaller is no plainer
@given(
    st.integers(1, 40), st.integers(1, 3), st.integers(1, 12), st.integers(0, 2), st.integers(1, 3), st.integers(1, 4)
)
def test_every_weight_is_a_square_of_its_color(tmp_path_factory, figures, steps, heads, slots, extra, rows, cases):
    """Of any core and any cases the picture is of a bounded size, and each weight that it shows has its color in it."""
    keys = slots + rows + extra
    views = [_view(steps - case % steps, heads, slots, keys, rows=rows, seed=case) for case in range(cases)]
    path = tmp_path_factory.mktemp("drawn") / "a.png"
    start, stop = draw(views, path, "title")
    assert (start, stop) == (0, min(steps, 16)) or (stop < min(steps, 16) and 4 * stop * (keys + 1) > 1600 - 4 * keys)
    height, width, _ = _pixels(path).shape
    assert 400 < width <= 1800
    assert 240 < height <= 1950
    figure = figures[-1]
    assert figure.get_size_inches() * figure.dpi == pytest.approx([width, height], abs=1)
    scale = figure.axes[-1].get_ylim()[1]
    shown = [view.weights[:stop, 0].mean(1) for view in views]
    most = max(each.max() for each in shown)
    assert most <= scale <= max(0.25, 2 * most)
    for row, matrices in enumerate(shown):
        for step in {0, len(matrices) - 1}:
            wanted = mpl.colormaps["viridis"](matrices[step] / scale)[..., :3]
            found = _colors(figure, path, row, step, slots, keys)
            np.testing.assert_allclose(found, wanted, atol=0.02)


@pytest.mark.parametrize(("keys", "scale"), [(8, 0.25), (3, 0.5), (1, 1.0)])
def test_the_color_bar_ends_at_one_of_a_few_weights(tmp_path, figures, keys, scale):
    """Where all that is there is attended to alike, the color is that of 1 / keys on a bar which ends soon above it."""
    view, path = View("even", np.full((2, 1, 1, 1, keys), 1 / keys, np.float32), 0, ()), tmp_path / "a.png"
    draw([view], path, "t")
    assert figures[-1].axes[-1].get_ylim() == (0, scale)
    wanted = mpl.colormaps["viridis"](1 / keys / scale)[:3]
    np.testing.assert_allclose(_colors(figures[-1], path, 0, 1, 1, keys), np.tile(wanted, (1, keys, 1)), atol=0.02)


def test_many_rows_are_made_smaller(tmp_path, figures):
    """However many heads and cases there are, the picture stays in its bounds."""
    views = [_view(1, 2, marked=()) for _ in range(9)]
    draw(views, tmp_path / "a.png", "t", Choice("all"))
    assert len(figures[-1].axes) == 18 + 1
    assert len(_pixels(tmp_path / "a.png")) <= 1950


def test_marked_steps_are_red(tmp_path, figures):
    """The frame and the number of a marked step are red, those of the others are not; the input stands behind a line."""
    path = tmp_path / "a.png"
    draw([_view(marked=(3,)), _view(marked=())], path, "title", Choice(steps=(2, 6)))
    pixels, (top, below, bar) = _pixels(path), figures[-1].axes
    red = (np.abs(pixels - RED) < 0.02).all(-1)
    left, bottom = top.transData.transform((6, 4)).astype(int)
    right, upper = top.transData.transform((11, 0)).astype(int)
    ys, xs = np.nonzero(red)
    inside = (xs >= left - 3) & (xs <= right + 3)
    assert red[bottom + 2 : upper - 2, left].all() or red[bottom + 2 : upper - 2, left - 1].all()
    assert inside.all(), "and nothing else is red"
    assert (ys < bottom - 3).any(), "but for the number of the step"
    assert [label.get_text() for label in top.get_xticklabels()] == ["2", "3", "4", "5"]
    assert all(line.get_xdata()[0] % 6 == 4 for line in [*top.lines, *below.lines])
    assert len(top.lines) == 4
    assert any("red: the steps" in text.get_text() for text in figures[-1].texts)
    assert bar.get_ylim()[0] == 0


def test_what_is_written_on_it(tmp_path, figures):
    """Title with the heads and the block, a name for each row, slots, steps and weights on the axes; $ is a letter."""
    views = [_view(blocks=2, heads=3, name="x=$1 $2"), _view(blocks=2, heads=3, name="two")]
    for choice, words, rows in (
        (Choice(), "mean of 3 heads, block 0 of 2", ["x=$1 $2", "two"]),
        (Choice(2, 1), "head 2 of 3, block 1 of 2", ["x=$1 $2", "two"]),
        (Choice("all"), "each head, block 0 of 2", [f"{n}, head {h}" for n in ("x=$1 $2", "two") for h in range(3)]),
    ):
        draw(views, tmp_path / "a.png", "attention of run\nstep 5", choice)
        figure = figures[-1]
        assert figure.texts[0].get_text() == f"attention of run\nstep 5, {words}"
        *axes, bar = figure.axes
        assert [axis.get_title(loc="left") for axis in axes] == rows
        assert {axis.get_ylabel() for axis in axes} == {"slot"}
        assert {axis.get_xlabel() for axis in axes} == {"step"}
        assert bar.get_yticks()[0] == 0
    draw([_view(heads=1)], tmp_path / "a.png", "t")
    assert figures[-1].texts[0].get_text() == "t, 1 head"


def test_the_heads_and_blocks_that_are_asked_for(tmp_path, figures):
    """`mean` averages over heads, a number takes one, `all` takes each; a block is taken from its place."""
    view, path = _view(heads=2, blocks=2), tmp_path / "a.png"
    for choice, wanted in (
        (Choice(), [view.weights[:, 0].mean(1)]),
        (Choice(1), [view.weights[:, 0, 1]]),
        (Choice("all", 1), [view.weights[:, 1, 0], view.weights[:, 1, 1]]),
        (Choice(0, 1, (5, 99)), [view.weights[5:, 1, 0]]),
    ):
        steps = draw([view], path, "t", choice)
        assert steps == (choice.steps[0] if choice.steps else 0, 8)
        *axes, _ = figures[-1].axes
        for axis, matrices in zip(axes, wanted, strict=True):
            field = axis.images[0].get_array().filled(-1)
            found = [field[:, step * 6 : step * 6 + 5] for step in range(len(matrices))]
            np.testing.assert_array_equal(found, matrices)


def test_all_words_are_on_the_picture(tmp_path, figures):
    """The smallest picture has room for its words; none runs over its edge, or into another."""
    view = _view(1, 1, 1, 6, rows=5, marked=(0,), name="x" * 60)
    draw([view, view], tmp_path / "a.png", "attention of 20261122-203010-paper-program_eval_control-ab12\nstep 1000000")
    figure = figures[-1]
    width, height = figure.get_size_inches() * figure.dpi
    axes = figure.axes[:2]
    found = [*figure.texts, *(axis.xaxis.label for axis in axes), *(axis._left_title for axis in axes)]
    boxes = [text.get_window_extent() for text in found]
    assert min(min(box.x0, box.y0, width - box.x1, height - box.y1) for box in boxes) >= 0
    assert not [(one, two) for one, two in combinations(boxes, 2) if one.overlaps(two)]


@pytest.mark.parametrize("ending", KINDS)
def test_the_same_bytes_every_time(tmp_path, ending):
    """A picture is a file of its kind, the same in every byte, and all that is left in the folder."""
    path, again = tmp_path / f"a{ending}", tmp_path / f"b{ending}"
    for each in (path, again, path):
        draw([_view(marked=(1,))], each, "title")
    assert path.read_bytes() == again.read_bytes()
    assert path.read_bytes().startswith(KINDS[ending])
    assert not re.search(rb"CreationDate|<dc:date", path.read_bytes()), "which would differ tomorrow"
    draw([_view(marked=(2,))], again, "title")
    assert path.read_bytes() != again.read_bytes()
    assert sorted(tmp_path.iterdir()) == [path, again]


@pytest.mark.parametrize(
    ("choice", "line"),
    [
        (Choice(2), "head: wanted mean, all, or one from 0 to 1, got 2"),
        (Choice(-1), "head: wanted mean, all, or one from 0 to 1, got -1"),
        (Choice("some"), "head: wanted mean, all, or one from 0 to 1, got some"),
        (Choice(block=1), "block: wanted one from 0 to 0, got 1"),
        (Choice(steps=(40, 50)), "steps: wanted FROM:TO within the 40 steps, 0:40, got 40:50"),
        (Choice(steps=(5, 5)), "steps: wanted .* got 5:5"),
        (Choice(steps=(0, 40)), "1 x 40 matrices of 12 x 13 are more than can be read; choose fewer --steps$"),
        (Choice("all", steps=(0, 40)), "2 x 40 .* choose fewer --steps, or one --head$"),
    ],
)
def test_what_cannot_be_drawn(tmp_path, choice, line):
    """A head, a block or steps that are not there, or too many to be read, are one line, and no file."""
    with pytest.raises(ValueError, match=f"^{line}"):
        draw([_view(40, 2, 12, 13)], tmp_path / "a.png", "t", choice)
    assert not list(tmp_path.iterdir())


def test_files_that_cannot_be(tmp_path, monkeypatch):
    """Another ending, no cases, no matplotlib and no place to write are one line each, and leave nothing behind."""
    with pytest.raises(ValueError, match=r"wanted a file ending in \.png, \.svg, \.pdf, got .*a\.gif"):
        draw([_view()], tmp_path / "a.gif", "t")
    with pytest.raises(ValueError, match="no case to draw"):
        draw([], tmp_path / "a.png", "t")
    with pytest.raises(FileNotFoundError):
        draw([_view()], tmp_path / "nowhere" / "a.png", "t")
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OSError, match="directory"):
        draw([_view()], tmp_path / "a.png", "t")
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]
    monkeypatch.setattr(heatmap.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="wants matplotlib, which is not installed"):
        draw([_view()], tmp_path / "b.png", "t")


def test_weights_that_are_no_numbers(tmp_path, figures):
    """What a diverged model attends to is left white."""
    view = _view(steps=2)
    view.weights[1] = np.nan
    draw([view], tmp_path / "a.png", "t")
    assert (_colors(figures[-1], tmp_path / "a.png", 0, 1, 4, 5) == 1).all()
    view.weights[:] = np.nan
    assert draw([view], tmp_path / "a.png", "t") == (0, 2)
