"""Metrics of text: bits per character, and perplexity by how frequent words are."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from seqtoolkit.sdk import Batch, Metric


class BitsPerCharacter(Metric):
    """What it takes to say a character of the text, in bits: all tokens' negative log-likelihood over all characters.

    Words stand for the text in which they are joined by blanks; what an unknown word stands for is said where the tokenizer
    counts characters.
    """

    better = "lower"
    reads = {"predictions": "f32[U B]", "characters": "i64[U B]", "mask": "bool[U B]"}  # noqa: RUF012  a constant

    def measure(self, predictions: Tensor, batch: Batch) -> Tensor:
        """Predictions are log-likelihoods [U B]."""
        bits = -predictions.where(batch.mask, 0).sum(dtype=_exact(predictions)) / math.log(2)
        return torch.stack([bits, batch.extra["characters"].where(batch.mask, 0).sum(dtype=bits.dtype)])


class FrequencyPerplexity(Metric):
    """The perplexity of words by how often they stand in the training text (Santoro et al. 2018, Table 3).

    Args:
        least: How often at least.
        below: And less often than this; null for no bound.
    """

    better = "lower"
    reads = {"predictions": "f32[U B]", "frequency": "i64[U B]", "mask": "bool[U B]"}  # noqa: RUF012  a constant

    def __init__(self, least: int = 0, below: int | None = None) -> None:
        if least < 0:
            raise ValueError(f"least: wanted at least 0, got {least}")
        if below is not None and below <= least:
            raise ValueError(f"below: wanted more than least, {least}, got {below}")
        self.least, self.below = least, below
        if below is None:
            self.name = f"perplexity_from_{least}"
        else:
            self.name = f"perplexity_{least}_to_{below}" if least else f"perplexity_below_{below}"

    def measure(self, predictions: Tensor, batch: Batch) -> Tensor:
        """Predictions are log-likelihoods [U B]."""
        frequency = batch.extra["frequency"]
        inside = batch.mask & (frequency >= self.least)
        if self.below is not None:
            inside &= frequency < self.below
        total = predictions.where(inside, 0).sum(dtype=_exact(predictions))
        return torch.stack([total, inside.sum(dtype=total.dtype)])

    def result(self, sums: Tensor) -> float:
        """exp(-total / count); nan where no such word was counted."""
        try:
            return math.exp(-super().result(sums))
        except OverflowError:
            return math.inf


def _exact(predictions: Tensor) -> torch.dtype:
    return torch.float32 if predictions.device.type == "mps" else torch.float64  # mps has no float64
