"""Metric: which metrics are compared, which way each is better, and what a run came to in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np

from seqtoolkit.compare.statistic import Better
from seqtoolkit.host.problem import suggest
from seqtoolkit.host.registry import PartError, Registry, discover
from seqtoolkit.record import Record

TAKEN = ("examples", "seconds")
"""What the training had taken by each step."""
RETURN = "episode_return"
"""What evaluations of a model that acts report first."""
_EPISODES = ("valid/", "test/")
_LOWER = ("loss", "perplexity", "error")


def choose(known: set[str], wanted: Sequence[str], config: Mapping[str, str]) -> tuple[str, ...]:
    """The metrics to compare: those wanted, or else all of the evaluations and the training's loss.

    Of `known`, the test's come first, and a pipeline's own before its loss. Raises ValueError where nobody has one.
    """
    for name in wanted:
        if name not in known:
            plain = sorted(each for each in known if not each.startswith("system/"))
            raise ValueError(f"--metric: no finished run has {name!r}{suggest(name, plain) or _there(plain)}")
    if wanted:
        return tuple(dict.fromkeys(wanted))
    own = [value for key, value in sorted(config.items()) if key.rpartition(".")[0] == "metric" or key == "metric"]
    own = own or [RETURN]
    splits = ["test", "valid"]

    def rank(name: str) -> tuple[int, int, str]:
        split, _, quantity = name.rpartition("/")
        place = own.index(quantity) if quantity in own else len(own) + (quantity == "loss")
        return splits.index(split) if split in splits else 2 + (split == "train"), place, name

    told = [name for name in known if "/" in name and name.partition("/")[0] not in ("system", "train")]
    found = tuple(sorted({*told, *({"train/loss"} & known)}, key=rank))
    if not found:
        raise ValueError(f"no run has a metric of an evaluation{_there(sorted(known))}; choose some with --metric")
    return found


def better(name: str) -> Better:
    """Whether higher or lower is better: as the metric's part says, losses are better lower, returns higher.

    Of what is measured of episodes, as their environment says. None where it is not known.
    """
    quantity = name.rpartition("/")[2]
    registry = discover()
    if quantity in registry.owned("metric"):
        try:
            return getattr(registry.resolve("metric", quantity), "better", None)
        except PartError:
            return None
    if quantity.endswith("_return"):
        return "higher"
    if quantity.endswith(_LOWER):
        return "lower"
    return _measured(registry, quantity) if name.startswith(_EPISODES) else None


def _measured(registry: Registry, quantity: str) -> Better:
    """Which values are better of what an environment measures of its episodes, as the first says that measures it."""
    for name in registry.names("environment"):
        with suppress(PartError):
            measures = getattr(registry.resolve("environment", name), "measures", {})
            if quantity in measures:
                return measures[quantity]
    return None


def final(record: Record, name: str) -> float:
    """The last value of a metric; nan where there is none. `examples_per_second` is that of the whole training."""
    if name == "examples_per_second":
        examples, seconds = (final(record, each) for each in TAKEN)
        return examples / seconds if seconds > 0 else np.nan
    curve = record.curves.get(name)
    return float(curve.values[-1]) if curve is not None and len(curve.values) else np.nan


def best(record: Record, name: str, direction: Better) -> float:
    """The best value that a metric ever had, of those that are finite numbers; nan where there is none."""
    curve = record.curves.get(name)
    values = np.empty(0) if curve is None else curve.values[np.isfinite(curve.values)]
    if direction is None or not len(values):
        return np.nan
    return float(values.max() if direction == "higher" else values.min())


def _there(known: Sequence[str]) -> str:
    return f"; there are: {', '.join(known[:20]) or 'none'}"
