"""Pipeline: the programmatic API, from a mapping or a file to a result."""

import json

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from seqtoolkit import ConfigError, Pipeline, load_model
from seqtoolkit.flow.batch import Pad
from seqtoolkit.folder import METRICS, RunError, RunFolder
from seqtoolkit.train.checkpoint import CheckpointError
from seqtoolkit.train.tracking.lock import hold


@pytest.fixture
def pipeline(tiny):
    """The default pipeline, so small that it trains in a moment, with changes."""
    return lambda *overrides: Pipeline.load("program_eval", [*tiny, *overrides])


def test_a_run_gives_metrics_a_model_and_a_checkpoint(pipeline, tmp_path):
    """After a run the metrics of both splits are there, and the checkpoint holds the model's weights."""
    result = pipeline().run(tmp_path)
    assert result.status == "FINISHED"
    assert set(result.metrics) == {
        f"{s}/{m}" for s in ("valid", "test") for m in ("loss", "accuracy", "sequence_accuracy")
    }
    assert result.run_id == result.folder.name
    weights = load_file(result.checkpoint / "model.safetensors")
    state = result.model.state_dict()
    assert weights.keys() == state.keys()
    assert all(torch.equal(weights[name], state[name]) for name in state)


def test_the_model_is_a_module_for_anyones_code(pipeline, tmp_path):
    """A model is taken out, called on tensors, differentiated, and loaded again from the run's folder."""
    result = pipeline().run(tmp_path)
    inputs = torch.randint(0, 20, (5, 3))
    predictions, state = result.model(inputs)
    assert predictions.shape[:2] == (5, 3)
    last, _ = result.model(inputs, answers=2)
    torch.testing.assert_close(last, predictions[3:])
    predictions.sum().backward()
    again = load_model(result.run_id, "last", tmp_path)
    torch.testing.assert_close(again(inputs)[0], predictions, rtol=0, atol=0)
    assert state is not None


def test_a_mapping_is_as_good_as_a_file(pipeline, tmp_path):
    """The same pipeline from a mapping and from a file gives bitwise the same weights."""
    from_file = pipeline().run(tmp_path / "a")
    mapping = OmegaConf.to_container(OmegaConf.load(from_file.folder / "config.yaml"))
    from_mapping = Pipeline.from_config(mapping).run(tmp_path / "b")
    assert from_mapping.metrics == from_file.metrics
    for mine, other in zip(from_file.model.parameters(), from_mapping.model.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_the_seed_of_the_run_decides_everything(pipeline, tmp_path):
    """Another run.seed gives other weights and other data; the same one gives the same."""
    runs = [pipeline(f"run.seed={seed}").run(tmp_path) for seed in (1, 1, 2)]
    flat = [torch.cat([each.flatten() for each in run.model.parameters()]) for run in runs]
    assert torch.equal(flat[0], flat[1])
    assert not torch.equal(flat[0], flat[2])
    assert runs[0].metrics["test/loss"] != runs[2].metrics["test/loss"]


def test_resuming_to_more_steps_continues_where_the_run_stood(pipeline, tmp_path):
    """A finished run goes on with more steps, under the same id, its metrics without a gap or a repetition."""
    first = pipeline().run(tmp_path)
    second = Pipeline.resume(first.run_id, ["run.steps=10"], tmp_path)
    assert second.run_id == first.run_id
    rows = [json.loads(line) for line in (second.folder / "metrics.jsonl").read_text().splitlines()]
    logged = [row["step"] for row in rows if "train/loss" in row]
    assert logged == [2, 4, 6, 8, 10]


def test_a_checkpoint_of_another_model_is_refused(pipeline, tmp_path):
    """Resuming with another architecture is one line that says which weights do not fit, and the run stays whole."""
    first = pipeline().run(tmp_path)
    with pytest.raises(CheckpointError, match=r"of another model.*core"):
        Pipeline.resume(first.run_id, ["model.core.hidden_size=24"], tmp_path)
    assert Pipeline.resume(first.run_id, [], tmp_path).status == "FINISHED"


def test_a_run_at_work_is_not_resumed(pipeline, tmp_path):
    """Two processes at once would spoil each other's files: the second is told so, and changes nothing."""
    place = RunFolder(pipeline().run(tmp_path).folder)
    before = {each: each.read_bytes() for each in place.path.rglob("*") if each.is_file()}
    with hold(place.path / METRICS), pytest.raises(RunError, match=r"is at work in another process: stop that, or"):
        Pipeline.resume(place.path)
    assert {each: each.read_bytes() for each in place.path.rglob("*") if each.is_file()} == before
    assert Pipeline.resume(place.path).status == "FINISHED"


def test_a_run_that_is_not_there_is_said_with_those_that_are(pipeline, tmp_path):
    """An unknown run names the latest runs, as does `latest` where there is none; an ambiguous beginning its candidates."""
    for word in ("nothing", "latest"):
        with pytest.raises(RunError, match=f"no run '{word}'"):
            Pipeline.resume(word, [], tmp_path)
    for _ in range(2):
        last = pipeline("run.steps=1").run(tmp_path)
    assert RunFolder.find("latest", tmp_path).path == last.folder
    with pytest.raises(RunError, match="the beginning of 2 runs"):
        Pipeline.resume("2", [], tmp_path)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("run.steps=0", r"run\.steps: wanted at least 1"),
        ("run.device=tpu9", r"run\.device: wanted auto or a device"),
        ("run.precision=f16", r"run\.precision: f16 wants a GPU"),
        ("evaluate.best=beauty", r"evaluate\.best: wanted one of accuracy, sequence_accuracy, loss"),
        ("evaluate.examples=0", r"evaluate\.examples: wanted at least 1"),
        ("evaluate.patience=-1", r"evaluate\.patience: wanted at least 0"),
        ("run.time_limit=0", r"run\.time_limit: wanted seconds above 0"),
        ("learner.clip=-1", r"learner\.clip: wanted a norm above 0"),
        ("learner.accumulate=0", r"learner\.accumulate: wanted at least 1"),
        ("batch.size=0", r"batch\.size: wanted at least 1"),
        ("model.head.sizes=[0]", r"model\.head\.sizes: wanted at least 1"),
        ("model.core.hidden_size=0", r"model\.core\.hidden_size"),
    ],
)
def test_values_that_cannot_work_are_one_line_with_their_key(pipeline, tmp_path, override, line):
    """A value of the right type that makes no sense is refused before anything is made, under its full key."""
    with pytest.raises(ConfigError, match=line) as caught:
        pipeline(override).run(tmp_path)
    assert len(caught.value.problems) == 1
    assert not list(tmp_path.iterdir())


