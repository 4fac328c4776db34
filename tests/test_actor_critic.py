"""ActorCritic: acts, learns from what it did, and goes on exactly; an environment that fails is one line."""
# ruff: noqa: D102, D103  what the parts of a test are is said in their names

from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from seqtoolkit.flow.encoder import Project
from seqtoolkit.flow.environment import Environment, Step, check_actions
from seqtoolkit.flow.feedforward import Feedforward
from seqtoolkit.flow.graph import Graph
from seqtoolkit.flow.model import Model
from seqtoolkit.flow.policy import ActorCritic as Head
from seqtoolkit.flow.policy import log_probabilities, split
from seqtoolkit.flow.spec import Spec
from seqtoolkit.train.actor import Trajectory
from seqtoolkit.train.actor_critic import ActorCritic
from seqtoolkit.train.checkpoint import Checkpoints, load_state, load_weights
from seqtoolkit.train.episode import Episodes, play
from seqtoolkit.train.evaluate import EvaluateSettings
from seqtoolkit.train.loop import Fit, RunSettings
from seqtoolkit.train.optimize import adam
from seqtoolkit.train.player import Worlds

CPU = torch.device("cpu")


class Cue(Environment):
    """A sign is seen at the first of `length` steps; the last action earns 1 where it is the sign's. With `cut` it never ends by itself."""

    observation = Spec.parse("f32[B 3]")
    actions = 2
    measures = {"right": "higher"}  # noqa: RUF012  the contract has it so

    def __init__(self, num_envs=4, seed=0, split="train", length=3, *, cut=False):
        super().__init__(num_envs, seed, split)
        self.length, self.cut = length, cut

    def reset(self):
        self.age, self.tick = np.zeros(self.num_envs, np.int64), 0
        return self.look()

    def look(self):
        self.sign = (
            self.arrays.bits(self.seed, self.split, (np.arange(self.num_envs) << 40) + self.tick - self.age, 1)[:, 0]
            % 2
        )
        seen = np.zeros((self.num_envs, 3), np.float32)
        seen[np.arange(self.num_envs), self.sign] = self.age == 0
        seen[:, 2] = self.age
        return seen

    def step(self, actions):
        check_actions(actions, self.actions, self.num_envs)
        last = self.age == self.length - 1
        right = (last & (actions == self.sign)).astype(np.float32)
        self.age, self.tick = np.where(last, 0, self.age + 1), self.tick + 1
        seen = self.look()
        ends = (np.zeros_like(last), last) if self.cut else (last, np.zeros_like(last))
        return Step(seen, right, *ends, seen[last] if self.cut and last.any() else None, {"right": right})

    def state_dict(self):
        return {"age": torch.from_numpy(self.age.copy()), "tick": self.tick}

    def load_state_dict(self, state):
        self.age, self.tick = state["age"].numpy().copy(), state["tick"]
        return self.look()

    def render(self, world=0):
        return np.full((2, 2, 3), self.age[world], np.uint8)

    def scripted(self):
        return {"knowing": lambda: self.sign, "left": lambda: np.zeros(self.num_envs, np.int64)}


def acting(environment, core, seed=0, size=16):
    """A graph whose model acts in an environment."""
    torch.manual_seed(seed)
    graph = Graph()
    graph.origin = environment
    encoder = Project(Spec.parse("f32[T B 3]"), size=8)
    made = core(8, size)
    graph.model = Model(encoder, made, Head(made.output_size, Spec.parse("i64<2>[T B]")))
    return graph


def learner_of(graph, precision="f32", **options):
    return ActorCritic(graph, CPU, 100, precision, **{"optimizer": partial(adam, lr=1e-2), "unroll": 5, **options})


def taken(learner, count):
    """What so many updates tell, and the trajectories."""
    stream = learner.stream()
    found = []
    for _ in range(count):
        trajectory = next(stream)
        found.append((trajectory, learner.step(trajectory)))
    return found


