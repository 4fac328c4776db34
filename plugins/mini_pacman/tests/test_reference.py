"""The mazes as arrays, step by step against one world told slowly; and that one against what was published."""

import numpy as np
import pytest

from seqtoolkit.sdk import counter_bits
from seqtoolkit_mini_pacman import MiniPacman, maze
from seqtoolkit_mini_pacman.reference import World
from seqtoolkit_mini_pacman.rule import LEVELS, MODES

DYNAMICS = ("paper", "released")
BLOCK = 256
MOST_WORDS = 12
ENCODED = {place: square for square, place in enumerate(maze.PLACES)}


def drawer(seed, split, world):
    """The bits of one world, made by blocks of ticks and kept."""
    kept = {}

    def draw(stream, tick, count):
        block = (stream, tick // BLOCK)
        if block not in kept:
            indexes = (world << 40) + np.arange(BLOCK) + tick // BLOCK * BLOCK
            kept[block] = (counter_bits(seed, split, indexes, MOST_WORDS, stream) >> np.uint64(2)).tolist()
        return kept[block][tick % BLOCK][:count]

    return draw


def as_numbers(world):
    """Everything that a world of the reference knows, as numbers in a row."""
    pills = sorted(ENCODED[each] for each in world.pills)
    ghosts = [ENCODED[place] * maze.FACINGS + facing for place, facing in world.ghosts]
    row = [ENCODED[world.pacman], world.power, world.level, world.timer, world.frame, world.eaten, len(world.food)]
    return row + pills + [maze.NOWHERE] * (2 - len(pills)) + ghosts + [maze.GONE] * (MOST_WORDS - len(ghosts))


def numbers(environment):
    """The same of all worlds of an environment [B n]."""
    w = environment.worlds
    row = np.stack([w.pacman, w.power, w.level, w.timer, w.frame, w.eaten, w.food], 1)
    order = np.argsort(w.ghosts == maze.GONE, 1, kind="stable")
    ghosts = np.full((len(row), MOST_WORDS), maze.GONE)
    ghosts[:, : order.shape[1]] = np.take_along_axis(w.ghosts, order, 1)
    return np.concatenate([row, np.sort(w.pills, 1), ghosts], 1)


def begin(environment, worlds, level):
    """Begin a level in all worlds of both."""
    count = len(worlds)
    environment._level(np.arange(count), np.full(count, level), LEVELS)
    for world in worlds:
        world._new_level(level, LEVELS)


def crowd(environment, worlds, chance):
    """Begin a level of five ghosts, these and pills where Pacman is or beside it or nowhere near, in the level's last step."""
    begin(environment, worlds, 9)
    w = environment.worlds
    for index, world in enumerate(worlds):
        here = int(w.pacman[index])
        beside = int(environment.moves[here * 5 + chance.integers(5)])
        pill, ghost = chance.choice([here, beside, maze.NOWHERE]), chance.choice([here, beside])
        facing = int(chance.integers(maze.FACINGS))
        w.pills[index], world.pills = pill, [] if pill == maze.NOWHERE else [maze.PLACES[pill]] * 2
        w.ghosts[index][w.ghosts[index] != maze.GONE] = ghost * maze.FACINGS + facing
        for each in world.ghosts:
            each[:] = [maze.PLACES[ghost], facing]
        w.timer[index] = world.timer = max(0, environment.limit - 1)


def compare(mode, dynamics, view, count, steps, level=1, frame_cap=300, seed=0, *, crowded=False):
    """Take steps in `count` worlds by chance, wandering and greedy in turn, and demand the same of both in each; how many deaths."""
    environment = MiniPacman(count, seed, "valid", mode, dynamics, view, frame_cap=frame_cap)
    seen = environment.reset()
    worlds = [World(mode, dynamics, drawer(seed, "valid", index), frame_cap, view) for index in range(count)]
    if level > 1:
        begin(environment, worlds, level)
        seen = environment._paint(environment.worlds)
    chance = np.random.default_rng(seed)
    players = [*environment.scripted().values(), lambda: chance.integers(0, environment.actions, count)]
    deaths = 0
    for at in range(steps):
        if crowded:
            crowd(environment, worlds, chance)
            seen = environment._paint(environment.worlds)
        case = f"{mode}, {dynamics}, view {view}, step {at}"
        assert (seen == np.stack([world.observation() for world in worlds])).all(), case
        assert (numbers(environment) == [as_numbers(world) for world in worlds]).all(), case
        actions = players[-1 if crowded else at // 60 % 3]()
        step = environment.step(actions)
        seen, finals = step.observations, []
        for index, world in enumerate(worlds):
            reward, terminated, truncated, final = world.step(int(actions[index]))
            told = (step.rewards[index], step.terminated[index], step.truncated[index])
            assert told == (np.float32(reward), terminated, truncated), f"{case}, world {index}"
            assert (step.facts["level"][index], step.facts["food"][index]) == world.facts, f"{case}, world {index}"
            finals += [final] if truncated else []
            deaths += terminated
        assert (step.finals is None) == (not finals), case
        if finals:
            assert (step.finals == np.stack(finals)).all(), case
    return deaths


@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("mode", MODES)
def test_every_step_is_the_references(mode, dynamics):
    """Observations, rewards, ends and all that moves are those of the slow world: in all modes, at the first level and at the ninth."""
    assert compare(mode, dynamics, view=0, count=20, steps=180, frame_cap=100)
    assert compare(mode, dynamics, view=5, count=20, steps=90, level=9, frame_cap=40)


@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("mode", ["hunt", "rush"])
def test_crowds_are_the_references(mode, dynamics):
    """So it is where two pills lie on one square, ghosts stand on Pacman's, and levels end by time just then."""
    assert compare(mode, dynamics, view=3, count=50, steps=40, frame_cap=0, crowded=True)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("mode", MODES)
def test_a_million_steps_are_the_references(mode, dynamics):
    """A hundred thousand steps of each mode and dynamics, more than a million in all, agree as the few do."""
    for level, view in ((1, 0), (1, 5), (5, 7), (13, 0)):
        compare(mode, dynamics, view, count=26, steps=1000, level=level, frame_cap=1000, seed=level)


def test_a_random_policy_scores_as_was_published():
    """Released dynamics, regular: mean return 9.4 (sd 8.4) and length 64, as measured with the released code, about."""
    environment = MiniPacman(400, mode="regular", dynamics="released", observe="ids", frame_cap=1000)
    chance = np.random.default_rng(0)
    environment.reset()
    returns, lengths, going = np.zeros(400), np.zeros(400), np.ones(400, bool)
    while going.any():
        step = environment.step(chance.integers(0, 5, 400))
        returns, lengths = returns + step.rewards * going, lengths + going
        going &= ~(step.terminated | step.truncated)
    assert 8 < returns.mean() < 11
    assert 3 < returns.std() < 14
    assert 40 < lengths.mean() < 100
