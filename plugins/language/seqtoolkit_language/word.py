"""Text as words: by letters and punctuation (`Word`), or by white space alone (`Space`)."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import chain

import numpy as np

from seqtoolkit_language.memory import Memory
from seqtoolkit_language.tokenization import Tokenization
from seqtoolkit_language.vocabulary import EOS, SPECIAL, UNK, Vocabulary, select

PART = 4096
JOINER = "'\N{RIGHT SINGLE QUOTATION MARK}\N{HYPHEN}\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}-"
BEFORE = frozenset(
    ".,;:!?%)]}'\N{RIGHT SINGLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}\N{HORIZONTAL ELLIPSIS}"
    "\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}"
)
AFTER = frozenset(
    "([{$\N{LEFT SINGLE QUOTATION MARK}\N{LEFT DOUBLE QUOTATION MARK}\N{POUND SIGN}\N{EURO SIGN}"
    "\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}"
)


@cache
def marks() -> str:
    """Return the combining marks of Unicode (categories M*) as ranges for a regular expression's set."""
    ranges: list[list[int]] = []
    for code in chain(range(0x20000), range(0xE0000, 0xE1000)):  # the other planes are of ideographs, or unassigned
        if unicodedata.category(chr(code))[0] == "M":
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


def _pattern(mark: str) -> re.Pattern[str]:
    run = rf"(?:[^\W_]|[{mark}])+" if mark else r"[^\W_]+"
    return re.compile(rf"{run}(?:(?:[{JOINER}]|(?<=\d)[.,](?=\d)){run})*|\S")


ASCII = _pattern("")


@cache
def _unicode() -> re.Pattern[str]:
    return _pattern(marks())


def words(text: str) -> list[str]:
    r"""Split text into words and punctuation.

    The rule. White space parts tokens and is in none. A letter, digit or other numeral (`str.isalnum`) or combining
    mark (category M) is of a word. A word is the longest run of such characters, over the following when they stand
    singly between two of them: an apostrophe (' or U+2019), a hyphen (- or U+2010), a zero-width joiner or non-joiner
    (U+200D, U+200C), and between two decimal digits a point or a comma. So "don't", "well-known", "3.14" and "12,000"
    are words. Every other character, the underscore too, is a token by itself. Scripts that put no blanks between
    words come in long runs: `character` and `bpe` suit them better.
    """
    return (ASCII if text.isascii() else _unicode()).findall(text)


@lru_cache(1 << 17)
def _words(chunk: str) -> tuple[str, ...]:
    return tuple(words(chunk))


def lower(data: bytes, settings: Tokenization) -> str:
    """Return the text of UTF-8, in small letters where the settings say so."""
    text = data.decode()
    return text.lower() if settings.lowercase else text


def split(text: str) -> Iterator[str]:
    """Split text at white space as str.split does, a few KiB at a time: then the strings stay in the fast caches."""
    return chain.from_iterable(part.split() for part in _parts(text))


def _parts(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        stop = text.find(" ", start + PART)
        stop = len(text) if stop < 0 else stop
        yield text[start:stop]
        start = stop


class _Ids(dict[str, int]):
    """Ids by token; UNK for every other."""

    def __missing__(self, token: str) -> int:
        return UNK


class Word:
    """The kinds `word` (by the rule of `words`) and `space`.

    Of `space` a word is what stands between white space (of Unicode, as str.split has it), and "<unk>" and "<eos>" in
    the text are those tokens.
    """

    def __init__(self, settings: Tokenization, vocabulary: Vocabulary, dtype: np.dtype) -> None:
        self.settings, self.vocabulary, self.dtype = settings, vocabulary, dtype
        self.ids = _Ids((token, i) for i, token in enumerate(vocabulary.tokens) if token)
        self.memory = Memory(self._chunk)

    @staticmethod
    def count(data: bytes, settings: Tokenization, table: dict[str, int]) -> None:
        """Add the words of `data` to a table."""
        for chunk, number in Counter(split(lower(data, settings))).items():
            for word in (chunk,) if settings.kind == "space" else _words(chunk):
                table[word] = table.get(word, 0) + number

    @staticmethod
    def learn(settings: Tokenization, counted: Iterable[tuple[str, int]], ends: int) -> Vocabulary:
        """Choose the most frequent words."""
        return select(counted, ends, settings.size, settings.min_count, unknown=len(SPECIAL[UNK]))

    def encode(self, data: bytes) -> np.ndarray:
        """Return the ids of text."""
        text = lower(data, self.settings)
        if self.settings.kind == "word":
            return self._cut(text)
        if self.settings.lines:
            text = text.replace("\n", " <eos> ")
        return np.fromiter(map(self.ids.__getitem__, split(text)), self.dtype)

    def _cut(self, text: str) -> np.ndarray:
        if self.settings.lines:
            # The text's own "<eos>" are three words either way: apart, they are not mistaken for a line break's.
            text = text.replace("<eos>", "< eos >").replace("\n", " <eos> ")
        return np.fromiter(chain.from_iterable(map(self.memory.__getitem__, split(text))), self.dtype)

    def _chunk(self, chunk: str) -> tuple[int, ...]:
        if self.settings.lines and chunk == "<eos>":
            return (EOS,)
        return tuple(self.ids[word] for word in words(chunk))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the words with blanks between them (for `word`: as one writes punctuation), <eos> as a line break."""
        lines: list[list[str]] = [[]]
        for i in ids:
            if i == EOS:
                lines.append([])
            elif token := self.vocabulary.tokens[i]:
                lines[-1].append(token)
        return "\n".join((" ".join if self.settings.kind == "space" else written)(line) for line in lines)

    def characters(self) -> np.ndarray:
        """Return the characters of each word and 1 for the blank after it, int64 [V]; <eos> is 1, an unused id 0."""
        lengths = [len(token) + 1 if token else 0 for token in self.vocabulary.tokens]
        return np.array([self.vocabulary.unknown + 1, 1, *lengths[2:]], dtype=np.int64)


def written(found: Iterable[str]) -> str:
    """Return words as one writes them: no blank before closing punctuation, nor after opening."""
    text, glued, quoted = "", True, False
    for word in found:
        opens, closes = word in AFTER or (word == '"' and not quoted), word in BEFORE or (word == '"' and quoted)
        quoted ^= word == '"'
        text += word if glued or closes else " " + word
        glued = opens
    return text
