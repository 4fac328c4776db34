"""Need: what a pipeline takes to run elsewhere: distributions by their versions, and files that it names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from seqtoolkit.host.plan import Block, Plan
from seqtoolkit.host.registry import Registry
from seqtoolkit.host.resource import shipped

LARGEST = 1 << 26
"""The bytes that a file may have that a model takes along."""


class Named(NamedTuple):
    """A text in a pipeline that may name a file."""

    key: str
    text: str


def distributions(plan: Plan, registry: Registry) -> dict[str, str]:
    """The distributions that bring the parts of a pipeline, and the grammars that it names, with their versions."""
    found = {"seqtoolkit": version("seqtoolkit")}
    for block in blocks(plan):
        owner = registry.owner(block.kind, block.use)
        found[owner.distribution] = owner.version
    grammars = shipped("grammars", registry)
    for named in texts(plan, registry):
        if named.text in grammars and not os.path.isfile(named.text):  # noqa: PTH113  it answers for any text
            owner_name = grammars[named.text][1]
            found[owner_name] = version(owner_name)
    return dict(sorted((name, number) for name, number in found.items() if number))


def requirements(needs: Mapping[str, str]) -> list[str]:
    """What pip installs for a server of the model."""
    torch = version("torch").partition("+")[0]  # +cpu is a matter of the machine
    return [f"mlflow=={version('mlflow')}", *(f"{name}=={number}" for name, number in needs.items()), f"torch=={torch}"]


def files(plan: Plan, registry: Registry, *, kept: bool = False) -> dict[str, Path]:
    """The files that a pipeline names, by key; raises ValueError, which names the key, for one that is too large.

    Where the source has `kept` what a model takes, its files stay: they are the data.
    """
    found = {}
    for named in texts(plan, registry):
        if kept and named.key.startswith((f"{plan.origin.key}.", f"{plan.evaluate_origin.key}.")):
            continue
        if not os.path.isfile(named.text):  # noqa: PTH113  it answers for any text, where Path raises for some
            continue
        path = Path(named.text)
        if path.stat().st_size > LARGEST:
            raise ValueError(
                f"{named.key}: {path} is too large to go along with a model: more than {LARGEST >> 20} MiB"
            )
        found[named.key] = path
    return found


def blocks(plan: Plan) -> Iterator[Block]:
    """Every part of a pipeline that a model is built or evaluated with, those inside of others too: all but `track`."""
    parts = (plan.origin, plan.transform, plan.batch, plan.encoder, plan.core, plan.head, plan.loss, plan.metric)
    for each in (*parts, plan.learner, plan.evaluate_origin):
        yield from _inside(each)


def texts(plan: Plan, registry: Registry) -> Iterator[Named]:
    """The values that are free text, or paths."""
    for block in blocks(plan):
        fields = registry.schema(block.kind, block.use).fields
        for name, value in block.params.items():
            if isinstance(value, str | PurePath) and not (name in fields and fields[name].choices):
                yield Named(f"{block.key}.{name}", str(value))


def _inside(value: Any) -> Iterator[Block]:
    if isinstance(value, Block):
        yield value
        value = value.params
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _inside(each)
