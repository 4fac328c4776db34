"""Blocks of clean text: what invalid bytes come to, and bounded memory whatever the file."""

import tracemalloc

import pytest

from seqtoolkit_language.block import LIMIT
from seqtoolkit_language.corpus import CorpusError, Piece, Reading, find, pieces, read

FORMATS = ("plain", "lines", "wikitext", "gutenberg")


def text(path, **reading):
    """Read a whole file as one."""
    return b"".join(block.data for block in read(Piece(str(path)), Reading(**{"format": "plain", **reading})))


def write(path, data):
    """Write a file and give its path."""
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("data", "strict", "replaced"),
    [
        (b"caf\xe9 au lait\n", r"byte 3 \(0xe9\) is not valid UTF-8", "caf\ufffd au lait\n"),
        (b"\xef\xbb\xbfab\xff", r"byte 5 \(0xff\)", "ab\ufffd"),
        (b"cut \xe2\x82", r"byte 4 \(0xe2\)", "cut \ufffd"),
        (b"\xed\xa0\x80", r"byte 0 \(0xed\)", "\ufffd\ufffd\ufffd"),
        (b"a\0b\0\n", "byte 1 is NUL", "ab\n"),
        ("text".encode("utf-16"), r"byte 3 is NUL|byte 0 \(0xff\)", "\ufffd\ufffdtext"),
    ],
)
def test_what_is_not_text_is_an_error_or_mended(data, strict, replaced, tmp_path):
    """Invalid UTF-8 and NUL: by default an error with file and byte, with `replace` U+FFFD and nothing."""
    path = write(tmp_path / "a.txt", data)
    with pytest.raises(CorpusError, match=rf"a\.txt: {strict}"):
        text(path)
    assert text(path, errors="replace").decode() == replaced


def test_the_byte_of_an_error_is_that_of_the_file(tmp_path):
    """Blocks and pieces in front of it do not shift the place that a message names."""
    good = b"a line of text\r\n" * 200_000
    path = write(tmp_path / "a.txt", good + b"caf\xe9\n" + good)
    reading = Reading("plain")
    for target in (100_000, 8 << 20):
        with pytest.raises(CorpusError, match=rf"a\.txt: byte {len(good) + 3} \(0xe9\)"):
            [block for piece in pieces(find(str(path)), reading, target) for block in read(piece, reading)]


def test_a_byte_order_mark_is_dropped_and_crlf_is_lf(tmp_path):
    """Text of another system comes out as of this one; a mark that is not at the beginning and a lone CR stay."""
    path = write(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\n\r\ntwo\rthree \xef\xbb\xbf\r\r\n")
    assert text(path) == b"one\n\ntwo\rthree \xef\xbb\xbf\r\n"


@pytest.mark.parametrize("target", [100_000, 8 << 20])
@pytest.mark.parametrize("layout", FORMATS)
def test_a_block_is_at_most_a_mebibyte_and_never_tears_a_word(layout, target, tmp_path):
    """Long lines are cut before white space, others behind a line break; no block is empty."""
    words = [b"w%d" % number for number in range(200_000)]
    path = write(tmp_path / "a.txt", b" ".join(words) + b"\n" + b"short line\n" * 120_000)
    reading = Reading(layout)
    blocks = [block.data for piece in pieces(find(str(path)), reading, target=target) for block in read(piece, reading)]
    assert all(0 < len(block) <= LIMIT for block in blocks)
    assert b" ".join(block.strip() for block in blocks).split() == path.read_bytes().split()


def test_a_cut_does_not_tear_crlf(tmp_path):
    """A line break of two bytes at the very border of a block becomes one."""
    for size in range(LIMIT - 4, LIMIT + 3):
        whole = b"word " + b"x" * (size - 5) + b"\r\nnext\r\n"
        assert text(write(tmp_path / "a.txt", whole)) == whole.replace(b"\r\n", b"\n")


def test_a_word_of_more_than_a_mebibyte_is_an_error_with_its_place(tmp_path):
    """A word of exactly 1 MiB is read, alone or behind others; one byte more is an error that names file and byte."""
    for before in (b"", b" ", b"some words ", b"a line\n"):
        whole = before + b"x" * LIMIT + b" y\n"
        assert text(write(tmp_path / "a.txt", whole)) == whole
        path = write(tmp_path / "a.txt", before + b"x" * (LIMIT + 1) + b" y\n")
        with pytest.raises(CorpusError, match=r"a\.txt: a word of more than 1 MiB begins at byte \d+"):
            text(path)


def test_what_replace_makes_longer_is_cut_again(tmp_path):
    """A block whose every byte becomes three still gives blocks of at most 1 MiB."""
    path = write(tmp_path / "a.txt", b"\xff\xff \n" * 260_000)
    blocks = [block.data for block in read(Piece(str(path)), Reading("plain", errors="replace"))]
    assert max(map(len, blocks)) <= LIMIT
    assert b"".join(blocks).decode() == "\ufffd\ufffd \n" * 260_000


def peak(path, layout):
    """Read a file and give the bytes of text and the peak of memory."""
    tracemalloc.start()
    try:
        size = sum(len(block.data) for block in read(Piece(str(path)), Reading(layout)))
        return size, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("layout", FORMATS)
def test_memory_is_bounded_for_a_long_line(layout, tmp_path):
    """A line of 24 MB costs a few MiB; so does an error about a word as long."""
    path = write(tmp_path / "a.txt", b"a word and " * 2_200_000)
    size, top = peak(path, layout)
    assert size == path.stat().st_size
    assert top < 9 << 20
    write(path, b"x" * (24 << 20))
    with pytest.raises(CorpusError, match="begins at byte 0"):
        peak(path, layout)
    assert len(pieces(find(str(path)), Reading(layout), target=1 << 20)) == 1


@pytest.mark.slow
def test_memory_is_bounded_for_a_line_of_a_gigabyte(tmp_path):
    """A line of 1 GB, plain and as an archive that unpacks to it, costs a few MiB."""
    import zstandard

    line = b"some words of a line without an end " * 29_000
    with (tmp_path / "a.txt").open("wb") as plain, (tmp_path / "a.zst").open("wb") as packed:
        writer = zstandard.ZstdCompressor().stream_writer(packed, closefd=False)
        for _ in range(1000):
            plain.write(line)
            writer.write(line)
        writer.flush(zstandard.FLUSH_FRAME)
    for name, most in (("a.txt", 9 << 20), ("a.zst", 16 << 20)):
        size, top = peak(tmp_path / name, "plain")
        assert size == 1000 * len(line)
        assert top < most
