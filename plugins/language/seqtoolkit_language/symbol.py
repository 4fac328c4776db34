"""Text as single characters (`Character`) or bytes (`Byte`): a table look-up each."""

from collections.abc import Iterable, Sequence

import numpy as np

from seqtoolkit_language.tokenization import Tokenization
from seqtoolkit_language.vocabulary import EOS, SPECIAL, UNK, Vocabulary, order, select
from seqtoolkit_language.word import lower

CODES = 0x110000
BREAK = ord("\n")


def _codes(data: bytes, settings: Tokenization) -> np.ndarray:
    return np.frombuffer(lower(data, settings).encode("utf-32-le"), "<u4")


class Character:
    """The kind `character`: each character of Unicode is a token."""

    def __init__(self, settings: Tokenization, vocabulary: Vocabulary, dtype: np.dtype) -> None:
        self.settings, self.vocabulary = settings, vocabulary
        self.ids = np.full(CODES, UNK, dtype)
        for i, token in enumerate(vocabulary.tokens[2:], 2):
            if token:
                self.ids[ord(token)] = i
        if settings.lines:
            self.ids[BREAK] = EOS

    @staticmethod
    def count(data: bytes, settings: Tokenization, table: dict[str, int]) -> None:
        """Add the characters of `data` to a table; no line breaks where these are <eos>."""
        numbers = np.bincount(_codes(data, settings))
        if settings.lines:
            numbers[BREAK : BREAK + 1] = 0
        for code in np.flatnonzero(numbers).tolist():
            table[chr(code)] = table.get(chr(code), 0) + int(numbers[code])

    @staticmethod
    def learn(settings: Tokenization, counted: Iterable[tuple[str, int]], ends: int) -> Vocabulary:
        """Choose the most frequent characters."""
        return select(counted, ends, settings.size, settings.min_count, unknown=1)

    def encode(self, data: bytes) -> np.ndarray:
        """Return the ids of text."""
        return self.ids[_codes(data, self.settings)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text; an unknown character is U+FFFD."""
        tokens = ["\N{REPLACEMENT CHARACTER}", "\n", *self.vocabulary.tokens[2:]]
        return "".join([tokens[i] for i in ids])

    def characters(self) -> np.ndarray:
        """Return 1 for each id that is used."""
        return np.array([1, 1, *map(len, self.vocabulary.tokens[2:])], dtype=np.int64)


class Byte:
    """The kind `byte`: 256 bytes, and nothing is unknown."""

    def __init__(self, settings: Tokenization, vocabulary: Vocabulary, dtype: np.dtype) -> None:
        self.vocabulary = vocabulary
        self.ids = np.zeros(256, dtype)
        self.ids[[ord(token) for token in vocabulary.tokens[2:]]] = np.arange(2, 258)
        if settings.lines:
            self.ids[BREAK] = EOS

    @staticmethod
    def count(data: bytes, settings: Tokenization, table: dict[str, int]) -> None:
        """Add the bytes of `data` to a table, in Latin-1; no line breaks where these are <eos>."""
        numbers = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
        if settings.lines:
            numbers[BREAK] = 0
        for code in np.flatnonzero(numbers).tolist():
            table[chr(code)] = table.get(chr(code), 0) + int(numbers[code])

    @staticmethod
    def learn(settings: Tokenization, counted: Iterable[tuple[str, int]], ends: int) -> Vocabulary:
        """Order the bytes by how often each stands."""
        del settings
        ranked = order({**dict.fromkeys(map(chr, range(256)), 0), **dict(counted)}.items())
        return Vocabulary(
            [*SPECIAL, *(text for text, _ in ranked)], np.array([0, ends, *(n for _, n in ranked)], np.int64)
        )

    def encode(self, data: bytes) -> np.ndarray:
        """Return the ids of bytes."""
        return self.ids[np.frombuffer(data, np.uint8)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text; what is not UTF-8 is U+FFFD."""
        return self.vocabulary.spell(ids)

    def characters(self) -> np.ndarray:
        """Return 1 for a byte that begins a character, 0 for one that goes on."""
        return self.vocabulary.begun()
