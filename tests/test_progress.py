"""Progress: what a person sees, on terminals of any width and in logs."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from seqtoolkit.flow.source import Sample
from seqtoolkit.train.tracking import progress, terminal
from seqtoolkit.train.tracking.progress import Progress

PROGRAM = "a=52\nfor x in range(4):\n\tb+=a*(1 if a<3 else 2)+123456789012345678901234567890\nprint(b[0])"
SAMPLES = [
    Sample("((3+4)if 2<9else[k])", "7", "7"),
    Sample("[bold]x", "15", "16"),
    Sample(PROGRAM, "216", "-216"),
    Sample("(" + "1+" * 70 + "2)", "72", "72"),
    Sample("\n".join(f"line{n}" for n in range(30)), "1", "\x1b[31m2\r"),
]
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


class _Stream(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self):
        return True


def on_terminal(width, monkeypatch, **environment):
    """What a short training with one evaluation writes to a terminal of this width."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"COLUMNS": str(width), "LINES": "30", "TERM": "xterm-256color", **environment}.items():
        monkeypatch.setenv(name, value)
    stream = _Stream()
    shown = Progress(2000, stream=stream)
    shown.update(1200, {"loss": 0.41234567, "accuracy": 0.875}, 12345.6)
    shown.evaluated(1200, {"loss": 0.4, "accuracy": 0.9, "sequence_accuracy": 0.5}, SAMPLES)
    shown.note("checkpoint saved")
    shown.close()
    return stream.getvalue()


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_terminal_of_any_width(width, monkeypatch):
    """No row is wider than the terminal, and everything is there: bar, metrics, speed, each line of each program."""
    plain = ESCAPE.sub("", on_terminal(width, monkeypatch))
    rows = [row for line in plain.split("\n") for row in line.split("\r")]
    assert max(map(cell_len, rows)) <= width
    bar = next(row for row in rows if row.startswith("1200/2000"))
    assert "━" in bar
    assert "60%" in bar
    assert bar.rstrip().endswith("left")
    assert "loss 0.4123  accuracy 0.875" in plain
    assert "12,346 examples/s" in plain
    assert "✓ ((3+4)if 2<9else[k])  → 7\n" in plain
    assert "✗ [bold]x  → 16  expected 15\n" in plain
    assert "✗ a=52\n  for x in range(4):\n      b+=" in plain
    assert "  print(b[0])\n  → -216  expected 216\n" in plain
    assert "... 19 more lines\n  → \\x1b[31m2\\r  expected 1\n" in plain
    assert plain.replace("\n  ", "").count("1+") == 70
    assert "checkpoint saved\n" in plain


def test_right_is_green_and_wrong_is_red(monkeypatch):
    """Colors tell right from wrong, NO_COLOR does without, and the marks tell it either way."""
    colored = on_terminal(80, monkeypatch)
    assert "\x1b[32m7" in colored
    assert "\x1b[31m16" in colored
    bare = on_terminal(80, monkeypatch, NO_COLOR="1")
    assert not re.search(r"\x1b\[(?:[0-9]+;)*[34][0-9]", bare)
    assert "✗" in bare


def test_the_terminal_is_redrawn_four_times_a_second(clock, monkeypatch):
    """A thousand updates in a second redraw the bar four times; the values shown are the latest."""
    drawn = []
    monkeypatch.setattr(terminal.Terminal, "refresh", lambda self: drawn.append(self._now.step))
    shown = Progress(1000, interactive=True, stream=io.StringIO())
    for step in range(1000):
        clock[0] = 100.0 + step / 1000
        shown.update(step, {}, 1.0)
    assert drawn == [0, 250, 500, 750]


