"""Model: encoder, core and head in one module, and how it answers."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from seqtoolkit.flow.attention import Attention, shown
from seqtoolkit.flow.batch import IGNORED
from seqtoolkit.flow.core import Core, State
from seqtoolkit.flow.reading import read
from seqtoolkit.flow.spec import Spec, unify

Way = Literal["parallel", "teacher_forcing"]


class Encoder(nn.Module, ABC):
    """What turns a batch's inputs [T B ...] into the vectors [T B D] that a core reads."""

    reads: str
    writes: str


class Embed(Encoder):
    """A learned vector for each id.

    Args:
        size: The length of the vectors.
        dropout: The share of each vector's numbers that training sets to 0.
    """

    reads = "i64<V>[T B]"

    def __init__(self, input_spec: Spec, size: int = 64, dropout: float = 0.0) -> None:
        super().__init__()
        vocabulary = unify(self.reads, input_spec)["V"]
        _at_least("size", size, 1)
        self.table = nn.Embedding(_known(vocabulary, "the number of input ids"), size)
        self.dropout = nn.Dropout(dropout)
        self.writes = f"f32[T B {size}]"

    def forward(self, inputs: Tensor) -> Tensor:
        """Ids [T B] to vectors [T B D]."""
        return self.dropout(self.table(inputs))


class Project(Encoder):
    """A linear map of each input vector; of each row, where the inputs are matrices [T B n D].

    Args:
        size: The length of the vectors that come out; 0 hands the inputs on as they are.
    """

    reads = "f32[T B D]"

    def __init__(self, input_spec: Spec, size: int = 0) -> None:
        super().__init__()
        before = " ".join(map(str, ("T", "B", *input_spec.axes[2:-1])))
        self.reads = f"f32[{before} D]"
        width = _known(unify(self.reads, input_spec)["D"], "the size of the inputs")
        _at_least("size", size, 0)
        self.map = nn.Linear(width, size) if size else nn.Identity()
        self.writes = f"f32[{before} {size or width}]"

    def forward(self, inputs: Tensor) -> Tensor:
        """Vectors [T B D] to vectors [T B size], matrices [T B n D] to matrices [T B n size]."""
        return self.map(inputs)


class Head(nn.Module, ABC):
    """What turns a core's outputs [U B H] into predictions [U B C]."""

    reads: str
    writes: str


class LikelihoodHead(Head):
    """A head whose predictions are the log-likelihoods of the targets, so that [U B V] need never be in memory.

    `forward(outputs [U B H], targets [U B] | None, table [V E] | None)`: with targets their log-likelihoods [U B], at
    least float32, exactly 0 and without gradient where a target is IGNORED; without, the log-probabilities [U B V] of
    what comes next. `table` is the encoder's, which the model hands to a head that is `tied`, at each call.
    """

    writes = "f32[U B]"
    classes: int
    """How many ids a target is one of (V)."""
    tied: bool = False


