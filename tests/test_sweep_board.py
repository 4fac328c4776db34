"""What a person sees of a sweep: a live table on a terminal, lines elsewhere."""

import io
import re

import pytest

from seqtoolkit.sweep.board import Board, clock, table
from seqtoolkit.sweep.row import Row, counts, ranked


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self):
        """It is one."""
        return True


def rows(running, ended, waiting):
    """As many rows of each kind, by number; those that run have come one step further each."""
    done = [Row(n, "finished", {"run.seed": n}, n / 100, 6, 6, 60.0, f"/runs/run-{n}") for n in range(ended)]
    now = [Row(n, "running", {"run.seed": n}, None, n, 6, 30.0) for n in range(ended, ended + running)]
    later = [Row(n, "waiting", {"run.seed": n}) for n in range(ended + running, ended + running + waiting)]
    return [*done, *now, *later]


@pytest.fixture
def wide(monkeypatch):
    """A terminal of 100 columns and 12 rows."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "12")


def test_a_terminal_has_a_table_that_is_redrawn(wide):
    """It has a line for what is left, those under way, then those that ended last, as many as there is room for."""
    stream = Terminal()
    board = Board("a-sweep", "valid/accuracy", "higher", 2, stream)
    board(rows(2, 20, 30))
    board.close()
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", stream.getvalue())
    assert "a-sweep   2 running, 20 finished, 30 waiting, best 0.1900, about 16:00 left" in text
    shown = [line.split()[0] for line in text.splitlines() if " 0:30" in line or " 1:00" in line]
    assert shown[:7] == shown[7:] == [*map(str, range(15, 22))]
    assert "\x1b[?25h" in stream.getvalue()


def test_lines_where_there_is_no_terminal():
    """Each change is one line; what had ended before is not told again; a failure's last lines come with it."""
    stream = io.StringIO()
    board = Board("a-sweep", "valid/loss", "lower", 1, stream)
    board([Row(0, "finished", {"a": 1e-05}, 0.5), Row(1, "running", {"a": None}), Row(2, "waiting")])
    board([Row(0, "finished", {"a": 1e-05}, 0.5), Row(1, "running", {"a": None}), Row(2, "waiting")])
    board([Row(0, "finished", {}, 0.5), Row(1, "failed", {"a": True}, error="no", log="x\ny"), Row(2, "waiting")])
    assert stream.getvalue().splitlines() == [
        "trial 1   running  a=null   1 running, 1 finished, 1 waiting, best 0.5000",
        "trial 1   failed   a=true   no   1 finished, 1 failed, 1 waiting, best 0.5000",
        "    x",
        "    y",
    ]


def test_the_best_is_by_the_metrics_direction():
    """Finished trials come first, by value, then pruned ones, then the others by number."""
    found = [
        Row(0, "failed", best=9.0),
        Row(1, "finished", best=1.0),
        Row(2, "pruned", best=0.1),
        Row(3, "finished", best=2.0),
        Row(4, "waiting"),
    ]
    assert [row.number for row in ranked(found, "higher")] == [3, 1, 2, 0, 4]
    assert [row.number for row in ranked(found, "lower")] == [1, 3, 2, 0, 4]
    assert counts(found) == {"finished": 2, "pruned": 1, "failed": 1, "waiting": 1}


def test_heads_are_as_short_as_they_can_be():
    """A key stands without what is before its last dot, unless another ends alike."""
    values = {"model.core": "x", "learner.optimizer.lr": 1, "model.encoder.size": 1, "batch.size": 2}
    heads = [column.header for column in table([Row(0, "finished", values)], "m").columns]
    assert heads == ["trial", "status", "core", "lr", "model.encoder.size", "batch.size", "step", "m", "time", "run"]


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3600, "1:00:00")])
def test_clock(seconds, text):
    """Seconds are rounded, and hours shown where there are any."""
    assert clock(seconds) == text
