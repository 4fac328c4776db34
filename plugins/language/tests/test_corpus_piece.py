"""Pieces and splits: wherever files are cut, and whichever worker reads a piece, the documents are the same."""

import dataclasses
import gzip
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqtoolkit_language import block, corpus, stream
from seqtoolkit_language.corpus import CorpusError, Piece, Reading, Text, find, pieces, read, resolve
from seqtoolkit_language.split import select

HEADS = [" = Title = \n", " = Other one = \r\n", " = = Section = = \n", "\n = Odd = \0\n", " = a\0 = b = \n"]
WORDS = ["word", "é", "\u2003", "x" * 30, "&amp;", "=", " = ", "{", "<P>", "\0", "\ufeff", "\r", "\t", "  ", "*"]
SPLITS = ("train", "valid", "test")


def lines(*, clean):
    """Draw the lines of a file: words, titles of WikiText, blank lines, long lines, invalid bytes."""
    words = [word for word in WORDS if word != "\0"] if clean else WORDS
    text = st.lists(st.sampled_from(words), max_size=12).map(" ".join)
    line = st.builds(str.__add__, text, st.sampled_from(["\n", "\r\n", "\n\n"]))
    raw = st.one_of(line, st.sampled_from([head for head in HEADS if not (clean and "\0" in head)])).map(str.encode)
    long = st.integers(60, 400).map(lambda size: b"long line " * size)
    parts = [raw, raw, long] if clean else [raw, raw, long, st.sampled_from([b"\xff\xc3 ", b"\xe2\x82\n", b"\xed\xa0"])]
    return st.lists(st.one_of(*parts), min_size=1, max_size=25).map(b"".join)


def stories(texts):
    """Write texts as Gigaword has them."""
    paragraphs = "".join(f"<P>\n{text}\n</P>\n" for text in texts)
    return f'<DOC id="A" type="story" >\n<TEXT>\n{paragraphs}</TEXT>\n</DOC>\n'


def documents(files, reading, target, *, most=block.LIMIT):
    """Read documents piece by piece, as workers do."""
    found = []
    for piece in pieces(files, reading, target):
        for begins, data in read(piece, reading):
            assert 0 < len(data) <= most
            data.decode()
            found += [b""] if begins else []
            found[-1] += data
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that examples of a property share."""
    return tmp_path_factory.mktemp("corpus")


@pytest.fixture
def narrow():
    """Blocks of 512 bytes and chunks of 100, so that small files have many borders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block, "LIMIT", 512)
        patch.setattr(stream, "CHUNK", 100)
        patch.setattr(corpus, "CHUNK", 100)
        patch.setattr(corpus, "_LONGEST", 64)
        yield


RULES = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check_any_target(files, reading, target):
    """Check that every split is the same for any target and that the splits share the documents out."""
    whole = documents(files, reading, 1 << 30, most=512)
    assert documents(files, reading, 1, most=512) == whole
    parts = []
    for split in SPLITS:
        chosen = dataclasses.replace(reading, split=split, held_out=0.2)
        part = documents(files, chosen, target, most=512)
        assert documents(files, chosen, 1 << 30, most=512) == part
        parts += part
    assert sorted(parts) == sorted(whole)


@RULES
@given(
    data=lines(clean=False),
    target=st.integers(1, 700),
    layout=st.sampled_from(["plain", "lines", "wikitext", "gutenberg"]),
)
def test_documents_are_the_same_for_any_cut(folder, narrow, data, target, layout):
    """Two files of any bytes, cut anywhere: the same documents, in every split; each document in exactly one."""
    (folder / "a").write_bytes(data)
    (folder / "b").write_bytes(data[::2] + b"\nmore\n")
    check_any_target(find([str(folder / "a"), str(folder / "b")]), Reading(layout, errors="replace"), target)


@RULES
@given(
    texts=st.lists(
        st.lists(st.sampled_from(["word", "é", "AT&amp;T", "two\nlines", "w " * 50]), max_size=6),
        min_size=1,
        max_size=12,
    ),
    target=st.integers(1, 700),
)
def test_stories_and_json_lines_are_the_same_for_any_cut(folder, narrow, texts, target):
    """Layouts with documents inside of a file are cut between them."""
    (folder / "sgml").write_text("".join(map(stories, texts)))
    (folder / "jsonl").write_text("".join(json.dumps({"text": "".join(text)}) + "\n" for text in texts) + "\n")
    for name in ("sgml", "jsonl"):
        files = find(str(folder / name))
        if any(map(any, texts)):
            check_any_target(files, resolve(files, Reading()), target)


@RULES
@given(data=lines(clean=True), target=st.integers(1, 700))
def test_documents_are_those_of_a_plain_reading(folder, narrow, data, target):
    """Each format gives what a simple reading of the whole file gives."""
    (folder / "a").write_bytes(data)
    files = find(str(folder / "a"))
    text = data.decode().removeprefix("\ufeff").replace("\r\n", "\n")
    assert b"".join(documents(files, Reading("plain"), target)).decode() == text
    said = [line for line in text.split("\n") if line.encode().strip()]
    assert [line.decode() for line in documents(files, Reading("lines"), target)] == said
    titles = [match.start() for match in re.finditer(r"^ = (?![= ])[^\n]+(?<![= ]) = ?$", text, re.MULTILINE)]
    bounds = [0, *titles[1:], len(text)]
    articles = [text[start:stop] for start, stop in pairwise(bounds) if text[start:stop]]
    assert [article.decode() for article in documents(files, Reading("wikitext"), target)] == articles


