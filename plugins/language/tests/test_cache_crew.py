"""The processes of the cache: any number of them build the same, and none outlives what it was started for."""

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from seqtoolkit_language import cache, job, walk
from seqtoolkit_language.cache import CacheError, encode, learn
from seqtoolkit_language.corpus import CorpusError, Reading, find, pieces
from seqtoolkit_language.tokenizer import EOS, Tokenization

SCRIPT = """
import os, signal, sys
from functools import partial
from pathlib import Path
from seqtoolkit_language import walk
from seqtoolkit_language.cache import encode, learn
from seqtoolkit_language.corpus import Reading, find, pieces
from seqtoolkit_language.tokenizer import Tokenization

walk.pieces = partial(pieces, target=8_000)
corpus, home, end = sys.argv[1:]

def report(text, share):
    if end and text.startswith("encoding") and share > 0.2:
        (os.killpg if end == "SIGINT" else os.kill)(os.getpid(), getattr(signal, end))

walk._EACH = 0
files = find(corpus)
tokenizer = learn(files, Reading("lines"), Tokenization(), Path(home), report, 2)
tokens = encode(files, Reading("lines"), tokenizer, Path(home), report, 2)
print(tokens.digest, os.stat(tokens.folder).st_ino)
"""


def quiet(text, share):
    """A report that nobody reads."""


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Some 100 KB in three files, to be read in pieces of 8 KB; each line is a document."""
    monkeypatch.setattr(walk, "pieces", partial(pieces, target=8_000))
    generator = random.Random(1)
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(3):
        lines = (" ".join(f"w{generator.randrange(3000)}" for _ in range(12)) + ".\n" for _ in range(500))
        (folder / f"{number}.txt").write_text("".join(lines))
    return folder


def started(mark):
    """Processes that have the mark in their environment."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in environment.read_bytes():
                found.append(int(environment.parent.name))
        except OSError:  # it has ended, or is another's
            continue
    return [pid for pid in found if pid != os.getpid()]


@pytest.fixture
def mark(monkeypatch):
    """What all processes that this test starts have in their environment."""
    name = uuid.uuid4().hex
    monkeypatch.setenv("SEQTOOLKIT_TEST", name)
    return name


def ended(mark):
    """Whether all processes with the mark come to an end."""
    until = time.monotonic() + 30
    while started(mark):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def drafts(home):
    """What there is in a home beside what is whole."""
    return [path.name for path in home.iterdir() if "draft" in path.name]


def run(corpus, home, end=""):
    """A process that builds the cache of a corpus, and sends itself a signal on the way; a Ctrl-C to all its group."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(corpus), str(home), end],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def build(corpus, home, workers):
    """Learn and encode in this process."""
    files = find(str(corpus))
    tokenizer = learn(files, Reading("lines"), Tokenization(), home, quiet, workers, entries=100)
    return tokenizer, encode(files, Reading("lines"), tokenizer, home, quiet, workers)


def test_any_number_of_processes_builds_the_same(corpus, tmp_path, mark, monkeypatch):
    """One, two and three, which spill their tables and pass on parts all the time, give equal counts and tokens."""
    monkeypatch.setattr(cache, "Encode", partial(job.Encode, stride=3_000))
    tokenizer, tokens = build(corpus, tmp_path / "1", 1)
    assert np.array_equal(np.bincount(tokens[:]), tokenizer.counts)
    assert len(tokens.documents) == tokenizer.counts[EOS] == 3 * 500
    for workers in (2, 3):
        other, found = build(corpus, tmp_path / str(workers), workers)
        assert other.digest == tokenizer.digest
        assert np.array_equal(other.counts, tokenizer.counts)
        assert found.digest == tokens.digest
    assert not started(mark)


def test_two_processes_at_once_build_one_cache(corpus, tmp_path):
    """Both come to the same folder, built once, and nothing else is left."""
    home = tmp_path / "home"
    both = [run(corpus, home) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    digests, folders = zip(*(out.decode().split() for out, _ in said), strict=True)
    assert digests[0] == digests[1]
    assert folders[0] == folders[1]
    assert len([path for path in home.iterdir() if path.is_dir()]) == 2


@pytest.mark.parametrize("end", ["SIGKILL", pytest.param("SIGINT", marks=pytest.mark.slow)])
def test_a_killed_build_leaves_no_process_and_is_done_again(end, corpus, tmp_path, mark):
    """Killed half-way its workers end by themselves; by Ctrl-C the draft goes too. Then it is built whole."""
    home = tmp_path / "home"
    process = run(corpus, home, end)
    _, error = process.communicate(timeout=120)
    assert process.returncode == -getattr(signal, end), error
    assert ended(mark)
    assert len(drafts(home)) == (1 if end == "SIGKILL" else 0)
    assert b"worker" not in error
    _, tokens = build(corpus, home, 1)
    assert drafts(home) == []
    assert tokens.digest == build(corpus, tmp_path / "other", 1)[1].digest


def test_an_error_of_a_worker_reaches_the_caller(corpus, tmp_path, mark):
    """What one process cannot read is the caller's error; the others are ended, and nothing is kept."""
    with (corpus / "2.txt").open("ab") as file:
        file.write(b"\xff\xfe no text\n")
    with pytest.raises(CorpusError, match=r"2\.txt.*UTF-8"):
        build(corpus, tmp_path / "home", 2)
    assert not started(mark)
    assert drafts(tmp_path / "home") == []


def test_a_worker_that_dies_is_an_error(corpus, tmp_path, mark):
    """One that is killed, as for want of memory, is said to be; the others are ended, and nothing is kept."""
    home, files = tmp_path / "home", find(str(corpus))

    def kill(text, share):
        for pid in started(mark)[:1]:
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(CacheError, match="killed by SIGKILL: if memory has run out"):
        learn(files, Reading(), Tokenization(), home, kill, 2)
    assert not started(mark)
    assert drafts(home) == []


def test_a_defect_in_a_worker_is_shown_with_its_place(corpus, tmp_path):
    """An error that is nobody's input comes with the traceback of the process that met it."""
    going = walk.Walk(find(str(corpus)), Reading("plain"), quiet, "breaking", 2)
    task = job.Encode(Reading("plain"), None, tmp_path)
    with pytest.raises(RuntimeError, match=r"(?s)job.py.*AttributeError: 'NoneType'"), going.crew(task) as crew:
        list(going.steps(crew))


@pytest.mark.slow
def test_a_disk_that_is_full_in_earnest(corpus, tmp_path, mark):
    """On a disk of 100 KB the build ends with one line, the disk is as it was, and a smaller corpus still fits."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)], check=True)
    try:
        for workers in (1, 2):
            with pytest.raises(CacheError, match=r"the disk of .* is full"):
                build(corpus, disk, workers)
            assert drafts(disk) == []
            assert not started(mark)
        for name in ("1.txt", "2.txt"):
            (corpus / name).unlink()
        (corpus / "0.txt").write_text("a b c\n" * 100)
        assert len(build(corpus, disk, 2)[1]) == 400
    finally:
        subprocess.run(["umount", str(disk)], check=True)
