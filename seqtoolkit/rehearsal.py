"""Rehearsal: one update on a tiny real batch, timed stage by stage."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from seqtoolkit.experiment import Experiment

EXAMPLES = 4


def rehearse(experiment: Experiment) -> dict[str, float]:
    """The seconds that each stage of one update took, on at most four examples; nothing is recorded.

    A model that answers step by step (a decoder of its own, teacher forcing) is timed as a whole.
    """
    graph, learner = experiment.graph, experiment.learner
    seconds: dict[str, float] = {}

    def timed(stage: str, work: Callable[..., Any], *arguments: Any) -> Any:
        began = time.perf_counter()
        done = work(*arguments)
        seconds[stage] = time.perf_counter() - began
        return done

    block = timed("source", graph.source.draw, np.arange(min(EXAMPLES, graph.collate.size)))
    for number, transform in enumerate(graph.transforms):
        block = timed(f"transform.{number}", transform, block)
    batch = timed("batch", graph.collate, block).to(learner.device)
    model = graph.model
    if model.decoder is None and model.feedback is None:
        vectors = timed("model.encoder", model.encoder, batch.inputs)
        outputs, _ = timed("model.core", model.core, vectors, None, batch.first)
        predictions = timed("model.head", model.head, outputs[len(outputs) - batch.answers :])
    else:
        whole = (batch.inputs, None, batch.first, batch.answers, batch.targets)
        predictions, _ = timed("model", model, *whole)
    loss = timed("loss", graph.loss.total, predictions, batch) / graph.loss.count(batch)
    for name, metric in graph.metrics.items():
        timed(f"metric.{name}", metric.measure, predictions.detach(), batch)
    timed("backward", learner.update.backward, loss)
    timed("step", learner.update.step)
    return seconds
