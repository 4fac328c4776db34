"""`seqtoolkit plot attention`, and the same pictures during a run."""

import json
import re
import sys
from importlib.metadata import entry_points

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from seqtoolkit import ConfigError, Pipeline, load_model
from seqtoolkit.flow.heatmap import Choice
from seqtoolkit.host.registry import discover
from seqtoolkit.plot import plot_attention
from seqtoolkit.train.checkpoint import Checkpoints
from seqtoolkit.train.tracking import NullTracker


@pytest.fixture(scope="module")
def small(tiny):
    """Overrides that make the default pipeline small, with a core that has an attention to show."""
    rest = [each for each in tiny if not each.startswith("model.core")]
    core = ["model.core=rmc", "model.core.mem_slots=3", "model.core.num_heads=2", "model.core.head_size=4"]
    return [*rest, *core, "model.core.num_blocks=2", "model.encoder.dropout=0.5"]


@pytest.fixture(scope="module")
def run(small, tmp_path_factory):
    """A run that drew its attention at each evaluation: after 3 and 6 updates."""
    folder = tmp_path_factory.mktemp("runs")
    return Pipeline.load("program_eval", [*small, "evaluate.attention=true"]).run(folder)


def test_a_run_draws_what_it_is_asked_for(run):
    """At each evaluation a picture is put into the run's folder; it is the one that `plot` draws of that checkpoint."""
    pictures = sorted((run.folder / "attention").iterdir())
    assert [each.name for each in pictures] == ["step_00000003.png", "step_00000006.png"]
    drawn = pictures[1].read_bytes()
    assert imread(pictures[1]).ndim == 3
    pictures[1].unlink()
    plotted = plot_attention(run.folder, "last")
    assert plotted.path == pictures[1]
    assert plotted.path.read_bytes() == drawn
    assert pictures[0].read_bytes() != drawn


