"""Splits documents into train, valid and test by a hash of how each begins."""

import zlib
from collections.abc import Iterable, Iterator

from seqtoolkit_language.reading import Reading, Text

HEAD = 4096  # bytes of a document's text that decide


def chosen(head: bytes, reading: Reading) -> bool:
    """Say whether the document that begins with `head` (its first 4 KiB, or all of it) is in the split."""
    share = zlib.crc32(head[:HEAD]) / 2**32
    if share < reading.held_out:
        return reading.split == "valid"
    if share < 2 * reading.held_out:
        return reading.split == "test"
    return reading.split == "train"


def select(texts: Iterable[Text], reading: Reading) -> Iterator[Text]:
    """Give the texts of the documents in the split; the first text begins a document."""
    waiting: list[Text] = []
    keep = False
    for text in texts:
        if text.begins:
            yield from _decided(waiting, reading)
            waiting = [text]
        elif waiting:
            waiting.append(text)
        elif keep:
            yield text
        if waiting and sum(len(part.data) for part in waiting) >= HEAD:
            kept = _decided(waiting, reading)
            keep, waiting = bool(kept), []
            yield from kept
    yield from _decided(waiting, reading)


def _decided(waiting: list[Text], reading: Reading) -> list[Text]:
    return waiting if waiting and chosen(b"".join(text.data for text in waiting), reading) else []
