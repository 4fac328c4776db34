"""Runs over a text: they go on where they stood, keep what their ids stand for, and refuse a text that is not theirs."""

import random
import shutil

import pytest
import torch

from seqtoolkit import Pipeline
from seqtoolkit.experiment import Experiment
from seqtoolkit.folder import RunError, RunFolder
from seqtoolkit.trained import Trained

SMALL = [
    "source={use: text, tokenizer: word, vocabulary: 12, bptt: 5, held_out: 0.2}",
    "batch.size=4",
    "model.encoder.size=8",
    "model.core={use: lstm, hidden_size: 8}",
    "model.head={use: softmax, dropout: 0.2}",
    "learner.optimizer={use: adam, lr: 0.002}",
    "metric=[perplexity]",
    "learner.schedule=constant",
    "run={steps: 12, log_every: 3, checkpoint_every: 100, seed: 0}",
    "evaluate={every: 6, examples: 8, test_examples: null, baselines: false, source: {split: valid}}",
    "track=none",
]


def write(folder, seed=0):
    """Two dozen documents of a few words."""
    chance = random.Random(seed)
    folder.mkdir()
    for number in range(24):
        words = (f"{chance.choice(['the', 'a', 'my'])} {chance.choice(['cat', 'dog', 'hen'])}" for _ in range(20))
        (folder / f"{number}.txt").write_text("\n".join(words))
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A text, and a run of seven of twelve updates over it, in the middle of a pass; nobody changes them."""
    home = tmp_path_factory.mktemp("home")
    text = write(home / "text")
    Pipeline.load("language", [*SMALL, f"source.train={text}", "run.steps=7"]).run(home / "runs")
    return home


@pytest.fixture
def mine(home, type_in, tmp_path):
    """That run, copied to where one stands, and its text, which may be changed."""
    shutil.copytree(home / "runs", tmp_path / "runs")
    text = shutil.copytree(home / "text", tmp_path / "text")
    config = RunFolder.find("latest", tmp_path / "runs").config
    config.write_text(config.read_text().replace(str(home), str(tmp_path)))
    return text


def _said(err):
    """The lines of what was complained about, without those of what is being prepared."""
    return [line for line in err.strip().splitlines() if not line.endswith("%")]


def test_a_run_that_was_stopped_goes_on(home, mine, tmp_path):
    """It ends with the weights and metrics of one that was never stopped, to the bit."""
    whole = Pipeline.load("language", [*SMALL, f"source.train={home / 'text'}"]).run(tmp_path / "whole")
    ended = Pipeline.resume("latest", ["run.steps=12"])
    for name, each in whole.model.state_dict().items():
        assert torch.equal(each, ended.model.state_dict()[name]), name
    assert ended.metrics == whole.metrics
    assert {"valid/perplexity", "test/perplexity"} <= ended.metrics.keys()


def test_another_batch_size_on_resume(mine, type_in):
    """That is one line."""
    code, _, err = type_in("run", "--resume", "latest", "batch.size=2", "run.steps=9")
    assert code == 2
    (line,) = _said(err)
    assert "truncated goes on from a batch of 4 rows, and got one of 2: batch.size has to stay as it was" in line


def test_a_text_that_changed(mine, type_in):
    """A run does not go on in it, in one line; an evaluation reads it by the ids of the run."""
    for each in mine.glob("*.txt"):
        each.write_text(each.read_text() + "\nmy cow a cow the cow")
    code, _, err = type_in("run", "--resume", "latest", "run.steps=9")
    assert code == 2
    (line,) = _said(err)
    assert "source.train: the text has changed since this run began; put it back as it was" in line
    code, out, err = type_in("evaluate", "latest", "examples=8", "--json")
    assert code == 0, err
    assert '"perplexity"' in out


def test_another_text_is_read_by_the_ids_of_the_run(mine, type_in, tmp_path):
    """Evaluated on a text of other words, a model finds them unknown, and its own words under their ids."""
    other = tmp_path / "other.txt"
    other.write_text("the cow the cat\n" * 20)
    code, _, err = type_in("evaluate", "latest", f"source.valid={other}", "examples=null")
    assert code == 0, err
    own, changed = (
        Trained.find("latest", overrides=changes).pipeline.evaluated("valid")
        for changes in ([], [f"evaluate.source.valid={other}"])
    )
    assert changed.tokenizer.digest == own.tokenizer.digest
    assert "cow" not in changed.tokenizer.tokens
    assert changed.tokens[:4].tolist() == own.encode("the cow the cat").tolist()


def test_every_split_goes_by_one_vocabulary(home, tmp_path):
    """An evaluation that names another text to learn from has the ids that the model learns by all the same."""
    other = write(tmp_path / "other", seed=1)
    for each in other.glob("*.txt"):
        each.write_text(each.read_text().replace("the", "cow"))
    changes = [f"source.train={home / 'text'}", f"evaluate.source.train={other}"]
    plan = Pipeline.load("language", [*SMALL, *changes]).plan
    experiment = Experiment(plan, Pipeline.load("language", SMALL).registry)
    experiment.prepare()
    tokenizers = [
        experiment.graph.source.tokenizer,
        *(each.origin.tokenizer for each in (experiment.evaluation, experiment.testing)),
    ]
    assert len({each.digest for each in tokenizers}) == 1
    assert "cow" not in tokenizers[0].tokens


@pytest.mark.parametrize("command", [("evaluate", "latest"), ("run", "--resume", "latest", "run.steps=9")])
def test_what_was_kept_is_damaged(mine, type_in, command):
    """It is one line with the file."""
    kept = RunFolder.find("latest", mine.parent / "runs").source / "tokenizer.json.gz"
    for spoil in (lambda: kept.write_bytes(kept.read_bytes()[:-20]), kept.unlink):
        spoil()
        code, _, err = type_in(*command)
        assert code == 2
        (line,) = err.strip().splitlines()
        assert str(kept) in line
        assert "source: " in line


def test_keeping_is_all_or_nothing(home, tmp_path, monkeypatch):
    """A process that is killed while it keeps leaves nothing that a run would go by; the next one keeps it whole."""
    plan = Pipeline.load("language", [*SMALL, f"source.train={home / 'text'}", "run.steps=1"]).plan
    place = RunFolder.create(tmp_path / "runs", "text", plan.resolved)
    experiment = Experiment(plan, Pipeline.load("language", SMALL).registry)
    keep = experiment.graph.source.keep

    def killed(folder):
        folder.mkdir()
        (folder / "tokenizer.json.gz").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment.graph.source, "keep", killed)
    with pytest.raises(KeyboardInterrupt):
        experiment(place, None)
    assert not place.source.exists()
    monkeypatch.setattr(experiment.graph.source, "keep", keep)
    experiment(place, None)
    assert [each.name for each in place.source.iterdir()] == ["tokenizer.json.gz"]
    Trained.find(place.path)
    assert not list(place.path.glob(".*"))


def test_a_full_disk_while_keeping(tmp_path):
    """It is one line, and what was written of it is not gone by."""

    class Full:
        def keep(self, folder):
            folder.mkdir()
            raise OSError(28, "No space left on device")

    place = RunFolder(tmp_path)
    with pytest.raises(RunError, match=rf"^{place.source} cannot be written: No space left on device$"):
        place.keep(Full())
    assert not place.source.exists()


def test_a_model_goes_without_its_text(mine, type_in, tmp_path):
    """Exported, it goes on with a prompt where there is neither run nor text; its text does not go along."""
    words = ("--prompt", "the cat", "--seed", "1", "--tokens", "8")
    code, here, err = type_in("predict", "latest", *words)
    assert code == 0, err
    code, _, err = type_in("export", "latest", "--to", "model")
    assert code == 0, err
    shutil.move("model", tmp_path.parent / f"{tmp_path.name}-there")
    shutil.rmtree(tmp_path / "runs")
    shutil.rmtree(mine)
    there = tmp_path.parent / f"{tmp_path.name}-there"
    assert not list(there.rglob("*.txt")) or {each.name for each in there.rglob("*.txt")} == {"requirements.txt"}
    code, answer, err = type_in("predict", there, *words)
    assert code == 0, err
    assert answer == here
    (kept,) = there.rglob("tokenizer.json.gz")
    kept.write_bytes(kept.read_bytes()[:-1])
    code, _, err = type_in("predict", there, *words)
    assert code == 2
    assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_run_is_fetched_with_what_it_kept(home, type_in, database, tmp_path):
    """What ids stand for is in the store too: a run of which nothing else is left is fetched, and goes on with a prompt."""
    shutil.copy(database, tmp_path)
    track = [f"track={{use: mlflow, tracking_uri: 'sqlite:///{tmp_path}/mlflow.db', system_metrics: false}}"]
    changes = [*SMALL, f"source.train={home / 'text'}", "run.steps=1", *track]
    result = Pipeline.load("language", changes).run(tmp_path / "runs")
    kept = {each.name: each.read_bytes() for each in (result.folder / "source").iterdir()}
    shutil.rmtree(tmp_path / "runs")
    found = Trained.find(result.run_id, store=f"sqlite:///{tmp_path}/mlflow.db")
    assert {each.name: each.read_bytes() for each in found.place.source.iterdir()} == kept
    assert found.graph.source.decode(found.graph.source.encode("the cat")) == "the cat"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["source.train=gone.txt"], "source.train: gone.txt: there is no such file or folder"),
        (["source.valid=tiny.txt"], "evaluate.source.valid: wanted a token at least for each of the 4 rows of a batch, got 3"),
        (["source.test=tiny.txt"], "evaluate.source.test: wanted a token at least for each of the 4 rows of a batch, got 3"),
        (["source.held_out=0.7"], "source.held_out: wanted a share above 0 and below 0.5, got 0.7"),
        (["source.vocabulary=1"], "source.vocabulary: wanted 3 or more for kind word, got 1"),
        (["source.tokenizer=letter"], "source.tokenizer"),
        (["source.bptt=0"], "source.bptt: wanted at least 1 step, got 0"),
        (["source.restart_every=-1"], "source.restart_every: wanted at least 0, got -1"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_said_before_it_does(home, type_in, tmp_path, changes, says):
    """Of every split, the test's too: one line with the key of the pipeline, before a run is begun."""
    (tmp_path / "tiny.txt").write_text("a cat\n")
    code, _, err = type_in("run", "language", *SMALL, f"source.train={home / 'text'}", *changes)
    assert code == 2
    assert any(says in each for each in _said(err)), err
    assert len(_said(err)) <= 2
    assert not (tmp_path / "runs").exists()


def test_a_whole_test_split_wants_an_end(tiny):
    """Of an endless source a number of examples is wanted, before anything is trained."""
    for key in ("examples", "test_examples"):
        with pytest.raises(ValueError, match=rf"^evaluate\.{key}: wanted a number, for .* has no end, got null$"):
            Pipeline.load("program_eval", [*tiny, f"evaluate.{key}=null"]).run()
