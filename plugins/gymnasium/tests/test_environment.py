"""Gymnasium's as ours: its own environments keep our laws, and what misbehaves is told by world and step."""

import subprocess
import sys
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from seqtoolkit.sdk import counter_bits
from seqtoolkit.testing import check_environment
from seqtoolkit_gymnasium import GymnasiumWorlds


class Odd(gymnasium.Env):
    """A walk of chance of eight steps, with actions from -1 to 1; the third step of its second episode has the fault."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 1}  # noqa: RUF012  so Gymnasium's are
    observation_space = spaces.Dict({"at": spaces.Box(-9, 9, (1,), np.float64), "side": spaces.Discrete(2)})
    action_space = spaces.Discrete(3, start=-1)

    def __init__(self, fault="", at=3, render_mode=None):
        self.fault, self.at, self.render_mode, self.episode = fault, at, render_mode, 0

    def reset(self, *, seed=None, options=None):
        """Begin; `wild` begins by another chance than the seed's."""
        super().reset(seed=seed)
        chance = np.random.default_rng() if self.fault == "wild" else self.np_random
        self.place, self.age, self.episode = chance.normal(), 0, self.episode + 1
        return self._look(), {}

    def step(self, action):
        """Walk."""
        assert action in self.action_space
        self.place, self.age = self.place + action + self.np_random.normal(), self.age + 1
        reward = float("inf") if self._faulty("reward") else self.place
        if self._faulty("raise"):
            raise KeyError("a\nkey")
        return self._look(), reward, self.age == 8, self._faulty("both") or self.age == 8, {}

    def render(self):
        """A picture of one color, or of none."""
        if self.fault == "pictures":
            raise gymnasium.error.DependencyNotInstalled("no such painter")
        return np.full((2, 2, 3), self.age, np.uint8)

    def _faulty(self, fault):
        return self.fault == fault and (self.age, self.episode) == (self.at, 2)

    def _look(self):
        if self._faulty("shape"):
            return {"at": np.zeros(2), "side": 0}
        if self._faulty("kind"):
            return "here"
        return {"at": np.array([np.nan if self._faulty("nan") else self.place]), "side": int(self.place > 0)}


class Shown(gymnasium.Env):
    """Shows the same again and again, whatever its space says."""

    action_space = spaces.Discrete(2)

    def __init__(self, space, shown):
        self.observation_space, self.shown = space, shown

    def reset(self, *, seed=None, options=None):
        """Begin."""
        super().reset(seed=seed)
        return self.shown, {}

    def step(self, action):
        """Nothing changes."""
        return self.shown, 0, False, False, {}


class Worn(gymnasium.Env):
    """Counts to two in the same array again and again."""

    observation_space, action_space = spaces.Box(0, 9, (1,)), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        """Begin at 0."""
        super().reset(seed=seed)
        self.seen = getattr(self, "seen", np.zeros(1, np.float32))
        self.seen[:] = 0
        return self.seen, {}

    def step(self, action):
        """One more."""
        self.seen += 1
        return self.seen, 1, bool(self.seen == 2), False, {}


@pytest.fixture(autouse=True, scope="module")
def registered():
    """The toys, known to Gymnasium by their names."""
    for each in (Odd, Shown, Worn):
        gymnasium.register(f"{each.__name__}-v0", each)
    yield
    for each in (Odd, Shown, Worn):
        del gymnasium.registry[f"{each.__name__}-v0"]


@pytest.mark.parametrize(("name", "limit"), [("CartPole-v1", 12), ("FrozenLake-v1", None), ("Odd-v0", 6)])
def test_laws(name, limit):
    """Gymnasium's own environments keep every law of ours: seeds, worlds that do not see each other, snapshots, bad input."""
    check_environment(partial(GymnasiumWorlds, name, max_episode_steps=limit), steps=100)


