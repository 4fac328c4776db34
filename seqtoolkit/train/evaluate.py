"""Evaluate: a model's metrics over the first examples of a stream, and some of its answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from seqtoolkit.flow.batch import Batch
from seqtoolkit.flow.continuation import UNKNOWN, Sampling, follow, hear, textual
from seqtoolkit.flow.core import State
from seqtoolkit.flow.graph import Graph
from seqtoolkit.flow.head import LikelihoodHead
from seqtoolkit.flow.replay import Replay
from seqtoolkit.flow.source import Sample, Source
from seqtoolkit.flow.view import View, look
from seqtoolkit.train.optimize import Update, exact

PROMPT, CONTINUED = 20, 20
"""Of a sample of text: how many tokens are read at most, and how many are written."""
SAMPLING = Sampling(without=(UNKNOWN,))


@dataclass(frozen=True)
class EvaluateSettings:
    """When and on what a run is evaluated. Metrics are named after the split: `valid/accuracy`, `test/accuracy`.

    Args:
        every: After how many updates, and once after the last; 0 is after the last only.
        examples: On how many examples, or episodes; null is the whole split, of a source that has an end.
        test_examples: On how many examples of the test split, once, after the last update; 0 leaves the test out, null is
            the whole split.
        test_checkpoint: Whose weights the test is of: last, or best, which the evaluations have chosen.
        best: The metric by which the best checkpoint is chosen; the first one of the pipeline where null.
        patience: After how many evaluations in a row that were no better than the best before them the run ends; 0
            never ends it early.
        samples: How many examples are shown with the model's answer, or episodes with a replay.
        attention: Whether what the core attends to, in the cases of the source, is drawn each time.
        baselines: Whether what simple models of the source reach is found as well, such as `valid/trigram_perplexity`, or
            simple players of the environment, such as `valid/random_return`.
        greedy: Whether a policy takes the likeliest action, and draws none.
    """

    every: int = 200
    examples: int | None = 1280
    test_examples: int | None = 0
    test_checkpoint: Literal["last", "best"] = "last"
    best: str | None = None
    patience: int = 0
    samples: int = 4
    attention: bool = False
    baselines: bool = False
    greedy: bool = False


class Evaluated(NamedTuple):
    """What an evaluation found."""

    metrics: dict[str, float]
    samples: list[Sample]
    views: list[View]
    """what the core attends to, where that was asked for"""
    replays: Sequence[Replay] = ()
    """some of the episodes, where the model acts"""


class Evaluation:
    """The metrics of a pipeline, and its loss, over the first `examples` of `origin`, a source: the same ones every time.

    Of a source that has an end they are at most all that it has, and all where `examples` is None. Where the source is
    contiguous, the state is carried from batch to batch. With `attention`, what the core attends to in the cases of the
    source is found as well.
    """

    def __init__(
        self, graph: Graph, origin: Source, examples: int | None, samples: int = 0, *, attention: bool = False
    ) -> None:
        if examples is None and not origin.finite:
            raise ValueError(f"examples: wanted a number, for {type(origin).__name__} has no end, got null")
        if examples is not None and examples < 1:
            raise ValueError(f"examples: wanted at least 1, got {examples}")
        origin.block = graph.collate.size  # which says how many examples one that has an end has
        self.graph, self.origin, self.examples, self.samples = graph, origin, examples, samples
        self.attention = attention

    def __call__(self, update: Update, stopped: Callable[[], bool] = lambda: False) -> Evaluated | None:
        """Evaluate the model as it is now; None where `stopped` came true meanwhile."""
        model, metrics, loss = self.graph.model, self.graph.metrics, self.graph.loss
        was_training = model.training
        sums: dict[str, Tensor] = {}
        samples: list[Sample] = []
        state: State | None = None
        dtype = exact(update.device)
        with torch.no_grad(), torch.random.fork_rng([update.device] if update.device.type == "cuda" else []):
            model.eval()
            try:
                for batch in self._batches(update.device):
                    with update.autocast():
                        predictions, end = model(batch.inputs, state, batch.first, batch.answers, batch.targets)
                        state = end if self.origin.contiguous else None
                        found = {"loss": torch.stack([loss.total(predictions, batch), loss.count(batch)])}
                    found |= {name: each.measure(predictions, batch) for name, each in metrics.items()}
                    sums = {name: sums.get(name, 0) + value.to(dtype) for name, value in found.items()}
                    samples += self._show(batch, predictions, self.samples - len(samples))
                    if stopped():
                        return None
                views = look(self.graph, self.origin, update.device) if self.attention else []
            finally:
                model.train(was_training)
        total, count = sums.pop("loss").tolist()
        values = {"loss": total / count if count else float("nan")} | {
            name: metrics[name].result(each) for name, each in sums.items()
        }
        return Evaluated({f"{self.origin.split}/{name}": value for name, value in values.items()}, samples, views)

    def _batches(self, device: torch.device) -> Iterator[Batch]:
        node = self.graph.node(self.origin, device)  # no thread: ending one takes longer than making these batches
        node.reset()
        left = self.count()
        while left > 0:
            batch: Batch = next(node)
            whole = batch.size <= left or self.origin.contiguous  # a state is carried for all rows
            yield (batch if whole else batch.part(0, left)).to(device)
            left -= batch.size

    def count(self) -> int:
        """On how many examples: fewer than was asked for where a source has no more."""
        size = self.origin.size if self.origin.finite else None
        return min(each for each in (self.examples, size) if each is not None)

    def close(self) -> None:
        """Nothing is held."""

    def baselines(self) -> dict[str, float]:
        """What simple models reach on the split."""
        return {f"{self.origin.split}/{name}": value for name, value in self.origin.baselines().items()}

    def _show(self, batch: Batch, predictions: Tensor, count: int) -> list[Sample]:
        if count <= 0:
            return []
        if isinstance(self.graph.model.head, LikelihoodHead):
            return self._continue(batch, count)
        said = predictions.float() if batch.targets.is_floating_point() else predictions.argmax(-1)
        answers = said[:, :count].cpu().numpy()
        inputs, targets = batch.inputs[:, :count].cpu().numpy(), batch.targets[:, :count].cpu().numpy()
        return [self.origin.show(inputs[:, n], targets[:, n], answers[:, n]) for n in range(answers.shape[1])]

    def _continue(self, batch: Batch, count: int) -> list[Sample]:
        """How the model goes on with the beginning of some rows of text."""
        read, show = min(PROMPT, len(batch.inputs) // 2), self.origin.show
        if read < 1 or not textual(self.origin):
            return []
        part = batch.part(0, count)
        written = islice(follow(self.graph.model, hear(self.graph.model, part.inputs[:read]), SAMPLING), CONTINUED)
        answers = torch.stack(list(written)).numpy()
        inputs, targets = part.inputs[:read].cpu().numpy(), part.targets[read - 1 :][: len(answers)].cpu().numpy()
        shown = (show(inputs[:, n], targets[:, n], answers[: len(targets), n]) for n in range(part.size))
        return [each._replace(expected="") for each in shown]
