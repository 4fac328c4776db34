"""Schedule: how the learning rate moves over a run, as a factor from 0 to 1 of each update."""

from __future__ import annotations

import math


def constant(step: int, steps: int, warmup: int = 0) -> float:  # noqa: ARG001  a schedule's signature
    """The learning rate stays as it is.

    Args:
        step: The update to come, from 0.
        steps: How many there are.
        warmup: Over how many updates the rate rises from 0 in a line.
    """
    _at_least("warmup", warmup, 0)
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def linear(step: int, steps: int, warmup: int = 0, final: float = 0.0) -> float:
    """The learning rate falls in a line.

    Args:
        step: The update to come, from 0.
        steps: How many there are.
        warmup: Over how many updates the rate first rises from 0 in a line.
        final: The factor at the last update.
    """
    return constant(step, steps, warmup) * (1 - (1 - final) * _progress(step, steps, warmup))


def cosine(step: int, steps: int, warmup: int = 0, final: float = 0.0) -> float:
    """The learning rate falls along half a cosine (Loshchilov & Hutter 2017).

    Args:
        step: The update to come, from 0.
        steps: How many there are.
        warmup: Over how many updates the rate first rises from 0 in a line.
        final: The factor at the last update.
    """
    falling = (1 + math.cos(math.pi * _progress(step, steps, warmup))) / 2
    return constant(step, steps, warmup) * (final + (1 - final) * falling)


def exponential(step: int, steps: int, decay: float = 0.9, every: int = 10_000, floor: float = 0.8) -> float:  # noqa: ARG001  a schedule's signature
    """The learning rate falls by a factor each so many updates, to a floor (the published RMC examples).

    Args:
        step: The update to come, from 0.
        steps: How many there are.
        decay: The factor.
        every: After how many updates it applies once more.
        floor: The least factor in all.
    """
    _at_least("every", every, 1)
    return max(floor, decay ** (step // every))


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"schedule.{name}: wanted at least {least}, got {value}")


def _progress(step: int, steps: int, warmup: int) -> float:
    return min(1.0, max(0, step - warmup) / max(1, steps - warmup - 1))
