"""Turns chunks of bytes into blocks of clean text: valid UTF-8, at most 1 MiB each, cut where no word is torn."""

from collections.abc import Iterable, Iterator

from seqtoolkit_language.reading import CorpusError, Text

LIMIT = 1 << 20
_BOM = b"\xef\xbb\xbf"


def blocks(chunks: Iterable[bytes], path: str, start: int, errors: str) -> Iterator[bytes]:
    """Join chunks and cut them anew behind the last line break within 1 MiB, or else before the last white space.

    A line of more than 1 MiB always begins a block. A byte order mark at the file's beginning is dropped, CRLF
    becomes LF.

    Args:
        chunks: the bytes, in order.
        path: the file, for messages.
        start: where in the file the first chunk begins, in bytes.
        errors: `strict` or `replace`, as `Reading.errors`.

    Raises:
        CorpusError: if a word is longer than 1 MiB; in `strict`, on bytes that are not UTF-8 and on NUL.
    """
    held, offset = b"", start
    for chunk in chunks:
        held += chunk
        while len(held) > LIMIT:
            at = _place(held, path, offset)
            yield from _parts(clean(held[:at], path, offset, errors), path, offset)
            held, offset = held[at:], offset + at
    yield from _parts(clean(held, path, offset, errors), path, offset)


def document(data: bytes, path: str, offset: int) -> Iterator[Text]:
    """Give a document that lies in memory as texts of at most 1 MiB; nothing for an empty one."""
    begins = True
    for part in _parts(data, path, offset):
        yield Text(begins, part)
        begins = False


def clean(data: bytes, path: str, offset: int, errors: str) -> bytes:
    """Check or mend bytes that begin at a byte of a file; see `blocks`."""
    if offset == 0 and data.startswith(_BOM):
        data, offset = data[len(_BOM) :], len(_BOM)
    if errors == "replace":
        if not data.isascii():
            data = data.decode("utf-8", "replace").encode()
        data = data.replace(b"\0", b"")
    else:
        _check(data, path, offset)
    return data.replace(b"\r\n", b"\n") if b"\r" in data else data


def _check(data: bytes, path: str, offset: int) -> None:
    advice = "convert the file to UTF-8, or set errors: replace"
    nul = data.find(b"\0")
    if nul >= 0:
        raise CorpusError(f"{path}: byte {offset + nul} is NUL, so this is no text in UTF-8; {advice}")
    if data.isascii():
        return
    try:
        data.decode()
    except UnicodeDecodeError as error:
        wrong = f"0x{data[error.start]:02x}"
        raise CorpusError(f"{path}: byte {offset + error.start} ({wrong}) is not valid UTF-8; {advice}") from None


def _parts(data: bytes, path: str, offset: int) -> Iterator[bytes]:
    """Cut clean text to blocks; what `replace` writes can be longer than what it read."""
    while len(data) > LIMIT:
        at = _place(data, path, offset)
        yield data[:at]
        data = data[at:]
    if data:
        yield data


def _place(data: bytes, path: str, offset: int) -> int:
    """Find where to cut the first block, at most 1 MiB, off longer data."""
    at = data.rfind(b"\n", 0, LIMIT) + 1
    if at > 0:
        return at
    at = max(data.rfind(blank, 1, LIMIT + 1) for blank in (b" ", b"\t", b"\r", b"\v", b"\f", b"\n"))
    if at > 0:
        return at - 1 if data[at - 1 : at + 1] == b"\r\n" else at
    if data[:1].isspace():
        return 1
    raise CorpusError(f"{path}: a word of more than 1 MiB begins at byte {offset}; is this text?")
