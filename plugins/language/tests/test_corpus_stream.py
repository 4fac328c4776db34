"""Files as streams of bytes: archives, damage, and files that change while they are read."""

import gzip
import lzma
import os
import sys
from functools import partial
from pathlib import Path

import pytest
import zstandard

from seqtoolkit_language.corpus import CorpusError, Piece, Reading, find, pieces, read

PLAIN = Reading("plain")
TEXT = b"".join(b"line %d of a text that is packed\n" % number for number in range(20_000))
PACK = {
    ".gz": gzip.compress,
    ".xz": partial(lzma.compress, preset=0),
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}
packed = pytest.mark.parametrize("suffix", PACK)


def text(path, reading=PLAIN):
    """Read a whole file."""
    return b"".join(block.data for piece in pieces(find(str(path)), reading) for block in read(piece, reading))


def write(path, data):
    """Write a file and give its path."""
    path.write_bytes(data)
    return path


@packed
def test_an_archive_gives_what_was_packed(suffix, tmp_path):
    """.gz, .xz and .zst are unpacked, also with several members, and also under a name that says nothing."""
    half = len(TEXT) // 2
    members = PACK[suffix](TEXT[:half]) + PACK[suffix](TEXT[half:])
    assert text(write(tmp_path / f"a.txt{suffix}", members)) == TEXT
    assert text(write(tmp_path / "b", members)) == TEXT


@packed
@pytest.mark.parametrize("keep", [0.5, 0.999])
def test_a_truncated_archive_is_an_error_with_its_name(suffix, keep, tmp_path):
    """An archive that ends too early never passes for a shorter text."""
    whole = PACK[suffix](os.urandom(30_000).hex().encode())
    path = write(tmp_path / f"a{suffix}", whole[: int(len(whole) * keep)])
    with pytest.raises(CorpusError, match=rf"a\{suffix}: a damaged or truncated \{suffix} archive"):
        text(path)


@packed
def test_a_damaged_archive_is_an_error_with_its_name(suffix, tmp_path):
    """A wrong byte in the middle, and a name that promises an archive where there is none, are said."""
    whole = bytearray(PACK[suffix](TEXT))
    whole[len(whole) // 2 : len(whole) // 2 + 8] = b"\xff" * 8
    for path in (write(tmp_path / f"a{suffix}", bytes(whole)), write(tmp_path / f"b{suffix}", b"just text\n")):
        with pytest.raises(CorpusError, match=rf"{path.name}: .*damaged"):
            text(path)


def test_zst_without_its_library_says_what_to_install(tmp_path, monkeypatch):
    """The extra is optional; who needs it is told its name."""
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(CorpusError, match=r"pip install 'seqtoolkit-language\[zst\]'"):
        text(write(tmp_path / "a.zst", PACK[".zst"](TEXT)))


def test_a_file_that_was_changed_or_removed_after_it_was_found_is_an_error(tmp_path):
    """A piece is of the file as it was listed: of another size, another time, or none, it is not read."""
    path = write(tmp_path / "a.txt", TEXT)
    [piece] = pieces(find(str(path)), PLAIN)
    write(path, TEXT + b"more\n")
    with pytest.raises(CorpusError, match=r"a\.txt: the file was changed after the corpus was listed"):
        next(read(piece, PLAIN))
    write(path, TEXT)
    os.utime(path, ns=(0, piece.mtime_ns + 1))
    with pytest.raises(CorpusError, match="changed"):
        list(read(piece, PLAIN))
    path.unlink()
    with pytest.raises(CorpusError, match=r"a\.txt: the file is gone"):
        list(read(piece, PLAIN))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(b"short\n"), "the file was changed"),
        (Path.unlink, "the file was removed while it was read"),
    ],
)
def test_a_file_that_changes_while_it_is_read_is_an_error(change, message, tmp_path):
    """Between the first block and the last a file may not change under the reader."""
    path = write(tmp_path / "a.txt", TEXT * 6)
    [piece] = pieces(find(str(path)), PLAIN)
    blocks = read(piece, PLAIN)
    next(blocks)
    change(path)
    with pytest.raises(CorpusError, match=message):
        list(blocks)


def test_a_file_that_may_not_be_read_is_an_error_with_its_name(tmp_path, monkeypatch):
    """Missing rights are one line with the file."""
    path = write(tmp_path / "a.txt", TEXT)
    real = Path.open

    def refuse(self, *args, **kwargs):
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CorpusError, match=r"a\.txt: the file cannot be read: Permission denied"):
        text(path)


def test_a_disk_that_fails_while_it_is_read_is_an_error_with_the_file(tmp_path, monkeypatch):
    """An input/output error in the middle is one line with the file."""
    path = write(tmp_path / "a.txt", TEXT)

    class Failing:
        def __init__(self, handle):
            self.handle = handle

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.handle.close()

        def fileno(self):
            return self.handle.fileno()

        def seek(self, place):
            self.handle.seek(place)

        def read(self, _size):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("seqtoolkit_language.stream.compression", lambda _path: None)
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode: Failing(real(self, mode)))
    with pytest.raises(CorpusError, match=r"a\.txt: the file cannot be read: Input/output error"):
        list(read(Piece(str(path)), PLAIN))
