"""Opens a file of a corpus as chunks of bytes, .gz, .xz and .zst unpacked, and sees when it was changed under way."""

import gzip
import lzma
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from seqtoolkit_language.reading import CorpusError, Piece

CHUNK = 1 << 20
_MAGIC = {".gz": b"\x1f\x8b", ".xz": b"\xfd7zXZ\x00", ".zst": b"\x28\xb5\x2f\xfd"}
# What a frame of zstd unpacks to has no bound of its own: 256 bytes of it become some MiB at most in ordinary files.
_ZSTD_INPUT = 256


def open_file(path: str) -> BinaryIO:
    """Open a file for reading bytes.

    Raises:
        CorpusError: if it is gone or may not be read.
    """
    try:
        return Path(path).open("rb")
    except FileNotFoundError:
        raise CorpusError(f"{path}: the file is gone; it was there when the corpus was listed") from None
    except OSError as error:
        raise CorpusError(f"{path}: the file cannot be read: {error.strerror or error}") from error


def compression(path: str) -> str | None:
    """Say how a file is packed: .gz, .xz, .zst, or None; the first bytes count before the name."""
    with open_file(path) as handle:
        first = handle.read(6)
    for suffix, magic in _MAGIC.items():
        if first.startswith(magic):
            return suffix
    suffix = Path(path).suffix.lower()
    return suffix if first and suffix in _MAGIC else None


def plain_name(path: str) -> str:
    """Give a file's name in lower case, without the suffix of its archive."""
    name = Path(path.lower())
    return name.stem if name.suffix in _MAGIC else name.name


def chunks(piece: Piece) -> Iterator[bytes]:
    """Give the bytes of a piece, unpacked, in chunks of at most some MiB.

    Raises:
        CorpusError: if the file is gone, changed, unreadable or a damaged archive.
    """
    kind = compression(piece.path)
    with open_file(piece.path) as handle:
        _check_unchanged(piece, os.fstat(handle.fileno()))
        try:
            yield from _unpack(handle, kind, piece.path) if kind else _range(handle, piece)
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
            raise CorpusError(f"{piece.path}: a damaged or truncated {kind} archive: {error}") from error
        except OSError as error:
            raise CorpusError(f"{piece.path}: the file cannot be read: {error.strerror or error}") from error
    try:
        _check_unchanged(piece, Path(piece.path).stat())
    except FileNotFoundError:
        raise CorpusError(f"{piece.path}: the file was removed while it was read") from None


def line_number(path: str, offset: int) -> int:
    """Count lines up to the line, from 1, that holds a byte of the unpacked file; reads all that is before it."""
    line = 1
    for chunk in chunks(Piece(path)):
        line += chunk.count(b"\n", 0, max(offset, 0))
        offset -= len(chunk)
        if offset <= 0:
            break
    return line


def _check_unchanged(piece: Piece, now: os.stat_result) -> None:
    if piece.size >= 0 and (now.st_size, now.st_mtime_ns) != (piece.size, piece.mtime_ns):
        raise CorpusError(
            f"{piece.path}: the file was changed after the corpus was listed "
            f"({piece.size:,} bytes then, {now.st_size:,} now); start again when nothing writes to it"
        )


def _range(handle: BinaryIO, piece: Piece) -> Iterator[bytes]:
    handle.seek(piece.start)
    left = piece.stop - piece.start if piece.stop is not None else None
    while left is None or left > 0:
        chunk = handle.read(CHUNK if left is None else min(CHUNK, left))
        if not chunk:
            return
        yield chunk
        left = left - len(chunk) if left is not None else None


def _unpack(handle: BinaryIO, kind: str, path: str) -> Iterator[bytes]:
    if kind == ".zst":
        yield from _unpack_zstd(handle, path)
        return
    with gzip.GzipFile(fileobj=handle) if kind == ".gz" else lzma.LZMAFile(handle) as archive:
        while chunk := archive.read(CHUNK):
            yield chunk


def _unpack_zstd(handle: BinaryIO, path: str) -> Iterator[bytes]:
    """Unpack frame after frame; the reader of the library itself would take a truncated frame for the end."""
    try:
        import zstandard
    except ImportError:
        raise CorpusError(f"{path}: .zst needs an extra: pip install 'seqtoolkit-language[zst]'") from None
    frame = None
    unpacked: list[bytes] = []
    size = 0
    try:
        while packed := handle.read(_ZSTD_INPUT):
            while packed:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                data = frame.decompress(packed)
                unpacked.append(data)
                size += len(data)
                packed = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
                if size >= CHUNK // 2:
                    yield b"".join(unpacked)
                    unpacked, size = [], 0
    except zstandard.ZstdError as error:
        raise CorpusError(f"{path}: a damaged .zst archive: {error}") from error
    if frame is not None:
        raise CorpusError(f"{path}: a damaged or truncated .zst archive: its last frame has no end")
    yield b"".join(unpacked)
