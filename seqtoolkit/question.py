"""Question: what a trained model answers to questions that a person gives as text, beside the true answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import torch

from seqtoolkit.flow.batch import IGNORED, Batch
from seqtoolkit.flow.source import Block, Source, joined
from seqtoolkit.host.assemble import make_source
from seqtoolkit.trained import Trained


@dataclass(frozen=True)
class Answered:
    """A question with what became of it: an answer, or an error."""

    question: str
    """As it was given."""
    shown: str = ""
    """As the task shows it."""
    answer: str | None = None
    expected: str | None = None
    """The true answer, as the task shows it; None where the task does not know it."""
    correct: bool | None = None
    """Whether every target is predicted right, as `sequence_accuracy` counts; None where none is known or they are numbers."""
    error: str | None = None
    """Why it is no question of this task."""


class _Asked(NamedTuple):
    """A question that was understood."""

    place: int
    block: Block
    alone: Batch
    """The batch that it is by itself: what it is padded to in company is nothing of its own."""


class Asker:
    """Asks a trained model, in batches, on the device where the model is. Padding changes no answer.

    Args:
        trained: The model; its pipeline's task, as it is evaluated, reads the questions and knows the true answers.
        size: How many questions a batch has; those of the pipeline's batches where None.
        source: The task; the one that evaluates the run where None.

    Raises:
        ValueError: the task takes no questions.
    """

    def __init__(self, trained: Trained, size: int | None = None, source: Source | None = None) -> None:
        self.graph = trained.graph
        seed = trained.pipeline.plan.sections["run"].seed
        self.source = source or make_source(trained.pipeline.plan.evaluate_source, seed=seed)
        if not self.source.asks:
            raise ValueError(f"{trained.pipeline.plan.source.use} takes no questions: its source has no `ask`")
        self.size = size or self.graph.collate.size

    def stream(self, questions: Iterable[str]) -> Iterator[Answered]:
        """The answers in order, `size` questions at a time, however many there are."""
        rest = iter(questions)
        while some := list(islice(rest, self.size)):
            yield from self(some)

    def __call__(self, questions: Sequence[str]) -> list[Answered]:
        """The answers to some questions, in one batch for each shape that they have."""
        found: dict[int, Answered] = {}
        groups: dict[Any, list[_Asked]] = defaultdict(list)
        for place, question in enumerate(questions):
            try:
                block = self.source.ask(question)
                asked = _Asked(place, block, self.graph.batch(block))
            except ValueError as error:
                found[place] = Answered(question, error=" ".join(str(error).split()))
            else:
                groups[_shape(block)].append(asked)
        for group in groups.values():
            for asked, predictions in zip(group, self._predict(group), strict=True):
                found[asked.place] = self._answered(questions[asked.place], asked.alone, predictions)
        return [found[place] for place in range(len(questions))]

    @torch.no_grad()
    def _predict(self, group: Sequence[_Asked]) -> list[torch.Tensor]:
        """What is predicted for each, at the steps of its own answer: ids [U], or numbers [U C]."""
        model = self.graph.model.eval()
        device = next((each.device for each in model.parameters()), torch.device("cpu"))
        batch = self.graph.batch(joined([each.block for each in group])).to(device)
        predictions, _ = model(batch.inputs, None, batch.first, batch.answers)
        said = (predictions.float() if batch.targets.is_floating_point() else predictions.argmax(-1)).cpu()
        return [said[: each.alone.answers, row] for row, each in enumerate(group)]

    def _answered(self, question: str, alone: Batch, predictions: torch.Tensor) -> Answered:
        targets = alone.targets[:, 0]
        sample = self.source.show(alone.inputs[:, 0].numpy(), targets.numpy(), predictions.numpy())
        if targets.is_floating_point():
            return Answered(question, sample.question, sample.answer, sample.expected)
        if not (targets != IGNORED).any():
            return Answered(question, sample.question, sample.answer)
        right = bool(((predictions == targets) | (targets == IGNORED)).all())
        return Answered(question, sample.question, sample.answer, sample.expected, right)


def answer(trained: Trained, questions: Sequence[str]) -> list[Answered]:
    """The answers of a trained model to questions of its task, in order.

    Raises ValueError where the task takes no questions; one that it does not understand has an `error` in its place.
    """
    return list(Asker(trained).stream(questions))


def _shape(block: Block) -> tuple[Any, ...]:
    """What has to be the same for examples to stand in one batch."""
    return tuple(tuple(getattr(field, "shape", ("ragged",))[1:]) for field in block.values())