@pytest.mark.parametrize("name", ["CartPole-v1", "Odd-v0"])
def test_worlds_are_separate_environments(name):
    """A world is what gymnasium.make gives, its episodes begun by seeds that are a function of (seed, split, world, episode)."""
    worlds = GymnasiumWorlds(name, num_envs=3, seed=5, split="valid", max_episode_steps=7)
    worlds.finals_of = "ended"
    own = [gymnasium.make(name, max_episode_steps=7) for _ in range(3)]
    flat = lambda made, seen: spaces.flatten(made.observation_space, seen).astype(np.float32)  # noqa: E731  one line
    seeds = [counter_bits(5, "valid", (i << 40) + np.arange(99), 1)[:, 0] >> np.uint64(33) for i in range(3)]
    episodes = [0] * 3
    wanted = [flat(made, made.reset(seed=int(seeds[i][0]))[0]) for i, made in enumerate(own)]
    assert np.array_equal(worlds.reset(), wanted)
    chance = np.random.default_rng(0)
    for _ in range(300):
        actions = chance.integers(0, worlds.actions, 3)
        step, finals = worlds.step(actions), []
        for i, made in enumerate(own):
            seen, reward, terminated, truncated, _ = made.step(actions[i] + made.action_space.start)
            assert step.rewards[i] == np.float32(reward)
            assert (step.terminated[i], step.truncated[i]) == (terminated, truncated and not terminated)
            if terminated or truncated:
                finals.append(flat(made, seen))
                episodes[i] += 1
                seen = made.reset(seed=int(seeds[i][episodes[i]]))[0]
            assert np.array_equal(step.observations[i], flat(made, seen))
        assert np.array_equal(step.finals, finals) if finals else step.finals is None
    assert min(episodes) > 30


@pytest.mark.parametrize(
    ("space", "shown", "spec", "seen"),
    [
        (spaces.Box(-1, 1, (2,), np.float64), [0.5, 1], "f32[B 2]", [0.5, 1]),
        (spaces.Box(0, 255, (2,), np.uint8), np.array([3, 255], np.uint8), "f32[B 2]", [3, 255]),
        (spaces.Box(-1, 1, (), np.float32), np.float32(0.5), "f32[B 1]", [0.5]),
        (spaces.Box(-9, 9, (2, 2), np.int32), np.arange(4).reshape(2, 2), "f32[B 4]", [0, 1, 2, 3]),
        (spaces.Box(0, 255, (1, 2, 3), np.uint8), np.full((1, 2, 3), 9, np.uint8), "u8[B 1 2 3]", [[[9] * 3] * 2]),
        (spaces.Box(0, 255, (1, 2), np.uint8), np.full((1, 2), 9, np.uint8), "u8[B 1 2 1]", [[[9]] * 2]),
        (spaces.Discrete(5, start=-2), np.int64(2), "i64<5>[B]", 4),
        (spaces.MultiBinary(3), np.array([0, 1, 1], np.int8), "f32[B 3]", [0, 1, 1]),
        (spaces.MultiDiscrete([2, 3]), np.array([1, 2]), "f32[B 5]", [0, 1, 0, 0, 1]),
        (spaces.Tuple([spaces.Discrete(2), spaces.Box(0, 9, (1,))]), (1, [7]), "f32[B 3]", [0, 1, 7]),
    ],
)
def test_views(space, shown, spec, seen):
    """Each space of Gymnasium that can be flattened is one of our three; starts are respected."""
    worlds = GymnasiumWorlds("Shown-v0", num_envs=2, options={"space": space, "shown": shown})
    assert str(worlds.observation) == spec
    first = worlds.reset()
    assert first.tolist() == [seen] * 2
    assert first.dtype == {"f": np.float32, "u": np.uint8, "i": np.int64}[spec[0]]
    assert worlds.step(np.array([0, 1])).observations.tolist() == [seen] * 2


@pytest.mark.parametrize("space", [spaces.Sequence(spaces.Discrete(2)), spaces.Text(3)])
def test_spaces_without_numbers(space):
    """A space that cannot be flattened to so many numbers is refused by its name."""
    with pytest.raises(
        ValueError, match=r"id: Shown-v0: observations: wanted a space that can be flattened .* (Seq|Text)"
    ):
        GymnasiumWorlds("Shown-v0", options={"space": space, "shown": ""})


