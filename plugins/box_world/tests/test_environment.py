"""The laws of environments, of BoxWorld's episodes, and what its settings refuse."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqtoolkit.sdk import Arrays
from seqtoolkit.testing import ENVIRONMENT_LAWS, check_environment
from seqtoolkit_box_world import BoxWorld
from seqtoolkit_box_world.palette import BACKGROUND, BORDER, HELD, PLAYER, RGB

EASY = {"size": 7, "solution_length": [1], "num_forward": [0, 1], "max_steps": 20}


@pytest.mark.parametrize("law", ENVIRONMENT_LAWS)
def test_laws_of_environments(law):
    """Repeatable, each world apart, resumed exactly, by torch as by numpy: every law, in the window."""
    check_environment(partial(BoxWorld, view=5, **EASY), law, steps=50)


@pytest.mark.parametrize("changed", [{"dynamics": "released"}, {"view": 0}])
def test_ends_of_other_settings(changed):
    """The whole board, and a limit of steps that terminates, end and resume by the laws too."""
    for law in ("resume", "ends", "finals"):
        check_environment(partial(BoxWorld, **EASY, **changed), law, steps=40)


@given(
    st.integers(0, 2**32),
    st.sampled_from([0, 5]),
    st.integers(0, 2),
    st.integers(1, 3),
    st.sampled_from(["paper", "released"]),
)
@settings(max_examples=4, deadline=None)
def test_an_episode_earns_ones_and_ends_by_minus_one_or_ten(seed, view, backward, branch, dynamics):
    """Rewards are 0 and 1 until the last, which is -1 or 10 where rules end it; an episode is no longer than its limit."""
    world = BoxWorld(
        16, seed, view=view, solution_length=[1, 2], num_forward=[0, 1], branch_length=branch,
        num_backward=[backward], max_steps=35, dynamics=dynamics,
    )  # fmt: skip
    world.reset()
    rng, limit = np.random.default_rng(seed), 35 + (dynamics == "released")
    length, earned = np.zeros(16, int), np.zeros(16)
    locks = np.array([world.level(each).length for each in range(16)])
    for _ in range(60):
        chance = rng.random(16) < 0.2
        step = world.step(np.where(chance, rng.integers(0, 4, 16), world.scripted()["greedy"]()))
        length += 1
        over = step.terminated | step.truncated
        late = over & ~np.isin(step.rewards, [-1, 10])
        assert (over | np.isin(step.rewards, [0, 1])).all()
        assert (length[late] == limit).all()
        assert (length <= limit).all()
        assert not (step.terminated & step.truncated).any()
        assert (step.terminated[late] == (dynamics == "released")).all()
        earned += step.rewards == 1
        assert (earned <= locks).all()
        assert (earned == locks)[step.facts["solved"] > 0].all()
        length[over], earned[over] = 0, 0
        for which in np.flatnonzero(over):
            locks[which] = world.level(which).length


@given(st.integers(0, 2**32))
@settings(max_examples=4, deadline=None)
def test_what_stands_stands_and_a_key_is_used_once(seed):
    """The player is never in a wall or on a box, nothing appears, a held key comes off the board, and is spent on a lock."""
    world = BoxWorld(12, seed, **EASY)
    world.reset()
    rng = np.random.default_rng(seed)
    for _ in range(60):
        boards, held = world.boards.copy(), world.held.copy()
        chance = rng.random(12) < 0.3
        step = world.step(np.where(chance, rng.integers(0, 4, 12), world.scripted()["solver"]()))
        on = ~(step.terminated | step.truncated)
        rows = np.arange(12)
        assert (world.boards[rows, world.players] == BACKGROUND).all()
        gone = (boards != world.boards).sum(1)
        took = (world.held != held) & (world.held > 0)
        opened = step.rewards == 1
        assert (gone[on] == (took | opened)[on]).all()
        assert (held[opened] > 0).all()
        assert (world.held[opened] == 0).all()
        assert (world.boards == BORDER).sum(1).tolist() == [4 * 8] * 12


def test_what_is_seen():
    """By hand: the player in the middle of its window, the border around the room, the held key beside it and in the corner."""
    whole, window = (BoxWorld(4, 9, view=view, num_forward=[0]) for view in (0, 5))
    seen = whole.reset(), window.reset()
    for _ in range(60):
        actions = whole.scripted()["solver"]()
        seen = whole.step(actions).observations, window.step(actions).observations
        padded = np.pad(seen[0], [(0, 0), (1, 1), (1, 1), (0, 0)])
        padded[:, 1, 1] = 0
        for which, held in enumerate(whole.held):
            y, x = divmod(int(whole.players[which]), 14)
            assert seen[0][which, y, x].tolist() == seen[1][which, 2, 2, :3].tolist() == RGB[PLAYER].tolist()
            np.testing.assert_array_equal(seen[1][which, :, :, :3], padded[which, y - 1 : y + 4, x - 1 : x + 4])
            assert (seen[1][which, :, :, 3:] == HELD[held]).all()
            assert seen[0][which, 0, 0].tolist() == HELD[held].tolist()
    assert whole.held.any()


def test_the_window_is_framed_in_the_picture():
    """A picture shows the whole room; a window adds a frame to it, and nothing else."""
    whole, window = (BoxWorld(1, 2, view=view) for view in (0, 5))
    whole.reset(), window.reset()
    plain, framed = whole.render(), window.render()
    assert plain.shape == framed.shape == (14 * 16, 14 * 16, 3)
    changed = (plain != framed).any(2)
    assert 0 < changed.sum() <= 4 * 2 * 5 * 16
    for _ in range(12):
        window.step(np.array([0]))
    assert window.render().shape == plain.shape


def test_torch_draws_what_numpy_draws():
    """Levels, in plain numbers too, and the whole board are the same by either, and levels of another split are not."""
    levels, seen = [], []
    for arrays, split in ((Arrays(), "train"), (Arrays(torch.device("cpu")), "train"), (Arrays(), "valid")):
        world = BoxWorld(20, 5, split, branch_length=2, num_forward=[2], num_backward=[0, 1])
        world.place(arrays)
        world.reset()
        levels.append([world.level(which) for which in range(20)])
        seen.append([arrays.numpy(world.step(arrays.array([tick % 4] * 20)).observations) for tick in range(10)])
    assert levels[0] == levels[1]
    np.testing.assert_array_equal(seen[0], seen[1])
    assert levels[0] != levels[2]


@pytest.mark.parametrize(
    ("given_settings", "said"),
    [
        ({"num_envs": 0}, "num_envs: wanted at least 1, got 0"),
        ({"view": 4}, "view: wanted 0 for the whole board or an odd side of the window, got 4"),
        ({"view": -5}, "view: wanted 0 for the whole board or an odd side of the window, got -5"),
        ({"view": 13}, "view: wanted at most the size of the room, 12, got 13"),
        ({"size": 4}, "size: wanted 5 to 60, got 4"),
        ({"solution_length": []}, "solution_length: wanted a list of numbers to draw from, such as [1, 2], got []"),
        ({"num_forward": 3}, "num_forward: wanted a list of numbers to draw from, such as [1, 2], got 3"),
        ({"solution_length": [0]}, "solution_length: wanted a whole number from 1, got 0"),
        ({"num_backward": [-1]}, "num_backward: wanted a whole number from 0, got -1"),
        ({"branch_length": 0}, "branch_length: wanted a whole number from 1, got 0"),
        ({"max_steps": 1.5}, "max_steps: wanted a whole number from 1, got 1.5"),
        ({"num_colours": 21}, "num_colours: wanted 1 to 20, got 21"),
        (
            {"num_colours": 5},
            "num_colours: wanted at least 6, for a path of 5 locks and what is not on it, got 5",
        ),
        (
            {"num_colours": 7, "dynamics": "released", "branch_length": 2},
            "num_colours: wanted at least 8, for a path of 5 locks and what is not on it, got 7",
        ),
        ({"num_colours": 4, "num_forward": [0]}, "num_colours: wanted at least 5, for a path of 5 locks, got 4"),
        ({"dynamics": "new"}, "dynamics: wanted paper or released, got 'new'"),
        ({"split": "all"}, "split: wanted one of train, valid, test, got 'all'"),
        (
            {"size": 6},
            "size: wanted room for 11 boxes with a free square around each, got a board of 6",
        ),
    ],
)
def test_settings_that_cannot_be(given_settings, said):
    """Each is refused in one line that begins with its name."""
    with pytest.raises(ValueError, match="^" + re.escape(said) + "$"):
        BoxWorld(**given_settings)


@pytest.mark.parametrize("action", [-1, 4])
def test_an_action_that_is_none(action):
    """It is refused with the world that took it, and the worlds have not moved."""
    world = BoxWorld(3)
    world.reset()
    before = world.state_dict()
    with pytest.raises(ValueError, match=r"^actions: wanted one for each of 3 worlds, got the shape \[1\]$"):
        world.step(np.array([0]))
    with pytest.raises(ValueError, match=rf"action: wanted 0 to 3, got {action} in world 1"):
        world.step(np.array([0, action, 2]))
    assert all(torch.equal(before[name], world.state_dict()[name]) for name in ("boards", "players", "steps"))


def test_a_state_of_other_worlds():
    """A state is of its seed, split, settings and number of worlds: another is refused by the name of what differs."""
    world = BoxWorld(3, **EASY)
    world.reset()
    state = world.state_dict()
    for other, said in (
        ({"seed": 1}, "seed"),
        ({"split": "test"}, "split"),
        ({"max_steps": 9}, "rule"),
        ({"num_envs": 2}, "num_envs"),
    ):
        with pytest.raises(ValueError, match=rf"^{said}: the state is of"):
            BoxWorld(**{"num_envs": 3, **EASY, **other}).load_state_dict(state)
    windowed = BoxWorld(3, view=5, **EASY)
    with pytest.raises(ValueError, match=r"^view: the state is of 0, and this is 5"):
        windowed.load_state_dict(state)
