"""The vectorised worlds against one world in plain Python, step by step."""

import numpy as np
import pytest

from seqtoolkit_box_world import BoxWorld
from seqtoolkit_box_world.reference import ReferenceWorld
from seqtoolkit_box_world.solution import solution

SETTINGS = {
    "window": {"view": 5},
    "board": {},
    "released": {"view": 3, "dynamics": "released", "solution_length": [1, 2, 3, 4], "num_forward": [0, 1, 2, 3, 4]},
    "branches": {
        "view": 5,
        "dynamics": "released",
        "branch_length": 3,
        "num_forward": [2],
        "num_backward": [0, 2],
        "solution_length": [2],
        "max_steps": 40,
    },
    "small": {"view": 7, "size": 8, "solution_length": [1, 2], "num_forward": [1], "num_colours": 4, "max_steps": 25},
}


def players(world, seed):
    """Actions by world: at random, greedy, as one who knows, or the greedy's with some at random."""
    rng = np.random.default_rng(seed)
    scripted = world.scripted()

    def act():
        chance = rng.integers(0, 4, world.num_envs)
        greedy, solver = scripted["greedy"](), scripted["solver"]()
        kind = np.arange(world.num_envs) % 4
        mixed = np.where(rng.random(world.num_envs) < 0.5, chance, greedy)
        return np.choose(kind, [chance, greedy, solver, mixed])

    return act


def compare(settings, num_envs, steps, seed, seldom=1):
    """Both side by side: rewards, ends, last observations, solved; how many episodes ended in each way.

    Observations of each world are compared at one step of `seldom`.
    """
    world = BoxWorld(num_envs=num_envs, seed=seed, **settings)
    rule, act = world.rule, players(world, seed)

    def begin(which):
        drawn = world.generator.draw(which, world.episodes[which])
        levels = [world.generator.level(drawn, each) for each in range(len(which))]
        return [ReferenceWorld(level, rule.max_steps, rule.dynamics, world.view) for level in levels]

    seen = world.reset()
    slow = begin(np.arange(num_envs))
    assert seen.tolist() == [np.array(each.observe()).tolist() for each in slow]
    ends = np.zeros(3, int)
    for tick in range(steps):
        actions = act()
        step = world.step(actions)
        told = [each.step(action) for each, action in zip(slow, actions.tolist(), strict=True)]
        rewards, terminated, truncated = map(list, zip(*told, strict=True))
        assert step.rewards.tolist() == rewards
        assert step.terminated.tolist() == terminated
        assert step.truncated.tolist() == truncated
        assert step.facts["solved"].tolist() == [float(each == 10) for each in rewards]
        finals = [slow[which].observe() for which in np.flatnonzero(truncated)]
        assert (step.finals is None) == (not finals)
        if finals:
            np.testing.assert_array_equal(step.finals, finals)
        ended = np.flatnonzero(step.terminated | step.truncated)
        for which, began in zip(ended, begin(ended) if len(ended) else [], strict=True):
            slow[which] = began
        watched = slice(tick % seldom, None, seldom)
        np.testing.assert_array_equal(step.observations[watched], [each.observe() for each in slow[watched]])
        ends += [sum(terminated), sum(truncated), rewards.count(10)]
    return ends


@pytest.mark.parametrize("name", SETTINGS)
def test_every_step_is_the_reference_s(name):
    """Random, greedy and knowing players see, earn and end the same in both, in every setting."""
    settings = {**SETTINGS[name], "max_steps": 30}
    terminated, truncated, solved = compare(settings, 150, 80, seed=4, seldom=10)
    assert min(terminated, solved) > 10
    assert (truncated > 10) == (settings.get("dynamics") != "released")


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_a_million_steps_are_the_reference_s(name):
    """More than a million steps in all settings together."""
    assert min(compare(SETTINGS[name], 200, 1100, seed=5)[[0, 2]]) > 100


def test_the_solution_solves_each_level():
    """The actions found by hand of the path earn its locks, then the gem, on the last action, in levels of all lengths."""
    num_envs = 300
    world = BoxWorld(num_envs=num_envs, seed=6, max_steps=400)
    world.reset()
    levels = [world.level(which) for which in range(num_envs)]
    plans = [solution(level) for level in levels]
    earned = [[] for _ in plans]
    for tick in range(max(map(len, plans))):
        over = [len(plan) <= tick for plan in plans]
        step = world.step(np.array([0 if done else plan[tick] for plan, done in zip(plans, over, strict=True)]))
        for which, plan in enumerate(plans):
            if not over[which]:
                earned[which].append(float(step.rewards[which]))
                assert step.terminated[which] == (tick == len(plan) - 1)
    for level, rewards in zip(levels, earned, strict=True):
        assert [each for each in rewards if each] == [1.0] * level.length + [10.0]
    assert {level.length for level in levels} == {1, 2, 3, 4, 5}


def test_one_who_knows_is_as_fast_as_the_solution():
    """The scripted solver takes as many steps as the solution found square by square, and the greedy one solves less."""
    world = BoxWorld(num_envs=100, seed=7)
    world.reset()
    wanted = np.array([len(solution(world.level(which))) for which in range(100)])
    taken, act = np.zeros(100, int), world.scripted()["solver"]
    for tick in range(1, wanted.max() + 1):
        solved = world.step(act()).facts["solved"] > 0
        taken[solved & (taken == 0)] = tick
    np.testing.assert_array_equal(taken, wanted)
