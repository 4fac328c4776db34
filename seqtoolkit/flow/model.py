"""Model: encoder, core and head in one module, and how it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from seqtoolkit.flow.attention import Attention, shown
from seqtoolkit.flow.batch import IGNORED
from seqtoolkit.flow.core import Core, State
from seqtoolkit.flow.encoder import Encoder
from seqtoolkit.flow.head import Head, LikelihoodHead
from seqtoolkit.flow.reading import read
from seqtoolkit.flow.spec import Spec, known

Way = Literal["parallel", "teacher_forcing"]


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
            classes = known(written, "the number of classes")
            size = known(Spec.parse(encoder.writes).axes[-1], "the size of the encoder's vectors")
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