def again(model, trajectory):
    """The logarithms of the probabilities of what was done, by a model that reads the whole trajectory."""
    with torch.no_grad():
        predictions, _ = model(trajectory.inputs, trajectory.state, trajectory.first)
    return log_probabilities(split(predictions)[0][:-1], trajectory.actions)


def test_a_trajectory_is_what_the_policy_did(toy):
    """Read whole, from the state in which acting began, the model gives each action the probability it was drawn with."""
    learner = learner_of(acting(Cue(), toy.Plain), lag=0, unroll=7)
    one, two = learner.actor(), learner.actor()
    for trajectory in (one, two):
        torch.testing.assert_close(again(learner.model, trajectory), trajectory.log_probabilities)
        assert trajectory.size == 28
    assert torch.equal(one.inputs[-1], two.inputs[0])
    assert torch.equal(one.first[-1], two.first[0])
    assert two.first.any(1).tolist() == [False, False, True, False, False, True, False, False]
    assert torch.equal(one.first[1:], one.ended)


def test_acting_ahead_is_one_update_behind(toy):
    """With lag 1 a trajectory is of the weights before the update that was under way; with lag 0 of the newest."""
    for lag in (0, 1):
        learner = learner_of(acting(Cue(), toy.Plain), lag=lag)
        stream, former = learner.stream(), []
        for update in range(4):
            former.append(deepcopy(learner.model))
            trajectory = next(stream)
            behind = former[max(0, update - lag)]
            torch.testing.assert_close(again(behind, trajectory), trajectory.log_probabilities)
            learner.step(trajectory)
        assert not torch.allclose(again(learner.model, trajectory), trajectory.log_probabilities)


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
@pytest.mark.parametrize("returns", ["vtrace", "gae"])
def test_the_loss_is_the_published_one(toy, returns, scaled):
    """The loss of an update is that of the definition, a step and a world at a time, by a policy that has moved since it acted."""
    costs = {"entropy_cost": 0.1, "value_cost": 0.7, "reward_clip": 0.6, "normalize_values": scaled}
    learner = learner_of(acting(Cue(cut=True), toy.Plain), returns=returns, trace=0.9, **costs)
    stream = learner.stream()
    for _ in range(3):
        learner.step(next(stream))
    acted = next(stream)
    by_rules = torch.arange(4) % 2 == 1  # in these worlds episodes end, in the others they are cut
    trajectory = replace(
        acted, truncated=acted.truncated & ~by_rules, afterwards=acted.afterwards.masked_fill(by_rules, 0)
    )
    mean, std = (float(learner.popart.mean), float(learner.popart.std)) if scaled else (0.0, 1.0)
    with torch.no_grad():
        predictions, _ = learner.model(trajectory.inputs, trajectory.state, trajectory.first)
    logits, values = (each.double() for each in split(predictions))
    values = values * std + mean
    chosen = log_probabilities(logits[:-1], trajectory.actions)
    ratios = (chosen - trajectory.log_probabilities).exp() if returns == "vtrace" else torch.ones(5, 4)
    assert returns == "gae" or (ratios - 1).abs().max() > 0.01
    loss, gains = 0.0, torch.zeros(6, 4, dtype=torch.float64)
    for world in range(4):
        for step in reversed(range(5)):
            goes_on, ratio = not trajectory.ended[step, world], min(1.0, float(ratios[step, world]))
            after = values[step + 1, world] if goes_on else trajectory.afterwards[step, world]
            error = trajectory.rewards[step, world].clamp(max=0.6) + 0.99 * after - values[step, world]
            advantage = ratio * (error + 0.9 * 0.99 * goes_on * gains[step + 1, world])
            gains[step, world] = advantage
            chances = logits[step, world].softmax(-1)
            entropy = -(chances * chances.log()).sum()
            policy = -advantage / std * chosen[step, world]
            loss += float(policy + 0.7 / 2 * (advantage / std) ** 2 - 0.1 * entropy) / 20
    moments = deepcopy(learner.popart)
    assert float(learner.step(trajectory)["loss"]) == pytest.approx(loss, rel=1e-4)
    if scaled:
        moments.update(values[:-1] + gains[:-1])
        torch.testing.assert_close(learner.popart.std, moments.std, rtol=1e-5, atol=0)
        torch.testing.assert_close(learner.popart.mean, moments.mean, rtol=1e-5, atol=1e-9)


