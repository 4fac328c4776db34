"""Writer: how a trained model goes on with a text that a person begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, takewhile

import numpy as np
import torch

from seqtoolkit.flow.continuation import UNKNOWN, Heard, Sampling, follow, hear, textual
from seqtoolkit.flow.source import Source
from seqtoolkit.question import source_of
from seqtoolkit.trained import Trained

ROWS = 16
"""How many texts are written at once."""
_FEW = 4096
"""Of fewer ids than these the text is made anew for each that is added, of more for every so many more."""
_HALF = "\ufffd"
"""What stands for a character that is not whole."""


class Writer:
    """Goes on with texts as a trained model would, on the device where the model is.

    A prompt begins a document: it is read after what ends the one before, by itself where it is empty.

    Args:
        trained: The model; its pipeline's task, as it is evaluated, knows which ids stand for which text.
        sampling: How an id is drawn; the text that is written first has its seed, the next one the seed after it.
        unknown: Whether words that are not in the vocabulary may be written, as one word that stands for all of them.
        stop_at_end: Whether a text ends where the document does, or goes on into the next one.
        source: The task; the one that evaluates the run where None.

    Raises:
        ValueError: the task's examples are no text.
    """

    def __init__(
        self,
        trained: Trained,
        sampling: Sampling,
        *,
        unknown: bool = False,
        stop_at_end: bool = False,
        source: Source | None = None,
    ) -> None:
        source = source or source_of(trained)
        if not textual(source):
            raise ValueError(f"the task {trained.pipeline.plan.origin.use} takes no prompts; ask a QUESTION")
        self.source = source
        self.model = trained.model
        self.sampling = sampling if unknown else replace(sampling, without=(*sampling.without, UNKNOWN))
        self.end = source.end if stop_at_end else None

    def stream(self, prompt: str, tokens: int) -> Iterator[str]:
        """What comes after a prompt, in pieces as it is written, of `tokens` ids at most; joined they are the text.

        A piece comes an id late, and a character once it is whole: what has come is never taken back.
        """
        read = self._ids(prompt)
        return self._pieces(prompt, read, self._hear(read), tokens)

    def continue_(self, prompt: str, tokens: int, count: int = 1) -> list[str]:
        """What may come after a prompt: `count` texts, the n-th from the seed that is n after that of the sampling.

        Each is what `stream` writes from its seed, but for the rounding of rows that are computed together.
        """
        read = self._ids(prompt)
        before = self.source.decode(read)
        heard = self._hear(read)
        texts = []
        for begin in range(0, count, ROWS):
            sampling = replace(self.sampling, seed=self.sampling.seed + begin)
            written = islice(self._follow(heard.repeat(min(ROWS, count - begin)), sampling), tokens)
            for row in zip(*written, strict=True):
                ids = row[: row.index(self.end)] if self.end in row else row
                text = self._text([*read.tolist(), *ids])[len(before) :]
                texts.append(text.removeprefix(" ") if _lacks_blank(prompt, before) else text)
        return texts

    def _pieces(self, prompt: str, read: np.ndarray, heard: Heard, tokens: int) -> Iterator[str]:
        ids, text = read.tolist(), self.source.decode(read)
        made, told, blank = len(ids), len(text), _lacks_blank(prompt, text)
        for (each,) in islice(self._follow(heard, self.sampling), tokens):
            if each == self.end:
                break
            ids.append(each)
            if (len(ids) - made) * _FEW < len(ids):
                continue
            before, text, made = text, self._text(ids), len(ids)
            same = takewhile(lambda pair: pair[0] == pair[1], zip(before[told:], text[told:], strict=False))
            if piece := "".join(each for each, _ in same).rstrip(_HALF):
                told += len(piece)
                yield piece.removeprefix(" ") if blank else piece
                blank = False
        if rest := self._text(ids)[told:]:
            yield rest.removeprefix(" ") if blank else rest

    def _ids(self, prompt: str) -> np.ndarray:
        try:
            prompt.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"prompt: character {error.start} is no UTF-8") from None
        return self.source.encode(prompt)

    def _text(self, ids: list[int]) -> str:
        return self.source.decode(np.array(ids, np.int64))

    def _hear(self, read: np.ndarray) -> Heard:
        """Where the model stands after the end of a document and what was read."""
        return hear(self.model, torch.from_numpy(np.concatenate([[self.source.end], read]).astype(np.int64))[:, None])

    def _follow(self, heard: Heard, sampling: Sampling) -> Iterator[list[int]]:
        return (ids.tolist() for ids in follow(self.model, heard, sampling, self.end))


def _lacks_blank(prompt: str, text: str) -> bool:
    """Whether a prompt ends in a blank that its ids do not know of, so that it would come twice."""
    return prompt[-1:].isspace() and not text[-1:].isspace()
