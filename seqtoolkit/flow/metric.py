"""Metric: what evaluation reports, exact over a whole split because totals and counts are added up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from seqtoolkit.flow.batch import IGNORED, Batch


class Metric(ABC):
    """A ratio of two sums over examples."""

    reads: dict[str, str]
    better: Literal["higher", "lower"] = "higher"
    share: bool = False
    """Whether it is a share of what is counted, from 0 to 1, for which there are intervals."""

    @abstractmethod
    def measure(self, predictions: Tensor, batch: Batch) -> Tensor:
        """The two sums of a batch: [total, count], of a dtype that holds them exactly."""

    def result(self, sums: Tensor) -> float:
        """The metric from the added sums; nan where nothing was counted."""
        total, count = sums.tolist()
        return total / count if count else float("nan")


class Accuracy(Metric):
    """The share of counted targets that are predicted right: of characters, as in Santoro et al. 2018, Table 1."""

    share = True
    reads = {"predictions": "f32[U B C]", "targets": "i64<C>[U B]", "mask": "bool[U B]"}  # noqa: RUF012  a constant

    def measure(self, predictions: Tensor, batch: Batch) -> Tensor:
        """Predictions are logits [U B C]."""
        right = (predictions.argmax(-1) == batch.targets) & batch.mask
        return torch.stack([right.sum(), batch.mask.sum()])


class SequenceAccuracy(Metric):
    """The share of examples of which every target is predicted right, an end of the answer included."""

    share = True
    reads = {"predictions": "f32[U B C]", "targets": "i64<C>[U B]"}  # noqa: RUF012  a constant of the class

    def measure(self, predictions: Tensor, batch: Batch) -> Tensor:
        """Predictions are logits [U B C]."""
        right = (predictions.argmax(-1) == batch.targets) | (batch.targets == IGNORED)
        whole = right.all(0).sum()
        return torch.stack([whole, torch.full_like(whole, right.shape[1])])
