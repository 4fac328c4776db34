"""Ours as Gymnasium's: ids, spaces, episodes, infos and seeds as Gymnasium's own environments have them."""
# ruff: noqa: D102  the methods are those of Environment

import subprocess
import sys
import warnings
from importlib.metadata import EntryPoint
from typing import Literal

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import seqtoolkit.gymnasium as ours
from seqtoolkit.host.offer import camel, offer_environments
from seqtoolkit.host.registry import discover
from seqtoolkit.sdk import Environment, Spec, Step, check_actions, hookimpl

INSTALLED = [f"seqtoolkit/{camel(name)}-v0" for name in discover().names("environment") if name != "gymnasium"]
TOYS = {"use": "countdown", "luck": 3}


class Countdown(Environment):
    """A number from 2 up, less by one for action 1: an episode ends at 0, or is cut after `limit` steps, or goes wrong by action 2."""

    actions, measures = 3, {"wrong": "lower"}
    drawn: type[Environment] | None = None

    def __init__(
        self,
        num_envs=1,
        seed=0,
        split="train",
        luck: int = 0,
        limit: int = 6,
        seen: Literal["f32", "u8", "i64"] = "f32",
    ):
        super().__init__(num_envs, seed, split)
        self.luck, self.limit, self.seen = luck, limit, seen
        self.observation = Spec.parse({"f32": "f32[B 2]", "u8": "u8[B 1 2 3]", "i64": "i64<64>[B]"}[seen])

    def reset(self):
        self.episode = np.zeros(self.num_envs, np.int64)
        self.left, self.age = self._begin(), np.zeros(self.num_envs, np.int64)
        return self._look(slice(None))

    def step(self, actions):
        check_actions(actions, self.actions, self.num_envs)
        self.left, self.age = self.left - (actions == 1), self.age + 1
        wrong = actions == 2
        terminated = wrong | (self.left == 0)
        truncated = (self.age >= self.limit) & ~terminated
        told = truncated | (terminated & (self.finals_of == "ended"))
        finals = self._look(told) if told.any() else None
        ended = terminated | truncated
        self.episode = self.episode + ended
        self.left, self.age = np.where(ended, self._begin(), self.left), np.where(ended, 0, self.age)
        rewards = np.where(wrong, -1, actions == 1).astype(np.float32)
        return Step(
            self._look(slice(None)),
            rewards,
            terminated,
            truncated,
            finals,
            {"wrong": np.where(ended, wrong, np.nan).astype(np.float32)},
        )

    def state_dict(self):
        raise NotImplementedError

    def load_state_dict(self, state):
        raise NotImplementedError

    def _begin(self):
        bits = self.arrays.bits(self.seed, self.split, (np.arange(self.num_envs) << 40) + self.episode, 1)[:, 0]
        return 2 + bits % (1 + self.luck)

    def _look(self, which):
        left, age = self.left[which], self.age[which]
        if self.seen == "i64":
            return left * 8 + age
        if self.seen == "u8":
            return np.stack([left, age], 1).astype(np.uint8)[:, None, :, None].repeat(3, 3)
        return np.stack([left, age], 1).astype(np.float32)


class Shy(Countdown):
    """A Countdown that is asked in vain for the last observations of terminated episodes."""

    finals_of = property(lambda _: "truncated", lambda *_: None)


class Thrifty(Countdown):
    """A Countdown that writes what all its worlds show into the same array again and again."""

    def _look(self, which):
        seen = super()._look(which)
        if not isinstance(which, slice):
            return seen
        self.room = getattr(self, "room", seen)
        self.room[:] = seen
        return self.room


class Painted(Countdown):
    """A Countdown with pictures."""

    def render(self, world=0):
        return np.full((2, 3, 3), self.left[world], np.uint8)


@hookimpl
def environments():
    """The toys."""
    return {name: f"{__name__}:{name.capitalize()}" for name in ("countdown", "shy", "thrifty", "painted")}


