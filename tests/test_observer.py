"""Observers: what the host does with a run by its life-cycle hooks, and what a stranger's observer can do by them."""

import io
import json
import logging

import pytest
import torch

from seqtoolkit.flow.source import Sample
from seqtoolkit.folder import RunFolder
from seqtoolkit.host.assemble import make_source
from seqtoolkit.host.registry import discover
from seqtoolkit.observer import Diary, Screen
from seqtoolkit.run import Pipeline
from seqtoolkit.sdk import hookimpl
from seqtoolkit.train.checkpoint import load_weights
from seqtoolkit.train.evaluate import Evaluation
from seqtoolkit.train.optimize import Update, sgd
from seqtoolkit.train.run import Run
from seqtoolkit.train.tracking import NullTracker
from seqtoolkit.train.tracking.progress import Progress
from seqtoolkit.trained import load_model


def _run(folder, **observers):
    """A run at nothing, in whose hooks these observers are."""
    registry = discover().joined(observers)
    return Run(
        name="p", folder=folder, config={}, learner=None, tracker=None, steps=9, notify=registry.notify
    ), registry.notify


class _Witness:
    """Hears every hook, in order."""

    def __init__(self, at=None, reason="enough", status="FINISHED"):
        self.heard, self.at, self.reason, self.status = [], at, reason, status

    def _hear(self, run, name, step=None):
        self.heard.append((name, step))
        if (name, step) == self.at:
            run.stop(self.reason, self.status)

    @hookimpl
    def run_started(self, run):
        self._hear(run, "run_started", run.begun)

    @hookimpl
    def logged(self, run, step):
        self._hear(run, "logged", step)

    @hookimpl
    def evaluated(self, run, step, metrics, samples):
        split = next(iter(metrics)).partition("/")[0]
        assert all(isinstance(each, Sample) for each in samples)
        self._hear(run, f"evaluated {split}", step)

    @hookimpl
    def checkpoint_saved(self, run, step, best):
        self._hear(run, "best" if best else "saved", step)

    @hookimpl
    def noted(self, run, text):
        self._hear(run, text)

    @hookimpl
    def run_ended(self, run, status):
        self._hear(run, status)


SMALL = [
    "track=none",
    "run.steps=6",
    "run.log_every=3",
    "run.checkpoint_every=2",
    "evaluate.every=4",
    "evaluate.examples=8",
    "evaluate.test_examples=8",
]


def _train(tiny, folder, witness, *overrides):
    pipeline = Pipeline.load("program_eval", [*tiny, *SMALL, *overrides])
    return pipeline.run(folder, progress=Progress(6, interactive=False, stream=io.StringIO()), observers={"w": witness})


def test_what_parts_log_is_shown(tmp_path):
    """A line that a part logs under `seqtoolkit.` at INFO is shown; before and after the run it is not, nor is DEBUG."""
    stream, logger = io.StringIO(), logging.getLogger("seqtoolkit.stranger")
    level = logging.getLogger("seqtoolkit").level
    _, notify = _run(tmp_path, screen=Screen(Progress(1, interactive=False, stream=stream)))
    logger.info("too early")
    notify("run_started", run=None)
    logger.info("took the %s way", "fast")
    logger.debug("of no interest")
    notify("run_ended", run=None, status="FINISHED")
    logger.info("too late")
    assert stream.getvalue() == "took the fast way\n"
    assert logging.getLogger("seqtoolkit").level == level


def test_diary_drops_what_comes_again(tmp_path):
    """A resumed run keeps the rows up to where it goes on, drops later ones and broken lines, and appends."""
    rows = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}, {"step": 3, "loss": 1.0}]
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (tmp_path / "metrics.jsonl").write_bytes(b'{"st{"step": 1}\n\0\xff{}\n' + text.encode() + b'{"step": 3, "lo')
    assert RunFolder(tmp_path).rows() == rows
    run, notify = _run(tmp_path, diary=Diary())
    run.begun = 2
    notify("run_started", run=run)
    run.log({"loss": 0.5}, 3)
    notify("run_ended", run=run, status="FINISHED")
    kept = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert kept == [*rows[:2], {"step": 3, "loss": 0.5}]


def test_hooks_come_in_order(tiny, tmp_path):
    """An observer hears the start, logs, evaluations, checkpoints and the end of a run, each at its step."""
    witness = _Witness()
    result = _train(tiny, tmp_path, witness)
    told = [each for each in witness.heard if each[0] != "best" and each[1] is not None]
    assert [each for each in told if each[0] != "saved"] == [
        ("run_started", 0),
        ("logged", 3),
        ("evaluated valid", 4),
        ("logged", 6),
        ("evaluated valid", 6),
        ("evaluated test", 6),
    ]
    assert ("best", 4) in witness.heard
    assert ("saved", 2) in witness.heard
    assert witness.heard[-1] == ("FINISHED", None)
    assert result.status == "FINISHED"