@pytest.mark.parametrize(
    ("space", "shown", "told"),
    [
        (spaces.Discrete(3, start=1), 4, "wanted an observation from 1 to 3, got 4"),
        (spaces.Discrete(3), 1.5, "wanted an integer as observation, got float 1.5"),
        (spaces.Discrete(3), "x", "wanted an integer as observation, got str 'x'"),
        (spaces.Discrete(3), np.array([1]), r"wanted an integer as observation, got int64 of shape \(1,\)"),
        (spaces.Box(-1, 1, (2,)), [0, 0, 0], r"wanted an observation of shape \(2,\), got list \[0, 0, 0\]"),
        (spaces.Box(-1, 1, (2,)), np.zeros((2, 2)), r"shape \(2,\), got float64 of shape \(2, 2\)"),
        (spaces.Box(-1, 1, (2,)), "ab", "wanted an observation of numbers, got str 'ab'"),
        (spaces.Box(-1, 1, (2,)), [0, np.inf], "wanted finite numbers as observation"),
        (spaces.Box(0, 255, (2, 2), np.uint8), np.zeros((2, 2)), r"uint8 and shape \(2, 2\), got float64 of shape"),
        (
            spaces.Tuple([spaces.Discrete(2)]),
            (7,),
            r"wanted an observation of Tuple\(Discrete\(2\)\), got tuple \(7,\)",
        ),
    ],
)
def test_observations_that_do_not_fit(space, shown, told):
    """An observation that its space does not promise is told: where, what was wanted, what was given."""
    worlds = GymnasiumWorlds("Shown-v0", options={"space": space, "shown": shown})
    with pytest.raises(ValueError, match=f"^Shown-v0, world 0, at the reset of its episode 0: .*{told}"):
        worlds.reset()


def walk(worlds, steps):
    """Take action 1 everywhere."""
    return [worlds.step(np.ones(worlds.num_envs, np.int64)) for _ in range(steps)]


@pytest.mark.parametrize("at", [3, 8])
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("raise", r"KeyError: 'a\\nkey'"),
        ("nan", "wanted finite numbers as observation, got NaN or infinity"),
        ("reward", "wanted a finite number as reward, got inf"),
        ("shape", "wanted an observation of 3 numbers, got dict {'at': array"),
        ("kind", "wanted an observation of Dict.*, got str 'here'"),
    ],
)
def test_misbehaviour_is_told(fault, told, at):
    """What fails in the midst of an episode or at its end is one line with the world, the step and the episode."""
    worlds = GymnasiumWorlds("Odd-v0", num_envs=2, options={"at": at})
    worlds.worlds[1].made.unwrapped.fault = fault
    worlds.reset()
    with pytest.raises(ValueError, match=f"^Odd-v0, world 1, at step {at} of its episode 1: {told}") as caught:
        walk(worlds, 20)
    assert "\n" not in str(caught.value)


def test_terminated_is_not_truncated():
    """An episode that ends both ways at once has terminated."""
    worlds = GymnasiumWorlds("Odd-v0", max_episode_steps=8)
    worlds.reset()
    steps = walk(worlds, 8)
    assert [bool(each.terminated[0]) for each in steps] == [False] * 7 + [True]
    assert not any(each.truncated[0] for each in steps)
    assert steps[-1].finals is None


def test_arrays_that_are_written_again():
    """What an environment writes over is kept as it was: observations, and the last of an episode."""
    worlds = GymnasiumWorlds("Worn-v0", num_envs=2)
    worlds.finals_of = "ended"
    first, (second, third) = worlds.reset(), walk(worlds, 2)
    assert [first.tolist(), second.observations.tolist()] == [[[0], [0]], [[1], [1]]]
    assert [third.observations.tolist(), third.finals.tolist()] == [[[0], [0]], [[2], [2]]]


def test_what_cannot_be_resumed_is_refused():
    """A snapshot of an environment whose chance is not its seed's is refused, and says why."""
    worlds = GymnasiumWorlds("Odd-v0", num_envs=2, options={"fault": "wild"})
    worlds.reset()
    for _ in range(5):
        worlds.step(np.zeros(2, np.int64))
    again = GymnasiumWorlds("Odd-v0", num_envs=2, options={"fault": "wild"})
    with pytest.raises(
        ValueError, match=r"^Odd-v0, world 0, at step 5 of its episode 0: the same actions have led elsewhere"
    ):
        again.load_state_dict(worlds.state_dict())
    more = {"lengths": torch.tensor([9, 9]), "actions": torch.zeros(18, dtype=torch.int64)}
    with pytest.raises(ValueError, match="at step 8 of its episode 0: the same actions have led elsewhere"):
        again.load_state_dict(worlds.state_dict() | more)
    other = GymnasiumWorlds("Odd-v0", num_envs=2, options={"fault": "nan"})
    with pytest.raises(ValueError, match="the state is of other worlds"):
        other.load_state_dict(worlds.state_dict())


