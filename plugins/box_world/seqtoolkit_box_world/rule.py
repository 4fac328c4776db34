"""Rule: what a player of BoxWorld may set, checked, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from seqtoolkit_box_world.palette import MOST_COLORS

Dynamics = Literal["paper", "released"]
GEM_REWARD, RIGHT_REWARD, WRONG_REWARD = 10.0, 1.0, -1.0
MOST_SIZE = 60


@dataclass(frozen=True)
class Rule:
    """The settings of `BoxWorld` but the number of worlds and what is seen of them. Raises ValueError, which names the setting."""

    size: int
    solution_length: Sequence[int]
    num_forward: Sequence[int]
    num_backward: Sequence[int]
    branch_length: int
    max_steps: int
    num_colours: int
    dynamics: Dynamics

    def __post_init__(self) -> None:
        _between("size", self.size, 5, MOST_SIZE)
        for name, least in (("solution_length", 1), ("num_forward", 0), ("num_backward", 0)):
            given = getattr(self, name)
            if isinstance(given, str) or not isinstance(given, Sequence) or not given:
                raise ValueError(f"{name}: wanted a list of numbers to draw from, such as [1, 2], got {given!r}")
            for each in given:
                _between(name, each, least)
            object.__setattr__(self, name, tuple(given))
        _between("branch_length", self.branch_length, 1)
        _between("max_steps", self.max_steps, 1)
        _between("num_colours", self.num_colours, 1, MOST_COLORS)
        if self.dynamics not in {"paper", "released"}:
            raise ValueError(f"dynamics: wanted paper or released, got {self.dynamics!r}")
        path, wanted = max(self.solution_length), max(self.solution_length) + self.unused + self.extra
        if self.num_colours < wanted:
            why = "" if wanted == path else " and what is not on it"
            raise ValueError(
                f"num_colours: wanted at least {wanted}, for a path of {path} locks{why}, got {self.num_colours}"
            )

    @property
    def extra(self) -> int:
        """Colors wanted beside the path's: a branch never has two of one in a row."""
        if max(self.num_forward):
            return min(self.branch_length, 2)
        return int(max(self.num_backward) > 0)

    @property
    def unused(self) -> int:
        """Colors of a level that no distractor gets: the released code leaves out the last."""
        return int(self.dynamics == "released" and self.extra > 0)

    @property
    def limit(self) -> int:
        """The step of an episode at which it ends at the latest: the released code lets one more pass."""
        return self.max_steps + (self.dynamics == "released")

    @property
    def branches(self) -> int:
        """The most boxes that stand on forward branches."""
        return max(self.num_forward) * self.branch_length

    @property
    def boxes(self) -> int:
        """The most boxes in a level, the loose key with them."""
        return max(self.solution_length) + 1 + self.branches + max(self.num_backward)


def _between(name: str, value: object, least: int, most: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        span = f"{least} to {most}" if most is not None else f"a whole number from {least}"
        raise ValueError(f"{name}: wanted {span}, got {value!r}")
