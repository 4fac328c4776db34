"""check_environment passes sound environments and catches broken ones, each by the laws that it breaks."""
# ruff: noqa: D101, D102  a broken environment's name says what is wrong with it

import numpy as np
import pytest
import torch

from seqtoolkit.sdk import Environment, Spec, Step, check_actions
from seqtoolkit.testing import ENVIRONMENT_LAWS, LawBroken, check_environment

STEPS = 30
"""How many steps a law takes: some episodes of seven end in it."""


class Sound(Environment):
    """A line of five squares, 4 the goal, on which a wind blows; cut after seven steps."""

    observation = Spec.parse("f32[B 2]")
    actions = 3
    measures = {"goal": "higher", "path": "lower"}  # noqa: RUF012  the contract has it so
    on_device = True
    limit = 7
    moving = ("square", "age", "tick")

    def reset(self):
        zeros = self.arrays.zeros((self.num_envs,), "int64")
        self.age, self.tick = zeros, self.arrays.cast(zeros, "int64")
        self.square = self.start()
        return self.observe()

    def draw(self, words):
        worlds = self.arrays.arange(self.num_envs)
        return self.arrays.bits(self.seed, self.split, (worlds << 40) + self.tick, words)

    def start(self):
        return self.draw(1)[:, 0] % 3

    def observe(self):
        wind = self.draw(2)[:, 1] % 1000
        pair = self.arrays.space.stack((self.square * 250, wind), 1)
        return self.arrays.cast(pair, "float32") / 1000

    def check(self, actions):
        check_actions(actions, self.actions, self.num_envs)

    def step(self, actions):
        self.check(actions)
        space = self.arrays.space
        blown = self.arrays.cast(self.draw(2)[:, 1] % 1000 < 200, "int64")
        square = self.square + actions - 1 - blown
        square = space.where(square < 0, 0, space.where(square > 4, 4, square))
        self.square, self.age, self.tick = square, self.age + 1, self.tick + 1
        terminated = self.square == 4
        truncated = (self.age >= self.limit) & ~terminated
        ended = terminated | truncated
        cast = self.arrays.cast
        facts = {"goal": cast(terminated, "float32"), "path": cast(self.age, "float32")}
        told = truncated if self.finals_of == "truncated" else ended
        finals = self.observe()[told] if bool(told.any()) else None
        self.square = space.where(ended, self.start(), self.square)
        self.age = space.where(ended, 0, self.age)
        return Step(self.observe(), cast(terminated, "float32"), terminated, truncated, finals, facts)

    def state_dict(self):
        return {name: torch.as_tensor(getattr(self, name)).clone() for name in self.moving}

    def load_state_dict(self, state):
        if len(state["square"]) != self.num_envs:
            raise ValueError(f"a state of {len(state['square'])} worlds, wanted {self.num_envs}")
        for name in self.moving:
            setattr(self, name, self.arrays.array(state[name]))
        return self.observe()

    def render(self, world=0):
        picture = np.zeros((1, 5, 3), np.uint8)
        picture[0, int(self.square[world])] = 255
        return picture

    def scripted(self):
        return {"onward": lambda: self.square * 0 + 2, "guess": lambda: self.draw(3)[:, 2] % 3}


class Ids(Sound):
    """Sees its square alone, computes by numpy alone, draws nothing, has no players, and knows nothing of an episode."""

    observation = Spec.parse("i64<5>[B]")
    on_device = False
    measures = {}  # noqa: RUF012  as above
    render = Environment.render

    def observe(self):
        return self.square.copy()

    def scripted(self):
        return {}

    def step(self, actions):
        return super().step(actions)._replace(facts={})


class Pictures(Ids):
    """Sees a picture of the line, and is never cut."""

    observation = Spec.parse("u8[B 1 5 1]")
    limit = 10**9

    def observe(self):
        return (np.arange(5) == self.square[:, None]).astype(np.uint8).reshape(-1, 1, 5, 1)


class FinalsOfEnded(Sound):
    """Tells the last observation of terminated episodes as well, as it says."""

    finals_of = "ended"


class NamedSize(Sound):
    observation = Spec.parse("f32[B n]")


class IdsWithoutBound(Ids):
    observation = Spec.parse("i64[B]")


class MeasuresUndecided(Sound):
    measures = {"goal": "higher", "path": "shorter"}  # noqa: RUF012  as above


class WrongShape(Sound):
    observation = Spec.parse("f32[B 3]")


