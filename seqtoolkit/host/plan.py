"""Plan: a pipeline that is validated and frozen: plain data, parts by their factories, every default filled in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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

    origin: Block
    """Where what flows comes from: a source, or an environment, which has no transform, batch, loss and metric."""
    transform: tuple[Block, ...]
    batch: Block | None
    encoder: Block
    core: Block
    head: Block
    loss: Block | None
    metric: tuple[Block, ...]
    learner: Block
    track: Block
    evaluate_origin: Block
    sections: Mapping[str, Any]
    """The settings that are no parts, as instances of the classes handed to `freeze`."""
    resolved: dict[str, Any]
    """The whole pipeline as plain data with every default, but for what goes on around a run: it gives the same run."""
    name: str = field(compare=False)

    @property
    def acting(self) -> bool:
        """Whether what is learned from is made by acting in an environment."""
        return self.origin.kind == "environment"

    def blocks(self) -> Iterator[Block]:
        """Every part, those inside of parts too."""
        return _blocks(vars(self))


def written(value: Any) -> Any:
    """A frozen value as a pipeline writes it."""
    if isinstance(value, Block):
        return {"use": value.use, **written(value.params)}
    if isinstance(value, Mapping):
        return {key: written(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [written(each) for each in value]
    return str(value) if isinstance(value, PurePath) else value


def _blocks(value: Any) -> Iterator[Block]:
    if isinstance(value, Block):
        yield value
        yield from _blocks(value.params)
    elif isinstance(value, Mapping | list | tuple):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _blocks(each)


def _bind(value: Any) -> Any:
    if isinstance(value, Block):
        return value.maker()
    if isinstance(value, Mapping):
        return {key: _bind(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_bind, value))
    return value


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A written pipeline with nested keys joined by dots, and lists of blocks by their place.

    A part stands at the key of its block, `model.core: rmc`, and its parameters inside of that.
    """
    rows: dict[str, Any] = {}
    for key, value in config.items():
        name = prefix.removesuffix(".") if key == "use" and prefix else f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows |= flat(value, f"{name}.")
        elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
            rows |= flat(dict(enumerate(value)), f"{name}.")  # type: ignore[arg-type]  # places as keys
        else:
            rows[name] = value if isinstance(value, bool | int | float | str | None) else str(value)
    return rows