@pytest.fixture
def toys(monkeypatch):
    """The toys, as if they were installed, registered with Gymnasium while a test runs."""
    found = discover([EntryPoint("toys", __name__, "seqtoolkit")])
    monkeypatch.setattr(ours, "discover", lambda: found)
    offer_environments(found.names("environment"))
    yield
    for name in found.names("environment"):
        del gymnasium.registry[f"seqtoolkit/{camel(name)}-v0"]


def checked(made):
    """Run Gymnasium's own checker, with its warnings as errors, but that nothing is known of the bounds of numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", ".*(minimum|maximum) value is -?infinity.*")
        check_env(made.unwrapped)


def test_every_installed_environment_has_an_id():
    """Importing the module registers each environment by its name in CamelCase, once, for make and make_vec."""
    assert {each for each in gymnasium.registry if each.startswith("seqtoolkit/")} == set(INSTALLED)
    for each in INSTALLED:
        known = gymnasium.spec(each)
        assert known.entry_point
        assert known.vector_entry_point
    assert [camel(name) for name in ("mini_pacman", "t-maze", "x")] == ["MiniPacman", "TMaze", "X"]


@pytest.mark.parametrize("known", INSTALLED)
def test_installed_environments_pass_the_checker(known):
    """Each installed environment passes Gymnasium's checker, pictures included, and as many worlds; every episode has its last observation."""
    made = gymnasium.make(f"seqtoolkit.gymnasium:{known}")
    checked(made)
    worlds = gymnasium.make_vec(known, num_envs=8)
    seen, infos = worlds.reset(seed=5)
    assert seen in worlds.observation_space
    assert infos == {}
    worlds.action_space.seed(0)
    for _ in range(150):
        seen, rewards, terminated, truncated, infos = worlds.step(worlds.action_space.sample())
        assert seen in worlds.observation_space
        ended = terminated | truncated
        last = infos.get("final_obs", [None] * 8)
        assert [each is not None for each in last] == ended.tolist()
        assert all(each in worlds.single_observation_space for each in last if each is not None)
        assert [each.dtype for each in (rewards, terminated, truncated)] == [np.float64, np.bool_, np.bool_]


@pytest.mark.parametrize("seen", ["f32", "u8", "i64"])
@pytest.mark.parametrize("use", ["Countdown", "Shy", "Painted"])
def test_checker_passes_every_space(toys, use, seen):
    """Numbers, pictures and ids pass the checker, with and without pictures to render."""
    checked(gymnasium.make(f"seqtoolkit/{use}-v0", seen=seen, luck=3))


def test_spaces_say_what_a_spec_says(toys):
    """u8 is a Box of 0 to 255, f32 a Box without bounds, i64 below n a Discrete of n; actions are Discrete."""
    spaces = {seen: ours.World("countdown", seen=seen).observation_space for seen in ("f32", "u8", "i64")}
    assert spaces == {
        "f32": gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32),
        "u8": gymnasium.spaces.Box(0, 255, (1, 2, 3), np.uint8),
        "i64": gymnasium.spaces.Discrete(64),
    }
    worlds = ours.Worlds("countdown", 4)
    assert worlds.action_space == gymnasium.spaces.MultiDiscrete([3] * 4)
    assert worlds.observation_space.shape == (4, 2)


