"""Batch: time-major tensors that travel to the model, and how blocks of examples become one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from seqtoolkit.flow.source import Block, Ragged
from seqtoolkit.flow.spec import Record, Spec, SpecError, record, unify

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
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    """[U B] each: what else is known of the targets, by the name under which a metric reads it"""

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
        return self.map(lambda each: each.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, from where a GPU copies it without a stop."""
        return self.map(Tensor.pin_memory)

    def part(self, start: int, stop: int) -> Batch:
        """The examples from `start` to `stop`."""
        return self.map(lambda each: each[:, start:stop])

    def tensors(self) -> dict[str, Tensor]:
        """All that it has, by name."""
        first = {} if self.first is None else {"first": self.first}
        return {"inputs": self.inputs, "targets": self.targets, "mask": self.mask, **first, **self.extra}

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """A batch of what `change` makes of each tensor."""
        first = None if self.first is None else change(self.first)
        extra = {name: change(each) for name, each in self.extra.items()}
        return Batch(change(self.inputs), change(self.targets), change(self.mask), first, extra)


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

    Args:
        input_spec: What reaches it.
        size: How many examples a batch has.
        multiple: Questions are padded to a multiple of so many steps: batches of few lengths are what a GPU replays.
        answer_multiple: So are answers; nothing is learned or counted at the steps beyond their ends.
    """

    def __init__(self, input_spec: Record, size: int = 64, multiple: int = 1, answer_multiple: int = 1) -> None:
        super().__init__(size)
        for name, value in (("multiple", multiple), ("answer_multiple", answer_multiple)):
            if value < 1:
                raise ValueError(f"{name}: wanted at least 1, got {value}")
        self.multiple, self.answer_multiple = multiple, answer_multiple
        self.reads = record(question="i64<V>[B L]", answer="i64<C>[B A]", counted="bool[B A]")
        ids = {name: unify(self.reads[name], spec) for name, spec in input_spec.items() if name in self.reads}
        if missing := self.reads.keys() - ids.keys():
            raise SpecError(f"pad reads {', '.join(self.reads)}, but {', '.join(sorted(missing))} does not reach it")
        vocabulary, classes = ids["question"]["V"], ids["answer"]["C"]
        self.writes = record(
            inputs=f"i64<{vocabulary}>[T B]", targets=f"i64<{classes}>[U B]", mask="bool[U B]", first="bool[T B]"
        )

    def __call__(self, block: Block) -> Batch:
        """Blocks have `question` and `answer`, Ragged ids, and `counted`, Ragged booleans as long as the answers.

        Raises ValueError for a block that is not so.
        """
        question, answer, counted = _ragged(block, self.reads)
        rows = len(question.lengths)
        length = -(-int(question.lengths.max()) // self.multiple) * self.multiple
        steps = -(-int(answer.lengths.max()) // self.answer_multiple) * self.answer_multiple
        inputs = np.zeros((rows, length + steps), np.int64)
        begins = length - question.lengths
        inputs[:, :length][np.arange(length) >= begins[:, None]] = question.values
        first = np.zeros((rows, length + steps), bool)
        first[np.arange(rows), begins] = True
        targets = _left(answer, np.full((rows, steps), IGNORED, np.int64))
        mask = _left(counted, np.zeros((rows, steps), bool))
        made = [torch.from_numpy(np.ascontiguousarray(each.T)) for each in (inputs, targets, mask, first)]
        return Batch(made[0], made[1], made[2], made[3])


class Stack(Collate):
    """Examples of one length, side by side; the answer stands at the last U steps, and what is not ignored of it is counted.

    Examples may say by `first` where they begin anew; further fields [B U] go along, for metrics. Made where the block is:
    on a device nothing comes from elsewhere.
    """

    def __init__(self, input_spec: Record, size: int = 64) -> None:
        super().__init__(size)
        self.reads, self.writes = {}, {}
        for name, steps in (("inputs", "T"), ("targets", "U")):
            if name not in input_spec:
                raise SpecError(f"stack reads inputs, targets, but {name} does not reach it")
            given = Spec.parse(input_spec[name])
            if len(given.axes) < 2:
                raise SpecError(f"stack: wanted {name} as {given.dtype}[B {steps} ...], got {given}")
            self.reads[name] = Spec(given.dtype, ("B", steps, *given.axes[2:]), given.bound)
            self.writes[name] = Spec(given.dtype, (steps, "B", *given.axes[2:]), given.bound)
        self.writes |= record(mask="bool[U B]")
        self.extra = [name for name in input_spec if name not in (*self.reads, "first")]
        for name in ("first",) if "first" in input_spec else ():
            self.reads[name], self.writes[name] = Spec.parse("bool[B T]"), Spec.parse("bool[T B]")
        for name in self.extra:
            dtype = Spec.parse(input_spec[name]).dtype
            self.reads[name], self.writes[name] = Spec(dtype, ("B", "U")), Spec(dtype, ("U", "B"))

    def __call__(self, block: Block) -> Batch:
        """Blocks have `inputs` [B T ...] and `targets` [B U ...], arrays or tensors. Raises ValueError where they have not."""
        inputs, targets = (_time_major(block[name]) for name in ("inputs", "targets"))
        if len(targets) > len(inputs) or targets.shape[1] != inputs.shape[1]:
            shapes = f"inputs {list(inputs.shape)} and targets {list(targets.shape)}"
            raise ValueError(f"stack: wanted as many examples of both, with no more answers than steps, got {shapes}")
        if targets.is_floating_point():
            mask = torch.ones(targets.shape[:2], dtype=torch.bool, device=targets.device)
        else:
            mask = targets != IGNORED
            mask = mask.flatten(2).any(-1) if mask.dim() > 2 else mask
        first = block.get("first")
        if isinstance(first, np.ndarray) and not first.any():  # nothing begins anew: a core need not look
            first = None
        extra = {name: _time_major(block[name]) for name in self.extra}
        return Batch(inputs, targets, mask, None if first is None else _time_major(first), extra)


def _time_major(field: np.ndarray | Tensor) -> Tensor:
    return torch.as_tensor(field).transpose(0, 1).contiguous()


def _left(ragged: Ragged, dense: np.ndarray) -> np.ndarray:
    dense[np.arange(dense.shape[1]) < ragged.lengths[:, None]] = ragged.values
    return dense


def _ragged(block: Block, names: Iterable[str]) -> list[Ragged]:
    fields = []
    for name in names:
        field = block.get(name)
        if not isinstance(field, Ragged):
            raise ValueError(f"pad: wanted a Ragged field {name} in a block, got {type(field).__name__}")
        if len(field.values) != field.lengths.sum():
            raise ValueError(f"pad: {name} has {len(field.values)} values, its lengths add up to {field.lengths.sum()}")
        fields.append(field)
    question, answer, counted = fields
    if not np.array_equal(answer.lengths, counted.lengths) or len(question.lengths) != len(answer.lengths):
        raise ValueError(
            "pad: wanted an answer for each question, and counted as long as the answer; a block is not so"
        )
    if not answer.lengths.any():
        raise ValueError("pad: wanted an answer of at least one step in a batch, got none")
    return fields
