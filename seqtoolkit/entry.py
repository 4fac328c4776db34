"""Entry: a run is entered where it is recorded, with all that may make the same pipeline give other numbers."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from seqtoolkit.description import NOTE, describe, title
from seqtoolkit.folder import RunFolder
from seqtoolkit.host.plan import Plan, flat
from seqtoolkit.host.registry import Registry
from seqtoolkit.requirement import under
from seqtoolkit.train.learner import Learner
from seqtoolkit.train.tracking import Tracker, environment_tags


def enter(
    place: RunFolder, plan: Plan, registry: Registry, learner: Learner, tracker: Tracker, given: Mapping[str, str]
) -> str | None:
    """Begin a run where it is recorded, and note what is known of it; the id that it has there."""
    graph, changes, environment = learner.graph, place.notes.get("changes", []), _environment(plan, registry, learner)
    tags = {**environment, **given, "seqtoolkit.pipeline": plan.name, "seqtoolkit.folder": str(place.path)}
    if place.tracked is None:  # later it is the user's to edit
        about = {"name": plan.name, "folder": place.path.name, "changes": changes}
        tags = {NOTE: describe(plan, graph, **about), **tags}
    params = {**flat(plan.resolved), "parameters": graph.parameters}
    with under("track", plan.track.factory):
        run_id = tracker.start(
            name=title(plan, changes), params=params, tags=tags, folder=place.path, resume=place.tracked
        )
    tracker.artifact(place.config)
    place.keep(graph.origin)
    if place.source.exists():
        tracker.artifact(place.source)
    known = {"run_id": run_id or place.tracked, "tags": given or place.notes.get("tags")}
    known["parameters"] = graph.parameters
    place.note(**known, status="RUNNING", environment=environment, error=None, stopped=None)
    return run_id


def _environment(plan: Plan, registry: Registry, learner: Learner) -> dict[str, str]:
    """What may make the same pipeline give other numbers: versions, code, and what computes."""
    owners = (registry.owner(block.kind, block.use) for block in plan.blocks())
    device = learner.device
    on_gpu = device.type == "cuda"
    chip = torch.cuda.get_device_name(device) if on_gpu else torch.backends.cpu.get_cpu_capability()
    return environment_tags(packages={owner.distribution for owner in owners}) | {
        "device": f"{device} ({chip})",
        "threads": str(torch.get_num_threads()),
    }
