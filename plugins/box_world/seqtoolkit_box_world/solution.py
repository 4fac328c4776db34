"""Solution: the actions that solve a level, found square by square in plain Python."""

from __future__ import annotations

from collections import deque

from seqtoolkit_box_world.level import Level

Square = tuple[int, int]
WAYS = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""What the actions add to (y, x): up, down, left, right."""


def solution(level: Level) -> list[int]:
    """Actions that earn every lock of the path and the gem, each walk between two of them a shortest one.

    Raises ValueError where a step of the path cannot be reached.
    """
    closed = {(box.y, box.x) for box in level.boxes} | {
        (box.y, box.x + 1) for box in level.boxes if box.lock is not None
    }
    here, actions = level.player, []
    for box in level.boxes[: level.length + 1]:
        for goal in ([] if box.lock is None else [(box.y, box.x + 1)]) + [(box.y, box.x)]:
            actions += walk(level.size, closed - {goal}, here, goal)
            closed.discard(goal)
            here = goal
    return actions


def walk(size: int, closed: set[Square], start: Square, goal: Square) -> list[int]:
    """Actions of a shortest way from start to goal, inside of the border and through no closed square.

    Raises ValueError where there is none.
    """
    came: dict[Square, tuple[Square, int]] = {}
    waiting = deque([start])
    while waiting and goal not in came:
        here = waiting.popleft()
        for action, (down, right) in enumerate(WAYS):
            there = here[0] + down, here[1] + right
            inside = 1 <= there[0] <= size and 1 <= there[1] <= size
            if inside and there not in closed and there not in came and there != start:
                came[there] = here, action
                waiting.append(there)
    if goal not in came:
        raise ValueError(f"level: no way leads from {start} to {goal}")
    actions = []
    here = goal
    while here != start:
        here, action = came[here]
        actions.append(action)
    return actions[::-1]
