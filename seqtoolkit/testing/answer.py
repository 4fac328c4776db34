"""The laws of what a task asks of a model: loss, metrics, predictions, learning."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from seqtoolkit.flow.batch import IGNORED, Batch
from seqtoolkit.flow.graph import Graph
from seqtoolkit.flow.loss import Loss
from seqtoolkit.flow.metric import Metric
from seqtoolkit.flow.source import Sample
from seqtoolkit.testing.law import demand, same
from seqtoolkit.testing.sketch import Sketch, anywhere, learned, likely, noise, right, wrong
from seqtoolkit.testing.stream import EACH_SPLIT

SCALES = (1.0, 4.0, 16.0)
"""How sure an answer is: the loss of the best of these counts, since a smoothed one punishes certainty."""
UPDATES = 30
EXACT = 1e-9
"""How far two ways to the same numbers may end apart in float64."""


def answers(sketch: Sketch) -> None:
    """A perfect answer gets the best loss and metrics, a wrong one worse."""
    graph = sketch.graph()
    given = sketch.few(graph)
    perfect, bad, chance = (_measured(graph, given, answer) for answer in (right, wrong, noise))
    for name, best in perfect.items():
        higher = name != "loss" and graph.metrics[name].better == "higher"
        for which, other, strict in (("a wrong one", bad[name], True), ("one at random", chance[name], False)):
            demand(
                math.isfinite(best) and math.isfinite(other),
                f"{name}: {best} for a perfect answer, {other} for {which}",
            )
            ahead = best - other if higher else other - best
            wanted = f"wanted the first {'higher' if higher else 'lower'}"
            demand(
                ahead > 0 or (ahead == 0 and not strict),
                f"{name}: {best:.4g} for a perfect answer, {other:.4g} for {which}; {wanted}",
            )


def ignored(sketch: Sketch) -> None:
    """Predictions where a target is ignored, or masked for who reads the mask, do not matter."""
    graph = sketch.graph()
    parts: dict[str, Loss | Metric] = {"loss": graph.loss, **graph.metrics}
    masked = [name for name, part in parts.items() if "mask" in part.reads]
    for seed, batch in enumerate(sketch.few(graph)):
        generator = torch.Generator().manual_seed(seed)
        coin = torch.rand(batch.targets.shape, generator=generator) < 0.5
        if likely(graph):
            _silent(graph, batch)
        elif not batch.targets.is_floating_point():
            some = replace(batch, targets=batch.targets.masked_fill(coin, IGNORED), mask=batch.mask & ~anywhere(coin))
            for each in (batch, some):
                _indifferent("where targets are ignored", graph, each, ~learned(each), list(parts))
        some = replace(batch, mask=batch.mask & ~anywhere(coin))
        for each in (batch, some):
            _indifferent("where the mask is false", graph, each, ~each.mask, masked)


def sums(sketch: Sketch) -> None:
    """Loss and metrics of a batch are those of its rows, added up."""
    graph = sketch.graph()
    for batch in sketch.few(graph):
        predictions = noise(batch, _classes(graph)).double()
        whole = _sums(graph, predictions, batch)
        parts = [_sums(graph, predictions[:, row : row + 1], batch.part(row, row + 1)) for row in range(batch.size)]
        for name, wanted in whole.items():
            same(f"{name}, rows added up", torch.stack([part[name] for part in parts]).sum(0), wanted, EXACT)


def rows(sketch: Sketch) -> None:
    """A row's targets and predictions do not depend on the rows that it is batched with."""
    graph = sketch.graph()
    model = graph.model.double().eval()
    source = sketch.source("train")
    source.block = graph.collate.size

    def made(indexes: np.ndarray) -> tuple[Batch, Tensor]:
        block = source.draw(indexes)
        for transform in graph.transforms:
            block = transform(block)
        batch = graph.collate(block)
        inputs = batch.inputs.double() if batch.inputs.is_floating_point() else batch.inputs
        with torch.no_grad():
            return batch, model(inputs, None, batch.first, batch.answers, batch.targets)[0]

    indexes = np.arange(graph.collate.size, dtype=np.int64)
    batch, predictions = made(indexes)
    for row in range(min(batch.size, 4)):
        alone, found = made(indexes[row : row + 1])
        wanted, here = anywhere(learned(batch))[:, row], anywhere(learned(alone))[:, 0]
        same(f"targets of row {row} alone", alone.targets[:, 0][here], batch.targets[:, row][wanted], 0.0)
        same(f"predictions of row {row} alone", found[:, 0][here], predictions[:, row][wanted], EXACT)


