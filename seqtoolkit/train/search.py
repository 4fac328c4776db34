"""Search: how a sweep goes through the settings of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

BARE = ("search", "trials", "prune", "match_parameters")
"""Settings that a command may give without `sweep.`: nothing else in a pipeline is called so."""


@dataclass(frozen=True)
class SweepSettings:
    """What `seqtoolkit sweep` tries, and how it chooses; a single run reads none of it.

    Args:
        search: grid (every combination, in order), random, or optuna (guided by the trials before: TPE).
        trials: How many trials, of a random or optuna search; 20 where null. A grid has as many as combinations.
        metric: Whose best value a trial is judged by, as valid/accuracy; where null, what evaluate.best chooses by.
        prune: Whether a trial ends early that is, at an evaluation, worse than the median of those before it.
        seed: From which random and optuna draw.
        match_parameters: A core; trials with another one get its size so that the whole model has as many parameters.
        space: What each key goes through: a list of values, or the text of a distribution, whose ends belong to it:
            uniform(0, 1), loguniform(1e-4, 1e-2), int(1, 8), logint(16, 256).
    """

    search: Literal["grid", "random", "optuna"] = "grid"
    trials: int | None = None
    metric: str | None = None
    prune: bool = False
    seed: int = 0
    match_parameters: str | None = None
    space: Mapping[str, list[Any] | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError for what can be no sweep."""
        if self.trials is not None and self.trials < 1:
            raise ValueError(f"trials: wanted at least 1, got {self.trials}")
        if self.trials is not None and self.search == "grid":
            raise ValueError(
                "trials: a grid has as many trials as combinations; leave trials out, or choose another search"
            )
        if self.seed < 0:
            raise ValueError(f"seed: wanted at least 0, got {self.seed}")
