"""End: how many <eos> there are in a corpus that is read in pieces, as they will stand in its tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from seqtoolkit_language.corpus import Text
from seqtoolkit_language.tokenizer import Tokenization
from seqtoolkit_language.word import lower

_MARK = "<eos>"


@dataclass
class Ends:
    """How many <eos> there are in some text, and what is open at its borders.

    Attributes:
        settings: how the text becomes tokens.
        inside: of lines, and of documents that end where another begins.
        begins: whether a document begins before the first token.
        closed: whether the last token is <eos>; None where there are no tokens.
    """

    settings: Tokenization
    inside: int = 0
    begins: bool = False
    closed: bool | None = None

    def add(self, text: Text) -> None:
        """Go on with a text."""
        if text.begins:
            self.inside += self.closed is False
            self.begins |= self.closed is None
            self.closed = None if self.closed is None else True
        if self.settings.lines:
            self.inside += text.data.count(b"\n")
        last = _closed(lower(text.data, self.settings), self.settings)
        self.closed = self.closed if last is None else last


def total(pieces: Iterable[Ends]) -> int:
    """How many <eos> there are in all pieces of a corpus, in order."""
    number, closed = 0, True
    for piece in pieces:
        number += piece.inside
        if piece.begins:
            number += not closed
            closed = True
        closed = closed if piece.closed is None else piece.closed
    return number + (not closed)


def _closed(text: str, settings: Tokenization) -> bool | None:
    """Whether the last token of a text is <eos>; None if it has none."""
    if settings.kind not in ("word", "space"):
        return settings.lines and text.endswith("\n")
    words = text.rstrip()
    if settings.lines and "\n" in text[len(words) :]:
        return True
    if not words:
        return None
    return settings.kind == "space" and words[-len(_MARK) - 1 :].strip() == _MARK
