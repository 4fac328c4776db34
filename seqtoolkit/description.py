"""Description: what a run says of itself to a tracking store: a name that tells, and a page in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable

from seqtoolkit.flow.graph import Graph
from seqtoolkit.host.plan import Plan

NOTE = "mlflow.note.content"
"""The tag that MLflow's pages show as the description."""
_AROUND = re.compile(r"(run|evaluate|track)[.=]|model\.core(\.use)?=|~")
_LONGEST, _MOST = 24, 3


def title(plan: Plan, changes: Iterable[str] = ()) -> str:
    """A name by which a run is known among others: its core, its seed, what was changed, as `rmc seed 0 lr=0.01`.

    `changes` are the overrides of the pipeline. Changes of how long a run takes and how it is looked at tell nothing.
    """
    telling = [each for each in changes if not _AROUND.match(each)]
    words = [_short(each) for each in telling[:_MOST]] + ["..."] * (len(telling) > _MOST)
    return " ".join([plan.core.use, f"seed {plan.sections['run'].seed}", *words])


def describe(plan: Plan, graph: Graph, *, name: str, folder: str, changes: Iterable[str] = ()) -> str:
    """What a run is, in Markdown: pipeline, sizes, what was changed, how to have it again, and its stages.

    Args:
        plan: What is run.
        graph: Its graph, built.
        name: The pipeline's name.
        folder: The name of the run's folder, which commands take.
        changes: The overrides of the pipeline.
    """
    run = plan.sections["run"]
    changed = ", ".join(f"`{each}`" for each in changes) or "nothing"
    size = f"{graph.parameters:,} parameters, {run.steps:,} updates"
    return "\n".join(
        [
            f"The pipeline **{name}** with the core **{plan.core.use}**, seed {run.seed}: {size}.",
            "",
            f"Changed in the pipeline: {changed}.",
            "",
            "```sh",
            f"seqtoolkit run --resume {folder}       # go on with it",
            f"seqtoolkit runs reproduce {folder}   # the same again",
            *([f"seqtoolkit play {folder}             # watch it"] if plan.acting else []),
            "```",
            "",
            "```text",
            graph.describe(),
            "```",
        ]
    )


def _short(change: str) -> str:
    """`learner.optimizer.lr=0.01` as `lr=0.01`."""
    key, _, value = change.partition("=")
    key = key.removesuffix(".use")
    text = f"{key.rpartition('.')[2]}={value}"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
