"""Byte-pair encoding over the bytes of pieces of words (Sennrich et al. 2016, "Neural machine translation of rare words").

Merges are learned here, for the trainers of `tokenizers` want the whole corpus again and take no counts; its models.BPE
encodes by them.
"""

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from itertools import chain, pairwise
from typing import Any

import numpy as np

from seqtoolkit_language.memory import Memory
from seqtoolkit_language.tokenization import Tokenization
from seqtoolkit_language.vocabulary import EOS, SPECIAL, Vocabulary, order
from seqtoolkit_language.word import lower, marks

LEARNED = 1 << 19
TEXT = re.compile(r" ?\S+|\s+(?!\S)|\s+")
LINES = re.compile(r"\n| ?\S+|[^\S\n]+(?!\S)|[^\S\n]+")


def chunks(text: str, settings: Tokenization) -> list[str]:
    """Cut text before each blank that begins a word; with `lines` each line break is a chunk of its own."""
    return (LINES if settings.lines else TEXT).findall(text)


@cache
def _inside() -> re.Pattern[str]:
    letter = rf"(?:[^\W\d_]|[{marks()}])"
    other = rf"(?:[^\w\s{marks()}]|_)"
    lead = r"(?:(?<=\w)['\N{RIGHT SINGLE QUOTATION MARK}]| ?)"
    return re.compile(rf"{lead}{letter}{{1,32}}| ?\d{{1,32}}| ?{other}{{1,32}}|\s{{1,32}}")


@lru_cache(1 << 17)
def pieces(chunk: str) -> tuple[str, ...]:
    """Cut a chunk into the pieces that no token goes over; joined they are the chunk.

    A piece is a run of letters and marks, of digits, of other characters, or of white space, of 32 at most; the blank
    before it goes with it, and so does an apostrophe between two letters.
    """
    return tuple(_inside().findall(chunk))


def merge(word: list[int], pair: tuple[int, int], token: int) -> list[int]:
    """Return a word with a token in place of each pair, from the left."""
    merged, at = [], 0
    while at < len(word):
        if word[at] == pair[0] and at + 1 < len(word) and word[at + 1] == pair[1]:
            merged.append(token)
            at += 2
        else:
            merged.append(word[at])
            at += 1
    return merged


class Learner:
    """Pairs of neighbouring tokens in counted words, kept up to date as pairs are merged.

    Tokens are numbered as they come, the 256 bytes first. Ties go to the pair of the lower numbers, so that equal
    counts give equal merges. No two pairs spell one token: what becomes one token was merged as if it stood alone.
    """

    def __init__(self, counted: Iterable[tuple[str, int]]) -> None:
        listed = list(counted)
        self.words = [list(text.encode()) for text, _ in listed]
        self.numbers = [number for _, number in listed]
        self.texts = [chr(code) for code in range(256)]
        self.merges: list[tuple[str, str]] = []
        self.pairs: Counter[tuple[int, int]] = Counter()
        self.where: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
        for at, (word, number) in enumerate(zip(self.words, self.numbers, strict=True)):
            for pair in pairwise(word):
                self.pairs[pair] += number
                self.where[pair].add(at)
        self.heap = [(-number, pair) for pair, number in self.pairs.items()]
        heapq.heapify(self.heap)

    def learn(self, size: int) -> None:
        """Merge the most frequent pair until there are `size` tokens, or none stands twice."""
        while len(self.texts) < size and self.heap:
            number, pair = heapq.heappop(self.heap)
            if -number != self.pairs[pair] or -number < 2:
                continue
            left, right = self.texts[pair[0]], self.texts[pair[1]]
            self.merges.append((left, right))
            self.texts.append(left + right)
            self._merge(pair, len(self.texts) - 1)

    def _merge(self, pair: tuple[int, int], token: int) -> None:
        changes: Counter[tuple[int, int]] = Counter()
        for at in self.where.pop(pair):
            old, number = self.words[at], self.numbers[at]
            new = merge(old, pair, token)
            if len(new) == len(old):
                continue
            self.words[at] = new
            for gone in pairwise(old):
                changes[gone] -= number
            for come in pairwise(new):
                changes[come] += number
                if token in come:
                    self.where[come].add(at)
        for changed, by in changes.items():
            if by:
                self.pairs[changed] += by
                heapq.heappush(self.heap, (-self.pairs[changed], changed))

    def counts(self) -> dict[str, int]:
        """Return how often each token stands in the words as they are merged now."""
        counts = dict.fromkeys(self.texts, 0)
        for word, number in zip(self.words, self.numbers, strict=True):
            for token in word:
                counts[self.texts[token]] += number
        return counts


class Bpe:
    """The kind `bpe`: tokens of one or more bytes, and nothing is unknown."""

    def __init__(self, settings: Tokenization, vocabulary: Vocabulary, dtype: np.dtype) -> None:
        self.settings, self.vocabulary, self.dtype = settings, vocabulary, dtype
        ids = {token: i for i, token in enumerate(vocabulary.tokens) if token and i > EOS}
        self.model = _library().BPE(vocab=ids, merges=vocabulary.merges)
        self.memory = Memory(self._ids)

    @staticmethod
    def count(data: bytes, settings: Tokenization, table: dict[str, int]) -> None:
        """Add the pieces of `data` to a table; no line breaks where these are <eos>."""
        for chunk, number in Counter(chunks(lower(data, settings), settings)).items():
            if chunk == "\n" and settings.lines:
                continue
            for piece in pieces(chunk):
                table[piece] = table.get(piece, 0) + number

    @staticmethod
    def learn(settings: Tokenization, counted: Iterable[tuple[str, int]], ends: int) -> Vocabulary:
        """Learn merges from the most frequent pieces, 524288 of them at most; the counts are of these, too."""
        size = settings.size or 0
        frequent = order(((text, n) for text, n in counted if n >= settings.min_count), LEARNED)
        learner = Learner(frequent)
        learner.learn(size - len(SPECIAL))
        ranked = order(learner.counts().items())
        empty = size - len(SPECIAL) - len(ranked)
        return Vocabulary(
            tokens=[*SPECIAL, *(text for text, _ in ranked), *[""] * empty],
            counts=np.array([0, ends, *(number for _, number in ranked), *[0] * empty], np.int64),
            merges=learner.merges,
        )

    def _ids(self, chunk: str) -> tuple[int, ...]:
        if chunk == "\n" and self.settings.lines:
            return (EOS,)
        bytewise = (piece.encode().decode("latin-1") for piece in pieces(chunk))
        return tuple(token.id for text in bytewise for token in self.model.tokenize(text))

    def encode(self, data: bytes) -> np.ndarray:
        """Return the ids of text."""
        found = chunks(lower(data, self.settings), self.settings)
        return np.fromiter(chain.from_iterable(map(self.memory.__getitem__, found)), self.dtype)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text; what is not UTF-8 is U+FFFD."""
        return self.vocabulary.spell(ids)

    def characters(self) -> np.ndarray:
        """Return how many characters begin in each token."""
        return self.vocabulary.begun()


def _library() -> Any:
    try:
        from tokenizers import models
    except ImportError:
        raise ValueError(
            "kind: bpe wants the library tokenizers, which is not installed: pip install 'seqtoolkit-language[bpe]'"
        ) from None
    return models