@pytest.mark.parametrize("at", ["logged", "saved", "evaluated valid"])
def test_observer_ends_a_run(at, tiny, tmp_path):
    """Whatever the hook in which an observer asks for the end, the run is evaluated, saved and tested where it stands."""
    step = {"logged": 3, "saved": 2, "evaluated valid": 4}[at]
    witness = _Witness((at, step))
    result = _train(tiny, tmp_path, witness)
    assert result.status == "FINISHED"
    assert result.checkpoint.name == f"step_{step:08d}"
    assert ("evaluated valid", step) in witness.heard
    assert ("evaluated test", step) in witness.heard
    assert [each for each in witness.heard if each[0] == "evaluated valid"].count(("evaluated valid", step)) == 1
    assert (f"stopped after {step} updates: enough", None) in witness.heard
    notes = json.loads((result.folder / "run.json").read_text())
    assert (notes["status"], notes["stopped"]) == ("FINISHED", "enough")


def test_observer_kills_a_run(tiny, tmp_path):
    """A run that an observer ends as killed is saved where it stands, not evaluated nor tested, and can be resumed."""
    witness = _Witness(("logged", 3), "pruned", "KILLED")
    result = _train(tiny, tmp_path, witness)
    assert result.status == "KILLED"
    assert ("saved", 3) in witness.heard
    assert not [name for name, _ in witness.heard if name.startswith("evaluated")]
    resumed = Pipeline.resume(result.folder, observers={"w": (again := _Witness())})
    assert resumed.status == "FINISHED"
    assert again.heard[0] == ("run_started", 3)


def test_failing_observer_stops_nobody(tiny, tmp_path, caplog):
    """An observer that raises is named in a warning; the run and the other observers go on."""

    class Broken:
        @hookimpl
        def evaluated(self):
            raise RuntimeError("no")

    pipeline = Pipeline.load("program_eval", [*tiny, *SMALL])
    with caplog.at_level(logging.WARNING):
        result = pipeline.run(tmp_path, observers={"broken": Broken(), "witness": (witness := _Witness())})
    assert result.status == "FINISHED"
    assert "plugin broken: evaluated failed: RuntimeError: no" in caplog.text
    assert ("evaluated test", 6) in witness.heard


def test_what_an_observer_logs_is_kept(tiny, tmp_path):
    """Metrics and artifacts of an observer stand beside the loop's; tags are kept in the run's notes."""

    class Teller:
        @hookimpl
        def evaluated(self, run, step):
            run.log({"own/answer": 42.0}, step)

    pipeline = Pipeline.load("program_eval", [*tiny, *SMALL])
    result = pipeline.run(tmp_path, observers={"teller": Teller()}, tags={"team": "blue"})
    rows = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    assert {"step": 4, "own/answer": 42.0} in rows
    assert json.loads((result.folder / "run.json").read_text())["tags"] == {"team": "blue"}


def test_two_runs_have_observers_of_their_own(tiny, tmp_path):
    """What hears of one run does not hear of the next."""
    first, second = _Witness(), _Witness()
    _train(tiny, tmp_path, first)
    before = len(first.heard)
    _train(tiny, tmp_path, second)
    assert len(first.heard) == before == len(second.heard)


def test_the_store_hears_of_what_was_taken_once_a_step(tiny, tmp_path, monkeypatch):
    """Seconds and examples come once for each step, though logs, evaluation and test say them: a store pairs by order."""
    told = []
    monkeypatch.setattr(NullTracker, "log", lambda self, metrics, step: told.append((step, dict(metrics))))
    _train(tiny, tmp_path, _Witness())
    for name in ("seconds", "examples"):
        assert [step for step, metrics in told if name in metrics] == [3, 4, 6]
    assert sum("valid/loss" in metrics for _, metrics in told) == 2
    assert sum("test/loss" in metrics for _, metrics in told) == 1


@pytest.mark.parametrize("which", ["last", "best"])
def test_the_test_is_of_the_weights_asked_for(which, tiny, tmp_path):
    """The test split is evaluated with the last weights or the best, as the pipeline says; the result's model has the last."""
    settings = [
        "run.steps=12",
        "evaluate.every=2",
        "evaluate.best=sequence_accuracy",
        "learner.optimizer.lr=3",
        "learner.schedule=constant",
    ]
    pipeline = Pipeline.load("program_eval", [*tiny, *SMALL, *settings, f"evaluate.test_checkpoint={which}"])
    result = pipeline.run(tmp_path)
    best, last = (RunFolder(result.folder).checkpoint(name) for name in ("best", "last"))
    assert best != last
    assert all(torch.equal(value, load_weights(last)[name]) for name, value in result.model.state_dict().items())
    model = load_model(result.folder, which)
    graph = pipeline.build()
    graph.model.load_state_dict(model.state_dict())
    source = make_source(pipeline.plan.evaluate_origin, seed=0, split="test")
    update = Update(graph.model, sgd(graph.model.parameters(), 0.1), lambda _: 1.0, None, torch.device("cpu"), "f32")
    found = Evaluation(graph, source, 8)(update).metrics
    assert {name: result.metrics[name] for name in found} == found


def test_changes_at_a_resumption_are_kept(tiny, tmp_path):
    """What was changed when a run went on is in its notes: its config alone would not give the same numbers again."""
    witness = _Witness(("logged", 3), "enough", "KILLED")
    result = _train(tiny, tmp_path, witness)
    Pipeline.resume(result.folder, ["run.steps=8"])
    assert json.loads((result.folder / "run.json").read_text())["resumed"] == [
        {"step": 3, "status": "KILLED", "changed": ["run.steps=8"]}
    ]
