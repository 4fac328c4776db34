"""How many steps a second: one core, many worlds and one, with pixels and without; `--device cuda`: a GPU. Checked first."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch

from seqtoolkit.sdk import Arrays, counter_bits
from seqtoolkit_mini_pacman import MiniPacman
from seqtoolkit_mini_pacman.reference import World

WORLDS, GPU_WORLDS, STEPS, REPEATS = 1024, 65_536, 100, 7
WAYS: dict[str, dict[str, Any]] = {
    "without pixels": {"observe": "ids"},
    "whole board": {},
    "window of 5": {"view": 5},
}


def check(steps: int = 100, count: int = 4) -> None:
    """A few worlds do what the reference does, or there is nothing to time."""
    for dynamics in ("paper", "released"):
        environment = MiniPacman(count, dynamics=dynamics)
        seen = environment.reset()
        worlds = [World("regular", dynamics, _drawer(index)) for index in range(count)]
        greedy = environment.scripted()["greedy"]
        for _ in range(steps):
            assert (seen == np.stack([world.observation() for world in worlds])).all()
            actions = greedy()
            step = environment.step(actions)
            told = [world.step(int(action))[0] for world, action in zip(worlds, actions, strict=True)]
            assert (step.rewards == np.array(told, np.float32)).all()
            seen = step.observations


def rate(environment: MiniPacman, clock: Callable[[], float]) -> float:
    """Steps a second by random actions: the best of a few times."""
    a, worlds = environment.arrays, environment.num_envs
    drawn = np.random.default_rng(0).integers(0, environment.actions, (STEPS, worlds))
    actions = [a.array(each) for each in drawn]
    environment.reset()
    best = float("inf")
    for _ in range(REPEATS):
        begun = clock()
        for each in actions:
            environment.step(each)
        best = min(best, clock() - begun)
    return STEPS * worlds / best


def main() -> None:
    """Print a table: thousands of steps a second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", help="a device of torch; numpy where not given")
    device = parser.parse_args().device
    torch.set_num_threads(1)
    check()
    arrays, counts, clock = Arrays(), (WORLDS, 1), process_time
    if device:
        arrays, counts, clock = Arrays(torch.device(device)), (GPU_WORLDS,), _waited(device)
    print(f"{'thousand steps a second':26}" + "".join(f"{name:>16}" for name in WAYS))
    for dynamics in ("paper", "released"):
        for count in counts:
            rates = []
            for kind in WAYS.values():
                environment = MiniPacman(count, dynamics=dynamics, **kind)
                environment.place(arrays)
                rates.append(rate(environment, clock) / 1000)
            print(f"{dynamics + ', worlds: ' + str(count):26}" + "".join(f"{each:16,.1f}" for each in rates))


def _drawer(world: int) -> Callable[[int, int, int], list[int]]:
    def draw(stream: int, tick: int, count: int) -> list[int]:
        bits = counter_bits(0, "train", np.array([(world << 40) + tick]), count, stream)[0]
        return (bits >> np.uint64(2)).tolist()

    return draw


def _waited(device: str) -> Callable[[], float]:
    def clock() -> float:
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return perf_counter()

    return clock


if __name__ == "__main__":
    main()
