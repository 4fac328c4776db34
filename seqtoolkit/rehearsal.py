"""Rehearsal: one update on a tiny real batch, or on a trajectory, timed stage by stage."""

from __future__ import annotations

import numpy as np

from seqtoolkit.experiment import Experiment
from seqtoolkit.train.stage import Clock, watch

EXAMPLES = 4


def rehearse(experiment: Experiment) -> dict[str, float]:
    """The seconds that each stage of one update took, on at most four examples, or on one trajectory; nothing is recorded."""
    graph, learner = experiment.graph, experiment.learner
    clock = Clock(learner.device)
    with watch(learner, clock):
        if graph.acting:
            learner.step(next(learner.stream()))
            return clock.seconds
        block = graph.source.draw(np.arange(min(EXAMPLES, graph.collate.size)))
        learner.step(graph.batch(block).to(learner.device))
    return clock.seconds
