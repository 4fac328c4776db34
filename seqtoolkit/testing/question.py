"""The law of a task's questions, as a pipeline joins it."""

from __future__ import annotations

import numpy as np
import torch

from seqtoolkit.flow.source import joined
from seqtoolkit.testing.answer import EXACT
from seqtoolkit.testing.block import example_of
from seqtoolkit.testing.law import demand, same
from seqtoolkit.testing.sketch import Sketch, learned

COMPANY = 7
"""With how many drawn examples a question shares a batch."""


def asked(sketch: Sketch) -> None:
    """A person's question is answered alike alone and in company, its true answer shown as the one expected."""
    graph, source = sketch.graph(), sketch.source("test")
    if not source.asks:
        return
    model = graph.model.double().eval()
    block = source.ask(example_of(source.asks))
    alone = graph.batch(block)
    demand(alone.size == 1, f"a question: wanted a batch of one example, got {alone.size}")
    batch = graph.batch(joined([block, source.draw(np.arange(COMPANY, dtype=np.int64))]))
    founds = []
    for each in (alone, batch):
        inputs = each.inputs.double() if each.inputs.is_floating_point() else each.inputs
        with torch.no_grad():
            founds.append(model(inputs, None, each.first, each.answers, each.targets)[0])
    same("predictions for a question in company", founds[1][: alone.answers, 0], founds[0][:, 0], EXACT)
    numbers = alone.targets.is_floating_point()
    known = learned(alone)
    said = alone.targets if numbers else alone.targets.masked_fill(~known, 0)
    sample = source.show(alone.inputs[:, 0].numpy(), alone.targets[:, 0].numpy(), said[:, 0].numpy())
    for name, text in sample._asdict().items():
        demand(isinstance(text, str), f"a question's {name}: wanted text, got {type(text).__name__}")
    demand(
        numbers or not known.any() or sample.answer == sample.expected,
        f"a question: expected {sample.expected!r}, shows the right answer as {sample.answer!r}",
    )
