"""What a plugin can bring: one hook a kind, one sentence each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pluggy

PROJECT = "seqtoolkit"
API = 1
"""The version of these hooks. A plugin that needs a newer one says so: `SEQTOOLKIT_API = 2` in its module."""

KINDS = {
    "source": "sources",
    "environment": "environments",
    "transform": "transforms",
    "batch": "batches",
    "encoder": "encoders",
    "core": "cores",
    "head": "heads",
    "loss": "losses",
    "metric": "metrics",
    "optimizer": "optimizers",
    "schedule": "schedules",
    "learner": "learners",
    "tracker": "trackers",
}
"""The kinds of parts, each with the hook that brings it."""

Folder = Literal["pipelines", "grammars"]
FOLDERS: tuple[Folder, ...] = ("pipelines", "grammars")
"""The hooks that name a folder of files."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Parts = Mapping[str, str]
"""Names of parts, each with where it is: `{"rmc": "seqtoolkit_rmc.core:RelationalMemory"}`."""


@hookspec
def sources() -> Parts:  # type: ignore[empty-body]
    """Streams of examples: subclasses of `Source`."""


@hookspec
def environments() -> Parts:  # type: ignore[empty-body]
    """Worlds in which a policy acts: subclasses of `Environment`."""


@hookspec
def transforms() -> Parts:  # type: ignore[empty-body]
    """Functions from a block of examples to a block of examples: subclasses of `Transform`."""


@hookspec
def batches() -> Parts:  # type: ignore[empty-body]
    """Ways to make time-major batches of blocks: subclasses of `Collate`."""


@hookspec
def encoders() -> Parts:  # type: ignore[empty-body]
    """What turns a batch's inputs into the vectors that a core reads: subclasses of `Encoder`."""


@hookspec
def cores() -> Parts:  # type: ignore[empty-body]
    """Memory cores: subclasses of `Core`."""


@hookspec
def heads() -> Parts:  # type: ignore[empty-body]
    """What turns a core's outputs into predictions: subclasses of `Head`."""


@hookspec
def losses() -> Parts:  # type: ignore[empty-body]
    """What training minimises: subclasses of `Loss`."""


@hookspec
def metrics() -> Parts:  # type: ignore[empty-body]
    """What evaluation reports: subclasses of `Metric`."""


@hookspec
def optimizers() -> Parts:  # type: ignore[empty-body]
    """Functions from parameters to a torch optimizer."""


@hookspec
def schedules() -> Parts:  # type: ignore[empty-body]
    """Functions from a step and the number of steps to a factor of the learning rate."""


@hookspec
def learners() -> Parts:  # type: ignore[empty-body]
    """Ways to learn: subclasses of `Learner`."""


@hookspec
def trackers() -> Parts:  # type: ignore[empty-body]
    """Where runs are recorded: subclasses of `Tracker`."""


@hookspec
def pipelines() -> str:  # type: ignore[empty-body]
    """The folder of the pipelines that a plugin ships, as `package:folder`; each is found by its path in there."""


@hookspec
def grammars() -> str:  # type: ignore[empty-body]
    """The folder of the `.lark` files that a plugin ships, as `package:folder`; each is found by its name."""


@hookspec
def run_started(run: Any) -> None:
    """A run (`seqtoolkit.sdk.Run`) is about to take its first update, or the first since it was resumed."""


@hookspec
def logged(run: Any, step: int, metrics: Mapping[str, float]) -> None:
    """A run has training metrics, averaged since the last time."""


@hookspec
def evaluated(
    run: Any,
    step: int,
    metrics: Mapping[str, float],
    samples: Sequence[Any],
    views: Sequence[Any],
    replays: Sequence[Any],
) -> None:
    """A run was evaluated after `step` updates: its answers `samples`, its attention `views`, its episodes `replays`."""


@hookspec
def checkpoint_saved(run: Any, step: int, path: str, best: bool) -> None:  # noqa: FBT001  hooks are called by name
    """A run has saved a checkpoint in the folder `path`; `best` says that none before it was better."""


@hookspec
def noted(run: Any, text: str) -> None:
    """A run has something to say to who watches it, such as a warning: one line."""


@hookspec
def run_ended(run: Any, status: str) -> None:
    """A run is over: status is FINISHED, FAILED or KILLED; its tracking store still takes what this brings."""