def test_a_log_has_plain_lines(clock):
    """Not on a terminal: a line each ten seconds and at the end, all of an evaluation, no escapes, no returns."""
    stream = io.StringIO()
    shown = Progress(100, stream=stream)
    for step in range(50):
        clock[0] = 100.0 + step
        shown.update(step, {"train/loss": 1 / (step + 1), "accuracy": 0.5, "lr": 1, "a": 1, "b": 1}, 1000.0)
    shown.evaluated(50, {"valid/loss": float("nan")}, SAMPLES)
    shown.evaluated(50, {"test/loss": 0.5, "test/accuracy": 0.25}, [])
    shown.note("saved\r\x1b[2K")
    shown.close()
    shown.close()
    text = stream.getvalue()
    assert "\r" not in text
    assert "\x1b" not in text
    lines = text.splitlines()
    assert [line.split()[1] for line in lines if "left" in line] == [
        "0/100",
        "10/100",
        "20/100",
        "30/100",
        "40/100",
        "49/100",
    ]
    assert lines[1] == "step 10/100  10%  loss 0.09091  accuracy 0.5  lr 1  a 1  1,000 examples/s  0:01:30 left"
    assert "step 50  valid  loss nan" in lines
    assert "step 50  test  loss 0.5  accuracy 0.25" in lines
    assert "    ((3+4)if 2<9else[k])  right: 7" in lines
    assert "    [bold]x  wrong: 16  expected: 15" in lines
    assert "        b+=a*(1 if a<3 else 2)+123456789012345678901234567890" in lines
    assert "    wrong: \\x1b[31m2\\r  expected: 1" in lines
    assert "saved\\r\\x1b[2K" in lines


@pytest.mark.parametrize("interactive", [True, False])
def test_an_answer_that_is_neither_right_nor_wrong(interactive):
    """What goes on with a text is shown behind it, without a verdict."""
    stream = io.StringIO()
    Progress(1, interactive, stream).evaluated(1, {"valid/loss": 1.0}, [Sample("To the Senate", "", "and House")])
    said = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    assert re.search(r"To the Senate +(→|=|\.\.\.) and House", said)
    assert not re.search("right|wrong|expected|✓|✗", said)


@pytest.mark.parametrize(("environment", "expected"), [({}, True), ({"TERM": "dumb"}, False)])
def test_a_dumb_terminal_is_a_log(environment, expected, monkeypatch):
    """A terminal that cannot redraw gets plain lines."""
    assert ("\x1b" in on_terminal(80, monkeypatch, **environment)) == expected