def test_plain_files_are_cut_and_archives_and_books_are_not(tmp_path):
    """Pieces cover a file without gap, at line breaks, of about the size that is asked for."""
    data = b"a line of text\n" * 10_000
    (tmp_path / "a.txt").write_bytes(data)
    (tmp_path / "b.gz").write_bytes(gzip.compress(data))
    files = find(str(tmp_path))
    cut = pieces(files, Reading("plain"), target=20_000)
    first = [piece for piece in cut if piece.path.endswith("a.txt")]
    assert [piece.start for piece in first[1:]] == [piece.stop for piece in first[:-1]]
    assert (first[0].start, first[-1].stop, len(first)) == (0, len(data), 8)
    assert all(data[piece.start - 1 : piece.start] == b"\n" for piece in first[1:])
    assert (cut[-1].start, cut[-1].stop, len(cut)) == (0, None, 9)
    assert [piece.stop for piece in pieces(files, Reading("gutenberg"), target=20_000)] == [None, None]


@pytest.mark.parametrize(
    ("layout", "documents"),
    [
        ("wikitext", [" \n = First = \n", *(f" = Title {'x' * size} = \n text\n" for size in range(1, 60))]),
        ("gigaword", [stories(["word"] * size) for size in range(1, 20)]),
        ("lines", [f"{'x' * size}\n" for size in range(200)]),
    ],
)
def test_each_document_can_be_a_piece(layout, documents, folder, narrow):
    """No beginning of a document is missed where a file is cut, wherever in a chunk it stands."""
    (folder / "a").write_text("".join(documents))
    assert len(pieces(find(str(folder / "a")), Reading(layout), target=1)) == len(documents)


def test_a_split_keeps_documents_and_goes_by_how_they_begin(tmp_path):
    """Shares are about as asked, the same document always goes to the same split, and only 4 KiB of it decide."""
    (tmp_path / "a").write_text("".join(f"document {number}\n" for number in range(5000)))
    sizes = {}
    for split in SPLITS:
        sizes[split] = len(documents(find(str(tmp_path / "a")), Reading("lines", split=split, held_out=0.1), 1 << 20))
    assert sum(sizes.values()) == 5000
    assert all(400 < sizes[split] < 600 for split in ("valid", "test"))
    for number in range(8):
        long = "".join(f"line {number} and {line}\n" for line in range(1000))
        (tmp_path / "b").write_text(long)
        (tmp_path / "c").write_text(long + "an end")
        (tmp_path / "d").write_text(long[:4096])
        where = [
            [
                bool(documents(find(str(tmp_path / name)), Reading("plain", split=split, held_out=0.3), 500))
                for split in SPLITS
            ]
            for name in "bcd"
        ]
        assert where[0] == where[1] == where[2]
        assert sum(where[0]) == 1


def test_a_split_does_not_depend_on_how_a_document_is_cut():
    """Small texts of one document decide as the whole does."""
    for number in range(20):
        whole = b"".join(b"%d %d " % (number, word) for word in range(2000))
        parts = [Text(at == 0, whole[at : at + 100]) for at in range(0, len(whole), 100)]
        for name in SPLITS:
            reading = Reading("plain", split=name, held_out=0.3)
            assert list(select(parts, reading)) == (parts if list(select([Text(True, whole)], reading)) else [])


def test_files_with_nothing_in_them_are_an_error_but_not_among_others(tmp_path):
    """An empty file, an empty archive, or only such: an error that names the first; among others they do no harm."""
    (tmp_path / "a.txt").write_bytes(b"")
    for reading in (Reading(), Reading("wikitext"), Reading("jsonl")):
        with pytest.raises(CorpusError, match=r"a\.txt is empty: there is nothing to read"):
            pieces(find(str(tmp_path)), reading)
    (tmp_path / "b.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(CorpusError, match=r"all 2 files are empty, from .*a\.txt on: there is nothing"):
        pieces(find(str(tmp_path)), Reading())
    (tmp_path / "c.txt").write_text("text\n")
    assert documents(find(str(tmp_path)), Reading(), 1 << 20) == [b"text\n"]
    with pytest.raises(CorpusError, match="no file is given"):
        pieces([], Reading())


def test_settings_and_pieces_are_plain_data(tmp_path):
    """A reading and a piece come back from JSON as they were, for keys of caches and for workers."""
    (tmp_path / "a.txt").write_text("text\n")
    [piece] = pieces(find(str(tmp_path)), Reading())
    assert Piece(**json.loads(json.dumps(dataclasses.asdict(piece)))) == piece
    reading = Reading("lines", split="test", held_out=0.25)
    assert Reading(**json.loads(json.dumps(dataclasses.asdict(reading)))) == reading


def test_a_corpus_is_read_without_torch(tmp_path):
    """Workers that read text start fast: nothing on the way imports torch."""
    import subprocess
    import sys

    code = "import sys, seqtoolkit_language.corpus; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(tmp_path)).returncode == 0