def shown(sketch: Sketch) -> None:
    """An example of each split is shown as text, a right answer as the one expected."""
    graph = sketch.graph()
    for split in EACH_SPLIT:
        source = sketch.source(split)
        for batch in sketch.few(graph, split, count=2):
            numbers = batch.targets.is_floating_point()
            said = batch.targets if numbers else batch.targets.masked_fill(~learned(batch), 0)
            for row in range(batch.size):
                sample = source.show(batch.inputs[:, row].numpy(), batch.targets[:, row].numpy(), said[:, row].numpy())
                where = f"row {row} of {split}"
                demand(isinstance(sample, Sample), f"{where}: wanted a Sample, got {type(sample).__name__}")
                for name, text in sample._asdict().items():
                    demand(isinstance(text, str), f"{where}: {name}: wanted text, got {type(text).__name__}")
                demand(sample.expected, f"{where}: nothing is expected")
                if not numbers:
                    demand(
                        sample.answer == sample.expected,
                        f"{where}: expected {sample.expected!r}, shows the right answer as {sample.answer!r}",
                    )


def learns(sketch: Sketch) -> None:
    """Training on one batch lowers its loss."""
    experiment = sketch.experiment()
    (batch,) = sketch.few(experiment.graph, count=1)
    losses = [float(experiment.learner.step(batch)["loss"]) for _ in range(UPDATES)]
    before, after = sum(losses[:3]) / 3, sum(losses[-3:]) / 3
    demand(after < before, f"from {before:.4g} to {after:.4g} in {UPDATES} updates")


def trains(sketch: Sketch) -> None:
    """The pipeline's learner makes updates that change the model, its evaluation finds numbers; all is finite."""
    experiment = sketch.experiment()
    learner = experiment.learner
    before = {name: each.detach().clone() for name, each in learner.model.named_parameters()}
    for step, batch in zip(range(2), learner.stream(), strict=False):
        for name, value in learner.step(batch).items():
            demand(torch.as_tensor(value).isfinite().all(), f"{name} of update {step}: not finite")
    after = dict(learner.model.named_parameters())
    for name, parameter in after.items():
        demand(parameter.isfinite().all(), f"{name} after two updates: not finite")
    demand(
        any(not torch.equal(parameter, before[name]) for name, parameter in after.items()), "two updates change nothing"
    )
    found = experiment.evaluation(learner.update)
    assert found is not None  # nobody stops it
    for name, number in found.metrics.items():
        demand(math.isfinite(number), f"{name}: {number}")


def _classes(graph: Graph) -> int:
    """How many numbers a prediction has; 0 where it is the log-likelihood of its target."""
    if likely(graph):
        return 0
    size = graph.flowing["predictions"].axes[-1]
    return size if isinstance(size, int) else 1


def _sums(graph: Graph, predictions: Tensor, batch: Batch) -> dict[str, Tensor]:
    """What loss and metrics add up."""
    found = {"loss": torch.stack([graph.loss.total(predictions, batch).double(), graph.loss.count(batch).double()])}
    return found | {name: metric.measure(predictions, batch).double() for name, metric in graph.metrics.items()}


def _measured(graph: Graph, given: list[Batch], answer: Callable[[Batch, int], Tensor]) -> dict[str, float]:
    """Loss and metrics of an answer over all batches; of the loss the least of a few scales of logits."""
    founds = []
    for scale in SCALES:
        each = [_sums(graph, scale * answer(batch, _classes(graph)).double(), batch) for batch in given]
        founds.append({name: torch.stack([one[name] for one in each]).sum(0) for name in each[0]})
    measured = {name: metric.result(founds[0][name]) for name, metric in graph.metrics.items()}
    return {"loss": min((total / count).item() for total, count in (found["loss"] for found in founds)), **measured}


def _silent(graph: Graph, batch: Batch) -> None:
    """Demand of the model's own predictions, where those are log-likelihoods, 0 where a target is ignored."""
    coin = torch.rand(batch.targets.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    some = batch.targets.masked_fill(coin, IGNORED)
    with torch.no_grad():
        predictions, _ = graph.model.eval()(batch.inputs, None, batch.first, batch.answers, some)
    demand(not predictions[some == IGNORED].any(), "predictions where targets are ignored: wanted 0")


def _indifferent(where: str, graph: Graph, batch: Batch, places: Tensor, names: list[str]) -> None:
    """Demand that predictions at some places [U B ...] change nothing in what the named parts measure."""
    one, other = (noise(batch, _classes(graph), seed).double() for seed in (0, 1))
    places = places.reshape(*places.shape, *[1] * (one.dim() - places.dim()))
    wanted, got = _sums(graph, one, batch), _sums(graph, torch.where(places, 10 * other, one), batch)
    for name in names:
        same(f"{name}, where predictions change {where}", got[name], wanted[name], EXACT)