class MLP(Head):
    """Hidden layers with ReLU after each, then a linear map to the classes (Santoro et al. 2018, A.1 and A.2).

    Args:
        sizes: The sizes of the hidden layers; none makes the head linear.
        dropout: The share of each hidden layer's numbers that training sets to 0.
    """

    reads = "f32[U B H]"

    def __init__(
        self,
        input_size: int,
        target_spec: Spec,
        sizes: list[int] = [256, 256],  # noqa: B006  never changed; a pipeline shows it as the default
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        classes = _known(unify("i64<C>[U B]", target_spec)["C"], "the number of classes")
        layers: list[nn.Module] = []
        for size in sizes:
            _at_least("sizes", size, 1)
            layers += [nn.Linear(input_size, size), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
            input_size = size
        self.layers = nn.Sequential(*layers, nn.Linear(input_size, classes))
        self.writes = f"f32[U B {classes}]"

    def forward(self, outputs: Tensor) -> Tensor:
        """Outputs [U B H] to logits [U B C]."""
        return self.layers(outputs)


@dataclass(frozen=True)
class Decoding:
    """How a model answers.

    Args:
        decoding: `parallel` gives every step of the answer the same blank input (Santoro et al. 2018, A.2);
            `teacher_forcing` adds the previous character: the true one in training, the model's own in evaluation.
        decoder: `shared` reads and answers with one core, as the published code does; `separate` answers with a
            second core of the same kind, which starts from the state of the first.
    """

    decoding: Way = "parallel"
    decoder: Literal["shared", "separate"] = "shared"


class Model(nn.Module):
    """Encoder, core and head; predictions are made at the last U steps, those of the answer.

    With a `decoder`, a second core of the same kind, that one answers, from the state of the first.
    """

    def __init__(
        self, encoder: Encoder, core: Core, head: Head, decoding: Way = "parallel", decoder: Core | None = None
    ) -> None:
        super().__init__()
        self.encoder, self.core, self.head, self.decoder = encoder, core, head, decoder
        self.feedback = None
        if decoding == "teacher_forcing":
            written = head.classes if isinstance(head, LikelihoodHead) else Spec.parse(head.writes).axes[-1]
            classes = _known(written, "the number of classes")
            size = _known(Spec.parse(encoder.writes).axes[-1], "the size of the encoder's vectors")
            self.feedback = nn.Embedding(classes + 1, size)  # the last id stands for the start

    def forward(
        self,
        inputs: Tensor,
        state: State | None = None,
        first: Tensor | None = None,
        answers: int | None = None,
        targets: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Predictions [U B C] at the last U steps, and the last state; of a LikelihoodHead [U B], if targets are given.

        Args:
            inputs: What the encoder reads, [T B ...].
            state: From where to begin; the initial state where none is given.
            first: The steps at which a row begins anew, [T B], bool.
            answers: U; every step where none is given.
            targets: What is to be said [U B], read by teacher forcing in training alone, by a LikelihoodHead always.
        """
        vectors = self.encoder(inputs)
        question = _question(vectors, answers)
        if question < 1:
            if self.decoder is not None or self.feedback is not None:
                raise ValueError("a decoder wants a question before the answer, got batches of answers only")
            outputs, state = self.core(vectors, state, first)
            return self._predict(outputs, targets), state
        asked, answered = _cut(first, question)
        state = read(self.core, vectors[:question], state, asked)
        decoder = self.decoder or self.core
        if self.feedback is None:
            outputs, state = decoder(vectors[question:], state, answered)
            return self._predict(outputs, targets), state
        return self._with_feedback(decoder, self.feedback, vectors[question:], state, targets)

    @torch.no_grad()
    def attention(self, inputs: Tensor, first: Tensor | None = None, answers: int | None = None) -> Attention:
        """Who attends to whom on the way to the predictions of `model(inputs, None, first, answers)` in evaluation.

        With teacher forcing, the steps of the answer are those in which the model reads its own answer.

        Raises:
            ValueError: the core has no attention to show, or not in the shape that is wanted; the model is in training.
        """
        vectors = self.encoder(inputs)
        question = _question(vectors, answers)
        if question < 1:
            return shown(self.core, vectors, None, first)
        asked, answered = _cut(first, question)
        before = shown(self.core, vectors[:question], None, asked)
        fed = vectors[question:]
        if self.feedback is not None:
            predictions, _ = self(inputs, None, first, answers)
            said = torch.cat([self._start(fed)[None], predictions[:-1].argmax(-1)])
            fed, answered = fed + self.feedback(said), None
        state = read(self.core, vectors[:question], None, asked)
        after = shown(self.decoder or self.core, fed, state, answered)
        return Attention(torch.cat([before.weights, after.weights]), before.rows)

    def _predict(self, outputs: Tensor, targets: Tensor | None) -> Tensor:
        if not isinstance(self.head, LikelihoodHead):
            return self.head(outputs)
        return self.head(outputs, targets, self.encoder.get_parameter("table.weight") if self.head.tied else None)

    def _start(self, vectors: Tensor) -> Tensor:
        assert self.feedback is not None
        return torch.full(vectors.shape[1:2], self.feedback.num_embeddings - 1, device=vectors.device)

    def _with_feedback(
        self, decoder: Core, feedback: nn.Embedding, vectors: Tensor, state: State, targets: Tensor | None
    ) -> tuple[Tensor, State]:
        start = self._start(vectors)
        if self.training:
            if targets is None:
                raise ValueError("teacher forcing wants the targets in training; call model.eval() to let it answer")
            said = targets[:-1].masked_fill(targets[:-1] == IGNORED, 0)
            outputs, state = decoder(vectors + feedback(torch.cat([start[None], said])), state)
            return self._predict(outputs, targets), state
        predictions: list[Tensor] = []
        said = start
        asked = targets if isinstance(self.head, LikelihoodHead) else None
        for step, now in enumerate(vectors):
            output, state = decoder.step(now + feedback(said), state)
            chances = self._predict(output[None], None)
            said = chances[0].argmax(-1)
            predictions.append(chances if asked is None else self._predict(output[None], asked[step : step + 1]))
        return torch.cat(predictions), state


def _question(vectors: Tensor, answers: int | None) -> int:
    """How many steps come before the answer."""
    question = 0 if answers is None else len(vectors) - answers
    if question < 0:
        raise ValueError(f"answers: wanted at most the {len(vectors)} steps of the inputs, got {answers}")
    return question


def _cut(first: Tensor | None, question: int) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if first is None else (first[:question], first[question:])


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name}: wanted at least {least}, got {value}")


def _known(size: int | str, what: str) -> int:
    if isinstance(size, str):
        raise ValueError(f"{what} is not known here: the stage before it has to declare it")
    return size
