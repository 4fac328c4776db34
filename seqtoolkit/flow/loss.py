"""Loss: what training minimises, as a total and a count, so that parts of a batch add up to the whole."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor
from torch.nn import functional as F

from seqtoolkit.flow.batch import IGNORED, Batch


class Loss(ABC):
    """`total / count` is the loss of a batch."""

    reads: dict[str, str]

    @abstractmethod
    def total(self, predictions: Tensor, batch: Batch) -> Tensor:
        """The sum over the batch, a scalar."""

    @abstractmethod
    def count(self, batch: Batch) -> Tensor:
        """What the sum is divided by, a scalar; 0 where nothing is learned from the batch."""


class CrossEntropy(Loss):
    """The negative log-likelihood of the targets, in nats, over all targets that are not ignored.

    Args:
        label_smoothing: The share of each target spread evenly over all classes.
    """

    reads = {"predictions": "f32[U B C]", "targets": "i64<C>[U B]"}  # noqa: RUF012  a constant of the class

    def __init__(self, label_smoothing: float = 0.0) -> None:
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing: wanted a share from 0 to below 1, got {label_smoothing}")
        self.label_smoothing = label_smoothing

    def total(self, predictions: Tensor, batch: Batch) -> Tensor:
        """Predictions are logits [U B C]."""
        return F.cross_entropy(
            predictions.flatten(0, 1),
            batch.targets.flatten(),
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )

    def count(self, batch: Batch) -> Tensor:
        """The number of targets that are not ignored."""
        return (batch.targets != IGNORED).sum()


class NegativeLogLikelihood(Loss):
    """The negative log-likelihood of the targets, in nats, for heads whose predictions are log-likelihoods."""

    reads = {"predictions": "f32[U B]", "targets": "i64<C>[U B]"}  # noqa: RUF012  a constant of the class

    def total(self, predictions: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002  0 where a target is ignored
        """Predictions are log-likelihoods [U B], 0 where a target is ignored."""
        return -predictions.sum()  # a plain sum: the head made the gradient of such a one as it computed forward

    def count(self, batch: Batch) -> Tensor:
        """The number of targets that are not ignored."""
        return (batch.targets != IGNORED).sum()
