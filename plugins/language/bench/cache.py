"""How fast, and in how much memory, the cache of a corpus is built and read; --tokens 200e6 for a large one.

The corpus is drawn: words by Zipf's law from a vocabulary of a million. Counts and ids are compared with what was drawn.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import numpy as np

from seqtoolkit_language.cache import Tokens, encode, learn
from seqtoolkit_language.corpus import Reading, find
from seqtoolkit_language.tokenizer import UNK, Tokenization, Tokenizer

WORDS, SIZE, CHUNK, FILES, LINE = 1_000_000, 250_000, 500_000, 4, 20
WINDOWS, WINDOW = 20_000, 100


class Corpus:
    """Files of drawn words, `CHUNK` at a time, each chunk by a seed of its own so that it can be drawn again."""

    def __init__(self, folder: Path, tokens: int) -> None:
        letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
        digits = np.arange(WORDS)[:, None] // 26 ** np.arange(5) % 26
        self.words = ["".join(row) for row in letters[digits].tolist()]
        share = 1 / np.arange(1, WORDS + 1)
        self.shares = np.cumsum(share / share.sum())
        self.chunks = max(FILES, tokens // CHUNK)
        self.counts = np.zeros(WORDS, np.int64)
        self.folder, self.tokens = folder, self.chunks * CHUNK
        for file in range(FILES):
            with (folder / f"{file}.txt").open("w") as out:
                for chunk in self.of(file):
                    drawn = self.draw(chunk)
                    self.counts += np.bincount(drawn, minlength=WORDS)
                    words = [self.words[i] for i in drawn.tolist()]
                    out.writelines(" ".join(words[i : i + LINE]) + "\n" for i in range(0, CHUNK, LINE))

    def of(self, file: int) -> range:
        """The chunks in a file."""
        return range(self.chunks * file // FILES, self.chunks * (file + 1) // FILES)

    def draw(self, chunk: int) -> np.ndarray:
        """The numbers of the words in a chunk."""
        return np.searchsorted(self.shares[:-1], np.random.default_rng(chunk).random(CHUNK))

    def check(self, tokenizer: Tokenizer, tokens: Tokens) -> None:
        """What was learned and encoded is what was drawn."""
        ends = FILES
        assert len(tokens) == self.tokens + ends, len(tokens)
        assert int(tokenizer.counts.sum()) == len(tokens)
        most = np.sort(self.counts)[::-1][: SIZE - 2]
        assert np.array_equal(tokenizer.counts[2:], most)
        ids = {token: i for i, token in enumerate(tokenizer.tokens)}
        for file in range(FILES):
            begins = int(tokens.documents[file])
            for place, chunk in enumerate(self.of(file)):
                if place % 50 == 0:
                    wanted = [ids.get(self.words[i], UNK) for i in self.draw(chunk).tolist()]
                    found = tokens[begins + place * CHUNK : begins + (place + 1) * CHUNK]
                    assert np.array_equal(found, wanted), (file, place)
                    line = tokenizer.decode(found[:LINE]).split()
                    assert line == [tokenizer.tokens[i] for i in wanted[:LINE]]


def resident() -> int:
    """Bytes of memory that this process and those it has started have now; shared pages are in each."""
    total, page = 0, os.sysconf("SC_PAGE_SIZE")
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if os.getpid() in (parent, int(stat.parent.name)):
                total += int((stat.parent / "statm").read_text().split()[1]) * page
        except OSError:  # it has ended
            continue
    return total


@contextmanager
def measured(name: str, tokens: int) -> Iterator[None]:
    """Print how fast what is done is, and how much memory it takes in all processes."""
    done, most = Event(), [0]

    def watch() -> None:
        while not done.wait(0.05):
            most[0] = max(most[0], resident())

    before, watcher, begun = resident(), Thread(target=watch), time.perf_counter()
    watcher.start()
    try:
        yield
    finally:
        seconds = time.perf_counter() - begun
        done.set()
        watcher.join()
    print(
        f"{name:28}{tokens / seconds / 1e6:8.2f} M tokens/s{seconds:8.1f} s"
        f"{most[0] / 1e6:8.0f} MB at most ({before / 1e6:.0f} MB before)",
        flush=True,
    )


def read(tokens: Tokens) -> None:
    """Print how many windows a second are read anywhere, blocks seen for the first time and again."""
    tokens = Tokens.open(tokens.folder)
    for name in ("first", "again"):
        starts = np.random.default_rng(0).integers(0, len(tokens) - WINDOW, WINDOWS).tolist()
        begun = time.perf_counter()
        for start in starts:
            tokens[start : start + WINDOW].sum()
        print(f"{f'windows of {WINDOW}, {name}':28}{WINDOWS / (time.perf_counter() - begun):8.0f} windows/s")


def main() -> None:
    """Draw a corpus, build its cache, check it, read it."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--tokens", type=float, default=5e6, help="size of the corpus")
    arguments.add_argument("--workers", type=int, help="processes; as many as there are cores")
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place, home = Path(folder) / "corpus", Path(folder) / "cache"
        place.mkdir()
        corpus = Corpus(place, int(asked.tokens))
        files = find(str(place))
        size = sum(file.size for file in files)
        print(f"{corpus.tokens / 1e6:.1f} M tokens, {size / 1e6:.0f} MB, {(corpus.counts > 0).sum():,} different words")

        def quiet(text: str, share: float) -> None: ...

        with measured("learn (250,000 tokens)", corpus.tokens):
            tokenizer = learn(files, Reading(), Tokenization(size=SIZE), home, quiet, asked.workers)
        with measured("encode", corpus.tokens):
            tokens = encode(files, Reading(), tokenizer, home, quiet, asked.workers)
        corpus.check(tokenizer, tokens)
        kept = sum(path.stat().st_size for path in home.rglob("*") if path.is_file())
        print(f"{'on disk':28}{kept / 1e6:8.0f} MB, {kept / size:.2f} of the text")
        with measured("found again", corpus.tokens):
            encode(files, Reading(), learn(files, Reading(), Tokenization(size=SIZE), home, quiet), home, quiet)
        read(tokens)


if __name__ == "__main__":
    main()
