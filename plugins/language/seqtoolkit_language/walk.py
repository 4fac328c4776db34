"""Walk: all pieces of a corpus, shared by processes, with word of how far they have come."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from seqtoolkit_language.corpus import CorpusError, File, Piece, Reading, pieces
from seqtoolkit_language.crew import Alone, Crew, Job, Step, cores
from seqtoolkit_language.dataset import PREFIX
from seqtoolkit_language.shelf import Report

SMALL = 4 << 20
"""Bytes of text below which other processes cost more than they gain."""
_PACKED, _RATIO = (".gz", ".zst", ".xz"), 3
_EACH = 0.2


class Walk:
    """The pieces of a corpus, to be gone through by `workers` processes (None: as many as cores, one for little text).

    Attributes:
        pieces: in the order of the corpus.
        size: bytes of text in all of them, about.
        workers: how many processes there will be.
    """

    def __init__(
        self, files: Sequence[File], reading: Reading, report: Report, doing: str, workers: int | None = None
    ) -> None:
        self.files, self.report = files, report
        self.doing = f"{doing} of {files[0].path if len(files) == 1 else f'{len(files)} files'}"
        self.pieces = pieces(files, reading)
        self._sizes = _sizes(self.pieces, files)
        self.size = sum(self._sizes)
        self.workers = workers or (1 if self.size < SMALL else min(cores(), len(self.pieces)))

    def crew(self, job: Job) -> Crew | Alone:
        """The processes that do a job with the pieces."""
        return Alone(job, self.pieces) if self.workers == 1 else Crew(job, self.pieces, self.workers)

    def steps(self, crew: Crew | Alone) -> Iterator[Step]:
        """The steps of a crew, reported.

        Raises:
            CorpusError: a file has changed meanwhile, or cannot be read.
        """
        done, under_way, said = 0, [0] * len(self.pieces), 0.0
        for step in crew.steps():
            if step is not None:
                yield step
                size = self._sizes[step.task]
                now = size if step.last else min(size, under_way[step.task] + step.size)
                done += now - under_way[step.task]
                under_way[step.task] = now
            if time.monotonic() - said >= _EACH:
                self.report(self.doing, done / self.size)
                said = time.monotonic()
        self.report(self.doing, 1.0)
        for file in self.files:
            _unchanged(file)


def _sizes(parts: Sequence[Piece], files: Sequence[File]) -> list[int]:
    """Bytes of text in each piece, about; at least 1. A piece has its share of its file, be that in bytes or rows."""
    whole = {file.path: file.size * (_RATIO if file.path.endswith(_PACKED) else 1) for file in files}
    spans = [1 if piece.stop is None else piece.stop - piece.start for piece in parts]
    sums: Counter[str] = Counter()
    for piece, span in zip(parts, spans, strict=True):
        sums[piece.path] += span
    return [
        max(1, whole[piece.path] * span // max(1, sums[piece.path])) for piece, span in zip(parts, spans, strict=True)
    ]


def _unchanged(file: File) -> None:
    if file.path.startswith(PREFIX):
        return
    try:
        now = Path(file.path).stat()
    except OSError as error:
        raise CorpusError(f"{file.path}: {error.strerror}, though it was there before: run again") from None
    if (now.st_size, now.st_mtime_ns) != (file.size, file.mtime_ns):
        raise CorpusError(f"{file.path}: changed while it was read; run again when nothing writes to it")
