"""Text to ids and back, by a vocabulary that is learned from counts.

table = {}
count(b"to be or not to be", settings, table)
tokenizer = Tokenizer.learn(settings, table.items(), ends=1)
tokenizer.decode(tokenizer.encode(b"not to be"))
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from seqtoolkit_language.bpe import Bpe
from seqtoolkit_language.symbol import Byte, Character
from seqtoolkit_language.tokenization import Tokenization
from seqtoolkit_language.vocabulary import EOS, SPECIAL, UNK, VERSION, Vocabulary, read, write
from seqtoolkit_language.word import Word

__all__ = ["EOS", "UNK", "Tokenization", "Tokenizer", "count"]

KINDS: dict[str, type[Word | Character | Byte | Bpe]] = {
    "word": Word,
    "space": Word,
    "character": Character,
    "byte": Byte,
    "bpe": Bpe,
}


def count(data: bytes, settings: Tokenization, table: dict[str, int]) -> None:
    """Add to a table how often each word (for bpe each piece of one) stands in UTF-8 text.

    Tables of several parts of a corpus are merged by adding. Line breaks are counted by nobody here where `lines` makes
    them <eos>: the caller tells `Tokenizer.learn` how many <eos> there are.

    Raises:
        UnicodeDecodeError: the text is not UTF-8 (but for kind byte).
    """
    KINDS[settings.kind].count(data, settings, table)


class Tokenizer:
    """A vocabulary at work.

    Attributes:
        settings: how text becomes tokens.
        vocabulary: the tokens, their counts, and for bpe its merges.
    """

    def __init__(self, settings: Tokenization, vocabulary: Vocabulary) -> None:
        self.settings, self.vocabulary = settings, vocabulary

    def __reduce__(self) -> tuple[Any, ...]:
        return Tokenizer, (self.settings, self.vocabulary)

    @classmethod
    def learn(cls, settings: Tokenization, counts: Iterable[tuple[str, int]], ends: int = 0) -> "Tokenizer":
        """Return the tokenizer of a corpus.

        Args:
            settings: how text becomes tokens.
            counts: what `count` found in the whole corpus, each text once; read once, in bounded memory with a `size`.
            ends: how often <eos> stands in the corpus: its documents, or with `lines` its lines.

        Raises:
            ValueError: a text stands twice in `counts`; `min_count` leaves nothing; the library for bpe is missing.
        """
        return cls(settings, KINDS[settings.kind].learn(settings, counts, ends))

    @property
    def tokens(self) -> list[str]:
        """The text of each id; "" where a fixed size leaves an id unused; bytes (byte, bpe) in Latin-1."""
        return self.vocabulary.tokens

    @property
    def counts(self) -> np.ndarray:
        """How often each id stood in the corpus, int64 [V]."""
        return self.vocabulary.counts

    @property
    def size(self) -> int:
        """The number of ids, V."""
        return len(self.vocabulary.tokens)

    @cached_property
    def dtype(self) -> np.dtype:
        """The smallest of uint8, uint16, uint32 and int64 that holds every id."""
        kinds = (np.uint8, np.uint16, np.uint32, np.int64)
        return np.dtype(next(kind for kind in kinds if self.size - 1 <= np.iinfo(kind).max))

    @cached_property
    def digest(self) -> str:
        """A hash of all that says which ids a text has."""
        said = [VERSION, asdict(self.settings), self.tokens, self.vocabulary.merges]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    @cached_property
    def characters(self) -> np.ndarray:
        """How many characters of text each id stands for, int64 [V].

        word, space: its own and the blank after it (an unknown word: the mean of those that were cut); byte, bpe: the
        characters that begin in it; <eos>: 1; an unused id: 0.
        """
        return self._kind.characters()

    @cached_property
    def _kind(self) -> Word | Character | Byte | Bpe:
        return KINDS[self.settings.kind](self.settings, self.vocabulary, self.dtype)

    def encode(self, data: bytes) -> np.ndarray:
        """Return the ids of UTF-8 text that is cut at white space, `dtype` [tokens].

        No call knows of another. <eos> is there for a line break (with `lines`), or where text of kind space says so;
        the end of a document is for the caller to mark.

        Raises:
            UnicodeDecodeError: the text is not UTF-8 (but for kind byte).
        """
        return self._kind.encode(data)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Return text for people: words as one writes them, <eos> as a line break, an unknown character as U+FFFD.

        Raises:
            ValueError: an id is not of this vocabulary.
        """
        listed = np.asarray(ids).reshape(-1).tolist()
        for wrong in (i for i in listed if not 0 <= i < self.size):
            raise ValueError(f"ids: wanted numbers from 0 to {self.size - 1}, got {wrong}")
        return self._kind.decode(listed)

    def save(self, path: Path) -> None:
        """Write one file; equal tokenizers write equal files."""
        words = self.vocabulary
        write(
            path,
            {
                "digest": self.digest,
                "settings": asdict(self.settings),
                "unknown": words.unknown,
                "tokens": words.tokens,
                "counts": words.counts.tolist(),
                "merges": words.merges,
            },
        )

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Return the tokenizer of a file.

        Raises:
            ValueError: it is damaged, cut off, no tokenizer, or of another version; OSError where it cannot be read.
        """
        record = read(path)
        try:
            tokens, counts = list(map(str, record["tokens"])), np.array(record["counts"], dtype=np.int64)
            merges = [(left, right) for left, right in record["merges"]]
            made = cls(Tokenization(**record["settings"]), Vocabulary(tokens, counts, merges, int(record["unknown"])))
            whole = made.digest == record["digest"] and counts.shape == (made.size,) and tokens[:2] == list(SPECIAL)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(
                f"{path}: the tokenizer is damaged ({error!r}): put a copy in its place, or learn it again"
            ) from None
        if not whole:
            raise ValueError(
                f"{path}: the tokenizer is damaged (its digest is of others): put a copy in its place, or learn it again"
            )
        return made