class OutOfBound(Ids):
    observation = Spec.parse("i64<4>[B]")

    def observe(self):
        return self.square + 1


class DoubleRewards(Sound):
    def step(self, actions):
        step = super().step(actions)
        return step._replace(rewards=step.rewards * (np.float64(1) if self.arrays.device is None else 1))


class EndsAsNumbers(Sound):
    def step(self, actions):
        step = super().step(actions)
        return step._replace(truncated=self.arrays.cast(step.truncated, "int64"))


class InfiniteReward(Sound):
    def step(self, actions):
        step = super().step(actions)
        return step._replace(rewards=self.arrays.space.where(step.terminated, np.inf, step.rewards))


class InfiniteObservation(Sound):
    def observe(self):
        observations = super().observe()
        observations[self.square == 2, 1] = np.inf
        return observations


class GlobalRandomness(Ids):
    def observe(self):
        return np.random.randint(0, 5, self.num_envs)  # noqa: NPY002  this is what is wrong


class DeafToSeed(Sound):
    def draw(self, words):
        seed, self.seed = self.seed, 0
        bits = super().draw(words)
        self.seed = seed
        return bits


class DeafToSplit(Sound):
    def draw(self, words):
        split, self.split = self.split, "train"
        bits = super().draw(words)
        self.split = split
        return bits


class WorldsAlike(Sound):
    def draw(self, words):
        return self.arrays.bits(self.seed, self.split, self.tick, words)


class WorldsCounted(Sound):
    def draw(self, words):
        worlds = self.arrays.arange(self.num_envs)
        return self.arrays.bits(self.seed, self.split, self.tick * self.num_envs + worlds, words)


class WorldsTogether(Sound):
    def step(self, actions):
        self.check(actions)
        return super().step((actions + actions.sum()) % 3)


class NeverGoesBack(Sound):
    tick = None

    def reset(self):
        tick = self.tick
        observations = super().reset()
        if tick is None:
            return observations
        self.tick = tick
        return self.observe()


class TurnsActions(Sound):
    def step(self, actions):
        step = super().step(actions)
        actions[:] = 2 - actions
        return step


class OneBuffer(Sound):
    def step(self, actions):
        step = super().step(actions)
        if not hasattr(self, "buffer"):
            self.buffer = self.arrays.array(step.rewards)
        self.buffer[:] = step.rewards
        return step._replace(rewards=self.buffer)


class ForgetsItsAge(Sound):
    moving = ("square", "tick")

    def load_state_dict(self, state):
        self.age = self.arrays.zeros((self.num_envs,), "int64")
        return super().load_state_dict(state)


class LiveState(Sound):
    def step(self, actions):
        tick = self.tick
        step = super().step(actions)
        tick += 1
        self.tick = tick
        return step

    def state_dict(self):
        return super().state_dict() | {"tick": torch.as_tensor(self.tick)}


class KeepsWhatItLoads(Sound):
    on_device = False

    def step(self, actions):
        self.check(actions)
        square = self.square
        step = super().step(actions)
        square[:] = self.square
        self.square = square
        return step

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.square = state["square"].numpy()
        return self.observe()


class ArrayState(Sound):
    def state_dict(self):
        return super().state_dict() | {"age": np.array(self.age)}


class LoadsBlindly(Sound):
    def load_state_dict(self, state):
        super().load_state_dict(state)
        return self.arrays.zeros((self.num_envs, 2), "float32")


class BothEnds(Sound):
    def step(self, actions):
        step = super().step(actions)
        return step._replace(terminated=step.terminated | step.truncated)


class Endless(Sound):
    limit = 10**9

    def step(self, actions):
        self.check(actions)
        return super().step(actions * 0)


class StepLate(Sound):
    """As Gymnasium's NEXT_STEP: the step after an end takes no action."""

    moving = (*Sound.moving, "done")

    def reset(self):
        self.done = self.arrays.zeros((self.num_envs,), "bool")
        return super().reset()

    def step(self, actions):
        self.check(actions)
        space, done, tick = self.arrays.space, self.done, self.tick
        step = super().step(space.where(done, 0, actions))
        self.tick = tick + 1
        self.square = space.where(done, self.start(), self.square)
        self.age = space.where(done, 0, self.age)
        truncated, terminated = step.truncated & ~done, step.terminated & ~done
        self.done = truncated | terminated
        finals = self.observe()[truncated] if bool(truncated.any()) else None
        return Step(self.observe(), step.rewards * ~done, terminated, truncated, finals, step.facts)


