"""Source: a counter-seeded stream of examples, as a torchdata node that resumes exactly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchdata.nodes import BaseNode

from seqtoolkit.flow.counter import Split
from seqtoolkit.flow.origin import Origin, known_split
from seqtoolkit.flow.spec import Record

LAG = 4
"""The block that hears of an update is this many after its own: one more than are ever made ahead, pinned ones included."""


class Ragged(NamedTuple):
    """Rows of different lengths, laid end to end: `values` [sum of lengths], `lengths` [rows]."""

    values: np.ndarray
    lengths: np.ndarray

    def rows(self) -> list[np.ndarray]:
        """The rows, one array each."""
        return np.split(self.values, np.cumsum(self.lengths))[:-1]


Block = dict[str, Any]
"""Some examples, made in one piece: each field an array or tensor with the examples on its first axis, or Ragged."""


class Sample(NamedTuple):
    """One example as a person reads it."""

    question: str
    expected: str
    """Empty where any answer may be right, as one that goes on with a text."""
    answer: str


class Case(NamedTuple):
    """An example worth a look, such as the pictures of attention draw.

    `marked` are the steps that matter most, counted from where the example begins in its batch, padding left out.
    """

    name: str
    """A few words; where it is empty, what `show` says of the question."""
    block: Block
    """That one example, as `draw` returns it."""
    marked: tuple[int, ...] = ()


class Source(Origin, BaseNode[Block], ABC):
    """A stream whose example at index i is a pure function of (seed, split, i).

    As a torchdata node it yields blocks of `block` consecutive examples, those of one rank among `world`; its state is
    the number of examples that all ranks together have drawn, so that a stream resumes exactly on any topology. What
    it hears of updates, by `tell`, it hears at fixed blocks, so that a curriculum repeats exactly as well.
    """

    writes: Record
    """The fields of a block; L and A stand for ragged axes, and the axis of examples is B."""
    on_device: bool = False
    """Whether `draw` makes tensors on `device`, when they are asked for, so that nothing is made ahead: the same numbers on
    every device, without a look at any of them, for which a GPU would have to stop."""
    contiguous: bool = False
    """Whether example i goes on where example i - block * world has ended, so that a batch carries on the rows of the one
    before: what a Truncated learner wants. Steps at which a row begins anew are marked `first`."""

    def __init__(self, seed: int = 0, split: Split = "train") -> None:
        super().__init__()
        self.seed, self.split = seed, known_split(split)
        self.device = torch.device("cpu")
        self.block, self.rank, self.world = 1, 0, 1
        self.index = 0
        self._blocks = 0
        self.told: deque[Mapping[str, float]] = deque()

    @abstractmethod
    def draw(self, indexes: np.ndarray) -> Block:
        """The examples at `indexes` [n] int64, in one piece; must not depend on anything drawn before."""

    def observe(self, metrics: Mapping[str, float]) -> None:
        """Hear the metrics of an update, in order; a curriculum advances by them. Called between two draws."""

    @property
    def listens(self) -> bool:
        """Whether `observe` does anything: what nobody hears need not be told."""
        return type(self).observe is not Source.observe

    def tell(self, metrics: Mapping[str, float]) -> None:
        """Keep the metrics of an update, from any thread, for the block that hears them: the one `LAG` after its own."""
        self.told.append(metrics)

    def memory(self) -> dict[str, Any]:
        """What `observe` has left behind: plain values, fresh at each call."""
        return {}

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Restore what `memory` returned."""

    def show(self, inputs: np.ndarray, targets: np.ndarray, predictions: np.ndarray) -> Sample:
        """One example of a batch as text: inputs [T ...], targets [U] (-100 where none is wanted), predictions [U]; ids or numbers."""
        wanted = targets != -100
        return Sample(str(inputs.tolist()), str(targets[wanted].tolist()), str(predictions[wanted].tolist()))

    @property
    def size(self) -> int | None:
        """How many examples the split has, at the `block` and `world` of now; None where the stream has no end.

        A stream that has one begins anew after it.
        """
        return None

    @property
    def finite(self) -> bool:
        """Whether the split has an end; how many examples it has may take long to find out."""
        return type(self).size is not Source.size

    def baselines(self) -> Mapping[str, float]:
        """What simple models reach on this split, by the name of the metric: `trigram_perplexity`. May take a while."""
        return {}

    @property
    def covers(self) -> Mapping[str, tuple[float, float]]:
        """Of the settings that say how hard examples are, by name: the least and the greatest that it has examples of."""
        return {}

    @property
    def asks(self) -> str:
        """What a question of a person looks like, in a line, with an example between backticks; empty where none is taken."""
        return ""

    def ask(self, question: str) -> Block:
        """One example that a person gives as text, as `draw` would return it, with its true answer where the task knows it.

        Its targets are -100 where nothing is wanted: at every step that an answer may take where it is not known, and after
        the end of one that is. A model answers in as many steps as there are targets, and `show` shows what it says.

        Raises ValueError, which says what is wrong and where, for a text that is no question.
        """
        raise ValueError(f"the task {type(self).__name__} takes no questions, such as {_cut(question)!r}")

    def cases(self) -> list[Case]:
        """Examples worth a look, the same ones every time: the first three of the stream, unless a task knows better."""
        return [Case("", self.draw(np.array([index], np.int64))) for index in range(3)]

    def reset(self, initial_state: dict[str, Any] | None = None) -> None:
        """Begin, or go on from a state; what was told of the last `LAG` updates has to be in `told` by then."""
        super().reset(initial_state)
        if initial_state is None:
            self.index = self._blocks = 0
            self.told.clear()
        else:
            self.index, self._blocks = int(initial_state["index"]), int(initial_state["blocks"])
            self.recall(initial_state["memory"])

    def next(self) -> Block:
        """The next block."""
        if self.told and self._blocks >= LAG:
            self.observe(self.told.popleft())
        self._blocks += 1
        start = self.index + self.rank * self.block
        block = self.draw(np.arange(start, start + self.block, dtype=np.int64))
        self.index += self.block * self.world
        return block

    def get_state(self) -> dict[str, Any]:
        """Where the stream stands, and what it has made of what it was told."""
        return {"index": self.index, "blocks": self._blocks, "memory": self.memory()}


def joined(blocks: Sequence[Block]) -> Block:
    """The examples of all blocks, in order, as one block; tensors where one of the blocks has them."""
    return {name: _joined([block[name] for block in blocks]) for name in blocks[0]}


def _joined(parts: list[Any]) -> Any:
    if isinstance(parts[0], Ragged):
        return Ragged(*(np.concatenate(each) for each in zip(*parts, strict=True)))
    if any(isinstance(part, Tensor) for part in parts):
        return torch.cat([torch.as_tensor(part) for part in parts])
    return np.concatenate(parts)


def _cut(text: str, longest: int = 40) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
