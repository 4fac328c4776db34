"""Question: what a trained model answers to questions that a person gives as text, beside the true answers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO, NamedTuple

import torch

from seqtoolkit.flow.batch import IGNORED, Batch
from seqtoolkit.flow.source import Block, Source, joined
from seqtoolkit.host.problem import one_line, show
from seqtoolkit.trained import Trained

LONGEST = 2**20
"""How many bytes a line of questions has at most."""


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

    def record(self) -> dict[str, Any]:
        """As plain data: the question with its answer, or with the error."""
        if self.error is not None:
            return {"question": self.question, "error": self.error}
        return {
            "question": self.question,
            "answer": self.answer,
            "expected": self.expected,
            "correct": self.correct,
        }


@dataclass
class Tally:
    """How many questions were answered right, wrong, without anyone's knowing, and not at all."""

    right: int = 0
    wrong: int = 0
    unknown: int = 0
    errors: int = 0

    def add(self, answered: Answered) -> None:
        """Count one."""
        self.errors += answered.error is not None
        self.right += answered.correct is True
        self.wrong += answered.correct is False
        self.unknown += answered.error is None and answered.correct is None

    def __str__(self) -> str:
        known, total = self.right + self.wrong, self.right + self.wrong + self.unknown + self.errors
        words = [f"{total:,} question{'s' * (total != 1)}"]
        words += [f"{self.right:,} of {known:,} right, accuracy {self.right / known:.4f}"] if known else []
        words += [f"{self.unknown:,} of which the answer is not known"] if self.unknown else []
        words += [f"{self.errors:,} not understood"] if self.errors else []
        return "; ".join(words)


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
        self.source = source or source_of(trained)
        if not self.source.asks:
            raise ValueError(f"the task {type(self.source).__name__} takes no questions")
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
                found[place] = Answered(question, error=one_line(error))
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


def source_of(trained: Trained) -> Source:
    """The task of a trained model, as it is evaluated. Raises ValueError where it is to act."""
    if trained.pipeline.plan.acting:
        name = trained.place.path.name
        raise ValueError(f"{name} acts in an environment and answers no questions: seqtoolkit play {name}")
    return trained.pipeline.evaluated()


def answer(trained: Trained, questions: Sequence[str]) -> list[Answered]:
    """The answers of a trained model to questions of its task, in order.

    Raises ValueError where the task takes no questions; one that it does not understand has an `error` in its place.
    """
    return list(Asker(trained).stream(questions))


def answer_lines(asker: Asker, lines: BinaryIO, tally: Tally | None = None) -> Iterator[list[dict[str, Any]]]:
    """The answers to questions that stand in JSON lines, in order, some at a time: never more than a batch is held.

    A line is a text, or an object whose `question` is one; a question that is other JSON is asked as it is written. What is
    no question has an `error` in its place, with the number of its `line`. Empty lines are passed over.
    """
    tally = tally or Tally()
    rest = enumerate(_lines(lines), 1)
    while some := list(islice(rest, asker.size)):
        read = [(number, _question(line)) for number, line in some if line is None or line.strip()]
        found = iter(asker([each for _, each in read if isinstance(each, str)]))
        records = []
        for number, each in read:
            answered = next(found) if isinstance(each, str) else each
            tally.add(answered)
            record = answered.record() if isinstance(each, str) else {"error": answered.error}
            records.append(record if answered.error is None else {"line": number, **record})
        yield records


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Each line, None for one that is too long to be held."""
    while line := file.readline(LONGEST + 1):
        if len(line) <= LONGEST or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(LONGEST)
        yield None


def _question(line: bytes | None) -> str | Answered:
    """The question of a line of JSON, or what is wrong with it."""
    if line is None:
        return Answered("", error=f"a line of more than {LONGEST:,} bytes")
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Answered("", error=f"not JSON: {one_line(error)}")
    question = data.get("question") if isinstance(data, dict) else data
    if isinstance(data, dict | str) and question is not None:
        return question if isinstance(question, str) else json.dumps(question)
    return Answered("", error=f'wanted {{"question": ...}} or a text, got {show(data)}')


def _shape(block: Block) -> tuple[Any, ...]:
    """What has to be the same for examples to stand in one batch."""
    return tuple(tuple(getattr(field, "shape", ("ragged",))[1:]) for field in block.values())
