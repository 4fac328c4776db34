"""Interpolation: `${...}` in a pipeline, resolved by OmegaConf; each one that cannot be is said with its key."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seqtoolkit.host.document import Key
from seqtoolkit.host.problem import show

_MOST = 5_000
_DEEPEST = 60


class _Unknown:
    """Stands where an interpolation has failed: what it would have been is not known."""


UNKNOWN = _Unknown()
Report = Callable[[Key, str], None]


def interpolated(value: Any) -> bool:
    """Whether a value is, or has inside, an interpolation."""
    if isinstance(value, dict):
        return any(map(interpolated, value.values()))
    if isinstance(value, list):
        return any(map(interpolated, value))
    return isinstance(value, str) and "${" in value


def escape(value: Any) -> Any:
    """A resolved value, written so that OmegaConf reads it as it stands."""
    if isinstance(value, dict):
        return {key: escape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [escape(each) for each in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def resolve(tree: dict[str, Any], report: Report) -> dict[str, Any]:
    """The same tree with every interpolation resolved; UNKNOWN where one cannot be, after a report."""
    return _Resolution(report)(tree)


class _Resolution:
    def __init__(self, report: Report) -> None:
        self.report, self.left, self.expanding = report, _MOST, False
        self.malformed: set[Key] = set()

    def __call__(self, tree: dict[str, Any]) -> dict[str, Any]:
        return self.read(OmegaConf.create(self.readable(tree, ())), ())

    def readable(self, value: Any, key: Key) -> Any:
        """The value without what OmegaConf would stop at."""
        if value is UNKNOWN:
            self.malformed.add(key)
            return None
        if isinstance(value, dict):
            return {name: self.readable(each, (*key, name)) for name, each in value.items()}
        if isinstance(value, list):
            return [self.readable(each, (*key, str(place))) for place, each in enumerate(value)]
        if interpolated(value):
            try:
                OmegaConf.create([value])
            except (OmegaConfBaseException, RecursionError) as error:
                self.report(key, f"{show(value)} is no interpolation: {_first_line(error)}")
                self.malformed.add(key)
                return None
        return value

    def read(self, node: Any, key: Key) -> Any:
        """What a node of OmegaConf holds, as plain data."""
        self.left -= self.expanding
        if self.expanding and (self.left < 0 or len(key) > _DEEPEST):
            raise _TooLargeError
        if isinstance(node, DictConfig):
            return {str(name): self.inside(node, name, key) for name in node}
        if isinstance(node, ListConfig):
            return [self.inside(node, place, key) for place in range(len(node))]
        return node

    def inside(self, node: Any, name: Any, key: Key) -> Any:
        """What stands at `name` in a node. A few interpolations can stand for billions of values, or for themselves."""
        here = (*key, str(name))
        if here in self.malformed:
            return UNKNOWN
        if OmegaConf.is_missing(node, name):
            return "???"
        outer, self.expanding = self.expanding, self.expanding or OmegaConf.is_interpolation(node, name)
        try:
            return self.read(node[name], here)
        except _TooLargeError:
            if outer:
                raise
            self.report(here, "the interpolation stands for more than a pipeline can hold")
        except (OmegaConfBaseException, RecursionError) as error:
            self.report(here, _first_line(error))
        finally:
            self.expanding = outer
        return UNKNOWN


class _TooLargeError(Exception):
    """More values, or nested deeper, than any pipeline."""


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