def test_a_core_that_refuses_its_device_is_one_line_and_leaves_no_run(pipeline, tmp_path, monkeypatch):
    """What a core says when it is asked before a run stands under its key, and no folder is made."""

    def demand(core):
        raise ValueError(f"hidden_size: wanted less on {next(core.parameters()).device}")

    monkeypatch.setattr("seqtoolkit.flow.core.Core.demand", demand)
    with pytest.raises(ConfigError, match=r"^model\.core\.hidden_size: wanted less on cpu$"):
        pipeline().run(tmp_path)
    assert not list(tmp_path.iterdir())


def test_parts_that_do_not_fit_are_refused_before_data_is_touched():
    """An encoder for vectors cannot read ids: the graph's type check says what is wanted and what comes."""
    with pytest.raises(ConfigError, match=r"model\.encoder: .*wants f32\[T B D\], gets i64"):
        Pipeline.load("program_eval", ["model.encoder=linear"]).check()


def test_a_batch_without_targets_is_refused(monkeypatch):
    """A batch that a plugin wrote without targets is a line under its key, not a fault further on."""
    whole = Pad.__init__

    def bare(self, input_spec, size=64, multiple=1, answer_multiple=1):
        whole(self, input_spec, size, multiple, answer_multiple)
        self.writes = {name: spec for name, spec in self.writes.items() if name != "targets"}

    monkeypatch.setattr(Pad, "__init__", bare)
    with pytest.raises(ConfigError, match="batch: wanted a batch with targets"):
        Pipeline.load("program_eval").check()


def test_accumulation_and_mixing_run_from_a_pipeline(tiny, tmp_path):
    """`learner.accumulate` and `source: mix` are reached from the configuration alone."""
    one, two = ({"use": "program_eval", "problem": problem, "length": 1} for problem in ("add", "control"))
    mix = {"use": "mix", "sources": [one, two], "weights": [1, 3]}
    config = OmegaConf.to_container(OmegaConf.create({"source": mix, "model": {"core": "lstm"}}))
    rest = [each for each in tiny if not each.startswith(("source", "model"))]
    result = Pipeline.from_config(config, [*rest, "learner.accumulate=2", "transform=reverse"]).run(tmp_path)
    assert result.status == "FINISHED"


@pytest.mark.parametrize("decoding", ["teacher_forcing", "parallel"])
@pytest.mark.parametrize("decoder", ["shared", "separate"])
def test_every_way_of_decoding_trains(pipeline, tmp_path, decoding, decoder):
    """Decoding and decoder are keys of the model; each combination trains and is evaluated."""
    result = pipeline(f"model.decoding={decoding}", f"model.decoder={decoder}", "run.steps=2").run(tmp_path)
    assert 0 <= result.metrics["valid/accuracy"] <= 1
