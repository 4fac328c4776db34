"""Rules: what is worth how much, and what ends a level, in each mode and in both dynamics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ModeName = Literal["regular", "avoid", "hunt", "ambush", "rush"]
Dynamics = Literal["paper", "released"]
Clears = Literal["food", "pills", "ghosts"]

PILLS = 2
"""How many pills a level has."""
POWER = 20
"""What a pill sets the power to; it falls by one at the start of each step, so Pacman is strong in the 19 steps after."""
FULL_SPEED = 10
"""A ghost moves in one step with probability (4 + level) / 10, half of it while Pacman is strong (released dynamics)."""
WHIMS = 20
"""At a junction a ghost turns anywhere but back once in so many times (released dynamics)."""
CHANCE = 20
"""Bits of a chance: a probability is a whole multiple of 2^-20, the least that is not below what is wanted."""
MOVES, LEVELS, EPISODES, PLAYERS = range(4)
"""Streams of random bits: what ghosts do, new levels, new episodes, scripted players."""


@dataclass(frozen=True)
class Mode:
    """Rewards in tenths of a point, so that sums are exact; what ends a level."""

    step: int
    food: int
    pill: int
    ghost: int
    death: int
    clears: Clears | None = None
    """The level is cleared when none of these is left"""
    paper_limit: int = 0
    """The level is over after so many steps; 0: never"""
    released_limit: int = 0

    def limit(self, dynamics: Dynamics) -> int:
        """After how many steps a level is over; 0: never."""
        return self.paper_limit if dynamics == "paper" else self.released_limit


MODES: dict[ModeName, Mode] = {
    "regular": Mode(0, 10, 20, 50, 0, "food"),
    "avoid": Mode(1, -1, -50, -100, -200, None, 128, 128),
    "hunt": Mode(0, 0, 10, 100, -200, "ghosts", 80),
    "ambush": Mode(0, -1, 0, 100, -200, "ghosts", 80),
    "rush": Mode(0, -1, 100, 0, 0, "pills"),
}
"""I2A, appendix C (Weber et al. 2017); the released code has the same rewards, and no limit of 80 steps."""