def test_a_stream_that_knows_only_ascii(clock):
    """Signs that the stream cannot write are replaced; nothing raises."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    for interactive in (False, True):
        shown = Progress(10, interactive=interactive, stream=stream)
        shown.update(1, {"loss": 1.0}, 1.0)
        shown.evaluated(1, {}, [Sample("ü", "1", "1")])
        shown.close()
    stream.flush()
    assert b"?  right: 1" in raw.getvalue()


@pytest.mark.parametrize("interactive", [False, True])
def test_a_broken_stream_is_given_up(interactive):
    """A pipe that nobody reads any more, or a closed stream, does not stop training."""
    read, write = os.pipe()
    os.close(read)
    broken = os.fdopen(write, "w", buffering=1)
    streams = sys.stdout, sys.stderr
    closed = io.StringIO()
    closed.close()
    for stream in (broken, closed):
        shown = Progress(10, interactive=interactive, stream=stream)
        shown.update(1, {"loss": 1.0}, 1.0)
        shown.evaluated(1, {}, SAMPLES)
        shown.note("text")
        assert shown._display is None
        shown.close()
    assert (sys.stdout, sys.stderr) == streams
    with pytest.raises(OSError, match="Broken pipe"):
        broken.close()


def test_a_stream_that_breaks_later_is_given_up_cleanly(clock):
    """When the terminal goes away in the middle, stdout and stderr are again what they were."""
    streams = sys.stdout, sys.stderr
    stream = _Stream()
    shown = Progress(10, interactive=True, stream=stream)
    shown.update(1, {"loss": 1.0}, 1.0)
    assert sys.stdout is not streams[0]
    stream.close()
    clock[0] += 1.0
    shown.update(2, {"loss": 1.0}, 1.0)
    assert (sys.stdout, sys.stderr) == streams
    shown.close()


@given(
    total=st.integers(-1, 10**9),
    step=st.integers(0, 10**10),
    metrics=st.dictionaries(st.text(), st.floats(), max_size=6),
    samples=st.lists(st.builds(Sample, st.text(), st.text(), st.text()), max_size=3),
    interactive=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_text_and_number_can_be_shown(total, step, metrics, samples, interactive):
    """Whatever a task calls its metrics and asks its model is shown without an error, and never moves the cursor."""
    stream = io.StringIO()
    shown = Progress(total, interactive=interactive, stream=stream)
    shown.update(step, metrics, 1.0)
    shown.evaluated(step, metrics, samples)
    assert shown._display is not None
    shown.close()
    if not interactive:
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", stream.getvalue())


def test_in_a_real_terminal(tmp_path):
    """On a pseudo-terminal of 40 columns, lines printed by others go above the bar, and the cursor is given back."""
    code = (
        "from seqtoolkit.train.tracking.progress import Progress\n"
        "shown = Progress(20)\n"
        "for step in range(1, 21):\n"
        "    shown.update(step, {'loss': 0.5}, 10.0)\n"
        "    if step == 10: print('from somebody else')\n"
        "shown.close()\n"
    )
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES"}} | {"TERM": "xterm"}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    output = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        output += part
    os.close(leader)
    assert process.wait() == 0
    text = output.decode()
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
    rows = re.split(r"[\r\n]+", ESCAPE.sub("", text))
    assert max(map(cell_len, rows)) <= 40
    assert rows.count("from somebody else") == 1
    assert rows[-3].startswith("20/20 ")
    assert rows[-2] == "loss 0.5  10 examples/s"


def _prepare(shown, shares=(0.0, 0.5, 1.0), texts=("counting", "encoding")):
    """What two steps of a preparation report."""
    for text in texts:
        for share in shares:
            shown.preparing(f"{text} the [text]\x1b[2K", share)
    shown.prepared()


def test_a_preparation_in_a_log(clock):
    """Not on a terminal: a line where something else is made, and each ten seconds; no escapes, and none when quiet."""
    stream = io.StringIO()
    shown = Progress(10, stream=stream)
    for second in range(31):
        clock[0] = 100.0 + second
        shown.preparing("counting the [text]", second / 40)
    _prepare(shown, texts=("encoding",))
    assert stream.getvalue().splitlines() == [
        *(f"counting the [text]  {share}" for share in ("0%", "25%", "50%", "75%")),
        "encoding the [text]\\x1b[2K  0%",
    ]
    quiet = Progress(10, stream=(silent := io.StringIO()), quiet=True)
    _prepare(quiet)
    assert silent.getvalue() == ""


def test_a_preparation_at_a_terminal(monkeypatch):
    """A bar with its share for each thing that is made, gone afterwards; stdout and stderr are what they were."""
    monkeypatch.setenv("TERM", "xterm-256color")
    streams = sys.stdout, sys.stderr
    stream = _Stream()
    shown = Progress(10, stream=stream)
    for _ in range(2):
        _prepare(shown)
        assert (sys.stdout, sys.stderr) == streams
    plain = ESCAPE.sub("", stream.getvalue())
    for name in ("counting", "encoding"):
        assert f"{name} the [text]\\x1b[2K" in plain
    assert "━" in plain
    assert "100%" in plain
    assert stream.getvalue().endswith("\x1b[2K"), "the line of the bar is cleared"


@pytest.mark.parametrize("interactive", [False, True])
@pytest.mark.parametrize("late", [False, True])
def test_a_preparation_survives_a_broken_stream(interactive, late, monkeypatch):
    """It goes on without a picture, from the first report on or later, and nothing is said of it."""
    said = []
    monkeypatch.setattr(threading, "excepthook", said.append)
    streams = sys.stdout, sys.stderr
    stream = _Stream()
    shown = Progress(10, interactive=interactive, stream=stream)
    if late:
        shown.preparing("counting", 0.1)
    stream.close()
    time.sleep(0.25 if interactive and late else 0)  # longer than any bar stands still
    _prepare(shown)
    assert (sys.stdout, sys.stderr) == streams
    assert shown._display is None
    assert not said
