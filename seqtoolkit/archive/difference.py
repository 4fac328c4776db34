"""Difference: what two runs do not share: settings, environment, final metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqtoolkit.archive.entry import Entry
from seqtoolkit.folder import RunFolder
from seqtoolkit.host.document import parse
from seqtoolkit.host.plan import flat
from seqtoolkit.host.problem import ConfigError

Sides = dict[str, Any]
"""What each has, by `a` and `b`; one that has nothing is not there."""
_NAMES = {"mlflow.source.git.commit": "git commit", "git.dirty": "git dirty"}
COMMAND = "mlflow.source.name"


@dataclass(frozen=True)
class Difference:
    """What two runs do not share."""

    a: str
    b: str
    config: dict[str, Sides]
    """by flat key, `model.core.hidden_size`; `resumed` are changes that came when a run went on"""
    environment: dict[str, Sides]
    metrics: dict[str, Sides]
    """the final values, of all metrics, the same or not"""

    @property
    def equal(self) -> bool:
        """Whether nothing differs, the final metrics neither."""
        return not (self.config or self.environment or differences(*map(self._final, "ab")))

    def _final(self, side: str) -> dict[str, Any]:
        return {name: sides[side] for name, sides in self.metrics.items() if side in sides}


def diff_runs(a: str | Path, b: str | Path, folder: str | Path = "runs") -> Difference:
    """What two runs, named as elsewhere, do not share. Raises RunError, and ConfigError where a config is damaged."""
    one, other = (RunFolder.find(run, Path(folder)) for run in (a, b))
    first, second = Entry(one.path), Entry(other.path)
    final = sides(finals(first), finals(second))
    return Difference(
        a=one.path.name,
        b=other.path.name,
        config=differences(settings(first), settings(second)),
        environment=differences(environment(first.notes), environment(second.notes)),
        metrics=final,
    )


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Sides]:
    """The keys whose values are not the same in both, or that only one has, in the order of `a` and then `b`."""
    return {key: each for key, each in sides(a, b).items() if len(each) < 2 or not _same(each["a"], each["b"])}


def sides(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Sides]:
    """Every key with what each has."""
    return {
        key: {side: mapping[key] for side, mapping in (("a", a), ("b", b)) if key in mapping}
        for key in dict.fromkeys([*a, *b])
    }


def config_of(entry: Entry) -> dict[str, Any]:
    """The config that a run was started with. Raises ConfigError where it is damaged."""
    path = entry.path / "config.yaml"
    try:
        config, _ = parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'no text'}"]) from None
    if not isinstance(config, dict):
        raise ConfigError([f"{path}: wanted the keys of a pipeline"])
    return config


def settings(entry: Entry) -> dict[str, Any]:
    """The flat config of a run, and under `resumed` what was changed when it went on. Raises ConfigError."""
    changes = [f"{' '.join(each.changed)} after step {each.step}" for each in entry.resumed if each.changed]
    return flat(config_of(entry)) | ({"resumed": "; ".join(changes)} if changes else {})


def environment(notes: Mapping[str, Any]) -> dict[str, str]:
    """What of a run's environment may change its numbers, under names for people."""
    found = notes.get("environment", {})
    named: dict[str, str] = {_NAMES.get(name) or str(name): str(value) for name, value in found.items()}
    return {name: value for name, value in named.items() if not name.startswith("mlflow.")}


def finals(entry: Entry) -> dict[str, float]:
    """The last value of each metric of the learning: `train/`, `valid/`, `test/`."""
    found = {name: value for row in entry.rows() for name, value in row.items()}
    return {name: value for name, value in found.items() if "/" in name and not name.startswith("system/")}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
        return True
    return isinstance(one, bool) == isinstance(other, bool) and one == other