def test_a_snapshot_is_of_the_past_alone():
    """A snapshot does not change with the steps that follow, and going on from it is going on: through ends of episodes."""
    worlds = GymnasiumWorlds("FrozenLake-v1", num_envs=4, seed=3)
    worlds.reset()
    chance = np.random.default_rng(0)
    actions = chance.integers(0, 4, (60, 4))
    for each in actions[:30]:
        worlds.step(each)
    state, wanted = worlds.state_dict(), []
    wanted += [worlds.step(each) for each in actions[30:]]
    assert any(each.terminated.any() for each in wanted)
    again = GymnasiumWorlds("FrozenLake-v1", num_envs=4, seed=3)
    again.load_state_dict(state)
    for each, step in zip(actions[30:], wanted, strict=True):
        found = again.step(each)
        assert all(np.array_equal(one, other) for one, other in zip(found[:4], step[:4], strict=True))


def test_pictures():
    """Where an environment draws, so does a world; where it cannot, it says so before, and why."""
    worlds = GymnasiumWorlds("Odd-v0", num_envs=2)
    assert worlds.renders
    worlds.reset()
    worlds.step(np.zeros(2, np.int64))
    assert worlds.render(1).tolist() == np.full((2, 2, 3), 1).tolist()
    blank = GymnasiumWorlds("Odd-v0", options={"fault": "pictures"})
    assert not blank.renders
    with pytest.raises(ValueError, match="Odd-v0 draws no pictures here: DependencyNotInstalled: no such painter"):
        blank.render()
    assert not GymnasiumWorlds("Shown-v0", options={"space": spaces.Discrete(2), "shown": 0}).renders


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"id": "CartPol-v1"}, "id: Environment `CartPol` doesn't exist. Did you mean: `CartPole`?"),
        ({"id": "CartPole-v9"}, "id: Environment version `v9` for environment `CartPole` doesn't exist."),
        ({"id": "Cart Pole"}, "id: Malformed environment ID: Cart Pole."),
        ({"id": ""}, "id: Malformed environment ID: ."),
        ({"id": "GymV21Environment-v0"}, "id: GymV21Environment-v0: ImportError: To use the gym compatibility"),
        ({"id": "Pendulum-v1"}, "id: Pendulum-v1 has actions Box(-2.0, 2.0, (1,), float32), and only Discrete ones"),
        ({"id": "os:CartPole-v1"}, "id: os:CartPole-v1: os is not of an installed package that requires Gymnasium"),
        ({"id": ":CartPole-v1"}, "id: :CartPole-v1: no module is not of an installed package"),
        ({"id": "CartPole-v1", "options": {"gravity": 1}}, "options: CartPole-v1: TypeError: "),
        ({"id": "CartPole-v1", "num_envs": 0}, "num_envs: wanted at least 1, got 0"),
        ({"id": "CartPole-v1", "max_episode_steps": 0}, "max_episode_steps: wanted at least 1, or null, got 0"),
        ({"id": "CartPole-v1", "split": "dev"}, "split: wanted one of train, valid, test, got 'dev'"),
    ],
)
def test_wrong_settings(settings, told):
    """What cannot be made is one line that begins with the key it concerns, with Gymnasium's own advice."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  compared below
        GymnasiumWorlds(**settings)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


def test_a_module_of_a_package_for_gymnasium():
    """An id may name the module that registers it, where its package requires Gymnasium."""
    assert GymnasiumWorlds("seqtoolkit.gymnasium:CartPole-v1").reset().shape == (1, 4)


def test_options_of_the_environment():
    """`options` reach the environment: a lake that is not slippery is left by four known moves."""
    worlds = GymnasiumWorlds("FrozenLake-v1", options={"is_slippery": False, "map_name": "4x4"})
    worlds.reset()
    steps = [worlds.step(np.array([action])) for action in (1, 1, 2, 1, 2, 2)]
    assert [int(each.observations[0]) for each in steps] == [4, 8, 9, 13, 14, 0]
    assert [float(each.rewards[0]) for each in steps] == [0, 0, 0, 0, 0, 1]


def test_close_closes_every_environment():
    """`close` reaches each environment."""
    worlds = GymnasiumWorlds("Odd-v0", num_envs=3)
    closed = []
    for world in worlds.worlds:
        world.made.unwrapped.close = partial(closed.append, world)
    worlds.close()
    assert closed == worlds.worlds


def test_importing_is_light():
    """Importing the package, and what it brings, imports neither Gymnasium nor torch."""
    code = "import sys, seqtoolkit_gymnasium as x; x.environments(); print({'torch', 'gymnasium'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