class StaleObservations(Sound):
    def step(self, actions):
        step = super().step(actions)
        if step.finals is not None:
            step.observations[step.truncated] = step.finals
        return step


class NoFinals(Sound):
    def step(self, actions):
        return super().step(actions)._replace(finals=None)


class FinalsOfAll(Sound):
    def step(self, actions):
        step = super().step(actions)
        return step if step.finals is None else step._replace(finals=step.observations)


class FinalsBackwards(Sound):
    def step(self, actions):
        step = super().step(actions)
        return step if step.finals is None else step._replace(finals=self.arrays.space.flip(step.finals, (0,)))


class FactMissing(Sound):
    def step(self, actions):
        step = super().step(actions)
        return step._replace(facts={"goal": step.facts["goal"]})


class FactInfinite(Sound):
    def step(self, actions):
        step = super().step(actions)
        return step._replace(facts=step.facts | {"goal": step.facts["goal"] + np.float32("nan")})


class TakesAnyAction(Sound):
    def check(self, actions):
        check_actions(actions % 3, self.actions, self.num_envs)


class TakesOneForAll(Sound):
    def check(self, actions):
        check_actions(actions, self.actions, len(actions))


class RefusesLate(Sound):
    def step(self, actions):
        self.age = self.age + 1
        self.check(actions)
        self.age = self.age - 1
        return super().step(actions)


class NoWorldsAtAll(Sound):
    def __init__(self, num_envs=1, seed=0, split="train"):
        super().__init__(max(num_envs, 1), seed, split)


class LoadsAnyState(Sound):
    def load_state_dict(self, state):
        return super().load_state_dict({name: each.repeat(8)[: self.num_envs] for name, each in state.items()})


class PlaysOutOfRange(Sound):
    def scripted(self):
        return {"onward": lambda: self.square * 0 + 3}


class PlaysByMood(Sound):
    def scripted(self):
        return {"guess": lambda: np.random.randint(0, 3, self.num_envs)}  # noqa: NPY002  this is what is wrong


class PlaysOnTheSly(Sound):
    def cheat(self):
        self.square = self.square * 0 + 3
        return self.square * 0 + 2

    def scripted(self):
        return {"cheat": self.cheat}


class DrawsInFloats(Sound):
    def render(self, world=0):
        return super().render(world) / 255


class DrawsAndMoves(Sound):
    def render(self, world=0):
        self.tick = self.tick + 1
        return super().render(world)


class ComputesByNumpyAlone(Ids):
    on_device = True

    def place(self, arrays):
        pass


class OtherNumbersByTorch(Sound):
    def draw(self, words):
        return super().draw(words) + (self.arrays.device is not None)


class StateOfOneKind(Sound):
    def load_state_dict(self, state):
        if (self.arrays.device is None) != ("numpy" in state):
            self.tick = self.arrays.zeros((self.num_envs,), "int64")
            return super().load_state_dict(state | {"tick": state["tick"] + 1})
        return super().load_state_dict(state)

    def state_dict(self):
        return super().state_dict() | ({"numpy": 1} if self.arrays.device is None else {})


BROKEN = {
    NamedSize: "declared",
    IdsWithoutBound: "declared",
    MeasuresUndecided: "declared",
    WrongShape: "shapes finals",
    OutOfBound: "shapes",
    DoubleRewards: "shapes placed",
    EndsAsNumbers: "shapes worlds alone",
    InfiniteReward: "finite",
    InfiniteObservation: "finite finals",
    GlobalRandomness: "repeatable worlds alone reset resume",
    DeafToSeed: "apart",
    DeafToSplit: "apart",
    WorldsAlike: "apart",
    WorldsCounted: "worlds",
    WorldsTogether: "worlds alone",
    NeverGoesBack: "reset scripted rendered placed",
    TurnsActions: "kept",
    OneBuffer: "kept",
    ForgetsItsAge: "resume placed",
    LiveState: "resume",
    KeepsWhatItLoads: "resume",
    ArrayState: "resume refused scripted placed",
    LoadsBlindly: "resume placed",
    BothEnds: "ends",
    Endless: "ends finals facts",
    StepLate: "ends",
    StaleObservations: "resume ends",
    NoFinals: "finals",
    FinalsOfAll: "alone finals",
    FinalsBackwards: "worlds alone",
    FactMissing: "facts",
    FactInfinite: "facts",
    TakesAnyAction: "refused",
    TakesOneForAll: "refused",
    RefusesLate: "refused",
    NoWorldsAtAll: "refused",
    LoadsAnyState: "refused",
    PlaysOutOfRange: "scripted placed",
    PlaysByMood: "scripted placed",
    PlaysOnTheSly: "scripted placed",
    DrawsInFloats: "rendered",
    DrawsAndMoves: "rendered",
    ComputesByNumpyAlone: "placed",
    OtherNumbersByTorch: "placed",
    StateOfOneKind: "placed",
}
"""Each broken environment, with all the laws that it breaks."""


