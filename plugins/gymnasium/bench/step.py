"""What a step of CartPole costs here, beside Gymnasium's own loop over the same environments; the same episodes, checked first."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time

import gymnasium
import numpy as np

from seqtoolkit_gymnasium import GymnasiumWorlds

NAME, WORLDS, STEPS, REPEATS = "CartPole-v1", 16, 1000, 9


def main() -> None:
    """Print microseconds for one step of one world, the least of some repeats taken in turn."""
    actions = np.random.default_rng(0).integers(0, 2, (STEPS, WORLDS))
    worlds = GymnasiumWorlds(NAME, num_envs=WORLDS)
    made = [lambda: gymnasium.make(NAME, disable_env_checker=True)] * WORLDS
    theirs = gymnasium.vector.SyncVectorEnv(made, autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP)
    seen = worlds.reset()
    first = theirs.reset(seed=[world.seed(0) for world in worlds.worlds])[0]
    for each in actions:
        if not np.array_equal(seen, first):
            raise SystemExit("the first episodes are not the same")
        step, (first, _, ended, *_) = worlds.step(each), theirs.step(each)
        if ended.any():
            break
        seen = step.observations
    ways: dict[str, Callable[[np.ndarray], object]] = {"seqtoolkit": worlds.step, "SyncVectorEnv": theirs.step}
    least = dict.fromkeys(ways, float("inf"))
    for _ in range(REPEATS):
        for name, take in ways.items():
            start = process_time()
            for each in actions:
                take(each)
            least[name] = min(least[name], (process_time() - start) / actions.size)
    for name, seconds in least.items():
        print(f"{name:14} {seconds * 1e6:6.2f} us a step, {1 / seconds:9,.0f} steps/s")
    print(f"ratio {least['seqtoolkit'] / least['SyncVectorEnv']:.2f}")


if __name__ == "__main__":
    main()
