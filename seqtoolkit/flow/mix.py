"""Mix: one stream drawn from several by weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

from seqtoolkit.flow.counter import Split, counter_bits
from seqtoolkit.flow.kind import Kind
from seqtoolkit.flow.origin import Report
from seqtoolkit.flow.source import Block, Case, Ragged, Sample, Source, joined

_STREAM = (
    0x3A1C  # and the depth: keeps a choice apart from those of a mix inside, and from what sources draw themselves
)


class Mix(Source):
    """Each example comes from one of `sources`, chosen by weight and by (seed, split, index) alone.

    Args:
        sources: The streams to draw from; their fields and vocabularies have to be the same.
        weights: How often each is drawn, relative to the others; equally often where none are given.
    """

    def __init__(
        self,
        sources: list[Annotated[Callable[..., Source], Kind("source")]],
        weights: list[float] | None = None,
        seed: int = 0,
        split: Split = "train",
    ) -> None:
        super().__init__(seed, split)
        if not sources:
            raise ValueError("sources: wanted at least one, got none")
        weights = [1.0] * len(sources) if weights is None else weights
        if len(weights) != len(sources) or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
            raise ValueError(
                f"weights: wanted {len(sources)} numbers of at least 0 that are not all 0, one a source, got {weights}"
            )
        self.sources = [make(seed=seed, split=split) for make in sources]
        for number, source in enumerate(self.sources):
            if source.contiguous:
                raise ValueError(
                    f"sources.{number}: what goes on from batch to batch cannot be mixed, as {type(source).__name__}"
                )
        self.writes = self.sources[0].writes
        for number, source in enumerate(self.sources[1:], 1):
            if source.writes != self.writes:
                fields = (f"{{{', '.join(f'{k}: {v}' for k, v in s.writes.items())}}}" for s in (self, source))
                raise ValueError("sources.{}: wanted the fields of sources.0, {}, got {}".format(number, *fields))
        ends = np.cumsum(weights)
        self._ends = ends / ends[-1]
        self.on_device = all(each.on_device for each in self.sources)
        self._depth: int = 1 + max((each._depth for each in self.sources if isinstance(each, Mix)), default=0)  # noqa: SLF001  another Mix

    def draw(self, indexes: np.ndarray) -> Block:
        """The examples at `indexes`, in order, each by the source that its index falls to."""
        bits = counter_bits(self.seed, self.split, indexes, 1, _STREAM + self._depth)[:, 0]
        choice = np.searchsorted(self._ends, (bits >> np.uint64(11)) / 2.0**53, side="right")
        for source in self.sources:
            source.block, source.world, source.device = self.block, self.world, self.device
        chosen = [number for number in range(len(self.sources)) if (choice == number).any()]
        blocks = [self.sources[number].draw(indexes[choice == number]) for number in chosen]
        order = np.argsort(np.concatenate([np.flatnonzero(choice == number) for number in chosen]))
        return {name: _ordered(field, order) for name, field in joined(blocks).items()}

    def observe(self, metrics: Mapping[str, float]) -> None:
        """Every source hears every update."""
        for source in self.sources:
            source.observe(metrics)

    @property
    def listens(self) -> bool:
        """Whether one of the sources does."""
        return any(source.listens for source in self.sources)

    def memory(self) -> dict[str, Any]:
        """What each source remembers."""
        return {"sources": [source.memory() for source in self.sources]}

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Restore what `memory` returned."""
        for source, each in zip(self.sources, memory["sources"], strict=True):
            source.recall(each)

    def demand(self) -> None:
        """Of every source."""
        for source in self.sources:
            source.demand()

    def prepare(self, report: Report) -> None:
        """Every source does."""
        for source in self.sources:
            source.prepare(report)

    def keep(self, folder: Path) -> None:
        """Each source in a folder of its own."""
        for number, source in enumerate(self.sources):
            source.keep(folder / str(number))

    def adopt(self, folder: Path) -> None:
        """Each source what its like has kept."""
        for number, source in enumerate(self.sources):
            if (folder / str(number)).exists():
                source.adopt(folder / str(number))

    def show(self, inputs: np.ndarray, targets: np.ndarray, predictions: np.ndarray) -> Sample:
        """As the first source shows it; all share one vocabulary."""
        return self.sources[0].show(inputs, targets, predictions)

    @property
    def asks(self) -> str:
        """What the first source that takes questions says."""
        return next((source.asks for source in self.sources if source.asks), "")

    def ask(self, question: str) -> Block:
        """By the first source that takes this question. Raises ValueError as the first that takes any, where none does."""
        refused: ValueError | None = None
        for source in [source for source in self.sources if source.asks]:
            try:
                return source.ask(question)
            except ValueError as error:
                refused = refused or error
        if refused is None:
            return super().ask(question)
        raise refused

    def cases(self) -> list[Case]:
        """The first case of each source, then the second ones, and so on."""
        return [case for turn in zip_longest(*(each.cases() for each in self.sources)) for case in turn if case]


def _ordered(field: Any, order: np.ndarray) -> Any:
    """The examples of a field at the places `order`."""
    if isinstance(field, Ragged):
        begins = (np.cumsum(field.lengths) - field.lengths)[order]
        lengths = field.lengths[order]
        within = np.arange(len(field.values)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return Ragged(field.values[np.repeat(begins, lengths) + within], lengths)
    return field[torch.from_numpy(order).to(field.device)] if isinstance(field, torch.Tensor) else field[order]
