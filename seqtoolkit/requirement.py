"""Requirement: what has to hold before a run begins, said under the key that it concerns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from inspect import signature
from typing import Any

from seqtoolkit.flow.core import attends
from seqtoolkit.flow.model import Model
from seqtoolkit.host.assemble import located
from seqtoolkit.host.config import ConfigError, Plan
from seqtoolkit.host.registry import PartError, Registry
from seqtoolkit.train.evaluate import EvaluateSettings
from seqtoolkit.train.loop import RunSettings


def require_attention(model: Model, plan: Plan, registry: Registry) -> None:
    """Raises ValueError, which names the cores that have one, where a model's core has no attention to show."""
    if not attends(model.core):
        having = ", ".join(name for name in registry.names("core") if _attends(registry, name))
        raise ValueError(f"the core {plan.core.use} has no attention to show; those that have: {having or 'none'}")


def _attends(registry: Registry, name: str) -> bool:
    with contextlib.suppress(PartError):
        return attends(registry.resolve("core", name))
    return False


def at_least(settings: RunSettings | EvaluateSettings, **least: int) -> None:
    """Raises ValueError, which names the setting, where one that is no null is below its bound."""
    for name, bound in least.items():
        if getattr(settings, name) is not None and getattr(settings, name) < bound:
            raise ValueError(f"{name}: wanted at least {bound}, got {getattr(settings, name)}")


@contextlib.contextmanager
def under(key: str, factory: Callable[..., Any]) -> Iterator[None]:
    """ValueErrors raised inside become a ConfigError under `key`."""
    try:
        yield
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError([located(key, signature(factory).parameters, error)]) from None
