"""NthFarthest: vectors with labels, and the question which of them is the n-th farthest from one of them."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from seqtoolkit.sdk import Block, Case, Sample, Source, Split, counter_tensor, record
from seqtoolkit_nth_farthest.question import read

Order = Literal["farthest", "nearest"]
GRID = 2**23
"""Coordinates are whole multiples of 1 / GRID, so that float32 holds them, and int64 their squared distances, exactly."""
MOST_DIMENSIONS = 2**15
"""A squared difference is below 2 ** 48 on the grid; the sum of more could leave int64."""


class NthFarthest(Source):
    """Santoro et al. 2018, "Relational recurrent neural networks" (arXiv 1806.01822), sections 4.1 and A.1.

    `vectors` (k) vectors of `dimensions` (D) numbers, uniform in [-1, 1), come one a step, each with a label: one of k,
    none twice, independent of when the vector comes. The input at each step is (x; l; n; m), D + 3k numbers: the
    vector, its label, and at every step alike n and m, the last three one-hot. The target is the label of the vector
    that is the n-th farthest, by Euclidean distance, from the one labelled m. n and m are uniform over all k, so that
    the vector labelled m may be the answer itself: it is the k-th farthest. Of two equally far, the earlier counts first.

    Distances are compared exactly, in whole numbers, so that an example is the same on every device.

    Args:
        vectors: How many vectors a sequence has, and so labels, classes and steps (k).
        dimensions: How many numbers a vector has (D).
        order: The first n is the `farthest` vector, as in the paper, or the `nearest`, the reference itself, as in its
            published code.

    Raises:
        ValueError: a setting is out of its range.
    """

    on_device = True

    def __init__(
        self,
        vectors: int = 8,
        dimensions: int = 16,
        order: Order = "farthest",
        seed: int = 0,
        split: Split = "train",
    ) -> None:
        super().__init__(seed, split)
        _between("vectors", vectors, 2)
        _between("dimensions", dimensions, 1, MOST_DIMENSIONS)
        if order not in ("farthest", "nearest"):
            raise ValueError(f"order: wanted farthest or nearest, got {order!r}")
        self.vectors, self.dimensions, self.order = vectors, dimensions, order
        self.width = dimensions + 3 * vectors
        self.writes = record(inputs=f"f32[B {vectors} {self.width}]", targets=f"i64<{vectors}>[B 1]")
        self._rooms: dict[tuple[torch.device | int, ...], Tensor] = {}

    def draw(self, indexes: np.ndarray) -> Block:
        """The examples at `indexes`: `inputs` [B k D+3k], laid out time-major in memory, and `targets` [B 1]."""
        return self._examples(indexes)

    def cases(self) -> list[Case]:
        """An example each whose reference comes last, first and in the middle, as in Figure 3; its step is marked."""
        places = {"last": self.vectors - 1, "first": 0, "in the middle": self.vectors // 2}
        return [
            Case(f"reference {place}", self._examples(np.array([index]), time), (time,))
            for index, (place, time) in enumerate(places.items())
            if index < self.vectors  # two vectors have no middle
        ]

    def show(self, inputs: np.ndarray, targets: np.ndarray, predictions: np.ndarray) -> Sample:
        """One example as text: inputs [k D+3k], targets [1], predictions [1]. Labels are shown from 1, distances in order of time."""
        vectors, labels, n, m = np.split(inputs, self.dimensions + np.arange(3) * self.vectors, axis=1)
        names, rank, reference = labels.argmax(1), int(n[0].argmax()) + 1, int(m[0].argmax())
        far = np.linalg.norm(vectors - vectors[names == reference], axis=1)
        listed = ", ".join(f"{name + 1} at {each:.3g}" for name, each in zip(names, far, strict=True))
        question = f"{_ordinal(rank)} {self.order} from {reference + 1}? {listed}"
        return Sample(question, str(targets[0] + 1), str(predictions[0] + 1))

    @property
    def asks(self) -> str:
        """Vectors, n and a reference, as JSON."""
        vectors = ", ".join(f"[{(5 * place % 19 - 9) / 10}]" for place in range(self.vectors))
        return f'JSON; labels count from 1 and numbers left out are 0: `{{"vectors": [{vectors}], "n": 2, "from": 1}}`'

    def ask(self, question: str) -> Block:
        """Vectors that a person gives, with the label of the one that is the n-th by its distance from another.

        JSON: `vectors`, labelled from 1 in the order in which they come (a vector's numbers, from -1 to below 1, are rounded
        to the grid; those left out at its end are 0); `n`, from 1; `from`, the label of the reference.

        Raises QuestionError, which names the field that is wrong.
        """
        vectors, rank, reference = read(question, self.vectors, self.dimensions)
        points = torch.zeros(1, self.vectors, self.dimensions, dtype=torch.int32)
        for place, numbers in enumerate(vectors):
            points[0, place, : len(numbers)] = (torch.tensor(numbers, dtype=torch.float64) * GRID).round().int()
        labels = torch.arange(self.vectors)[None]
        return self._block(
            points.clamp_(-GRID, GRID - 1), labels, torch.tensor([[rank - 1]]), torch.tensor([[reference - 1]])
        )

    def _examples(self, indexes: np.ndarray, time: int | None = None) -> Block:
        """Examples whose reference comes at a step `time`, wherever it falls where none is given."""
        count, numbers = self.vectors, self.vectors * self.dimensions
        pairs = -(-numbers // 2)
        words, device = pairs + count + 2, self.device
        room, apart = self._room(2, len(indexes), words), self._room(len(indexes), count, self.dimensions)
        bits = counter_tensor(self.seed, self.split, indexes, words, device=device, room=room)
        points = bits[:, :pairs].view(torch.int32).bitwise_right_shift_(8)[:, :numbers].unflatten(1, (count, -1))
        labels = bits[:, pairs:-2].argsort(dim=1)
        asked = bits[:, -2:].remainder(count)  # of 2**64 numbers: no rank is likelier than another by over 2**-63 k
        rank, when = asked[:, :1], asked[:, 1:] if time is None else torch.full_like(asked[:, 1:], time)
        return self._block(points, labels, rank, when, apart)

    def _block(self, points: Tensor, labels: Tensor, rank: Tensor, when: Tensor, apart: Tensor | None = None) -> Block:
        """Examples with points [B k D], int32, labels [B k], ranks [B 1] from 0, and references at the steps `when` [B 1]."""
        count, rows = self.vectors, len(points)
        inputs = torch.empty(count, rows, self.width, device=points.device).transpose(0, 1)
        inputs[:, :, : self.dimensions].copy_(points).mul_(1 / GRID)
        repeated = torch.cat([rank, labels.gather(1, when)], 1)[:, None].expand(-1, count, -1)
        codes = torch.cat([labels[:, :, None], repeated], 2)
        one_hot = inputs[:, :, self.dimensions :].unflatten(2, (3, count))
        one_hot.zero_().scatter_(3, codes[..., None], 1)
        return {"inputs": inputs, "targets": labels.gather(1, find(points, when, rank, self.order, apart))}

    def _room(self, *shape: int) -> Tensor:
        """Memory to work in, int64, kept from block to block: on a CPU fresh memory takes longer than the work in it."""
        key: tuple[torch.device | int, ...] = (self.device, *shape)
        if key not in self._rooms:
            self._rooms = {kept: room for kept, room in self._rooms.items() if kept[-1] != shape[-1]}
            self._rooms[key] = torch.empty(shape, dtype=torch.int64, device=self.device)
        return self._rooms[key]


def find(points: Tensor, when: Tensor, rank: Tensor, order: Order, room: Tensor | None = None) -> Tensor:
    """The step of the vector that is `rank`-th, counted from 0, by its distance from the one at the step `when`.

    Args:
        points: whole numbers below `GRID` in size, int32 [B k D].
        when: steps, int64 [B 1].
        rank: ranks, int64 [B 1].
        order: whether ranks go from the farthest to the nearest, or the other way; the earlier first where two are
            equally far.
        room: memory to work in, int64 [B k D]; made where none is given.

    Returns:
        Steps, int64 [B 1].
    """
    reference = points.gather(1, when[:, :, None].expand(-1, 1, points.shape[2]))
    apart = points.long() if room is None else room.copy_(points)
    apart.sub_(reference)
    distances = apart.mul_(apart).sum(2)
    return distances.argsort(dim=1, descending=order == "farthest", stable=True).gather(1, rank)


def _between(name: str, value: int, least: int, most: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        limit = f" and at most {most:,}" if most is not None else ""
        raise ValueError(f"{name}: wanted a whole number of at least {least}{limit}, got {value!r}")


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in (11, 12, 13) else "th"
    return f"{number}{ending}"