def test_what_is_cut_is_worth_what_was_expected(toy):
    """The value of what was last seen counts where an episode was cut, and only there; an end by the rules is worth nothing more."""
    cut, ended = (learner_of(acting(Cue(cut=each), toy.Plain), lag=0).actor() for each in (True, False))
    assert (cut.afterwards != 0).equal(cut.truncated)
    assert cut.truncated.equal(cut.ended)
    assert cut.truncated.any()
    assert not ended.truncated.any()
    assert not ended.afterwards.any()
    assert ended.ended.equal(cut.ended)


def test_expectations_are_at_the_scale_of_the_rewards(toy):
    """Values learned at a scale of their own are brought back by the scale that the policy acted with, one update behind or not."""
    for lag in (0, 1):
        learner = learner_of(acting(Cue(cut=True), Feedforward), lag=lag, normalize_values=True)
        stream, former = learner.stream(), []
        for update in range(4):
            former.append((deepcopy(learner.model), learner.popart.mean.clone(), learner.popart.std.clone()))
            trajectory = next(stream)
            model, mean, std = former[max(0, update - lag)]
            learner.step(trajectory)
        with torch.no_grad():
            predictions, _ = model(trajectory.inputs, model.core.initial_state(4))
        values = split(predictions)[1][1:] * std + mean  # without memory; what is seen last is as what is seen first
        torch.testing.assert_close(trajectory.afterwards, values.where(trajectory.truncated, 0).float())


def test_rewards_are_clipped_for_learning_alone(toy):
    """A smaller reward is learned from; the return of the episodes is what was earned."""
    learner, plain = (learner_of(acting(Cue(), toy.Plain), reward_clip=clip, lag=0) for clip in (0.25, None))
    one, other = taken(learner, 1)[0][1], taken(plain, 1)[0][1]
    assert torch.equal(one["episode_return"], other["episode_return"])
    assert one["episode_return"][0] > 0
    assert float(one["value_loss"]) < float(other["value_loss"])


def fit_of(folder, toy, steps=12, **options):
    graph = acting(Cue(), toy.Plain)
    learner = learner_of(graph, **options)
    settings = EvaluateSettings(every=5, examples=6, samples=1)
    evaluation = Episodes(graph, Cue(2, 0, "valid"), 6, 1)
    run = RunSettings(steps=steps, log_every=2, checkpoint_every=4)
    return Fit(learner, run, settings, evaluation, Checkpoints(folder), toy.Witness())


@pytest.mark.parametrize(
    "options", [{"lag": 1}, {"lag": 0, "returns": "gae"}, {"lag": 1, "normalize_values": True}], ids=str
)
def test_a_resumed_run_is_the_same(toy, tmp_path, options):
    """A run that stops after any checkpoint and goes on has the weights, the logs and the evaluations of one that never stopped."""
    whole = fit_of(tmp_path / "whole", toy, **options)
    whole()
    fit_of(tmp_path / "cut", toy, 7, **options)()
    later = fit_of(tmp_path / "cut", toy, **options)
    later.learner.model.load_state_dict(load_weights(tmp_path / "cut" / "step_00000007"))
    later.load_state_dict(load_state(tmp_path / "cut" / "step_00000007"))
    later()
    for name, each in whole.learner.model.state_dict().items():
        assert torch.equal(each, later.learner.model.state_dict()[name]), name
    assert later.relay.evaluations[-2:] == whole.relay.evaluations[-2:]
    same = [
        {name: value for name, value in row.items() if name.startswith("train/")} for _, row in whole.relay.logs[-2:]
    ]
    assert same == [{name: row[name] for name in row if name.startswith("train/")} for _, row in later.relay.logs[-2:]]
    assert whole.relay.taken[-1][1]["frames"] == later.relay.taken[-1][1]["frames"] == 12 * 5 * 4


