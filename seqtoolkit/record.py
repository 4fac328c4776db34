"""Record: what is known of a run when it is over: its config, its tags, its curves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np

from seqtoolkit.folder import RunFolder
from seqtoolkit.host.document import parse
from seqtoolkit.host.plan import flat
from seqtoolkit.train.tracking.library import StoredRun


class Curve(NamedTuple):
    """The values of one metric."""

    steps: np.ndarray
    """[n] int64, ascending"""
    values: np.ndarray
    """[n] float64"""


@dataclass(frozen=True)
class Record:
    """What is known of a run, be it from its folder or from a tracking store."""

    run_id: str
    name: str
    status: str
    """RUNNING, FINISHED, FAILED or KILLED"""
    config: Mapping[str, str]
    """Flat, as `model.core: rmc`; values as text."""
    tags: Mapping[str, str] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    """By metric: `train/loss`, `valid/accuracy`; `examples` and `seconds` say what the training had taken by each step."""

    @classmethod
    def of_folder(cls, place: RunFolder) -> Self:
        """What a run's folder knows; its config has `parameters` too, how many the model has.

        Raises ConfigError where the config is damaged.
        """
        notes = place.notes
        config, _ = parse(place.config.read_text(), str(place.config))
        size = {name: notes[name] for name in ("parameters",) if name in notes}
        return cls(
            run_id=place.run_id,
            name=place.path.name,
            status=notes.get("status", "UNKNOWN"),
            config={key: str(value) for key, value in flat({**config, **size}).items()},
            tags={"seqtoolkit.pipeline": notes.get("name", ""), **notes.get("tags", {})},
            curves=curves_of(place.rows()),
        )

    @classmethod
    def of_stored(cls, run: StoredRun) -> Self:
        """What a tracking store knows, the same."""
        return cls(
            run_id=run.run_id,
            name=run.name,
            status=run.status,
            config=run.params,
            tags=run.tags,
            curves={name: Curve(*each) for name, each in run.curves.items()},
        )


def curves_of(rows: list[dict[str, float]]) -> dict[str, Curve]:
    """The curve of each metric in the rows of `metrics.jsonl`; of several values at a step the last counts."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for row in rows:
        for name, value in row.items():
            if name != "step":
                found[name][int(row["step"])] = value
    return {
        name: Curve(np.array(sorted(points), np.int64), np.array([points[step] for step in sorted(points)], np.float64))
        for name, points in found.items()
    }
