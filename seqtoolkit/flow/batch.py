"""Batch: time-major tensors that travel to the model, and how blocks of examples become one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqtoolkit.flow.source import Block, Ragged
from seqtoolkit.flow.spec import Record, SpecError, record, unify

IGNORED = -100
"""The target at a place where nothing is learned: torch's `ignore_index`."""


@dataclass(frozen=True)
class Batch:
    """What the model reads and what it should say. The axis U (answers) is the last U steps of T."""

    inputs: Tensor
    """[T B ...]"""
    targets: Tensor
    """[U B ...]; class ids, or IGNORED"""
    mask: Tensor
    """[U B], bool: the targets that metrics count"""
    first: Tensor | None = None
    """[T B], bool: the steps at which a row begins anew"""

    @property
    def answers(self) -> int:
        """How many steps the answer has (U)."""
        return len(self.targets)

    @property
    def size(self) -> int:
        """How many examples (B)."""
        return self.inputs.shape[1]

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        moved = (None if each is None else each.to(device, non_blocking=True) for each in self)
        return Batch(*moved)

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, from where a GPU copies it without a stop."""
        return Batch(*(None if each is None else each.pin_memory() for each in self))

    def __iter__(self):  # noqa: ANN204
        return iter((self.inputs, self.targets, self.mask, self.first))

    def part(self, start: int, stop: int) -> Batch:
        """The examples from `start` to `stop`."""
        return Batch(*(None if each is None else each[:, start:stop] for each in self))


class Collate(ABC):
    """How a block of examples becomes a Batch."""

    reads: Record
    writes: Record

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"size: wanted at least 1, got {size}")
        self.size = size

    @abstractmethod
    def __call__(self, block: Block) -> Batch:
        """Make the batch, in one piece."""


class Pad(Collate):
    """Questions and answers of any length: a question is read to its end, then answered in the last U steps.

    Questions are padded on the left with id 0 and marked `first` where they begin, so that all answers stand at the
    same steps and padding changes nothing. The steps of the answer read id 0: decoding is not autoregressive
    (Santoro et al. 2018, A.2).
    """

    def __init__(self, input_spec: Record, size: int = 64, multiple: int = 1) -> None:
        super().__init__(size)
        if multiple < 1:
            raise ValueError(f"multiple: wanted at least 1, got {multiple}")
        self.multiple = multiple
        self.reads = record(question="i64<V>[B L]", answer="i64<C>[B A]", counted="bool[B A]")
        ids = {name: unify(self.reads[name], spec) for name, spec in input_spec.items() if name in self.reads}
        if missing := self.reads.keys() - ids.keys():
            raise SpecError(f"pad reads {', '.join(self.reads)}, but {', '.join(sorted(missing))} does not reach it")
        vocabulary, classes = ids["question"]["V"], ids["answer"]["C"]
        self.writes = record(
            inputs=f"i64<{vocabulary}>[T B]", targets=f"i64<{classes}>[U B]", mask="bool[U B]", first="bool[T B]"
        )

    def __call__(self, block: Block) -> Batch:
        """Blocks have `question` and `answer`, Ragged ids, and `counted`, Ragged booleans as long as the answers."""
        question, answer, counted = block["question"], block["answer"], block["counted"]
        rows, steps = len(question.lengths), int(answer.lengths.max())
        length = -(-int(question.lengths.max()) // self.multiple) * self.multiple
        inputs = np.zeros((rows, length + steps), np.int64)
        begins = length - question.lengths
        inputs[:, :length][np.arange(length) >= begins[:, None]] = question.values
        first = np.zeros((rows, length + steps), bool)
        first[np.arange(rows), begins] = True
        targets = _left(answer, steps, IGNORED)
        mask = _left(counted, steps, fill=False)
        return Batch(*(torch.from_numpy(np.ascontiguousarray(each.T)) for each in (inputs, targets, mask, first)))


def _left(ragged: Ragged, length: int, fill: float) -> np.ndarray:
    dense = np.full((len(ragged.lengths), length), fill, ragged.values.dtype)
    dense[np.arange(length) < ragged.lengths[:, None]] = ragged.values
    return dense
