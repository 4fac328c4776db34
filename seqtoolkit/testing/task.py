"""The laws of tasks: what a source, its transforms, batches, loss and metrics are as a pipeline joins them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from seqtoolkit.host.config import load
from seqtoolkit.host.registry import discover
from seqtoolkit.testing import answer, question, stream
from seqtoolkit.testing.law import judge
from seqtoolkit.testing.sketch import Sketch

_LAWS: dict[str, Callable[[Sketch], None]] = {
    law.__name__: law
    for law in (
        stream.checks,
        stream.batches,
        stream.stages,
        stream.seeded,
        stream.resumes,
        stream.splits,
        answer.answers,
        answer.ignored,
        answer.sums,
        answer.rows,
        answer.shown,
        question.asked,
        answer.learns,
        answer.trains,
    )
}
TASK_LAWS: tuple[str, ...] = tuple(_LAWS)
"""The names of the laws, in the order in which `check_task` tries them."""


def check_task(
    pipeline: str | Path | Mapping[str, Any], law: str | None = None, *, overrides: Sequence[str] = ()
) -> None:
    """Hold a task, as a pipeline joins it, against one of `TASK_LAWS`, or against all.

    In pytest: `@pytest.mark.parametrize("law", TASK_LAWS)` over `def test_laws(law): check_task("my_task", law)`.

    Args:
        pipeline: the path of a pipeline, the name of one that a plugin ships, or its keys and values. It is made
            small: a few rows in a batch (where `batch.size` says how many), on the CPU, nothing recorded.
        law: a name in `TASK_LAWS`; all of them where None.
        overrides: `key=value` on top, such as a smaller model.

    Raises:
        LawBroken: an AssertionError of one line: the law, where it broke, and by how much.
        ValueError: there is no such law, or no such pipeline, or it has an environment, which `check_environment` holds.
    """
    if "environment" in load(pipeline, overrides).tree:
        raise ValueError("wanted a pipeline with a source, got one with an environment: hold that by check_environment")
    registry = discover()
    with torch.random.fork_rng(devices=[]):
        judge(_LAWS, lambda: Sketch(pipeline, overrides, registry), law)
