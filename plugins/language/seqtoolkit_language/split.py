"""Splits documents into train, valid and test by a hash of how each begins."""

import zlib
from collections.abc import Callable, Iterable, Iterator

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


def select(texts: Iterable[Text], reading: Reading, head: Callable[[], bytes]) -> Iterator[Text]:
    """Give the texts of the documents in the split; `head` gives the beginning of one that is under way at first."""
    waiting: list[Text] = []
    keep: bool | None = None
    for text in texts:
        if text.begins:
            yield from _decided(waiting, reading)
            waiting, keep = [text], None
        elif waiting:
            waiting.append(text)
        elif keep is None:
            keep = chosen(head(), reading)
        if not waiting:
            if keep:
                yield text
        elif sum(len(part.data) for part in waiting) >= HEAD:
            kept = list(_decided(waiting, reading))
            keep, waiting = bool(kept), []
            yield from kept
    yield from _decided(waiting, reading)


def _decided(waiting: list[Text], reading: Reading) -> Iterator[Text]:
    if waiting and chosen(b"".join(text.data for text in waiting), reading):
        yield from waiting
