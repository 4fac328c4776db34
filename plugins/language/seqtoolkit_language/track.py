"""Tracks: a stream of tokens laid side by side as the rows of batches, each going on where it ended."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from seqtoolkit.sdk import IGNORED
from seqtoolkit_language.array import Tokens
from seqtoolkit_language.tokenizer import EOS


class Window(NamedTuple):
    """The steps of some rows: [rows, T] each."""

    inputs: np.ndarray
    """The token before each target, int64."""
    targets: np.ndarray
    """int64; IGNORED after the end of a track."""
    first: np.ndarray
    """bool: the steps at which a row begins anew."""


class Tracks:
    """`count` rows, each with its share of the stream; a pass over all predicts every token exactly once.

    Tracks are equally long but for one token; a pass has as many windows of T steps as the longest needs. The first token
    of the stream is predicted from the last, which is an <eos>.

    Args:
        tokens: The stream.
        count: How many rows there are.
        length: The steps of a window (T).
        documents: Whether a row begins anew where a document does.
        every: After how many steps a row begins anew; 0 never.

    Raises:
        ValueError: there are fewer tokens than rows.
    """

    def __init__(self, tokens: Tokens, count: int, length: int, *, documents: bool = False, every: int = 0) -> None:
        if len(tokens) < count:
            raise ValueError(
                f"wanted a token at least for each of the {count} rows of a batch, got {len(tokens)} in all"
            )
        self.tokens, self.count, self.length = tokens, count, length
        self.documents, self.every = documents, every
        self.share, self.longer = divmod(len(tokens), count)
        self.windows = -(-(self.share + bool(self.longer)) // length)

    def read(self, row: int, window: int, offset: int, into: Window, place: int) -> None:
        """Write window `window` of track `row`, in a stream that begins at the token `offset`, into row `place`."""
        begin = row * self.share + min(row, self.longer)
        size = self.share + (row < self.longer)
        start, stop = (min(edge * self.length, size) for edge in (window, window + 1))
        steps = stop - start
        into.inputs[place], into.targets[place], into.first[place] = EOS, IGNORED, False
        if window == 0:
            into.first[place, 0] = True
        if self.every:
            into.first[place, : self.length] |= (np.arange(start, start + self.length) % self.every) == 0
        if steps == 0:
            return
        at = (begin + start + offset) % len(self.tokens)
        said = self._round(at - 1, steps + 1)
        into.inputs[place, :steps], into.targets[place, :steps] = said[:-1], said[1:]
        if self.documents:
            into.first[place, :steps] |= self._begins(at, steps)

    def _round(self, start: int, size: int) -> np.ndarray:
        """`size` tokens from `start` on, over the end of the stream and on from its beginning."""
        start %= len(self.tokens)
        parts = [self.tokens[start : start + size]]
        while (rest := size - sum(map(len, parts))) > 0:
            parts.append(self.tokens[:rest])
        return np.concatenate(parts)

    def _begins(self, start: int, size: int) -> np.ndarray:
        """Where documents begin among `size` tokens from `start` on."""
        found = np.zeros(size, bool)
        for shift in (0, len(self.tokens)):
            low, high = np.searchsorted(self.tokens.documents, [start - shift, start - shift + size])
            found[np.asarray(self.tokens.documents[low:high]) + shift - start] = True
        return found
