"""The tokens of a text and how often each stands there: chosen from counts, and kept in one file."""

import gzip
import heapq
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

UNK, EOS = 0, 1
SPECIAL = ("<unk>", "<eos>")
VERSION = 1
NAME = "seqtoolkit-tokenizer"


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id, and what was counted of them.

    Attributes:
        tokens: the text of each id: "<unk>", "<eos>", then by falling count, ties by text. Of an id that nothing uses
            (a fixed size larger than the corpus fills) it is "". Tokens that stand for bytes are spelled in Latin-1,
            a character a byte.
        counts: how often each stood in the corpus, int64 [V]; counts[0] is of all that was cut.
        merges: for BPE, the pairs of tokens in the order in which they were learned.
        unknown: how many characters an unknown token stands for, rounded from the mean of what was cut.
    """

    tokens: list[str]
    counts: np.ndarray
    merges: list[tuple[str, str]] = field(default_factory=list)
    unknown: int = 1

    def spell(self, ids: Sequence[int]) -> str:
        """Return the text of ids that stand for bytes; <eos> is a line break, what is not UTF-8 is U+FFFD."""
        texts = ["\N{REPLACEMENT CHARACTER}".encode(), b"\n", *(token.encode("latin-1") for token in self.tokens[2:])]
        return b"".join(texts[i] for i in ids).decode("utf-8", "replace")

    def begun(self) -> np.ndarray:
        """Return how many characters of UTF-8 begin in each token that stands for bytes, int64 [V]."""
        lengths = [sum(not 0x80 <= ord(byte) < 0xC0 for byte in token) for token in self.tokens]
        return np.array([self.unknown, 1, *lengths[2:]], dtype=np.int64)


def order(counted: Iterable[tuple[str, int]], room: int | None = None) -> list[tuple[str, int]]:
    """Return what was counted by falling count, ties by text; only the first `room`, and then in bounded memory."""
    keys = ((-number, text) for text, number in counted)
    chosen = sorted(keys) if room is None else heapq.nsmallest(room, keys)
    return [(text, -number) for number, text in chosen]


def select(counted: Iterable[tuple[str, int]], ends: int, size: int | None, min_count: int, unknown: int) -> Vocabulary:
    """Choose the most frequent tokens.

    Args:
        counted: each token and how often it stands, each token once; "<unk>" and "<eos>" in it are those tokens.
        ends: how often <eos> stands beside that.
        size: the number of ids; None for as many as there are.
        min_count: rarer tokens are cut.
        unknown: the characters of an unknown token, where none was cut.

    Raises:
        ValueError: a token stands twice in `counted`, or none is left.
    """
    special = [0, ends]
    cut = characters = common = 0

    def known() -> Iterator[tuple[str, int]]:
        nonlocal cut, characters, common
        for text, number in counted:
            if text in SPECIAL:
                special[SPECIAL.index(text)] += number
                continue
            cut, characters, common = cut + number, characters + number * len(text), max(common, number)
            if number >= min_count:
                yield text, number

    chosen = order(known(), None if size is None else size - 2)
    if not chosen and common:
        raise ValueError(
            f"min_count: wanted at most {common}, how often the most frequent token stands, got {min_count}"
        )
    if len({text for text, _ in chosen}) < len(chosen):
        raise ValueError("counts: a token stands in them twice; merge the tables before a vocabulary is learned")
    cut -= sum(number for _, number in chosen)
    characters -= sum(number * len(text) for text, number in chosen)
    empty = 0 if size is None else size - 2 - len(chosen)
    return Vocabulary(
        tokens=[*SPECIAL, *(text for text, _ in chosen), *[""] * empty],
        counts=np.array([special[0] + cut, special[1], *(number for _, number in chosen), *[0] * empty], np.int64),
        unknown=round(characters / cut) if cut else unknown,
    )


def write(path: Path, record: dict[str, Any]) -> None:
    """Write a record to one file of gzip'd JSON; equal records are equal files."""
    text = json.dumps({"name": NAME, "version": VERSION, **record}, ensure_ascii=False, separators=(",", ":"))
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=packed, mtime=0) as file:
        file.write(text.encode())
    path.write_bytes(packed.getvalue())


def read(path: Path) -> dict[str, Any]:
    """Return the record of a file, gzip'd or not.

    Raises:
        ValueError: it is damaged, cut off, no tokenizer, or of another version; OSError where it cannot be read.
    """
    data = path.read_bytes()
    try:
        record = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    except (ValueError, EOFError, OSError, zlib.error, RecursionError) as error:
        raise ValueError(
            f"{path}: the tokenizer is damaged or cut off ({error}): put a copy in its place, or learn it again"
        ) from None
    if not isinstance(record, dict) or record.get("name") != NAME:
        raise ValueError(f"{path}: wanted a tokenizer of seqtoolkit, got another file")
    if record.get("version") != VERSION:
        raise ValueError(
            f"{path}: wanted a tokenizer of version {VERSION}, got {record.get('version')!r}: "
            "put a copy in its place, or learn it again"
        )
    return record
