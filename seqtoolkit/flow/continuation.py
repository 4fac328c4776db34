"""Continuation: what comes after a prompt, drawn step by step from a model's distribution of what comes next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple, Protocol, Self, TypeGuard

import numpy as np
import torch
from torch import Tensor

from seqtoolkit.flow.core import State, map_state
from seqtoolkit.flow.model import Model

UNKNOWN = 0
"""The id that a text's vocabulary has for all that it does not know."""
STEPS = 4096
"""How many steps of a prompt are unrolled at once, so that memory does not go by its length."""
_DRAWS = 2**52
"""How many different draws there are: few enough that a draw times a sum of probabilities stays below that sum."""


class Textual(Protocol):
    """What a source may have besides, if its examples are text: how text becomes ids, of which `UNKNOWN` is one, and back."""

    end: int
    """The id that ends a document."""

    def encode(self, text: str) -> np.ndarray:
        """The ids [n] int64 of a text; of none there are none."""

    def decode(self, ids: np.ndarray) -> str:
        """The text of ids [n]. What is decoded of the first of them begins what is decoded of all, but for its last characters."""


def textual(source: object) -> TypeGuard[Textual]:
    """Whether a source is one of text, that a person can begin and a model go on with."""
    return all(callable(getattr(source, name, None)) for name in ("encode", "decode")) and hasattr(source, "end")


@dataclass(frozen=True)
class Sampling:
    """How one of the ids that may come next is drawn.

    Args:
        temperature: What log-probabilities are divided by before anything else; 0 takes the likeliest id.
        top_k: How many of the likeliest ids are left, those of lowest id where several are as likely; 0 leaves all.
        top_p: Of those, as few of the likeliest are left as together have this probability (the nucleus of Holtzman et al. 2020).
        seed: Where the draws of the first row come from; those of row n come from `seed + n`.
        without: Ids that are never drawn.

    Raises:
        ValueError: one of these is out of its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    without: Sequence[int] = ()

    def __post_init__(self) -> None:
        if not (isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"temperature: wanted a number of at least 0, got {self.temperature}")
        if self.top_k < 0:
            raise ValueError(f"top_k: wanted at least 1, or 0 for all, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: wanted a probability above 0 and at most 1, got {self.top_p}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed: wanted a number from 0 to 2^32 - 1, got {self.seed}")

    def distribution(self, scores: Tensor) -> Tensor:
        """The log-probabilities f64[B V] from which an id is drawn, of a model's scores or log-probabilities [B V].

        Raises ValueError where a score is no number, or no id is left.
        """
        scores = scores.double()
        if self.without:
            scores = scores.index_fill(-1, torch.tensor(self.without, device=scores.device), -torch.inf)
        best = scores.amax(-1, keepdim=True)
        if not best.isfinite().all():
            why = (
                "no id is left"
                if (best == -torch.inf).any()
                else "the model predicts NaN or infinity; its training has diverged"
            )
            raise ValueError(f"nothing can be drawn: {why}")
        if self.temperature == 0:
            return nucleus(most_likely(scores, 1), 1.0)
        scores = (scores - best) / self.temperature
        return nucleus(most_likely(scores, self.top_k) if self.top_k else scores, self.top_p)


def most_likely(scores: Tensor, k: int) -> Tensor:
    """Scores [B V] with all but the k highest at -inf; of equal ones those of lowest id are kept."""
    if k >= scores.shape[-1]:
        return scores
    least = scores.topk(k, -1).values[:, -1:]
    above, equal = scores > least, scores == least
    kept = above | (equal & (equal.cumsum(-1) <= k - above.sum(-1, keepdim=True)))
    return scores.masked_fill(~kept, -torch.inf)


def nucleus(scores: Tensor, p: float) -> Tensor:
    """Log-probabilities [B V] of the smallest set of ids whose probability is at least p, of equal ones those of lowest id."""
    scores = scores.log_softmax(-1)
    if p >= 1:
        return scores
    falling, order = scores.sort(dim=-1, descending=True, stable=True)
    mass = falling.exp().cumsum(-1)
    dropped = torch.zeros_like(scores, dtype=torch.bool)
    dropped.scatter_(-1, order[:, 1:], mass[:, :-1] >= p)
    return scores.masked_fill(dropped, -torch.inf).log_softmax(-1)


class Heard(NamedTuple):
    """Where a model stands after a prompt."""

    scores: Tensor
    """Of what comes next, [B V]."""
    state: State

    def repeat(self, rows: int) -> Self:
        """The same place for each of `rows` rows, of a prompt with one."""
        return type(self)(*map_state(lambda each: each.expand(rows, *each.shape[1:]).contiguous(), tuple(self)))


@torch.no_grad()
def hear(model: Model, prompt: Tensor, state: State | None = None) -> Heard:
    """Read a prompt, ids [T B], from a state, the initial one where none is given; only the last step is predicted.

    The model is put into evaluation. Raises ValueError for a prompt of no steps.
    """
    if not len(prompt):
        raise ValueError("prompt: wanted at least one step, got none")
    model.eval()
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    for some in prompt.to(device).split(STEPS):
        scores, state = model(some, state, None, 1)
    return Heard(scores[-1], state)


@torch.no_grad()
def follow(model: Model, heard: Heard, sampling: Sampling, end: int | None = None) -> Iterator[Tensor]:
    """The ids [B] that come next, on the CPU, step after step; a step of the model is made when the next one is asked for.

    Draws are made on the CPU, each row's from a generator of its own: company changes no row, but for rounding. A row that has
    come to `end` stays there, and once all have nothing comes any more; where `end` is None there is no end.

    Raises:
        ValueError: a prediction is no number, or no id is left to be drawn.
    """
    scores, state = heard
    generators = [torch.Generator().manual_seed(sampling.seed + row) for row in range(len(scores))]
    ended = torch.zeros(len(scores), dtype=torch.bool)
    while True:
        ids = _drawn(sampling.distribution(scores).cpu(), generators)
        if end is not None:
            ids = ids.masked_fill(ended, end)
        yield ids
        if end is not None and (ended := ended | (ids == end)).all():
            return
        predictions, state = model(ids[None].to(scores.device), state, None, 1)
        scores = predictions[-1]


def _drawn(distribution: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """An id [B] for each row of log-probabilities f64[B V]: the first at which their sum is above the draw."""
    draws = torch.cat([torch.randint(_DRAWS, (1,), generator=each) for each in generators]).double() / _DRAWS
    sums = distribution.exp().cumsum(-1)
    return torch.searchsorted(sums, draws[:, None] * sums[:, -1:], right=True)[:, 0]
