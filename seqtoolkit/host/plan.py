"""Plan: a pipeline that is validated and frozen: plain data, parts by their factories, every default filled in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePath
from typing import Any


@dataclass(frozen=True)
class Block:
    """One part with its parameters; parts inside it are Blocks in `params`."""

    kind: str
    use: str
    key: str
    """Where it stands in the pipeline, as `learner.optimizer`."""
    params: Mapping[str, Any]
    factory: Callable[..., Any]

    def maker(self) -> partial[Any]:
        """The factory with the parameters bound, those that are parts as their own makers."""
        return partial(self.factory, **_bind(self.params))


@dataclass(frozen=True)
class Plan:
    """Everything that a pipeline says, in the order in which data flows."""

    source: Block
    transform: tuple[Block, ...]
    batch: Block
    encoder: Block
    core: Block
    head: Block
    loss: Block
    metric: tuple[Block, ...]
    learner: Block
    track: Block
    evaluate_source: Block
    sections: Mapping[str, Any]
    """The settings that are no parts, as instances of the classes handed to `freeze`."""
    resolved: dict[str, Any]
    """The whole pipeline as plain data with every default: a pipeline that gives this very plan."""
    name: str = field(compare=False)


def written(value: Any) -> Any:
    """A frozen value as a pipeline writes it."""
    if isinstance(value, Block):
        return {"use": value.use, **written(value.params)}
    if isinstance(value, Mapping):
        return {key: written(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [written(each) for each in value]
    return str(value) if isinstance(value, PurePath) else value


def _bind(value: Any) -> Any:
    if isinstance(value, Block):
        return value.maker()
    if isinstance(value, Mapping):
        return {key: _bind(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_bind, value))
    return value
