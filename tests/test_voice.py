"""How much commands say, by -q and -v, and how: at a terminal, in a pipe, with NO_COLOR; each as a real process."""

import json
import logging
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from seqtoolkit import Pipeline, hookimpl
from seqtoolkit.cli import voice
from seqtoolkit.train.tracking.progress import Progress

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOR = re.compile(r"\x1b\[(?:[0-9]+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9]+)*m")
SHORT = ["run.steps=2", "evaluate.every=2", "evaluate.examples=8", "evaluate.test_examples=0", "run.log_every=1"]


def environment(**more):
    """That of a process whose looks depend on nothing but `more`."""
    lacking = ("NO_COLOR", "FORCE_COLOR", "TERM", "COLORTERM", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    kept = {name: value for name, value in os.environ.items() if name not in lacking}
    return {**kept, "OMP_NUM_THREADS": "1", "TERM": "xterm-256color", "COLUMNS": "100", **more}


COMMAND = (sys.executable, "-m", "seqtoolkit")
SEVERAL = """
import json, os, sys
from seqtoolkit.cli import main
for words, variables in json.loads(sys.argv[1]):
    sys.argv[1:] = words
    former = dict(os.environ)
    os.environ |= variables
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    os.environ.clear()
    os.environ |= former
    for stream in (sys.stdout, sys.stderr):
        print(f"\\n<{code}>", file=stream, flush=True)
"""
"""Commands one after the other in one process, which imports torch but once; each ends with its exit code."""


def several(*commands):
    """The command of a process that does these, each some words and variables."""
    return (sys.executable, "-c", SEVERAL, json.dumps(commands))


def piped(folder, *words, command=COMMAND, **more):
    """A real command with pipes for streams: exit code, stdout, stderr."""
    done = subprocess.run(
        [*command, *words], cwd=folder, env=environment(**more), capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def at_terminal(folder, *words, command=COMMAND, **more):
    """A real command at a terminal: exit code, and all that it shows there."""
    mine, theirs = pty.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    process = subprocess.Popen([*command, *words], cwd=folder, env=environment(**more), **streams)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # the end of a terminal
        while select.select([mine], [], [], 120)[0] and (some := os.read(mine, 65536)):
            shown += some
    os.close(mine)
    return process.wait(), shown.decode()


def test_a_run_at_a_terminal(tiny, tmp_path):
    """A run redraws its bar in color; NO_COLOR leaves the bar and takes the colors; -q and TERM=dumb take all of it."""
    words = ["run", "program_eval", *tiny, *SHORT]
    commands = [(words, {}), (words, {"NO_COLOR": "1"}), ([*words, "-q"], {}), (words, {"TERM": "dumb"})]
    code, shown = at_terminal(tmp_path, command=several(*commands))
    assert (code, shown.count("<0>")) == (0, 8)
    colored, plain, quiet, dumb = ("".join(shown.split("<0>")[place : place + 2]) for place in (0, 2, 4, 6))
    assert COLOR.search(colored)
    assert "━" in colored
    assert not COLOR.search(plain)
    assert "━" in plain
    assert not ESCAPE.search(quiet)
    assert re.match(r"\s*valid/loss +\d", quiet)
    assert "\x1b" not in dumb
    assert "step 2/2" in dumb


@pytest.mark.parametrize("words", [["pipelines"], ["run", "--help"]])
def test_a_terminal_that_can_do_little_gets_text(tmp_path, words):
    """With TERM=dumb neither a listing nor a help text has an escape."""
    code, shown = at_terminal(tmp_path, *words, TERM="dumb")
    assert (code, "\x1b" in shown) == (0, False)
    assert shown.strip()


@pytest.mark.parametrize(
    "words", [["plugins"], ["pipelines"], ["plugins", "show", "rmc"], ["--help"], ["run", "--nothing"]]
)
def test_colors_are_for_terminals(tmp_path, words):
    """No listing, help text or complaint has an escape in a pipe, nor a color where NO_COLOR is set at a terminal."""
    _, out, err = piped(tmp_path, *words)
    assert "\x1b" not in out + err
    _, shown = at_terminal(tmp_path, *words, NO_COLOR="1")
    assert not COLOR.search(shown)


def test_force_color_colors_what_is_piped(tmp_path):
    """A listing piped to a pager keeps its looks where that is asked for."""
    assert ESCAPE.search(piped(tmp_path, "plugins", FORCE_COLOR="1")[1])


def test_quiet_leaves_errors_and_the_result(tiny, tmp_path):
    """A run says nothing on the way but its summary; twice, nothing; there are no escapes in a pipe in any case."""
    words = ["program_eval", *tiny, *SHORT]
    commands = [(["run", *words], {}), (["-q", "run", *words], {}), (["run", "-qq", *words], {})]
    code, out, err = piped(tmp_path, command=several(*commands))
    assert (code, "\x1b" in out + err) == (0, False)
    (loud, quiet, nothing), (progress, *silence) = (
        [each.strip() for each in text.split("<0>")[:3]] for text in (out, err)
    )
    assert "step 2/2" in progress
    assert silence == ["", ""]
    heads = [[line.split()[0] for line in text.splitlines()] for text in (loud, quiet)]
    assert heads[0] == heads[1]
    assert heads[0][:2] == ["valid/loss", "valid/accuracy"]
    assert nothing == ""


def test_quiet_and_verbose_stand_before_and_behind_a_command(type_in):
    """They add up wherever they stand, at a command of a group too; both at once are refused; errors are always said."""
    _, table, _ = type_in("pipelines")
    for words in (["-q", "pipelines"], ["pipelines", "-q"], ["pipelines", "--quiet"]):
        assert type_in(*words) == (0, table, "")
    for words in (
        ["-q", "pipelines", "-q"],
        ["-qq", "pipelines"],
        ["pipelines", "-q", "--quiet"],
        ["plugins", "show", "rmc", "-qq"],
    ):
        assert type_in(*words) == (0, "", "")
    for words in (["-q", "check", "nothing", "-q"], ["check", "-qq", "nothing"]):
        code, out, err = type_in(*words)
        assert (code, out) == (2, "")
        assert err.startswith("seqtoolkit: no pipeline 'nothing'")
    for words in (["-q", "pipelines", "-v"], ["-qv", "pipelines"], ["pipelines", "-v", "-q"]):
        code, out, err = type_in(*words)
        assert (code, out) == (2, "")
        assert "-q" in err
    assert type_in("pipelines") == (0, table, "")


def test_verbose_says_where_an_error_comes_from(type_in):
    """The traceback comes before the line that is always there, and not without -v, in the same process or another."""
    code, _, err = type_in("check", "nothing", "-v")
    assert code == 2
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("seqtoolkit: no pipeline 'nothing'")
    code, _, err = type_in("check", "nothing")
    assert (code, len(err.splitlines())) == (2, 1)


class Talker:
    """A part that logs."""

    @hookimpl
    def logged(self):
        """Say something of each kind."""
        logging.getLogger("seqtoolkit.talker").debug("deep inside")
        logging.getLogger("seqtoolkit.talker").info("by the way")


@pytest.mark.parametrize("verbose", [False, True])
def test_verbose_shows_what_parts_log(tiny, tmp_path, monkeypatch, capsys, verbose):
    """With -v a run shows lines of DEBUG, each once, in its own way; afterwards nothing is left of it."""
    with voice.VOICE.speaking():
        if verbose:
            voice.VOICE._add(0, 1)
        logging.getLogger("seqtoolkit.before").debug("not yet")
        Pipeline.load("program_eval", [*tiny, *SHORT]).run(tmp_path, observers={"talker": Talker()})
    err = capsys.readouterr().err
    assert err.count("by the way") == 2
    assert err.count("deep inside") == (2 if verbose else 0)
    assert err.count("seqtoolkit.before: not yet") == (1 if verbose else 0)
    assert not voice.LOGGER.handlers


def test_a_quiet_progress_shows_nothing(capsys):
    """Whatever it hears of, nothing is written, and it may be closed."""
    progress = Progress(10, interactive=True, quiet=True)
    progress.update(1, {"loss": 1.0}, 2.0)
    progress.evaluated(1, {"loss": 1.0}, [])
    progress.note("a line")
    progress.close()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("words", [["bench", "core", "rmc", "--repeats", "100000"]])
def test_ctrl_c_is_one_line(tmp_path, words):
    """A command that Ctrl-C ends says so in one line, and exits with 130."""
    command = [sys.executable, "-m", "seqtoolkit", *words]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    maps = f"/proc/{process.pid}/maps"
    with suppress(OSError):
        while process.poll() is None and "libtorch_cpu" not in open(maps).read():  # noqa: PTH123, SIM115  a file of /proc
            time.sleep(0.05)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "seqtoolkit: interrupted\n")