def test_memory_is_learned(toy):
    """A core with memory learns which action the sign at the beginning asked for."""
    learner = learner_of(acting(Cue(32), toy.Plain), unroll=6, trace=0.95, entropy_cost=0.003)
    *_, (_, told) = taken(learner, 120)
    total, count = told["episode_return"].tolist()
    assert total / count > 0.95


def test_the_same_seed_learns_the_same(toy):
    """Acting on a thread of its own changes no number: two learners of one seed tell the same, update by update."""
    one, two = (taken(learner_of(acting(Cue(), toy.Plain)), 8) for _ in range(2))
    for (_, told), (_, other) in zip(one, two, strict=True):
        assert all(torch.equal(torch.as_tensor(told[name]), torch.as_tensor(other[name])) for name in told)


def test_acting_amid_an_update_changes_no_gradient(toy):
    """Weights that are cast to bf16 once for an update stay cast, whatever the actor's thread does meanwhile."""
    found = []
    for amid in (False, True):
        learner = learner_of(acting(Cue(), toy.Plain), "bf16")
        stream = learner.stream()
        read = next(stream)
        learner.state_dict()
        with learner.update.autocast():
            before, _ = learner.model(read.inputs, read.state, read.first)
            if amid:
                next(stream)
                learner.state_dict()
            after, _ = learner.model(read.inputs, read.state, read.first)
        (before.sum() + after.float().square().sum()).backward()
        found.append([each.grad for each in learner.model.parameters()])
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("lags", [(0, 1), (1, 0)], ids=str)
def test_a_run_goes_on_with_another_lag(toy, lags):
    """The next trajectory is that which was under way, else one of the weights that were saved; no step is left out."""
    one, twin, other = (learner_of(acting(Cue(), toy.Plain), lag=lags[each]) for each in (0, 0, 1))
    for each in (one, twin):
        taken(each, 4)
    other.model.load_state_dict(one.model.state_dict())
    other.load_state_dict(one.state_dict())
    wanted, given = next(twin.stream()), next(other.stream())
    assert torch.equal(given.log_probabilities, wanted.log_probabilities)
    assert torch.equal(given.inputs, wanted.inputs)


def test_a_checkpoint_is_of_any_device(toy):
    """A trajectory comes to the device where learning goes on, of a core without memory too; draws of another kind begin anew."""
    learner = learner_of(acting(Cue(), Feedforward))
    taken(learner, 2)
    saved = learner.state_dict()
    moved = Trajectory.of(saved["pending"], (), torch.device("meta"))
    assert {each.device.type for each in (moved.inputs, moved.rewards, *moved.episodes.values())} == {"meta"}
    saved["actor"]["player"]["generator"] = torch.zeros(16, dtype=torch.uint8)  # as CUDA has it
    saved["actor"]["running"] = saved["actor"]["running"].float()
    other = learner_of(acting(Cue(), Feedforward))
    other.load_state_dict(saved)
    assert taken(other, 2)[-1][1]["episode_return"].dtype == torch.float64


class Failing(Cue):
    """Does something wrong in its tenth step."""

    def __init__(self, fault, **given):
        super().__init__(**given)
        self.fault = fault

    def step(self, actions):
        made = super().step(actions)
        if self.tick != 10:
            return made
        if self.fault == "raises":
            raise RuntimeError("the wheels\nfell off")
        if self.fault == "five":
            return *made[:4], {}  # as Gymnasium's
        rewards, seen, cut = made.rewards, made.observations, np.arange(self.num_envs) == 3
        changes = {
            "nan reward": {"rewards": np.array([0, 0, np.nan, 0], np.float32)},
            "nan seen": {"observations": np.where(np.arange(12).reshape(4, 3) == 5, np.inf, seen).astype(np.float32)},
            "nan last": {"truncated": cut, "finals": np.full((1, 3), np.nan, np.float32)},
            "no last": {"truncated": cut},
            "more last": {"truncated": cut, "finals": seen[:2]},
            "shape": {"observations": seen[:, :2]},
            "dtype": {"observations": seen.astype(np.int64)},
            "objects": {"observations": [None] * 4},
            "rewards": {"rewards": rewards[:3]},
            "ends": {"terminated": made.terminated.astype(np.float32)},
        }
        return made._replace(**changes[self.fault])


