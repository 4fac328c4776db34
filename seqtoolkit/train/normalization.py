"""Normalization: values learned at a scale of their own, whatever the size of the returns."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from seqtoolkit.train.optimize import exact

LEAST, GREATEST = 1e-4, 1e6
"""Between these a standard deviation is kept."""


class Rescaled(Protocol):
    """A head whose values can be kept what they are, under another mean and deviation."""

    def rescale(self, mean_before: Tensor, std_before: Tensor, mean_after: Tensor, std_after: Tensor) -> None:
        """Change the last layer so that value * std + mean stays the same."""


class PopArt:
    """Pop-Art (van Hasselt et al. 2016; Hessel et al. 2019): targets normalized, outputs preserved precisely.

    The head's values are of mean 0 and deviation 1; `denormalize` makes returns of them. The moments are averages that
    move by `rate`, each number weighed by when it came and nothing by the start (as Adam's are).

    Args:
        head: What makes the values.
        device: Where they are.
        rate: The step size of the moments.

    Raises:
        ValueError: a rate that is not above 0 and at most 1.
    """

    def __init__(self, head: Rescaled, device: torch.device | str = "cpu", rate: float = 3e-4) -> None:
        if not 0 < rate <= 1:
            raise ValueError(f"rate: wanted above 0 and at most 1, got {rate}")
        self.head, self.rate = head, rate
        self._moments = torch.tensor([0.0, 1.0, 0.0], dtype=exact(torch.device(device)), device=device)
        """First and second moment, and how much of them is of targets: 1 - (1 - rate)^updates."""

    @property
    def mean(self) -> Tensor:
        """The mean of the targets, a number on the device; 0 at the start."""
        return self._moments[0]

    @property
    def std(self) -> Tensor:
        """The deviation of the targets, a number on the device, within bounds; 1 at the start."""
        mean, second, _ = self._moments
        return (second - mean * mean).clamp(LEAST**2, GREATEST**2).sqrt()

    @torch.no_grad()
    def update(self, targets: Tensor) -> None:
        """Take targets (returns, of any shape) into the moments, and rescale the head so that its values stay the same.

        It changes weights in place: not between a forward pass and its backward pass.
        """
        mean, std = self.mean.clone(), self.std
        targets = targets.to(self._moments.dtype)
        first, second, weight = self._moments
        weight.lerp_(torch.ones_like(weight), self.rate)
        step = self.rate / weight
        first.lerp_(targets.mean(), step)
        second.lerp_(targets.square().mean(), step)
        self.head.rescale(mean, std, self.mean, self.std)

    def normalize(self, targets: Tensor) -> Tensor:
        """Returns at the scale of the head's values."""
        return (targets - self.mean.to(targets.dtype)) / self.std.to(targets.dtype)

    def denormalize(self, values: Tensor) -> Tensor:
        """The head's values at the scale of returns."""
        return values * self.std.to(values.dtype) + self.mean.to(values.dtype)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that moves here; the head's weights are the model's to save."""
        return {"moments": self._moments.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` returned; the head as it was then is loaded elsewhere."""
        self._moments.copy_(state["moments"])