def verdict(environment, law=None):
    """What check_environment says of an environment that breaks a law; nothing of one that keeps it."""
    try:
        check_environment(environment, law, steps=STEPS)
    except LawBroken as broken:
        return str(broken)
    return ""


@pytest.mark.parametrize("environment", [Sound, Ids, Pictures, FinalsOfEnded])
@pytest.mark.parametrize("law", ENVIRONMENT_LAWS)
def test_sound_environments_pass(law, environment):
    """Environments of numbers, ids and pictures, on a device and not, with players and without, pass every law."""
    check_environment(environment, law, steps=STEPS)


@pytest.mark.parametrize("environment", BROKEN)
def test_broken_environments_are_caught(environment):
    """Each broken environment breaks the laws that it should, and each says so in one line that begins with the law."""
    for law in BROKEN[environment].split():
        said = verdict(environment, law)
        assert said.startswith(f"{law}: ")
        assert len(said.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("environment", BROKEN)
def test_broken_environments_break_nothing_else(environment):
    """Each broken environment keeps the laws that it is not said to break."""
    assert [law for law in ENVIRONMENT_LAWS if verdict(environment, law)] == BROKEN[environment].split()


def test_every_law_can_be_broken():
    """There is no law that nothing breaks."""
    assert set(" ".join(BROKEN.values()).split()) == set(ENVIRONMENT_LAWS)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (WrongShape, r"shapes: .* the first observations: wanted f32\[B 3\], got 2 on the axis 3, not 3"),
        (WorldsCounted, "world 0 of 1 and of 8: step 0: observations differ in world 0"),
        (ForgetsItsAge, "a new instance, resumed after 1 steps: step 2: the fact path differs"),
        (ArrayState, r"state\['age'\]: wanted a tensor, a number, text, or dicts and lists of them, got ndarray"),
        (Endless, "no episode ended in 30 steps: give more `steps`"),
        (BothEnds, r"step 6: world \[0\] is both terminated and truncated"),
        (StepLate, "what is done first after an end does not matter, .*: the next episode begins a step late"),
        (NoFinals, "step 6: wanted 7 finals, got None"),
        (FactMissing, "wanted goal, path, got goal"),
        (TakesAnyAction, "action -1 of 3 raised no ValueError"),
        (RefusesLate, r"action -1 of 3 is refused, but state\['age'\] has changed"),
        (LoadsAnyState, "the state of 3 worlds, given to 8, raised no ValueError"),
        (PlaysOnTheSly, r"cheat, step 0: state\['square'\] has changed when it answered"),
    ],
)
def test_message_says_what_is_wrong(environment, message):
    """The line says in which step, world, state or fact a law is broken, and what to do."""
    with pytest.raises(LawBroken, match=message):
        check_environment(environment, BROKEN[environment].split()[0], steps=STEPS)


def test_without_a_law_all_are_tried():
    """Without a law's name all are tried in their order: the first that is broken is told."""
    assert verdict(Sound) == ""
    assert verdict(NeverGoesBack).startswith("reset: ")


def test_whatever_is_made_is_closed():
    """Each environment that a law has made is closed, where the law is broken too."""
    still_open = []

    class Counted(Endless):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            still_open.append(self)

        def close(self):
            still_open.remove(self)

    assert verdict(Counted, "ends")
    assert not verdict(Counted, "worlds")
    assert not still_open


@pytest.mark.parametrize(
    ("options", "message"),
    [({"law": "gravity"}, "law: wanted one of declared, .*got 'gravity'"), ({"steps": 3}, "steps: wanted at least 4")],
)
def test_bad_questions(options, message):
    """A law that is not one, and too few steps to cut them in four, are refused by name."""
    with pytest.raises(ValueError, match=message):
        check_environment(Sound, **options)
