"""English Gigaword (LDC2011T07): SGML, each <DOC ...> a document of its headline and the paragraphs of its text."""

from collections.abc import Iterable, Iterator

from seqtoolkit_language.block import document
from seqtoolkit_language.reading import CorpusError, Piece, Text

BEGINNING = b"<DOC"
LARGEST = 8 << 20  # bytes of one document
_ENTITIES = ((b"&lt;", b"<"), (b"&gt;", b">"), (b"&LT;", b"<"), (b"&GT;", b">"), (b"&amp;", b"&"), (b"&AMP;", b"&"))


def recognizes(_name: str, head: bytes) -> bool:
    """Say whether a file is SGML as Gigaword's, by its first bytes."""
    return head.lstrip().startswith((b"<DOC ", b"<DOC>"))


def begins(line: bytes) -> bool:
    """Say whether a line begins a document."""
    return line.startswith((b"<DOC ", b"<DOC>"))


def documents(blocks: Iterable[bytes], piece: Piece) -> Iterator[Text]:
    """Give each document: its headline, then its paragraphs (or, where none are marked, its lines), a line each.

    Raises:
        CorpusError: if a document has no end or is larger than 8 MiB, or if there is no document at all.
    """
    held, found = b"", False
    for block in blocks:
        held += block
        at = 0
        while (end := held.find(b"</DOC>", at)) >= 0:
            start = held.find(BEGINNING, at, end)
            if start < 0 or held.find(b"\n<DOC", start, end) >= 0:
                raise CorpusError(f"{piece.path}: {_name(held, start)} and its </DOC> do not match")
            yield from document(_prose(held, start, end), piece.path, piece.start)
            at, found = end + len(b"</DOC>"), True
        held = held[at:]
        if len(held) > LARGEST:
            raise CorpusError(f"{piece.path}: {_name(held, held.find(BEGINNING))} has no </DOC> within 8 MiB")
    start = held.find(BEGINNING)
    if start >= 0:
        raise CorpusError(f"{piece.path}: {_name(held, start)} has no </DOC>; the file ends too early")
    if held.strip() and not found:
        raise CorpusError(f"{piece.path}: no <DOC ...> in this file, so it is not in Gigaword's layout; set format")


def _name(data: bytes, start: int) -> str:
    line = data[start : start + 80].split(b"\n")[0] if start >= 0 else BEGINNING
    return line.decode("utf-8", "replace")


def _prose(data: bytes, start: int, end: int) -> bytes:
    headline = b" ".join(_between(data, b"<HEADLINE>", b"</HEADLINE>", start, end).split())
    body = _between(data, b"<TEXT>", b"</TEXT>", start, end)
    lines = [headline]
    if b"<P>" in body:
        if b" \n" in body:
            body = body.replace(b" \n", b"\n")
        for part in body.replace(b"\n", b" ").split(b"<P>"):
            paragraph, _, bare = part.partition(b"</P>")
            lines += (paragraph.strip(), bare.strip())
    else:
        lines += map(bytes.strip, body.split(b"\n"))
    prose = b"\n".join(filter(None, lines))
    if b"&" in prose:
        for entity, character in _ENTITIES:
            prose = prose.replace(entity, character)
    return prose + b"\n" if prose else b""


def _between(data: bytes, opening: bytes, closing: bytes, start: int, end: int) -> bytes:
    first = data.find(opening, start, end)
    if first < 0:
        return b""
    last = data.find(closing, first, end)
    return data[first + len(opening) : last if last >= 0 else end]
