"""Guide: players by rules of thumb, which walk the shortest way to what they can take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqtoolkit.sdk import Array
from seqtoolkit_box_world.flood import beside, pack, spread
from seqtoolkit_box_world.palette import BACKGROUND, DISTRACTOR, GEM, KEY, LOCK, MOST_COLORS

if TYPE_CHECKING:
    from seqtoolkit_box_world.environment import BoxWorld


def toward(world: BoxWorld, *, knows: bool) -> Array:
    """Actions [B]: a step of the shortest way through free squares to the nearest of what can be taken now.

    That is a key or the gem where no lock is beside it, and a lock that the held key opens; one who `knows` leaves out the
    locks that end the episode, and so solves every level in time. Up where there is no such thing.
    """
    arrays, space, side = world.arrays, world.arrays.space, world.side
    boards = world.boards
    opened = space.concatenate([boards[:, 1:], boards[:, :1]], 1) < LOCK
    color = arrays.cast((boards - KEY) % MOST_COLORS, "int64") + 1
    fits = (boards >= LOCK) & (color == world.held[:, None])
    if knows:
        fits = fits & (boards < DISTRACTOR)
    wanted = fits | ((boards >= GEM) & (boards < LOCK) & opened)
    free, reached = (pack(arrays, each.reshape(-1, side, side)) for each in (boards == BACKGROUND, wanted))
    chosen = arrays.zeros((len(boards),), "int64")
    undecided = arrays.full((len(boards),), 1, "bool")
    while True:
        near = beside(arrays, reached, world.players[:, None], side)[:, 0]
        chosen = space.where(undecided, space.argmax(near, axis=1), chosen)
        undecided = undecided & (near.sum(1) == 0)
        grown = spread(reached, free)
        if not undecided.any() or (grown == reached).all():
            return chosen
        reached = grown