def test_nothing_is_drawn_or_changed_unasked(run, small, tmp_path):
    """Without the key there is no picture, and the run's numbers and weights are the same, bit for bit."""
    plain = Pipeline.load("program_eval", small).run(tmp_path)
    assert not (plain.folder / "attention").exists()
    assert plain.metrics == run.metrics
    for mine, other in zip(plain.model.parameters(), run.model.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_the_numbers_are_the_cores_own(run, small, tmp_path):
    """--data holds what `core.attention` says of the questions and answers of the source that evaluates the run."""
    plot_attention(run.folder, "last", to=tmp_path / "a.svg", data=tmp_path / "a.npz", choice=Choice(1, 1, (2, 5)))
    pipeline = Pipeline.load("program_eval", small)
    source = pipeline.plan.evaluate_origin.maker()(seed=0)
    model, batch_part = load_model(run.folder, "last"), pipeline.build().collate
    with np.load(tmp_path / "a.npz") as found:
        assert found["rows"] == 1
        assert len(found.files) == 2 + 2 * len(found["names"])
        for number in range(3):
            batch = batch_part(source.draw(np.array([number])))
            with torch.no_grad():
                wanted = model.core.attention(model.encoder(batch.inputs), None, batch.first)[:, 0, ..., :-1, :]
            weights = found[f"weights_{number}"]
            assert weights.shape[1:] == (2, 2, 3, 4)
            np.testing.assert_allclose(weights, wanted, atol=1e-6)
            np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
            text = source.show(batch.inputs[:, 0].numpy(), batch.targets[:, 0].numpy(), batch.targets[:, 0].numpy())
            assert found["names"][number] == text.question
            assert found[f"marked_{number}"].shape == (0,)
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")


def test_the_command_says_where_the_files_are(run, type_in, tmp_path):
    """Picture, numbers, steps that are left out, and that there is no store, a line each; parts of the name will do."""
    command = ("plot", "attention", run.folder.name[:-2], "--folder", run.folder.parent, "--checkpoint", "3")
    code, out, err = type_in(*command, "--data", "n.npz", "--to", "a.pdf", "--steps", "1:4", "--head", "all")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert re.fullmatch(r"steps   1:4 of \d+; --steps FROM:TO shows others", lines[0])
    assert lines[1:] == ["picture a.pdf", "numbers n.npz", "stored  no: the run is in no tracking store"]
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    code, out, _ = type_in(*command, "--head", "1", "--block", "1", "--steps", "0:2")
    assert code == 0
    assert f"picture {run.folder}/attention/step_00000003-head_1-block_1-steps_0_2.png" in out.splitlines()
    code, out, _ = type_in(*command, "--data", "n.npz", "--to", "a.pdf", "--steps", "1:4", "--json")
    found = json.loads(out)
    assert (found["picture"], found["numbers"], found["steps"]) == ("a.pdf", "n.npz", [1, 4])
    assert (found["of"] > 4, found["unstored"]) == (True, "the run is in no tracking store")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--to", "a.gif"], r"wanted a file ending in \.png, \.svg, \.pdf, got a\.gif"),
        (["--to", "no/a.png"], r"no/\.a\.png cannot be written: No such file or directory"),
        (["--data", "a.csv"], r"wanted a file ending in \.npz for the numbers, got a\.csv"),
        (["--data", "no/a.npz"], r"no/a\.npz cannot be written: No such file"),
        (["--checkpoint", "4711"], r"the run in .* has no checkpoint '4711'"),
        (["--head", "2"], r"head: wanted mean, all, or one from 0 to 1, got 2"),
        (["--head", "some"], r"head: wanted mean, all, or one from 0 to 1, got some"),
        (["--block", "2"], r"block: wanted one from 0 to 1, got 2"),
        (["--steps", "7"], r"--steps: wanted FROM:TO, such as 0:12, got '7'"),
        (["--steps", "900:901"], r"steps: wanted FROM:TO within the \d+ steps"),
    ],
)
def test_a_mistake_is_one_line(run, type_in, tmp_path, words, line):
    """What cannot be is one line on stderr, exit code 2, and nothing is left behind."""
    code, out, err = type_in("plot", "attention", run.folder, *words)
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"seqtoolkit: {line}.*\n", err), err
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_not_there(run, type_in):
    """A run that cannot be found is said with those that are."""
    code, _, err = type_in("plot", "attention", "nonesuch", "--folder", run.folder.parent)
    assert code == 2
    assert re.fullmatch(rf"seqtoolkit: no run 'nonesuch' in .*{run.folder.name}\n", err)


