"""JSON lines: each line an object, whose text is one of its fields."""

import json
from collections.abc import Iterable, Iterator

from seqtoolkit_language.block import clean, document
from seqtoolkit_language.reading import CorpusError, Piece, Reading, Text
from seqtoolkit_language.stream import line_number

LARGEST = 32 << 20  # bytes of one line: a JSON value is read whole


def recognizes(name: str, head: bytes) -> bool:
    """Say whether a file is of JSON lines, by its name or by its first line."""
    if name.endswith((".jsonl", ".ndjson")):
        return True
    line, broken, _ = head.partition(b"\n")
    if not line.startswith(b"{"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return line.startswith(b'{"') and not broken  # the first line is longer than what was looked at


def documents(chunks: Iterable[bytes], piece: Piece, reading: Reading) -> Iterator[Text]:
    """Give the text of each line; blank lines and empty texts are passed over.

    Raises:
        CorpusError: with file and line: not a JSON object, no such field, not text in it, or more than 32 MiB.
    """
    for offset, line in _lines(chunks, piece):
        data = clean(line, piece.path, offset, reading.errors)
        if data and not data.isspace():
            yield from document(_text(data, piece, offset, reading), piece.path, offset)


def encode(text: str, errors: str) -> bytes:
    r"""Give a text out of JSON or a table as clean UTF-8, by the rules of `Reading.errors`.

    Raises:
        ValueError: in `strict`, on NUL and on half a surrogate pair, both of which JSON can write as \u....
    """
    if errors == "replace":
        data = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode().replace(b"\0", b"")
    else:
        if "\0" in text:
            raise ValueError("has a NUL in it; set errors: replace to drop it")
        data = text.encode()
    return data.replace(b"\r\n", b"\n")


def _lines(chunks: Iterable[bytes], piece: Piece) -> Iterator[tuple[int, bytes]]:
    offset = piece.start
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        first, *more = chunk.split(b"\n")
        held.append(first)
        size += len(first)
        for part in more:
            yield offset, b"".join(held)
            offset += size + 1
            held, size = [part], len(part)
        if size > LARGEST:
            raise _error(piece, offset, "is longer than 32 MiB, and a JSON value is read whole")
    yield offset, b"".join(held)


def _text(data: bytes, piece: Piece, offset: int, reading: Reading) -> bytes:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _error(piece, offset, f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise _error(piece, offset, f"is not a JSON object but {type(value).__name__}")
    if reading.field not in value:
        there = ", ".join(list(value)[:8]) or "none"
        raise _error(piece, offset, f"has no field {reading.field!r}; its fields: {there}")
    text = value[reading.field]
    if not isinstance(text, str):
        raise _error(piece, offset, f"has no text in its field {reading.field!r} but {type(text).__name__}")
    try:
        return encode(text, reading.errors)
    except UnicodeEncodeError:
        raise _error(piece, offset, "has half a surrogate pair in its text; set errors: replace to mend it") from None
    except ValueError as error:
        raise _error(piece, offset, str(error)) from None


def _error(piece: Piece, offset: int, what: str) -> CorpusError:
    return CorpusError(f"{piece.path}: line {line_number(piece.path, offset)} {what}")
