"""Evaluate: a model's metrics over the first examples of a stream, and some of its answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from seqtoolkit.flow.batch import Batch
from seqtoolkit.flow.graph import Graph
from seqtoolkit.flow.source import Sample, Source
from seqtoolkit.flow.view import View, look
from seqtoolkit.train.optimize import Update, exact


@dataclass(frozen=True)
class EvaluateSettings:
    """When and on what a run is evaluated. Metrics are named after the split: `valid/accuracy`, `test/accuracy`.

    Args:
        every: After how many updates, and once after the last; 0 is after the last only.
        examples: On how many examples.
        test_examples: On how many examples of the test split, once, after the last update; 0 leaves the test out.
        test_checkpoint: Whose weights the test is of: last, or best, which the evaluations have chosen.
        best: The metric by which the best checkpoint is chosen; the first one of the pipeline where null.
        patience: After how many evaluations in a row that were no better than the best before them the run ends; 0
            never ends it early.
        samples: How many examples are shown with the model's answer.
        attention: Whether what the core attends to, in the cases of the source, is drawn each time.
    """

    every: int = 200
    examples: int = 1280
    test_examples: int = 0
    test_checkpoint: Literal["last", "best"] = "last"
    best: str | None = None
    patience: int = 0
    samples: int = 4
    attention: bool = False


class Evaluated(NamedTuple):
    """What an evaluation found."""

    metrics: dict[str, float]
    samples: list[Sample]
    views: list[View]
    """what the core attends to, where that was asked for"""


class Evaluation:
    """The metrics of a pipeline, and its loss, over the first `examples` of `source`: the same ones every time.

    With `attention`, what the core attends to in the cases of the source as well.
    """

    def __init__(
        self, graph: Graph, source: Source, examples: int, samples: int = 0, *, attention: bool = False
    ) -> None:
        if examples < 1:
            raise ValueError(f"examples: wanted at least 1, got {examples}")
        self.graph, self.source, self.examples, self.samples = graph, source, examples, samples
        self.attention = attention

    def __call__(self, update: Update, stopped: Callable[[], bool] = lambda: False) -> Evaluated | None:
        """Evaluate the model as it is now; None where `stopped` came true meanwhile."""
        model, metrics, loss = self.graph.model, self.graph.metrics, self.graph.loss
        was_training = model.training
        sums: dict[str, Tensor] = {}
        samples: list[Sample] = []
        dtype = exact(update.device)
        with torch.no_grad(), torch.random.fork_rng([update.device] if update.device.type == "cuda" else []):
            model.eval()
            try:
                for batch in self._batches(update.device):
                    with update.autocast():
                        predictions, _ = model(batch.inputs, None, batch.first, batch.answers)
                        found = {"loss": torch.stack([loss.total(predictions, batch), loss.count(batch)])}
                    found |= {name: each.measure(predictions, batch) for name, each in metrics.items()}
                    sums = {name: sums.get(name, 0) + value.to(dtype) for name, value in found.items()}
                    samples += self._show(batch, predictions, self.samples - len(samples))
                    if stopped():
                        return None
                views = look(self.graph, self.source, update.device) if self.attention else []
            finally:
                model.train(was_training)
        total, count = sums.pop("loss").tolist()
        values = {"loss": total / count if count else float("nan")} | {
            name: metrics[name].result(each) for name, each in sums.items()
        }
        return Evaluated({f"{self.source.split}/{name}": value for name, value in values.items()}, samples, views)

    def _batches(self, device: torch.device) -> Iterator[Batch]:
        node = self.graph.node(self.source, device)  # no thread: ending one takes longer than making these batches
        node.reset()
        left = self.examples
        while left > 0:
            batch: Batch = next(node)
            yield (batch if batch.size <= left else batch.part(0, left)).to(device)
            left -= batch.size

    def _show(self, batch: Batch, predictions: Tensor, count: int) -> list[Sample]:
        if count <= 0:
            return []
        said = predictions.float() if batch.targets.is_floating_point() else predictions.argmax(-1)
        answers = said[:, :count].cpu().numpy()
        inputs, targets = batch.inputs[:, :count].cpu().numpy(), batch.targets[:, :count].cpu().numpy()
        return [self.source.show(inputs[:, n], targets[:, n], answers[:, n]) for n in range(answers.shape[1])]
