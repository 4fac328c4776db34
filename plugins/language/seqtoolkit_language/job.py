"""Job: what each process does with a piece of a corpus: count its tokens, or encode them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqtoolkit_language.corpus import Piece, Reading, read
from seqtoolkit_language.crew import Step
from seqtoolkit_language.end import Ends
from seqtoolkit_language.tally import Tally
from seqtoolkit_language.tokenizer import Tokenization, Tokenizer, count

_STRIDE = 1 << 20
"""Bytes of text after which a process that counts says how far it has come."""


class Count:
    """Counts the tokens of pieces; what is left to say are the files in `folder` that hold the counts, each in order."""

    def __init__(self, reading: Reading, settings: Tokenization, folder: Path, limit: int) -> None:
        self.reading, self.settings = reading, settings
        self.tally = Tally(folder, limit)

    def work(self, number: int, piece: Piece) -> Iterator[Step]:
        """Count the tokens of a piece."""
        done = 0
        ends = Ends(self.settings)
        for text in read(piece, self.reading):
            ends.add(text)
            count(text.data, self.settings, self.tally.table)
            self.tally.trim()
            done += len(text.data)
            if done >= _STRIDE:
                yield Step(number, done)
                done = 0
        yield Step(number, done, ends, last=True)

    def rest(self) -> list[Path]:
        """Where the counts are."""
        self.tally.spill()
        return self.tally.files


@dataclass(frozen=True)
class Part:
    """Some token ids, in a file, and at which of them documents begin."""

    file: Path
    begins: np.ndarray

    def take(self, dtype: np.dtype) -> np.ndarray:
        """The ids [T]; the file is no more."""
        ids = np.fromfile(self.file, dtype)
        self.file.unlink()
        return ids


@dataclass
class Encode:
    """Encodes pieces to parts, in files in `folder`."""

    reading: Reading
    tokenizer: Tokenizer
    folder: Path
    stride: int = 4 << 20
    """Bytes of text in a part."""

    def work(self, number: int, piece: Piece) -> Iterator[Step]:
        """Encode a piece."""
        chunks: list[np.ndarray] = []
        begins: list[int] = []
        size = done = parts = 0
        for text in read(piece, self.reading):
            if text.begins:
                begins.append(size)
            chunks.append(self.tokenizer.encode(text.data))
            size += len(chunks[-1])
            done += len(text.data)
            if done >= self.stride:
                yield Step(number, done, self._part(f"{number}-{parts}.ids", chunks, begins))
                size = done = 0
                parts += 1
        yield Step(number, done, self._part(f"{number}-{parts}.ids", chunks, begins), last=True)

    def rest(self) -> None:
        """Nothing."""

    def _part(self, name: str, chunks: list[np.ndarray], begins: list[int]) -> Part:
        """What has been gathered, which is emptied."""
        part = Part(self.folder / name, np.array(begins, np.int64))
        with part.file.open("xb") as out:
            for chunk in chunks:
                out.write(chunk.data)
        chunks.clear()
        begins.clear()
        return part
