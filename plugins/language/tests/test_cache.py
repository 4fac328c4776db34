"""The cache of a corpus: what it holds is what the text says, it is found again, and what is damaged is noticed."""

import copy
import errno
import fcntl
import logging
import pickle
import shutil
import threading
from collections import namedtuple
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqtoolkit_language import array, job, shelf, walk
from seqtoolkit_language.cache import CacheError, Tokens, encode, learn
from seqtoolkit_language.corpus import CorpusError, Reading, find, pieces, read
from seqtoolkit_language.tokenizer import EOS, Tokenization, Tokenizer

TEXT = "The cat sat.\nOn the mat, it sat!\n\nThe end of the cat\n"


def quiet(text, share):
    """A report that nobody reads."""


def build(folder, home, reading=Reading(), tokenization=Tokenization(), **options):  # noqa: B008  both are frozen
    """Learn from the files in a folder and encode them."""
    files = find(str(folder))
    tokenizer = learn(files, reading, tokenization, home, quiet, **options)
    return tokenizer, encode(files, reading, tokenizer, home, quiet, **options)


def texts(folder, *texts):
    """A folder with files of these texts."""
    folder.mkdir(exist_ok=True)
    for number, text in enumerate(texts):
        (folder / f"{number:02}.txt").write_bytes(text.encode())
    return folder


@pytest.fixture
def corpus(tmp_path):
    """Three files of text."""
    return texts(tmp_path / "corpus", TEXT * 40, "one line without a break", TEXT * 9)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 64 bytes, so that a small corpus has many."""
    monkeypatch.setattr(array, "BLOCK", 64)


@pytest.mark.parametrize("kind", ["word", "space", "character", "byte"])
@pytest.mark.parametrize("lines", [False, True])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(st.text(alphabet="ab .\n\u00e9", max_size=30), min_size=1, max_size=4).filter(
        lambda parts: any(part.strip() for part in parts)
    ),
    target=st.integers(1, 20),
    part=st.integers(1, 20),
)
def test_tokens_are_the_documents_each_with_its_end(kind, lines, parts, target, part, tmp_path_factory, monkeypatch):
    """However the files are cut: the ids of each document's text, one <eos> behind, counted as they stand there."""
    monkeypatch.setattr(walk, "pieces", partial(pieces, target=target))
    monkeypatch.setattr(job, "_ENCODED", part)
    place = tmp_path_factory.mktemp("tokens")
    folder = texts(place / "corpus", *parts)
    tokenization = Tokenization(kind=kind, lines=lines)
    tokenizer, tokens = build(folder, place / "home", Reading("plain"), tokenization)
    expected, begins = [], []
    for file in find(str(folder)):
        whole = b"".join(text.data for piece in pieces([file], Reading("plain")) for text in read(piece, Reading("plain"))) if file.size else b""
        ids = tokenizer.encode(whole).tolist()
        if ids:
            begins.append(len(expected))
            expected += ids if ids[-1] == EOS else [*ids, EOS]
    assert tokens[:].tolist() == expected
    assert tokens.documents.tolist() == begins
    counts = np.bincount(tokens[:], minlength=tokenizer.size)
    assert np.array_equal(np.delete(counts, EOS), np.delete(tokenizer.counts, EOS))
    assert tokenizer.counts[EOS] == counts[EOS]