def test_a_core_without_is_refused(tiny, type_in, tmp_path):
    """A core that has nothing to show is refused by its name, with those that have: by the command, and by the key."""
    result = Pipeline.load("program_eval", tiny).run(tmp_path / "runs")
    type_in("plot")  # takes what the run has printed
    code, _, err = type_in("plot", "attention", result.folder)
    assert code == 2
    assert re.fullmatch(r"seqtoolkit: the core lstm has no attention to show; those that have: .*\brmc\b.*\n", err), err
    with pytest.raises(ConfigError, match=r"^evaluate\.attention: the core lstm has no attention to show; .*rmc"):
        Pipeline.load("program_eval", [*tiny, "evaluate.attention=true"]).run(tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == [result.folder]


STRANGER = '''
"""A stranger's core, whose two slots look at the input more from step to step, and a task of one case."""

import numpy as np
import torch

from seqtoolkit.sdk import Case, Core, Ragged, Source, hookimpl, record


@hookimpl
def cores():
    return {"gaze": "gaze:Gaze"}


@hookimpl
def sources():
    return {"bits": "gaze:Bits"}


class Gaze(Core):
    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.input_size, self.output_size = input_size, 4
        self.map = torch.nn.Linear(input_size, 4)

    def initial_state(self, batch_size):
        return self.map.weight.new_zeros(batch_size, 4)

    def step(self, inputs, state):
        state = torch.tanh(state + self.map(inputs))
        return state, state

    def attention(self, inputs, state=None, first=None):
        seen = torch.arange(len(inputs)) / 10
        weights = torch.stack([(1 - seen) / 2, (1 - seen) / 2, seen], -1)
        return weights[:, None, None, None, None].expand(-1, inputs.shape[1], 1, 1, 2, -1)


class Bits(Source):
    def __init__(self, seed: int = 0, split: str = "train") -> None:
        super().__init__(seed, split)
        self.writes = record(question="i64<2>[B L]", answer="i64<2>[B A]", counted="bool[B A]")

    def draw(self, indexes):
        bits, lengths = np.repeat(indexes % 2, 3), np.full(len(indexes), 3)
        said = Ragged(bits, lengths)
        return {"question": said, "answer": said, "counted": Ragged(bits == bits, lengths)}

    def cases(self):
        return [Case("early", self.draw(np.array([1])), (0, 3))]
'''


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A stranger's distribution, installed."""
    (tmp_path / "gaze.py").write_text(STRANGER)
    (info := tmp_path / "gaze-1.0.dist-info").mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gaze\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[seqtoolkit]\ngaze = gaze\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = discover(entry_points(group="seqtoolkit"))
    monkeypatch.setattr("seqtoolkit.run.discover", lambda: registry)
    yield
    sys.modules.pop("gaze", None)


@pytest.mark.usefixtures("stranger")
def test_a_strangers_core_and_task(tiny, tmp_path):
    """Any core with the method and any source with cases are drawn, in a run and after it, without being known."""
    overrides = [each for each in tiny if each.startswith(("run.", "evaluate.", "track", "batch."))]
    config = {"source": "bits", "model": {"core": "gaze"}, "evaluate": {"attention": True}}
    result = Pipeline.from_config(config, overrides).run(tmp_path / "runs")
    assert [each.name for each in sorted((result.folder / "attention").iterdir())] == [
        "step_00000003.png",
        "step_00000006.png",
    ]
    plot_attention(result.folder, "last", data=tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as found:
        assert found["names"].tolist() == ["early"]
        assert found["marked_0"].tolist() == [0, 3]
        weights = found["weights_0"]
        assert weights.shape == (6, 1, 1, 2, 3)
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
        np.testing.assert_allclose(weights[:, 0, 0, 1, 2], [0, 0.1, 0.2, 0, 0.1, 0.2], rtol=1e-6)  # question, answer


def test_a_picture_that_cannot_be_drawn_stops_no_run(small, tmp_path, monkeypatch, capsys):
    """A full disk or a picture that would be too large is said, and the run goes on to its end."""
    failures = iter([OSError(28, "No space left on device"), ValueError("more than can be read")])

    def fail(*_):
        raise next(failures)

    monkeypatch.setattr("seqtoolkit.observer.draw", fail)
    result = Pipeline.load("program_eval", [*small, "evaluate.attention=true"]).run(tmp_path)
    assert result.status == "FINISHED"
    err = capsys.readouterr().err
    assert "attention at step 3 could not be drawn: [Errno 28] No space left" in err
    assert "attention at step 6 could not be drawn: more than can be read" in err


def test_pictures_go_to_the_tracker(small, tmp_path, monkeypatch):
    """Each picture of a run is handed to its tracker, under attention/."""
    handed = []
    monkeypatch.setattr(NullTracker, "artifact", lambda self, path, folder="": handed.append((path.name, folder)))
    result = Pipeline.load("program_eval", [*small, "evaluate.attention=true"]).run(tmp_path)
    assert [each for each in handed if each[1] == "attention"] == [
        ("step_00000003.png", "attention"),
        ("step_00000006.png", "attention"),
    ]
    assert Checkpoints(result.folder / "checkpoints").find("last").name == "step_00000006"
    assert json.loads((result.folder / "run.json").read_text())["status"] == "FINISHED"
