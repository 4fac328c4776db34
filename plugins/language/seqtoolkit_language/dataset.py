"""Data sets of the optional extra `datasets` (Hugging Face) as files of a corpus: `datasets:NAME[/CONFIG][:SPLIT]`."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from seqtoolkit_language.block import document
from seqtoolkit_language.jsonl import encode
from seqtoolkit_language.reading import CorpusError, File, Piece, Reading, Text
from seqtoolkit_language.stream import CHUNK

PREFIX = "datasets:"
_ROWS = 100  # rows that are fetched at once


def find(place: str) -> File:
    """Give a data set as one file of a corpus.

    The name is `NAME`, `OWNER/NAME` or `OWNER/NAME/CONFIG`, looked up by `datasets.load_dataset`; or the folder of
    `save_to_disk`, if it begins with `.`, `/` or `~`. The split is train where none is named.

    Raises:
        CorpusError: if the extra is missing or the data set cannot be loaded.
    """
    files = [entry["filename"] for entry in _load(place).cache_files]
    found = [Path(name).stat() for name in files]
    size = sum(stat.st_size for stat in found) or len(_load(place))
    return File(place, size, max((stat.st_mtime_ns for stat in found), default=0))


def pieces(file: File, target: int, *, whole: bool) -> Iterator[Piece]:
    """Cut the rows into pieces of about `target` bytes, or into one."""
    rows = len(_load(file.path))
    step = rows if whole else max(1, rows * target // max(file.size, 1))
    for start in range(0, rows, max(step, 1)):
        yield Piece(file.path, start, min(start + step, rows), file.size, file.mtime_ns)


def documents(piece: Piece, reading: Reading) -> Iterator[Text]:
    """Give each row's field as a document; empty ones are passed over.

    Raises:
        CorpusError: with place and row: no such column, no text in it, NUL in it.
    """
    for row, data in _values(piece, reading):
        yield from document(data, f"{piece.path}: row {row}", 0)


def lines(piece: Piece, reading: Reading) -> Iterator[bytes]:
    """Give each row's field as a line, many lines a chunk, for layouts of lines such as WikiText's."""
    held: list[bytes] = []
    size = 0
    for _, data in _values(piece, reading):
        held.append(data if data.endswith(b"\n") else data + b"\n")
        size += len(held[-1])
        if size >= CHUNK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def _values(piece: Piece, reading: Reading) -> Iterator[tuple[int, bytes]]:
    table = _load(piece.path)
    if reading.field not in table.column_names:
        there = ", ".join(table.column_names)
        raise CorpusError(f"{piece.path}: no column {reading.field!r}; its columns: {there}; set field")
    stop = len(table) if piece.stop is None else piece.stop
    for first in range(piece.start, stop, _ROWS):
        for row, text in enumerate(table[first : min(first + _ROWS, stop)][reading.field], first):
            if not isinstance(text, str):
                kind = type(text).__name__
                raise CorpusError(f"{piece.path}: row {row} has no text in its column {reading.field!r} but {kind}")
            try:
                yield row, encode(text, reading.errors)
            except ValueError as error:
                raise CorpusError(f"{piece.path}: row {row} {error}") from None


@lru_cache(maxsize=4)
def _load(place: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise CorpusError(f"{place}: data sets need an extra: pip install 'seqtoolkit-language[datasets]'") from None
    name, _, split = place.removeprefix(PREFIX).partition(":")
    if not name:
        raise CorpusError(f"{place}: no data set is named; write datasets:NAME[/CONFIG][:SPLIT]")
    try:
        if name.startswith((".", "/", "~")):
            return _split(datasets.load_from_disk(Path(name).expanduser()), place, split)
        owner, _, rest = name.partition("/")
        name, _, config = rest.partition("/")
        full = f"{owner}/{name}" if name else owner
        return datasets.load_dataset(full, config or None, split=split or "train")
    except CorpusError:
        raise
    except Exception as error:  # a loader raises errors of many libraries; the user needs one line
        reason = str(error).strip().split("\n")[0]
        raise CorpusError(f"{place}: the data set cannot be loaded: {type(error).__name__}: {reason}") from error


def _split(loaded: Any, place: str, split: str) -> Any:
    """Choose the split of a data set on disk, which is saved with splits or without."""
    there = list(loaded) if isinstance(loaded, dict) else []
    if not split and not there:
        return loaded
    if (split or "train") not in there:
        raise CorpusError(f"{place}: no split {split or 'train'!r}; its splits: {', '.join(there) or 'none'}")
    return loaded[split or "train"]