FAULTS = {
    "raises": "environment Failing: step 9: RuntimeError: the wheels fell off",
    "nan reward": "environment Failing: step 9: the reward is nan in world 2: it has to be finite",
    "nan seen": "environment Failing: step 9: the observation is inf in world 1: it has to be finite",
    "nan last": "environment Failing: step 9: the last observation is nan in world 3: it has to be finite",
    "no last": "environment Failing: step 9: wanted the last observation of 1 truncated episodes in finals, got None",
    "more last": r"environment Failing: step 9: wanted finals f32\[B 3\] of 1 worlds, got float32 \[2, 3\]",
    "shape": r"environment Failing: step 9: wanted observations f32\[B 3\] of 4 worlds, got float32 \[4, 2\]",
    "dtype": r"environment Failing: step 9: wanted observations f32\[B 3\] of 4 worlds, got int64 \[4, 3\]",
    "objects": "environment Failing: step 9: TypeError: can't convert np.ndarray of type numpy.object_",
    "rewards": r"environment Failing: step 9: wanted rewards, ends and facts \[4\], got \[3\]",
    "ends": "environment Failing: step 9: wanted ends that are bool, got torch.float32 and torch.bool",
    "five": "environment Failing: step 9: wanted a Step, got tuple",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("lag", [0, 1])
def test_an_environment_that_fails_is_one_line_and_the_last_checkpoint_is_whole(toy, tmp_path, fault, lag):
    """The run ends with what went wrong, where and in which world; what was saved before can be read and gone on from."""
    graph = acting(Failing(fault), toy.Plain)
    learner = learner_of(graph, lag=lag, unroll=2)
    run = RunSettings(steps=50, checkpoint_every=1)
    evaluation = Episodes(graph, Cue(2, 0, "valid"), 2)
    fit = Fit(learner, run, EvaluateSettings(every=0), evaluation, Checkpoints(tmp_path), toy.Witness())
    with pytest.raises(ValueError, match=FAULTS[fault]) as caught:
        fit()
    assert "\n" not in str(caught.value)
    last = Checkpoints(tmp_path).find("last")
    assert int(last.name[-1]) == 4 - lag
    learner.load_state_dict(load_state(last)["learner"])


@pytest.mark.parametrize("fault", ["nan seen", "nan reward"])
def test_an_evaluation_looks_at_its_worlds_too(fault):
    """A player that learns nothing stops where a world answers with what is no number, as the learner does."""
    with pytest.raises(ValueError, match=FAULTS[fault]):
        list(play(Worlds(Failing(fault), CPU), lambda seen, first: first.long(), 40))


def test_settings_that_cannot_be_are_named(toy):
    """Each is one line that begins with its name."""
    bad = {
        "unroll": 0,
        "discount": 1.5,
        "trace": -0.1,
        "entropy_cost": -1.0,
        "value_cost": float("nan"),
        "reward_clip": 0.0,
    }
    for name, value in bad.items():
        with pytest.raises(ValueError, match=f"^{name}: wanted"):
            learner_of(acting(Cue(), toy.Plain), **{name: value})
    with pytest.raises(ValueError, match="learns from an environment, got a source"):
        learner_of(toy.graph())
    with pytest.raises(ValueError, match="learns from a source, got an environment"):
        toy.learner(toy.graph()).__class__(acting(Cue(), toy.Plain), CPU, 3, "f32")


def test_worlds_of_another_number_cannot_be_gone_on_with(toy):
    """A state of other worlds is refused by the setting that it concerns."""
    learner, other = learner_of(acting(Cue(), toy.Plain)), learner_of(acting(Cue(5), toy.Plain))
    taken(learner, 2)
    with pytest.raises(ValueError, match=r"environment\.num_envs: wanted 4, as before"):
        other.load_state_dict(learner.state_dict())


class Uneven(Cue):
    """Even worlds have episodes of one step, odd ones of nine."""

    def step(self, actions):
        made = super().step(actions)
        last = np.where(np.arange(self.num_envs) % 2, self.tick % 9 == 0, True)
        return made._replace(terminated=last, rewards=np.ones(self.num_envs, np.float32), facts={"right": last * 1.0})


def test_each_world_plays_its_share():
    """Short episodes do not come in the place of long ones: of 4 worlds the first 10 episodes are 3, 3, 2 and 2."""
    found = list(play(Worlds(Uneven(length=10**6), CPU), lambda seen, first: first.long(), 10))
    assert sorted(each.number for each in found) == list(range(10))
    assert [each.facts["episode_length"] for each in sorted(found, key=lambda each: each.number)] == [1, 9] * 5


def test_an_evaluation_is_the_same_every_time(toy):
    """Its worlds begin anew, its draws too; greedy ones are of the likeliest actions; the mean is over all episodes."""
    graph = acting(Cue(), toy.Plain)
    learner = learner_of(graph)
    sampled, greedy = (Episodes(graph, Cue(3, 0, "test"), 50, 2, greedy=each) for each in (False, True))
    one, two = sampled(learner.update), sampled(learner.update)
    assert one.metrics == two.metrics
    assert list(one.metrics) == ["test/episode_return", "test/episode_length", "test/right"]
    assert one.metrics["test/episode_length"] == 3
    assert greedy(learner.update).metrics != one.metrics
    assert [each.answer for each in one.samples] == [f"return {int(r)} in 3 steps, right {int(r)}" for r in earned(one)]
    assert sampled(learner.update, lambda: True) is None


def earned(evaluated):
    return [replay.rewards.sum() for replay in evaluated.replays]


def test_a_replay_shows_an_episode_and_no_other(toy):
    """Its frames are what the world looked like until its end; the first frame of the next episode is none of it."""
    graph = acting(Cue(), toy.Plain)
    (replay,) = Episodes(graph, Cue(3), 4, 1)(learner_of(graph).update).replays
    assert replay.frames[:, 0, 0, 0].tolist() == [0, 1, 2, 2]
    assert replay.rewards.shape == (3,)


def test_players_by_rule_play_in_the_same_worlds(toy):
    """What a random policy and the scripted players reach is found beside the model's: a player who knows is always right."""
    found = Episodes(acting(Cue(), toy.Plain), Cue(8, 0, "valid"), 400).baselines()
    assert list(found) == ["valid/random_return", "valid/knowing_return", "valid/left_return"]
    assert found["valid/knowing_return"] == 1
    assert 0.4 < found["valid/random_return"] < 0.6
    with pytest.raises(ValueError, match="examples: wanted a number of episodes"):
        Episodes(acting(Cue(), toy.Plain), Cue(), None)


def test_a_run_that_is_over_holds_no_worlds(toy):
    """Closing waits for the trajectory under way, and then closes the worlds that it was made in."""
    environment = Cue()
    closed = []
    environment.close = lambda: closed.append(environment.tick)
    learner = learner_of(acting(environment, toy.Plain), unroll=50)
    next(learner.stream())
    learner.close()
    assert closed == [100]


def test_what_was_learned_is_kept_where_an_evaluation_fails(toy, tmp_path):
    """The update before it is saved, and the evaluation comes first when the run goes on."""
    graph = acting(Cue(), toy.Plain)
    evaluation = Episodes(graph, Failing("raises", num_envs=4), 40)
    run = RunSettings(steps=5, checkpoint_every=0)
    fit = Fit(learner_of(graph), run, EvaluateSettings(every=3), evaluation, Checkpoints(tmp_path), toy.Witness())
    with pytest.raises(ValueError, match="the wheels fell off"):
        fit()
    later = Fit(
        learner_of(graph),
        run,
        EvaluateSettings(every=3),
        Episodes(graph, Cue(), 4),
        Checkpoints(tmp_path),
        toy.Witness(),
    )
    later.load_state_dict(load_state(Checkpoints(tmp_path).find("last")))
    later()
    assert [step for step, _ in later.relay.evaluations] == [3, 5]
