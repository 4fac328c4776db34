"""A run that acts: `seqtoolkit play`, and what every other command makes of such a run."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from seqtoolkit import ConfigError, Pipeline, observer
from seqtoolkit.archive.entry import Entry
from seqtoolkit.assess import evaluate
from seqtoolkit.assess.interval import Z, normal, wilson
from seqtoolkit.cli.key import Memory, offers
from seqtoolkit.compare.metric import better, choose
from seqtoolkit.description import describe
from seqtoolkit.experiment import Experiment
from seqtoolkit.export.served import Tensors, served
from seqtoolkit.flow.policy import split
from seqtoolkit.folder import RunFolder
from seqtoolkit.host.registry import discover
from seqtoolkit.play import play
from seqtoolkit.plot import plot_attention
from seqtoolkit.question import Asker
from seqtoolkit.rehearsal import rehearse
from seqtoolkit.sweep.design import Design
from seqtoolkit.train.measure import MEASURED
from seqtoolkit.train.tracking.layout import _metrics
from seqtoolkit.trained import Trained

MAZE = {
    "environment": {"use": "t_maze", "length": 1, "limit": 6, "num_envs": 4},
    "model": {"core": {"use": "lstm", "hidden_size": 8}},
    "learner": {"unroll": 4},
    "evaluate": {"every": 3, "examples": 8, "test_examples": 6, "samples": 2, "environment": {"split": "valid"}},
    "run": {"steps": 6, "log_every": 2, "checkpoint_every": 3},
    "track": "none",
}


def pipeline(*changes):
    """The pipeline of a small maze with changes."""
    return Pipeline.from_config(MAZE, changes)


@pytest.fixture(scope="module", autouse=True)
def _no_curves():
    """No run draws its learning curves: others prove them, and each takes a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observer, "curves", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a small run."""
    return pipeline().run(tmp_path_factory.mktemp("runs")).folder


@pytest.fixture(scope="module")
def trained(run):
    """Its last model."""
    return Trained.find(run, "last")


def facts(episodes):
    """What is known of episodes, in order."""
    return [dict(each.facts) for each in episodes]


def recorded(run, split):
    """What a run has recorded of a split, at its last step."""
    row = [each for each in RunFolder(run).rows() if f"{split}/episode_return" in each][-1]
    return {name.partition("/")[2]: value for name, value in row.items() if name.startswith(f"{split}/")}


def unmeasured(rows):
    """Rows of metrics without those of the machine."""
    return [{name: value for name, value in row.items() if name not in MEASURED} for row in rows]


class TestPlay:
    """Episodes of a trained model."""

    def test_the_episodes_are_those_of_the_evaluation(self, run, trained):
        """As many episodes as the run was evaluated by are these very ones; the same come each time, of a seed others."""
        found = facts(play(trained, episodes=8))
        for name, value in recorded(run, "valid").items():
            assert math.fsum(each[name] for each in found) / 8 == pytest.approx(value, abs=1e-12)
        assert facts(play(trained, episodes=8)) == found
        assert facts(play(trained, episodes=8, seed=7)) != found
        assert facts(play(trained, ["evaluate.environment.split=test"], 8)) != found

    def test_settings_change_the_worlds_and_the_policy(self, trained):
        """A shorter limit cuts episodes; a policy that draws none takes the same way whatever the seed of its draws."""
        assert {each["episode_length"] for each in facts(play(trained, ["environment.limit=3"], 5))} == {3}
        seen = [facts(play(trained, ["greedy=true"], 4, seed=seed)) for seed in range(6)]
        assert len({each["episode_length"] for found in seen for each in found}) <= 2

    def test_a_replay_is_of_the_episode(self, trained):
        """The first episodes are watched, as many as asked for: a frame a step and one more, and rewards that add up."""
        found = play(trained, episodes=3, watched=2)
        assert [each.replay is not None for each in found] == [True, True, False]
        for each in found[:2]:
            assert len(each.replay.rewards) == each.facts["episode_length"]
            assert each.replay.rewards.sum() == pytest.approx(each.facts["episode_return"])

    @pytest.mark.parametrize(
        ("settings", "wanted"),
        [
            (["environment.lenght=3"], r"^evaluate\.environment\.lenght: .*did you mean .*length\?"),
            (["environment.length=0"], r"^evaluate\.environment\.length: wanted at least 1"),
            (["environment.split=dev"], r"^evaluate\.environment\.split: wanted"),
            (["source.length=3"], r"^evaluate\.source: "),
            (["greedy=maybe"], r"^evaluate\.greedy: wanted"),
            (
                ["environment.use=mini_pacman"],
                r"^evaluate\.environment: the model was trained for 4 actions, here are 5",
            ),
        ],
    )
    def test_settings_that_cannot_be(self, trained, settings, wanted):
        """A setting that is wrong, and worlds in which the model cannot act, are a line with the key."""
        with pytest.raises(ConfigError, match=wanted) as error:
            play(trained, settings)
        assert len(error.value.problems) == 1

    def test_command(self, type_in, run, tmp_path):
        """A line an episode with its return, its length and what else is known; a replay where one is asked for."""
        code, out, err = type_in("play", run, "--episodes", 3, "--out", "a.gif", "--seed", 1)
        assert (code, err) == (0, "")
        *lines, last = out.splitlines()
        assert last == "replay  a.gif"
        assert len(lines) == 3
        assert all(line.startswith(f"episode {n}") and ", right " in line for n, line in enumerate(lines, 1))
        code, out, _ = type_in("play", run, "--episodes", 3, "--out", "a.png", "--seed", 1, "--json")
        found = json.loads(out)
        assert (found["run"], found["step"], found["replay"]) == (run.name, 3, "a.png") or found["step"] == 6
        assert f"return {found['episodes'][0]['episode_return']:g} in " in lines[0]
        for name in ("a.gif", "a.png"):
            with Image.open(tmp_path / name) as picture:
                picture.load()

    def test_what_cannot_be_played(self, type_in, run, trained, monkeypatch, tmp_path):
        """No episodes, another kind of file, an environment without pictures, a run without one: a line each, no file."""
        for words, wanted in (
            (("--episodes", 0), "episodes: wanted at least 1, got 0"),
            (("--out", "a.mp4"), "wanted a file ending in .gif or .png, got a.mp4"),
        ):
            code, out, err = type_in("play", run, *words)
            assert (code, out, err) == (2, "", f"seqtoolkit: {wanted}\n")
        monkeypatch.setattr(type(trained.graph.environment), "renders", property(lambda _: False))
        code, _, err = type_in("play", run, "--out", "a.gif")
        assert (code, err) == (2, "seqtoolkit: --out: the environment t_maze draws no pictures\n")
        assert not list(tmp_path.glob("a.*"))
        reader = Trained(Pipeline.load("program_eval"), tmp_path, RunFolder(tmp_path / "sums"), 0)
        with pytest.raises(ValueError, match=r"^sums has no environment to play in: seqtoolkit evaluate, or predict$"):
            play(reader)


class TestEvaluate:
    """`seqtoolkit evaluate` of a run that acts."""

    @pytest.mark.parametrize(("split", "episodes"), [("valid", 8), ("test", 6)])
    def test_a_runs_own_setting_has_its_own_numbers(self, run, trained, split, episodes):
        """Nothing said, or the test split: what was recorded, on as many episodes, each mean with its interval."""
        found = evaluate(trained, [] if split == "valid" else ["environment.split=test"])
        (cell,) = found.cells
        assert (cell.examples, found.split, found.kind) == (episodes, split, "environment")
        assert cell.metrics == recorded(run, split)
        played = facts(play(trained, [f"environment.split={split}"], episodes))
        for name, (low, high) in cell.intervals.items():
            values = np.array([each[name] for each in played])
            spread = Z * values.std(ddof=1) / math.sqrt(episodes)
            wanted = (values.mean() - spread, values.mean() + spread)
            if set(values) == {0, 1}:
                assert name == "right"
                wanted = wilson(values.mean(), episodes)
            assert (low, high) == pytest.approx(wanted)

    def test_grid(self, type_in, run):
        """Several values of a key of the environment make a table, in which a star is what was trained on."""
        words = ("environment.length=1,2,3", "examples=4", "environment.num_envs=2", "--split", "test")
        code, out, err = type_in("evaluate", run, *words)
        assert (code, err) == (0, "")
        assert "4 episodes each" in out
        assert "normal, of a mean over episodes" in out
        assert [line.endswith("*") for line in out.splitlines() if line[:2] in ("1 ", "2 ", "3 ")] == [
            True,
            False,
            False,
        ]
        (path,) = (run / "evaluations").glob("step_*-length=1,2,3-examples=4-num_envs=2-split=test.json")
        assert path.with_suffix(".png").is_file()
        found = json.loads(path.read_text())
        lengths = [(cell["at"]["environment.length"], cell["trained"]) for cell in found["cells"]]
        assert lengths == [(1, True), (2, False), (3, False)]
        assert all(cell["examples"] == 4 for cell in found["cells"])
        assert found["environment"]["split"] == "test"
        assert next(iter(found["better"])) == "episode_return"

    def test_settings_that_cannot_be(self, type_in, run):
        """A setting of a source, worlds in which it cannot act, no episodes: a line each with the key."""
        for word, wanted in (
            ("source.length=3", "source.length: wanted examples or environment.KEY"),
            ("environment.length=0,2", "evaluate.environment.length: wanted at least 1 step"),
            ("environment.use=mini_pacman", "evaluate.environment: the model was trained for 4 actions, here are 5"),
            ("examples=0", "evaluate.examples: wanted at least 1, got 0"),
            ("examples=null", "examples: wanted a number of episodes"),
        ):
            code, out, err = type_in("evaluate", run, word)
            assert (code, out) == (2, ""), word
            assert err.startswith(f"seqtoolkit: {wanted}"), err
            assert err.count("\n") == 1

    def test_normal_interval(self):
        """Of 1, 2, 3, 4 by hand; of equal values it is a point; of one draw there is none."""
        assert normal([1, 2, 3, 4]) == pytest.approx((2.5 - 1.265152, 2.5 + 1.265152), abs=1e-6)
        assert normal([3, 3]) == (3, 3)
        with pytest.raises(ValueError, match="wanted at least 2 draws, got 1"):
            normal([1.0])


class TestElsewhere:
    """The other commands."""

    def test_check_shows_what_flows(self, type_in, tmp_path):
        """The table begins with the environment and ends with the learner; a dry run times the stages of an update."""
        (tmp_path / "maze.yaml").write_text(json.dumps(MAZE))
        code, out, err = type_in("check", "maze.yaml", "--graph", "g.svg", "--json")
        assert (code, err) == (0, "")
        stages = ["environment", "model.encoder", "model.core", "model.head", "learner"]
        assert [each["key"] for each in json.loads(out)["stages"]] == stages
        assert "t_maze" in (tmp_path / "g.svg").read_text()
        timed = rehearse(Experiment(pipeline().plan, discover()))
        assert timed.keys() == {*stages[:-1], "backward", "step"}
        assert not (tmp_path / "runs").exists()

    def test_a_run_that_goes_on_is_the_same_run(self, run, tmp_path):
        """Ended after 3 updates and resumed, it has the numbers of the one that took 6 at once, and its replays."""
        first = pipeline("run.steps=3").run(tmp_path).folder
        Pipeline.resume(first.name, ["run.steps=6"], tmp_path)
        last = [row for row in unmeasured(RunFolder(first).rows()) if row["step"] == 6]
        assert last == [row for row in unmeasured(RunFolder(run).rows()) if row["step"] == 6]
        names = [
            f"step_0000000{step}_{number}{end}" for step in (3, 6) for number in (1, 2) for end in (".gif", ".png")
        ]
        assert sorted(each.name for each in (run / "replays").iterdir()) == names

    @pytest.mark.parametrize("lag", [0, 1])
    def test_profile(self, run, tmp_path, lag):
        """The stages of acting and learning are timed, apart where acting has a thread of its own; the numbers stay."""
        told = pipeline("run.profile=true", f"learner.lag={lag}").run(tmp_path).folder
        found = {row["stage"]: row for row in json.loads((told / "profile" / "stages.json").read_text())["stages"]}
        learning = ["model.encoder", "model.core", "model.head", "backward", "step"]
        assert list(found) == ["wait", "environment", *learning, "rest"]
        assert found["environment"]["ahead"] == bool(lag)
        assert not any(found[stage]["ahead"] for stage in learning)
        assert len({found[stage]["calls"] for stage in learning}) == 1, "what the policy does while it acts is counted"
        if lag:
            assert unmeasured(RunFolder(told).rows()) == unmeasured(RunFolder(run).rows())

    def test_what_a_run_that_acts_has_none_of(self, type_in, run, trained):
        """It answers no questions, goes on with no text, has no cases: a line that says what to do."""
        wanted = f"{run.name} acts in an environment and answers no questions: seqtoolkit play {run.name}"
        for words in (("predict", run, "1+1"), ("predict", run, "--prompt", "a"), ("predict", run)):
            assert type_in(*words) == (2, "", f"seqtoolkit: {wanted}\n")
        with pytest.raises(ValueError, match="answers no questions"):
            Asker(trained)
        with pytest.raises(
            ValueError, match=f"^{run.name} acts in an environment: what is drawn are the cases of a source$"
        ):
            plot_attention(run)

    def test_served_as_a_function_of_what_was_seen(self, trained):
        """An exported policy maps observations since an episode began to logits and the value, as it does when it acts."""
        face = served(trained)
        assert isinstance(face, Tensors)
        seen = face.example()
        assert seen.shape == (2, 3, 3)
        said = face.predict(seen)
        assert said.shape == (2, 3, 5)
        state = trained.model.core.initial_state(2)
        for step in range(3):
            with torch.no_grad():
                predictions, state = trained.model(torch.from_numpy(seen[:, step])[None], state)
            np.testing.assert_allclose(said[:, step], predictions[0].numpy(), atol=1e-6)
        assert split(torch.from_numpy(said))[0].shape == (2, 3, 4)
        signature = face.signature()
        assert signature.inputs.inputs[0].shape == (-1, -1, 3)
        assert signature.outputs.inputs[0].shape == (-1, -1, 5)

    def test_runs_and_comparisons_go_by_the_return(self, run, type_in):
        """Lists judge by the return of the split that was evaluated; comparisons show it first, and higher is better."""
        assert Entry(run).judged == "valid/episode_return"
        code, out, _ = type_in("runs", "--folder", run.parent)
        assert (code, "episode_return" in out) == (0, True)
        known = {"train/loss", "test/episode_length", "test/right", "test/episode_return", "valid/episode_return"}
        shown = choose(known, (), {"environment": "t_maze", "model.core": "lstm"})
        assert shown[0] == "test/episode_return"
        assert [better(f"valid/{name}") for name in ("episode_return", "random_return", "right")] == ["higher"] * 3
        assert [better(name) for name in ("valid/frowns", "train/entropy")] == [None, None]
        stored = SimpleNamespace(metrics={"valid/episode_length": 1, "valid/episode_return": 2, "valid/loss": 3})
        assert _metrics([stored]) == ["valid/episode_return", "valid/episode_length", "valid/loss"]

    def test_sweep(self, tmp_path):
        """Keys of the environment are gone through; what is judged is the return; other cores are made as large."""
        (tmp_path / "maze.yaml").write_text(json.dumps(MAZE))
        words = ["environment.length=1,2", "model.core=lstm,gru"]
        made = Design.load(str(tmp_path / "maze.yaml"), words, {})
        objective = made.check()
        assert (objective.metric, objective.better) == ("valid/episode_return", "higher")
        matched = Design.load(str(tmp_path / "maze.yaml"), [*words, "match_parameters=lstm"], {})
        found = [matched.pipeline(params).check().parameters for params in matched.space.grid()]
        assert len(found) == 4
        assert max(found) / min(found) < 1.1
        assert {tuple(matched.matched(params)) for params in matched.space.grid()} == {(), ("model.core.hidden_size",)}
        assert len(matched.match._found) == 2, "in each environment a size is looked for"

    def test_completion(self, tmp_path):
        """Keys of an environment are offered where a pipeline has one, and then those of examples are not."""
        memory = Memory(discover(), tmp_path / "keys.json")

        def words(tree, begun):
            return [word for word, _ in offers(memory, tree, begun)]

        assert "environment.length=" in words(MAZE, "environment.l")
        assert "evaluate.environment.limit=" in words(MAZE, "evaluate.environment.")
        assert "learner.unroll=" in words(MAZE, "learner.u")
        assert "t_maze" in "".join(words(MAZE, "environment=t"))
        assert not {"source=", "batch=", "loss=", "metric="} & {*words(MAZE, "")}
        reading = {"source": {"use": "program_eval"}}
        assert "environment=" not in words(reading, "")
        assert {"source=", "environment="} <= {*words({}, "")}

    def test_a_run_says_how_to_watch_it(self):
        """The note of a run in the tracking store has the command that plays it."""
        made = pipeline()
        text = describe(made.plan, made.check(), name="maze", folder="2026-maze", changes=[])
        assert "seqtoolkit play 2026-maze " in text
        assert made.describe() in text
