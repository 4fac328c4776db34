"""The T-maze: by its laws, by the same rules one world at a time, and by what memory is worth in it."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqtoolkit.sdk import Arrays
from seqtoolkit.testing import ENVIRONMENT_LAWS, check_environment
from seqtoolkit_t_maze import TMaze

NORTH, EAST, SOUTH, WEST = range(4)
SHORT = partial(TMaze, length=2, limit=9)
NOISY = partial(TMaze, length=4, limit=9, noise=True)
SQUARE = 16


class Slow:
    """One world by the rules of the README, in plain Python; its signs are read off what is seen at each start."""

    def __init__(self, length, limit, seen):
        self.length, self.limit = length, limit
        self.begin(seen)

    def begin(self, seen):
        """An episode, of which this is seen first."""
        self.goal = {(0, 1, 1): NORTH, (1, 1, 0): SOUTH}[tuple(seen)]
        self.square = self.age = 0

    def see(self):
        """What is seen now."""
        if self.square == 0:
            return [0, 1, 1] if self.goal == NORTH else [1, 1, 0]
        return [0, 1, 0] if self.square == self.length else [1, 0, 1]

    def act(self, action):
        """The reward, whether the episode has terminated, whether it was cut, and whether the turn was right."""
        self.age += 1
        if self.square == self.length and action in (NORTH, SOUTH):
            right = action == self.goal
            return (4.0 if right else -0.1), True, False, right
        reward = -0.1
        if action == EAST and self.square < self.length:
            self.square, reward = self.square + 1, 0.0
        elif action == WEST and self.square > 0:
            self.square, reward = self.square - 1, 0.0
        return reward, False, self.age == self.limit, False


@pytest.mark.parametrize("factory", [SHORT, NOISY], ids=["plain", "noise"])
@pytest.mark.parametrize("law", ENVIRONMENT_LAWS)
def test_law(law, factory):
    """It keeps every law of environments, with noise and without."""
    check_environment(factory, law, steps=40)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), length=st.integers(1, 5), more=st.integers(1, 8), seed=st.integers(0, 2**32))
def test_rules_are_those_of_one_world_at_a_time(data, length, more, seed):
    """Rewards, ends, what is seen, last observations and facts are those of the slow rules, whatever is done."""
    maze = TMaze(num_envs=3, seed=seed, length=length, limit=length + more)
    seen = maze.reset()
    slow = [Slow(length, length + more, each) for each in seen]
    toward_east = st.sampled_from((EAST, EAST, EAST, NORTH, SOUTH, WEST))
    for _ in range(25):
        actions = data.draw(st.lists(toward_east, min_size=3, max_size=3))
        step = maze.step(np.array(actions))
        lasts = []
        for world, (one, action) in enumerate(zip(slow, actions, strict=True)):
            reward, terminated, truncated, right = one.act(action)
            assert step.rewards[world] == np.float32(reward)
            assert (step.terminated[world], step.truncated[world]) == (terminated, truncated)
            if truncated:
                lasts.append(one.see())
            if terminated or truncated:
                assert step.facts["right"][world] == right
                one.begin(step.observations[world])
            assert step.observations[world].tolist() == one.see()
        assert (step.finals is None and not lasts) or step.finals.tolist() == lasts


def episodes(maze, player, steps):
    """Returns, lengths and whether the turn was right, of all episodes that end in `steps` steps."""
    total, age, found = np.zeros(maze.num_envs), np.zeros(maze.num_envs), []
    maze.reset()
    for _ in range(steps):
        step = maze.step(player())
        total, age = total + step.rewards, age + 1
        ended = step.terminated | step.truncated
        found += list(zip(total[ended], age[ended], step.facts["right"][ended], strict=True))
        total[ended] = age[ended] = 0
    return np.array(found)


@pytest.mark.parametrize("length", [1, 6, 20])
def test_who_forgets_is_right_half_the_time(length):
    """`forgetful` is as good as the README says: right half the time, a return of 1.95, in length + 1 steps."""
    maze, taken = TMaze(num_envs=2000, length=length), set()

    def player():
        actions = maze.scripted()["forgetful"]()
        taken.update(actions)
        return actions

    returns, lengths, right = episodes(maze, player, 5 * (length + 1)).T
    assert taken == {NORTH, EAST, SOUTH}
    assert len(right) == 10_000
    assert (lengths == length + 1).all()
    assert abs(right.mean() - 0.5) < 0.025  # five standard deviations
    assert abs(returns.mean() - 1.95) < 0.025 * 4.1


def test_who_remembers_is_right_every_time():
    """The sign at the start tells the turn: who walks and remembers gets 4 in every episode."""
    maze, remembered = TMaze(num_envs=50), np.zeros(50, int)

    def remember():
        seen = maze._observe()
        remembered[seen[:, 0] + seen[:, 2] == 1] = 2 * seen[seen[:, 0] + seen[:, 2] == 1, 0]
        return np.where((seen == (0, 1, 0)).all(1), remembered, EAST)

    assert (episodes(maze, remember, 70) == (4, 7, 1)).all()


@settings(max_examples=60, deadline=None)
@given(data=st.data(), length=st.integers(1, 6), more=st.integers(1, 20))
def test_no_policy_without_memory_does_better(data, length, more):
    """Over policies that see the present alone, by exact expectation: right at most half, a return of at most 1.95."""
    weight = st.sampled_from((0.0, 0.01, 0.3, 1.0))
    views = ["sign north", "sign south", "corridor", "junction"]
    drawn = [np.array(data.draw(st.tuples(weight, weight, weight, weight).filter(any))) for _ in views]
    policy = dict(zip(views, (each / each.sum() for each in drawn), strict=True))
    both = [expected(policy, sign, length, length + more) for sign in ("north", "south")]
    right, value = np.mean(both, axis=0)
    assert right <= 0.5 + 1e-9
    assert value <= 1.95 + 1e-9


def expected(policy, sign, length, limit):
    """The chance of the right turn and the expected return, by how likely each square is after each step."""
    at = np.zeros(length + 1)
    at[0], right, value = 1, 0.0, 0.0
    for _ in range(limit):
        following = np.zeros(length + 1)
        for square in range(length + 1):
            view = f"sign {sign}" if square == 0 else "junction" if square == length else "corridor"
            north, east, south, west = at[square] * policy[view]
            if square == length:
                hit, missed = (north, south) if sign == "north" else (south, north)
                right, value = right + hit, value + 4 * hit - 0.1 * missed
                north = south = 0
            stays = north + south + (east if square == length else 0) + (west if square == 0 else 0)
            following[square] += stays
            value -= 0.1 * stays
            if square < length:
                following[square + 1] += east
            if square > 0:
                following[square - 1] += west
        at = following
    return right, value


def test_chance_seldom_arrives():
    """The README's 33 %: how often who acts by chance turns at all, with the defaults."""
    policy = dict.fromkeys(("sign north", "corridor", "junction"), np.full(4, 0.25))
    assert 2 * expected(policy, "north", 6, 50)[0] == pytest.approx(0.327, abs=5e-4)


