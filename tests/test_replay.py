"""Replays: every frame of an episode as it was, what is left out of a long one, and where a run keeps them."""

import numpy as np
import pytest
from PIL import Image

from seqtoolkit.flow import replay as module
from seqtoolkit.flow.replay import ANIMATED, COLUMNS, DELAY, HOLD, STRIP, Replay, write
from seqtoolkit.observer import Plots
from seqtoolkit.train.run import Run
from seqtoolkit.train.tracking import NullTracker


def _replay(count, height=5, width=4, colors=200, seed=0):
    """An episode of so many frames; each has at most so many colors, of its own."""
    draw = np.random.default_rng(seed)
    palettes = draw.integers(0, 256, (count, colors, 3), np.uint8)
    chosen = draw.integers(0, colors, (count, height, width))
    frames = np.stack([palette[each] for palette, each in zip(palettes, chosen, strict=True)])
    return Replay("episode", frames, draw.integers(-3, 4, count - 1).astype(np.float32))


def _animation(path):
    """The frames of a .gif, [T H W 3], and how long each is shown."""
    frames, delays = [], []
    with Image.open(path) as picture:
        for number in range(picture.n_frames):
            picture.seek(number)
            delays.append(picture.info["duration"])
            frames.append(np.asarray(picture.convert("RGB")))
        assert picture.info["loop"] == 0
    return np.stack(frames), delays


@pytest.mark.parametrize(("height", "width", "scale"), [(5, 4, 40), (15, 19, 11), (1, 1, 200), (300, 20, 1)])
def test_animation_is_exact(tmp_path, height, width, scale):
    """A .gif has each frame with its very colors, each pixel as a square of about the same size, the last one longest."""
    replay = _replay(6, height, width)
    write(replay, tmp_path / "a.gif")
    frames, delays = _animation(tmp_path / "a.gif")
    assert delays == [DELAY] * 5 + [HOLD]
    assert frames.shape == (6, height * scale, width * scale, 3)
    for row in range(0, scale, max(1, scale - 1)):
        assert np.array_equal(frames[:, row::scale, scale - 1 :: scale], replay.frames)


def test_frames_that_do_not_change(tmp_path):
    """A world that stands still takes as much time as one that moves; an episode of one frame can be shown too."""
    frames = np.zeros((8, 2, 2, 3), np.uint8)
    write(Replay("still", frames, np.zeros(7)), tmp_path / "a.gif")
    assert sum(_animation(tmp_path / "a.gif")[1]) == 7 * DELAY + HOLD
    for path in (tmp_path / "b.gif", tmp_path / "b.png"):
        write(Replay("one", frames[:1], np.zeros(0)), path)
        with Image.open(path) as picture:
            assert not np.asarray(picture.convert("RGB"))[50, 50].any()


def test_many_colors(tmp_path):
    """A frame of more than 256 colors is shown by near ones."""
    ramp = np.indices((40, 40)).transpose(1, 2, 0) * 6
    frames = np.concatenate([ramp, ramp[::-1, :, :1]], -1)[None].repeat(2, 0).astype(np.uint8)
    frames[1] = frames[1][:, ::-1]
    write(Replay("ramp", frames, np.zeros(1)), tmp_path / "a.gif")
    shown = _animation(tmp_path / "a.gif")[0][:, ::5, ::5].astype(int)
    assert np.abs(shown - frames).mean() < 8


def test_long_episode_is_thinned(tmp_path):
    """Of more frames than are shown, some are left out evenly, never the first or the last."""
    count = 3 * ANIMATED
    frames = np.zeros((count, 1, 2, 3), np.uint8)
    frames[:, 0, 0, 0], frames[:, 0, 0, 1] = np.arange(count) >> 8, np.arange(count) & 255
    write(Replay("long", frames, np.zeros(count - 1)), tmp_path / "a.gif")
    shown = _animation(tmp_path / "a.gif")[0][:, 0, 0].astype(int)
    steps = shown[:, 0] * 256 + shown[:, 1]
    assert len(steps) == ANIMATED
    assert (steps[0], steps[-1]) == (0, count - 1)
    assert {*np.diff(steps)} <= {3, 4}


