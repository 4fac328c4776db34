"""How many steps a second BoxWorld takes, levels and observations included; its rules are checked first."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch

from seqtoolkit.sdk import Arrays
from seqtoolkit_box_world import BoxWorld
from seqtoolkit_box_world.reference import ReferenceWorld

REPEATS, STEPS, DRAWN = 7, 150, 2048
VIEWS = {"5x5 window": 5, "whole board": 0}


def check(view: int) -> None:
    """Random steps earn and show what they do in plain Python, or there is nothing to time."""
    world = BoxWorld(16, view=view)
    seen = world.reset()
    slow = [ReferenceWorld(world.level(which), view=view) for which in range(16)]
    rng = np.random.default_rng(0)
    for _ in range(300):
        np.testing.assert_array_equal(seen, [each.observe() for each in slow])
        actions = rng.integers(0, 4, 16)
        step = world.step(actions)
        told = [each.step(action) for each, action in zip(slow, actions.tolist(), strict=True)]
        assert list(zip(step.rewards, step.terminated, step.truncated, strict=True)) == told
        for which in np.flatnonzero(step.terminated | step.truncated):
            slow[which] = ReferenceWorld(world.level(which), view=view)
        seen = step.observations


def rate(count: int, work: Callable[[int], Any], device: str) -> float:
    """How many of `count` a second, the best of repeats, warm: by the process's own time, or by the clock on a GPU."""
    clock = process_time if device == "cpu" else perf_counter
    best = 0.0
    for repeat in range(REPEATS + 1):
        begun = clock()
        work(repeat)
        if device != "cpu":
            torch.cuda.synchronize()
        taken = clock() - begun
        best = max(best, count / taken if repeat else 0.0)
    return best


def made(num_envs: int, view: int, device: str) -> tuple[BoxWorld, list[Any]]:
    """Worlds in the middle of their episodes, on numpy or on a device, and random actions for their steps."""
    world = BoxWorld(num_envs, view=view)
    if device != "cpu":
        world.place(Arrays(torch.device(device)))
    drawn = np.random.default_rng(0).integers(0, 4, (STEPS, num_envs))
    actions = [world.arrays.array(each) for each in drawn]
    world.reset()
    world.steps = world.arrays.array(np.arange(num_envs) % world.rule.max_steps)
    return world, actions


def main() -> None:
    """Print steps a second by random actions, with levels drawn and observations made, and levels a second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu (numpy, one thread), or cuda")
    device = parser.parse_args().device
    torch.set_num_threads(1)
    sizes = (1, 64, 1024) if device == "cpu" else (1024, 65_536)
    print(f"{'steps a second':24}" + "".join(f"{f'{size:,} worlds':>16}" for size in sizes))
    for name, view in VIEWS.items():
        check(view)
        rates = []
        for size in sizes:
            world, actions = made(size, view, device)
            rates.append(
                rate(STEPS * size, lambda _, world=world, actions=actions: [*map(world.step, actions)], device)
            )
        print(f"{name:24}" + "".join(f"{each:16,.0f}" for each in rates))
    world, _ = made(DRAWN, 5, device)
    levels = rate(DRAWN, lambda repeat: world.generator.draw(world.worlds, world.worlds * 0 + repeat), device)
    print(f"\nlevels a second, {DRAWN:,} at once: {levels:,.0f}")


if __name__ == "__main__":
    main()
