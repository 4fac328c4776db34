"""Cache: the tokenizer and the tokens of a corpus, each built once, in parallel, in bounded memory, and kept."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from seqtoolkit_language.array import Tokens, Writer
from seqtoolkit_language.corpus import File, Reading, read, resolve
from seqtoolkit_language.crew import Alone, Crew
from seqtoolkit_language.end import total
from seqtoolkit_language.job import Count, Encode, Part
from seqtoolkit_language.shelf import CacheError, Report, keep, room
from seqtoolkit_language.tally import ENTRIES, merged
from seqtoolkit_language.tokenizer import EOS, Tokenization, Tokenizer
from seqtoolkit_language.walk import Walk

__all__ = ["CacheError", "Tokens", "encode", "learn"]

TOKENIZER = "tokenizer.json.gz"
_WORK = "work"
_WINDOW = 4
"""Pieces for each process that may be encoded before their turn; they wait on the disk."""
_T = TypeVar("_T")


def learn(
    files: Sequence[File],
    reading: Reading,
    tokenization: Tokenization,
    home: Path,
    report: Report,
    workers: int | None = None,
    entries: int = ENTRIES,
) -> Tokenizer:
    """The tokenizer of a corpus: found in `home`, or learned from the counts of all its tokens and kept there.

    Args:
        files: the corpus, as `find` gives it.
        reading: how it is read.
        tokenization: the tokenizer's settings.
        home: the folder of the cache, made where it is not.
        report: told of the progress, at least each second.
        workers: processes that share the work; None: as many as there are cores, one for a small corpus.
        entries: different tokens that they hold in memory, all together; more are sorted on disk.

    Raises:
        CorpusError: the corpus cannot be read.
        CacheError: the cache cannot be written.
    """

    def build(draft: Path) -> None:
        exact = resolve(files, reading)
        walk = Walk(files, exact, report, "counting the tokens", workers)
        work = draft / _WORK
        work.mkdir()
        with room(home, 0, "counting tokens"):
            with walk.crew(Count(exact, tokenization, work, entries // walk.workers)) as crew:
                ends = {step.task: step.result for step in walk.steps(crew) if step.last}
            counts = merged([file for rest in crew.rests for file in rest], work)
            tokenizer = Tokenizer.learn(
                tokenization, _reported(counts, report), total(ends[number] for number in sorted(ends))
            )
            tokenizer.save(draft / TOKENIZER)
        shutil.rmtree(work)

    key = _key("tokenizer", files, asdict(reading), asdict(tokenization))
    return keep(home, key, lambda folder: Tokenizer.load(folder / TOKENIZER), build, report)


def encode(
    files: Sequence[File],
    reading: Reading,
    tokenizer: Tokenizer,
    home: Path,
    report: Report,
    workers: int | None = None,
) -> Tokens:
    """The tokens of a corpus, its documents in order and an <eos> behind each: found in `home`, or encoded and kept.

    Arguments and errors are those of `learn`.
    """

    def build(draft: Path) -> None:
        exact = resolve(files, reading)
        walk = Walk(files, exact, report, "encoding the text", workers)
        work = draft / _WORK
        work.mkdir()
        with (
            room(home, _needed(walk, exact, tokenizer), "encoding the text"),
            Writer(draft, tokenizer.digest, tokenizer.dtype, EOS) as writer,
            walk.crew(Encode(exact, tokenizer, work)) as crew,
        ):
            for part in _in_order(walk, crew):
                writer.add(part.take(tokenizer.dtype), part.begins)
            writer.finish()
        shutil.rmtree(work)

    key = _key("tokens", files, asdict(reading), tokenizer.digest)
    return keep(home, key, Tokens.open, build, report)


def _in_order(walk: Walk, crew: Crew | Alone) -> Iterator[Part]:
    """The parts of all pieces in the order of the text, whichever is done first."""
    waiting: dict[int, list[Part]] = {}
    ended: set[int] = set()
    turn = 0
    crew.until = _WINDOW * walk.workers
    for step in walk.steps(crew):
        waiting.setdefault(step.task, []).append(step.result)
        if step.last:
            ended.add(step.task)
        while turn in waiting:
            yield from waiting.pop(turn)
            if turn not in ended:
                break
            turn += 1
            crew.until += 1


def _needed(walk: Walk, reading: Reading, tokenizer: Tokenizer) -> int:
    """Bytes that the tokens will take, about, by those of the first text; 0 for a small corpus."""
    if walk.workers == 1:
        return 0
    first = next((text.data for piece in walk.pieces[:1] for text in read(piece, reading)), b"")
    share = {"": 1.0, "train": 1 - 2 * reading.held_out}.get(reading.split, reading.held_out)
    rate = tokenizer.encode(first).nbytes / max(1, len(first))
    return int(walk.size * share * rate)


def _reported(counts: Iterable[_T], report: Report) -> Iterator[_T]:
    """The same counts; each second it is said that they are still coming."""
    said = time.monotonic()
    for each in counts:
        yield each
        if time.monotonic() - said >= 1.0:
            report("choosing the vocabulary", 1.0)
            said = time.monotonic()


def _key(kind: str, files: Sequence[File], *settings: Any) -> str:
    """A name for what is made of these files, as they are now, by these settings."""
    corpus = [[str(Path(file.path).absolute()), file.size, file.mtime_ns] for file in files]
    text = json.dumps([kind, corpus, *settings], sort_keys=True)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"
