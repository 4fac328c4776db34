"""Metric: what evaluation reports, exact over a whole split because totals and counts are added up."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from seqtoolkit.flow.batch import IGNORED, Batch


class Metric(ABC):
    """A ratio of two sums over examples."""

    name: str = ""
    """What it is reported as; as its block's `use` where empty."""
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


class Perplexity(Metric):
    """The exponential of the mean negative log-likelihood of the counted targets, over a whole split at once.

    For heads whose predictions are log-likelihoods. A count beyond float's range is inf.
    """

    better = "lower"
    reads = {"predictions": "f32[U B]", "targets": "i64<C>[U B]", "mask": "bool[U B]"}  # noqa: RUF012  a constant

    def measure(self, predictions: Tensor, batch: Batch) -> Tensor:
        """Predictions are log-likelihoods [U B]."""
        counted = batch.mask & (batch.targets != IGNORED)
        dtype = torch.float32 if predictions.device.type == "mps" else torch.float64  # mps has no float64
        return torch.stack([predictions.where(counted, 0).sum(dtype=dtype), counted.sum(dtype=dtype)])

    def result(self, sums: Tensor) -> float:
        """exp(-total / count); nan where nothing was counted."""
        mean = -super().result(sums)
        try:
            return math.exp(mean)
        except OverflowError:
            return math.inf