@pytest.mark.parametrize(("count", "luck"), [(1, 3), (4, 0)])
@pytest.mark.parametrize("seen", ["f32", "u8", "i64"])
def test_worlds_are_what_gymnasium_makes_of_single_ones(toys, count, luck, seen):
    """Many worlds give what Gymnasium's SyncVectorEnv makes of single ones that reset in the same step: infos and dtypes too."""
    settings = {"luck": luck, "seen": seen}
    many = gymnasium.make_vec("seqtoolkit/Countdown-v0", num_envs=count, **settings)
    singles = [lambda: gymnasium.make("seqtoolkit/Countdown-v0", **settings)] * count
    mirror = SyncVectorEnv(singles, autoreset_mode=AutoresetMode.SAME_STEP)
    assert many.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert (many.observation_space, many.action_space) == (mirror.observation_space, mirror.action_space)
    assert data_equivalence(many.reset(seed=7), mirror.reset(seed=7), exact=True)
    chance, ends = np.random.default_rng(1), 0
    for _ in range(80):
        actions = chance.choice(3, count, p=(0.55, 0.4, 0.05))
        one, other = many.step(actions), mirror.step(actions)
        assert data_equivalence(one, other, exact=True)
        ends |= int(one[2].any()) + 2 * int(one[3].any())
    assert ends == 3, "both ways in which an episode ends"


def test_an_episode_alone(toys):
    """A single world shows the last observation of an episode, what is known of it, and then waits for a reset."""
    world = gymnasium.make("seqtoolkit/Countdown-v0", limit=9)
    assert world.reset(seed=1)[0].tolist() == [2, 0]
    assert world.step(1)[0].tolist() == [1, 1]
    seen, reward, terminated, truncated, info = world.step(1)
    assert (seen.tolist(), reward, terminated, truncated, info) == ([0, 2], 1.0, True, False, {"wrong": 0.0})
    with pytest.raises(ResetNeeded):
        world.step(0)
    assert world.reset()[0].tolist() == [2, 0]
    assert world.step(0)[0].tolist() == [2, 1]
    short = gymnasium.make("seqtoolkit/Countdown-v0", limit=9, max_episode_steps=1)
    short.reset(seed=1)
    seen, _, terminated, truncated, _ = short.step(1)
    assert (seen.tolist(), terminated, truncated) == ([1, 1], False, True)
    assert short.reset()[0].tolist() == [2, 0]


def test_last_observations_that_nobody_has(toys):
    """Where an environment has no last observation of terminated episodes, one world shows the one before, many show None."""
    world = ours.World("shy")
    world.reset(seed=1)
    world.step(1)
    assert world.step(1)[0].tolist() == [1, 1]
    worlds = ours.Worlds("shy", 2, limit=2)
    worlds.reset(seed=1)
    worlds.step([1, 0])
    infos = worlds.step([1, 0])[4]
    assert infos["final_obs"][0] is None
    assert infos["final_obs"][1].tolist() == [2, 2]
    assert infos["_final_obs"].tolist() == [False, True]
    assert infos["_final_info"].tolist() == [True, True]


def rolled(made, seed, steps=30):
    """All that is seen from a seed on, with resets where episodes end."""
    found = [made.reset(seed=seed)[0]]
    for at in range(steps):
        seen, _, terminated, truncated, _ = made.step(at % 2)
        found.append(seen)
        if terminated or truncated:
            found.append(made.reset()[0])
    return [each.tolist() for each in found]


def test_seeds_repeat_exactly(toys):
    """A seed repeats all episodes that follow; another one, none, and a reset in the midst of an episode begin others."""
    world = ours.World(**TOYS)
    assert rolled(world, 3) == rolled(world, 3) == rolled(ours.World(**TOYS), 3)
    assert len({str(rolled(world, seed)) for seed in range(8)}) > 4
    assert rolled(world, 3) != rolled(ours.World(**TOYS, split="test"), 3)
    worlds = ours.Worlds("countdown", 64, luck=50)
    first, second, third = (worlds.reset(seed=seed)[0] for seed in (2, None, None))
    again = [worlds.reset(seed=seed)[0] for seed in (2, None, None)]
    assert np.array_equal([first, second, third], again)
    assert not np.array_equal(first, second)
    assert not np.array_equal(second, third)
    unseeded = ours.Worlds("countdown", 64, luck=50), ours.Worlds("countdown", 64, luck=50)
    assert not np.array_equal(*(each.reset()[0] for each in unseeded))