@pytest.mark.parametrize("count", [1, 3, STRIP, 100])
def test_strip(tmp_path, monkeypatch, count):
    """A .png has some frames in rows, exact, from the first to the last, each with its step and the return until then."""
    captions = []
    strip = module._strip
    monkeypatch.setattr(module, "_strip", lambda *given: (captions.extend(given[1]), strip(*given)))
    replay = _replay(count)
    write(replay, tmp_path / "a.png")
    steps = [int(each.partition(":")[0]) for each in captions]
    shown = min(count, STRIP)
    assert (len(steps), steps[0], steps[-1]) == (shown, 0, count - 1)
    assert all(
        float(text.split()[1]) == replay.rewards[:step].sum() for text, step in zip(captions, steps, strict=True)
    )
    sheet = np.asarray(Image.open(tmp_path / "a.png"))
    columns = min(COLUMNS, shown)
    across, down = sheet.shape[1] // columns, sheet.shape[0] // -(-shown // columns)
    for number, step in enumerate(steps):
        top, left = number // columns * down, number % columns * across
        tile = sheet[top:, left:][6 : 6 + 200, 6 : 6 + 160]
        assert np.array_equal(tile[::40, ::40], replay.frames[step])
        below = sheet[top:, left:][6 + 200 : down, 6:across]
        assert (below < 128).any(), "nothing is written below a frame"


def test_refusals(tmp_path, monkeypatch):
    """Frames that are none, rewards that do not fit, another kind of file, and Pillow that is missing are refused."""
    frames = np.zeros((3, 2, 2, 3), np.uint8)
    for bad in (frames[0], frames.astype(np.float32), frames[:0], np.zeros((3, 2, 2, 4), np.uint8)):
        with pytest.raises(ValueError, match=r"odd: frames: wanted \[T H W 3\] uint8, got \["):
            Replay("odd", bad, np.zeros(2))
    with pytest.raises(ValueError, match=r"odd: rewards: wanted one between two frames, \[2\], got \[3\]"):
        Replay("odd", frames, np.zeros(3))
    good = Replay("good", frames, np.zeros(2))
    with pytest.raises(ValueError, match=r"wanted a file ending in \.gif or \.png, got .*a\.mp4"):
        write(good, tmp_path / "a.mp4")
    with pytest.raises(FileNotFoundError):
        write(good, tmp_path / "nowhere" / "a.gif")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match="pip install pillow"):
        write(good, tmp_path / "a.gif")


class _Store(NullTracker):
    """Keeps the names of what it is handed."""

    def __init__(self):
        self.kept = []

    def artifact(self, path, folder=""):
        self.kept.append(f"{folder}/{path.name}")


def _run(folder, heard):
    told = lambda hook, **facts: heard.append((hook, facts.get("text")))  # noqa: E731  a word is enough
    return Run(name="p", folder=folder, config={}, learner=None, tracker=_Store(), steps=9, notify=told)


def test_run_keeps_replays(tmp_path):
    """Each evaluation's replays lie in the run's folder, animated and as a strip, and the tracking store is handed both."""
    run = _run(tmp_path, heard := [])
    Plots().evaluated(run, step=7, views=[], replays=[_replay(3), _replay(4)])
    names = [f"step_00000007_{number}{end}" for number in (1, 2) for end in (".gif", ".png")]
    assert sorted(path.name for path in (tmp_path / "replays").iterdir()) == names
    assert run.tracker.kept == [f"replays/{name}" for name in names]
    assert not heard


def test_replays_that_cannot_be_written(tmp_path):
    """A folder that cannot be had costs the run a line, and nothing else; without replays there is no folder."""
    run = _run(tmp_path, heard := [])
    Plots().evaluated(run, step=7, views=[], replays=[])
    assert not (tmp_path / "replays").exists()
    (tmp_path / "replays").write_text("in the way")
    Plots().evaluated(run, step=7, views=[], replays=[_replay(3)])
    assert [hook for hook, _ in heard] == ["noted"]
    assert heard[0][1].startswith("replays at step 7 could not be written: ")
    assert not run.tracker.kept