def test_noise_tells_nothing():
    """With noise the corridor is a 0 b, a and b uniform and new at each step and in each world; the rest stays."""
    maze, plain = TMaze(num_envs=500, noise=True), TMaze(num_envs=500)
    assert np.array_equal(maze.reset(), plain.reset())
    east = np.full(500, EAST)
    seen = np.stack([maze.step(east).observations for _ in range(5)])
    ends = seen[..., ::2]
    assert not seen[..., 1].any()
    assert ends.min() >= 0
    assert ends.max() < 1
    assert len(np.unique(ends)) > 4990  # of 5,000 draws of 24 bits
    assert np.abs(np.quantile(ends, (0.25, 0.5, 0.75)) - (0.25, 0.5, 0.75)).max() < 0.04
    assert abs(np.corrcoef(ends.reshape(5, -1))[0, 1:]).max() < 0.16
    for _ in range(5):
        plain.step(east)
    assert np.array_equal(maze.step(east).observations, plain.step(east).observations)


def test_signs_are_fair():
    """Over worlds and over the episodes of one, each sign is as likely."""
    maze = TMaze(num_envs=400, length=1, limit=2)
    signs = [maze.reset()[:, 0]]
    for _ in range(49):
        maze.step(np.full(400, EAST))
        signs.append(maze.step(np.full(400, WEST)).observations[:, 0])
    signs = np.array(signs)
    assert abs(signs.mean() - 0.5) < 0.018  # five standard deviations
    assert abs(signs.mean(0) - 0.5).max() < 0.36
    assert abs(signs.mean(1) - 0.5).max() < 0.125


def test_picture_shows_player_and_goal():
    """A picture shows the player where it is and the goal on the side that the sign tells."""
    maze = TMaze(num_envs=20, length=3)
    signs = maze.reset()[:, 0]
    maze.step(np.full(20, EAST))
    for world in range(20):
        squares = maze.render(world)[SQUARE // 2 :: SQUARE, SQUARE // 2 :: SQUARE].tolist()
        blue, green = [70, 120, 240], [60, 190, 90]
        places = {(y, x): color for y, row in enumerate(squares) for x, color in enumerate(row)}
        assert [place for place, color in places.items() if color == blue] == [(1, 1)]
        assert [place for place, color in places.items() if color == green] == [(2 * int(signs[world]), 3)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length: wanted at least 1 step from the sign to the junction, got 0"),
        ({"limit": 6}, "limit: wanted at least 7 steps, to walk 6 and turn, got 6"),
        ({"num_envs": 0}, "num_envs: wanted at least 1, got 0"),
        ({"split": "dev"}, "split: wanted one of train, valid, test, got 'dev'"),
    ],
)
def test_bad_parameters(options, message):
    """A parameter out of its range is refused by its key."""
    with pytest.raises(ValueError, match=message):
        TMaze(**options)


@pytest.mark.parametrize("device", [None, torch.device("cpu")])
@pytest.mark.parametrize(
    ("actions", "message"),
    [([0, 4], "action: wanted 0 to 3, got 4 in world 1"), ([1], "actions: wanted one for each of 2 worlds")],
)
def test_bad_actions(actions, message, device):
    """An action that is none, or that is missing, is refused, by numpy and by torch."""
    maze = TMaze(num_envs=2)
    maze.place(Arrays(device))
    maze.reset()
    with pytest.raises(ValueError, match=message):
        maze.step(maze.arrays.array(actions))


@pytest.mark.parametrize(
    ("other", "said"), [({"num_envs": 2}, "num_envs: wanted 1"), ({"length": 3}, "length: wanted 6")]
)
def test_state_of_other_worlds(other, said):
    """A state of fewer worlds is refused, not spread over more; so is one of a maze of another length."""
    one, two = TMaze(), TMaze(**other)
    one.reset()
    with pytest.raises(ValueError, match=f"^{said}, as in the state"):
        two.load_state_dict(one.state_dict())
