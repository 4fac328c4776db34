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

    def read(self, rows: np.ndarray, windows: np.ndarray, offsets: np.ndarray) -> Window:
        """Window `windows[n]` of track `rows[n]`, in a stream that begins at the token `offsets[n]`; int64 [n] each."""
        shape = len(rows), self.length
        found = Window(np.full(shape, EOS), np.full(shape, IGNORED), np.zeros(shape, bool))
        starts = windows * self.length
        steps = (self.share + (rows < self.longer) - starts).clip(0, self.length)
        at = (rows * self.share + np.minimum(rows, self.longer) + starts + offsets) % len(self.tokens)
        for inputs, targets, begin, size in zip(found.inputs, found.targets, at.tolist(), steps.tolist(), strict=True):
            if size:
                said = self._round(begin - 1, size + 1)
                inputs[:size], targets[:size] = said[:-1], said[1:]
        found.first[:, 0] = windows == 0
        if self.every:
            found.first[(starts[:, None] + np.arange(self.length)) % self.every == 0] = True
        if self.documents:
            self._begin(found.first, at, steps)
        return found

    def _round(self, start: int, size: int) -> np.ndarray:
        """`size` tokens from `start` on, over the end of the stream and on from its beginning."""
        start %= len(self.tokens)
        some = self.tokens[start : start + size]
        parts = [some]
        while (rest := size - sum(map(len, parts))) > 0:
            parts.append(self.tokens[:rest])
        return np.concatenate(parts) if len(parts) > 1 else some

    def _begin(self, first: np.ndarray, at: np.ndarray, steps: np.ndarray) -> None:
        """Mark where documents begin among the `steps` tokens of each row from `at` on, over the end of the stream too."""
        begins = self.tokens.documents
        for start in (at, at - len(self.tokens)):
            lows, highs = np.searchsorted(begins, start), np.searchsorted(begins, start + steps)
            for row in np.flatnonzero(highs > lows):
                first[row, begins[lows[row] : highs[row]] - start[row]] = True
