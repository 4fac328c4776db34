"""Source: a counter-seeded stream of examples, as a torchdata node that resumes exactly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchdata.nodes import BaseNode

from seqtoolkit.flow.spec import Record

Split = Literal["train", "valid", "test"]
SPLITS: tuple[str, ...] = ("train", "valid", "test")
LAG = 4
"""The block that hears of an update is this many after its own: one more than are ever made ahead, pinned ones included."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


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


class Source(BaseNode[Block], ABC):
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

    def __init__(self, seed: int = 0, split: Split = "train") -> None:
        super().__init__()
        if split not in SPLITS:
            raise ValueError(f"split: wanted one of {', '.join(SPLITS)}, got {split!r}")
        self.seed, self.split = seed, split
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


def counter_bits(seed: int, split: str, indexes: np.ndarray, words: int, stream: int = 0) -> np.ndarray:
    """Random bits that depend on nothing but (seed, split, index, stream): uint64 [len(indexes), words].

    The numbers of SplitMix64 (Steele, Lea & Flood 2014) at each example's own place in a sequence keyed by the rest.
    """
    start = _mix(_key(seed, split, stream) ^ _mix(indexes.astype(np.uint64) * _GOLDEN + _GOLDEN))
    return _mix(start[:, None] + np.arange(1, words + 1, dtype=np.uint64) * _GOLDEN)


def counter_tensor(
    seed: int,
    split: str,
    indexes: np.ndarray,
    words: int,
    stream: int = 0,
    device: torch.device | str = "cpu",
    room: Tensor | None = None,
) -> Tensor:
    """The bits of `counter_bits` as a tensor made on `device`: int64 [len(indexes), words].

    Nothing is copied to the device where the indexes follow one another, as those of a stream do. `room`, int64
    [2, len(indexes), words], is memory to work in, of which the bits are the first half: on a CPU fresh memory for each block
    can cost more than what is computed in it.
    """
    if len(indexes) and (np.diff(indexes) == 1).all():
        counters = torch.arange(int(indexes[0]) + 1, int(indexes[-1]) + 2, device=device)
    else:
        counters = torch.from_numpy(indexes.astype(np.int64) + 1).to(device)
    golden, key = _signed(_GOLDEN), _signed(_key(seed, split, stream)[0])
    room_for_start = torch.empty_like(counters)
    start = _mix_tensor(_mix_tensor(counters * golden, room_for_start) ^ key, room_for_start)
    if room is None:
        room = torch.empty(2, len(indexes), words, dtype=torch.int64, device=device)
    torch.add(start[:, None], torch.arange(1, words + 1, device=device) * golden, out=room[0])
    return _mix_tensor(room[0], room[1])


def _key(seed: int, split: str, stream: int) -> np.ndarray:
    key = np.zeros(1, np.uint64)
    for part in (seed, SPLITS.index(split), stream):
        key = _mix(key + np.uint64(part % 2**64) + _GOLDEN)
    return key


def _mix(bits: np.ndarray) -> np.ndarray:
    for shift, factor in zip((30, 27), _FACTORS, strict=True):
        bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
    return bits ^ (bits >> np.uint64(31))


def _mix_tensor(bits: Tensor, shifted: Tensor) -> Tensor:
    """`_mix` in place, in int64: torch cannot shift uint64, so the signs that a shift brings in are cut off."""
    for shift, factor in zip((30, 27, 31), (*_FACTORS, 1), strict=True):
        torch.bitwise_right_shift(bits, shift, out=shifted)
        bits.bitwise_xor_(shifted.bitwise_and_(2 ** (64 - shift) - 1))
        if factor != 1:
            bits.mul_(_signed(factor))
    return bits


def _signed(bits: int | np.uint64) -> int:
    return int(np.uint64(bits).astype(np.int64))