@pytest.mark.parametrize("use", ["countdown", "thrifty"])
def test_what_is_given_stays(toys, use):
    """Arrays that were given are not written again by the steps that follow, whatever the environment does with its own."""
    for worlds, actions in ((ours.Worlds(use, 2), [1, 0]), (ours.World(use), 1)):
        given = [worlds.reset(seed=0)[0], worlds.step(actions)[0]]
        before = str(given)
        last = worlds.step(actions)
        assert str(given) == before
        seen = last[4]["final_obs"][0] if "final_obs" in last[4] else last[0]
        assert seen.tolist() == [0, 2]


def test_pictures(toys):
    """With rgb_array a world shows its picture, many show one each; without it there are none."""
    world = gymnasium.make("seqtoolkit/Painted-v0", render_mode="rgb_array")
    world.reset(seed=0)
    assert world.render().tolist() == np.full((2, 3, 3), 2).tolist()
    worlds = gymnasium.make_vec("seqtoolkit/Painted-v0", num_envs=2, render_mode="rgb_array")
    worlds.reset(seed=0)
    worlds.step([0, 1])
    assert [int(each[0, 0, 0]) for each in worlds.render()] == [2, 1]
    assert gymnasium.make("seqtoolkit/Painted-v0").unwrapped.render() is None
    assert gymnasium.make_vec("seqtoolkit/Countdown-v0").metadata["render_modes"] == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"lukc": 1}, "lukc: environment countdown has no such parameter; did you mean luck?"),
        ({"luck": "much"}, "luck: wanted int, got 'much'"),
        ({"seen": "f64"}, "seen: wanted one of f32 | u8 | i64, got 'f64'"),
        ({"seed": 3}, "seed: give it to reset(seed=...)"),
        ({"num_envs": 2}, "num_envs: give it to gymnasium.make_vec"),
        ({"split": "tset"}, "split: wanted one of train, valid, test, got 'tset'"),
        ({"render_mode": "rgb_array"}, "render_mode: wanted None, got 'rgb_array'"),
    ],
)
def test_wrong_settings(toys, settings, told):
    """A wrong setting is told in one line, by its name, with what was probably meant."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  compared below
        gymnasium.make("seqtoolkit/Countdown-v0", **settings)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("actions", "told"),
    [
        ([0, 3], "action: wanted 0 to 2, got 3 in world 1"),
        ([0], r"actions: wanted 2 integers, got int64 of shape \(1,\)"),
        ([0.5, 1], r"actions: wanted 2 integers, got float64 of shape \(2,\)"),
    ],
)
def test_wrong_actions(toys, actions, told):
    """An action that is none, too few of them, and numbers that are no integers are told in one line."""
    worlds = ours.Worlds("countdown", 2)
    worlds.reset(seed=0)
    with pytest.raises(ValueError, match=told):
        worlds.step(actions)


def test_wrong_order_and_options(toys):
    """Steps before the first reset, and options of a reset, which has none, are refused."""
    for made in (ours.World("countdown"), ours.Worlds("countdown", 2)):
        with pytest.raises(ResetNeeded):
            made.step(0)
        with pytest.raises(ValueError, match="options: these worlds take none, got 'level'"):
            made.reset(options={"level": 2})
        made.close()


def test_offers_wait_for_gymnasium(monkeypatch):
    """An offer registers nothing where Gymnasium is not imported, and never twice; it imports neither torch nor Gymnasium."""
    before = dict(gymnasium.registry)
    monkeypatch.delitem(sys.modules, "gymnasium")
    offer_environments(["elsewhere"])
    monkeypatch.undo()
    assert gymnasium.registry == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Gymnasium warns of an id that is registered again
        offer_environments(["gymnasium", *discover().names("environment")])
    assert gymnasium.registry == before
    code = "import sys, seqtoolkit.sdk as sdk; sdk.offer_environments({'x': 'y:Z'}); print({'torch', 'gymnasium'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
