"""A corpus: files become documents, documents become bounded blocks of clean text, in pieces for many workers."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from types import ModuleType

from seqtoolkit_language import dataset, gigaword, gutenberg, jsonl, plain, split, wikitext
from seqtoolkit_language.block import blocks, clean
from seqtoolkit_language.place import find
from seqtoolkit_language.reading import CorpusError, File, Piece, Reading, Text
from seqtoolkit_language.stream import CHUNK, chunks, compression, open_file, plain_name

__all__ = ["CorpusError", "File", "Piece", "Reading", "Text", "find", "pieces", "read", "resolve"]

_SAMPLE = 64  # files whose first bytes are looked at to recognize a format; the names of all count
_LONGEST = 4096  # bytes of a line that can begin a document inside of a file

_DOCUMENTS: dict[str, Callable[[Iterable[bytes], Piece], Iterator[Text]]] = {
    "plain": plain.whole,
    "lines": plain.lines,
    "wikitext": wikitext.documents,
    "gutenberg": gutenberg.documents,
    "gigaword": gigaword.documents,
}
_RECOGNIZED: dict[str, ModuleType] = {
    "jsonl": jsonl,
    "gigaword": gigaword,
    "wikitext": wikitext,
    "gutenberg": gutenberg,
}


def resolve(files: Sequence[File], reading: Reading) -> Reading:
    """Settle the format, where it is `auto`, by the names of the files and the first bytes of some.

    Plain text among books of Gutenberg or files of WikiText is read as they are: as one document a file.

    Raises:
        CorpusError: if the files are of several formats, or one cannot be read.
    """
    if reading.format != "auto":
        return reading
    first: dict[str, str] = {}
    looked_at = 0
    for file in files:
        name = plain_name(file.path)
        by_name = next((kind for kind, module in _RECOGNIZED.items() if module.recognizes(name, b"")), None)
        if by_name:
            first.setdefault(by_name, file.path)
        elif file.size and looked_at < _SAMPLE:
            looked_at += 1
            first.setdefault(_guess(file.path, name, reading), file.path)
    if first.keys() & {"wikitext", "gutenberg"}:
        first.pop("plain", None)
    if len(first) > 1:
        kinds = ", ".join(f"{kind} ({path})" for kind, path in first.items())
        raise CorpusError(f"the files are of several formats: {kinds}; name files of one, or set format")
    return dataclasses.replace(reading, format=next(iter(first), "plain"))


def pieces(files: Sequence[File], reading: Reading, target: int = 8 << 20) -> list[Piece]:
    """Cut files into pieces of about `target` bytes for workers, in order.

    Text is cut at line breaks, and where a layout has documents inside of a file, at their beginnings. Books of
    Gutenberg and compressed files stay whole.

    Raises:
        CorpusError: if there is nothing in any of the files, or one cannot be read.
    """
    reading = resolve(files, reading)
    cut: list[Piece] = []
    for file in files:
        if file.path.startswith(dataset.PREFIX):
            cut += dataset.pieces(file, target, whole=reading.format == "wikitext")
        elif file.size and (reading.format == "gutenberg" or compression(file.path)):
            cut.append(Piece(file.path, 0, None, file.size, file.mtime_ns))
        elif file.size:
            bounds = [0, *_cuts(file, reading, max(target, 1)), file.size]
            cut += [Piece(file.path, *bound, file.size, file.mtime_ns) for bound in pairwise(bounds)]
    if not any(_head(piece.path, reading.field) for piece in cut):
        which = f"{files[0].path} is empty" if files else "no file is given"
        if len(files) > 1:
            which = f"all {len(files)} files are empty, from {files[0].path} on"
        raise CorpusError(f"{which}: there is nothing to read")
    return cut


def read(piece: Piece, reading: Reading) -> Iterator[Text]:
    """Read a piece as texts, each of one document and at most 1 MiB, in order.

    The texts of all pieces of a corpus, joined, are the same for any `target` of `pieces`. A few MiB of memory are
    enough whatever the file (JSON lines and Gigaword hold one document at a time: at most 32 MiB and 8 MiB).

    Raises:
        CorpusError: if the file was changed, is damaged, or is not what `reading` says.
    """
    reading = resolve([File(piece.path, 1, 0)], reading)
    texts = _texts(piece, reading)
    if not reading.split:
        return texts
    if _is_cut_inside(piece, reading):
        return texts if split.chosen(_beginning(piece, reading), reading) else iter(())
    return split.select(texts, reading)


def _is_cut_inside(piece: Piece, reading: Reading) -> bool:
    """Say whether the piece may be a part of one document: only a file of plain text is cut inside of one."""
    return reading.format == "plain" and not piece.path.startswith(dataset.PREFIX)


def _texts(piece: Piece, reading: Reading) -> Iterator[Text]:
    if piece.path.startswith(dataset.PREFIX):
        if reading.format != "wikitext":
            return dataset.documents(piece, reading)
        return wikitext.documents(blocks(dataset.lines(piece, reading), piece.path, 0, reading.errors), piece)
    if reading.format == "jsonl":
        return jsonl.documents(chunks(piece), piece, reading)
    return _DOCUMENTS[reading.format](blocks(chunks(piece), piece.path, piece.start, reading.errors), piece)


def _beginning(piece: Piece, reading: Reading) -> bytes:
    """Give the first 4 KiB of the document that a file of plain text is."""
    head = b""
    for text in _texts(dataclasses.replace(piece, start=0, stop=None), reading):
        head += text.data
        if len(head) >= split.HEAD:
            break
    return head


def _head(path: str, field: str) -> bytes:
    if path.startswith(dataset.PREFIX):
        return next(dataset.lines(Piece(path), Reading(field=field, errors="replace")), b"")
    return next(chunks(Piece(path)), b"")


def _guess(path: str, name: str, reading: Reading) -> str:
    head = clean(_head(path, reading.field)[: gutenberg.HEAD], path, 0, "replace")
    choices = ("wikitext",) if path.startswith(dataset.PREFIX) else _RECOGNIZED
    return next((kind for kind in choices if _RECOGNIZED[kind].recognizes(name, head)), "plain")


def _cuts(file: File, reading: Reading, target: int) -> Iterator[int]:
    """Give the offsets inside of a file at which to cut it into pieces of `target` bytes or more."""
    layout = {"wikitext": wikitext, "gigaword": gigaword}.get(reading.format)
    at: int | None = 0
    if reading.format == "wikitext":
        at = _next_line(file, 1, wikitext)  # an article begins at each title but the first
    while at is not None and at + target < file.size:
        at = _next_line(file, at + target, layout)
        if at is not None and at < file.size:
            yield at


def _next_line(file: File, offset: int, layout: ModuleType | None) -> int | None:
    """Find the first line at a byte of a file or after it; given a layout, the first that begins a document."""
    mark = b"\n" + (layout.BEGINNING if layout else b"")
    with open_file(file.path) as handle:
        base, held = offset - 1, b""
        handle.seek(base)
        while fresh := handle.read(CHUNK):
            held += fresh
            at = held.find(mark)
            while at >= 0:
                end = held.find(b"\n", at + 1)
                if layout is None or (end >= 0 and layout.begins(held[at + 1 : end])):
                    return base + at + 1
                at = held.find(mark, at + 1)
            keep = max(held.rfind(b"\n"), len(held) - _LONGEST, 0)
            base, held = base + keep, held[keep:]
    return None
