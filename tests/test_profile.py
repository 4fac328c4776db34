"""Profiling: stages are found and timed, a trace is kept, and the run stays what it was; what a run says that it takes."""
# ruff: noqa: D102  the methods are those of the hooks, or of a part that stands for any

import gzip
import itertools
import json
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqtoolkit import Pipeline, hookimpl
from seqtoolkit.experiment import Experiment
from seqtoolkit.profile import FEW, WARM, schedule
from seqtoolkit.rehearsal import rehearse
from seqtoolkit.train import window
from seqtoolkit.train.capture import Captures
from seqtoolkit.train.measure import MEASURED
from seqtoolkit.train.stage import Clock, stages, watch, wrap
from seqtoolkit.train.window import Window


@given(st.integers(1, 10_000))
def test_measurements_fit_into_a_run(updates):
    """There is something to time and to trace in any run, each update is watched in one way, the first ones in none."""
    whole, timed, traced = schedule(updates)
    assert 1 <= len(timed) == len(traced) <= FEW
    assert len(whole) <= FEW
    assert 0 <= whole.start <= whole.stop == timed.start <= WARM
    assert traced.stop <= updates
    if updates > 1:
        assert timed.stop == traced.start
    if updates >= WARM + 2 * FEW:
        assert (timed.start, len(timed), len(whole)) == (WARM, FEW, FEW)


class Part:
    """Two methods, one of which calls the other, and a call."""

    def __call__(self):
        return self.outer() + 1

    def outer(self):
        return self.inner() + 1

    def inner(self):
        return 1

    def fail(self):
        raise ZeroDivisionError


def test_a_method_is_watched_once_and_then_no_more():
    """What one watched method calls of another counts as its own; results and errors are as ever; no trace is left."""
    part, seen = Part(), []

    @contextmanager
    def around():
        seen.append("in")
        try:
            yield
        finally:
            seen.append("out")

    with wrap(part, ("__call__", "outer", "inner", "fail"), around):
        assert isinstance(part, Part)
        assert part() == 3
        assert seen == ["in", "out"]
        with pytest.raises(ZeroDivisionError):
            part.fail()
        assert part.inner() == 1
        assert seen == ["in", "out"] * 3
    assert type(part) is Part
    assert part() == 3
    assert seen == ["in", "out"] * 3


@pytest.mark.parametrize("graph", [{}, {"decoding": "teacher_forcing"}, {"decoder": "separate"}])
def test_every_stage_of_an_update_is_watched(toy, graph):
    """Each stage is entered, in the order in which it is reached; a model that answers step by step is no exception."""
    learner = toy.learner(toy.graph(**graph))
    entered = []

    @contextmanager
    def around(stage):
        entered.append(stage)
        yield

    with watch(learner, around):
        learner.step(learner.graph.batch(learner.graph.source.draw(np.arange(8))))
    names = [stage for stage, _, _ in stages(learner)]
    assert set(entered) == set(names)
    assert ("model.decoder" in names) == ("decoder" in graph)
    watched = len(entered)
    learner.step(learner.graph.batch(learner.graph.source.draw(np.arange(8))))
    assert len(entered) == watched


def test_a_clock_counts_calls_and_seconds(monkeypatch):
    """Each stage has the seconds that passed inside of it, one of another too, and how often it was entered."""
    now = itertools.count()
    monkeypatch.setattr("seqtoolkit.train.stage.time.perf_counter", lambda: float(next(now)))
    clock = Clock(torch.device("cpu"))
    with clock("a"), clock("b"):
        pass
    with clock("b"):
        pass
    assert clock.seconds == {"a": 3.0, "b": 2.0}
    assert clock.calls == {"a": 1, "b": 2}


class Ears:
    """Keeps what a run notes, and does what is asked when it begins."""

    def __init__(self, begin=lambda run: None, logged=lambda run: None):
        self.notes, self.begin, self.hear = [], begin, logged

    @hookimpl
    def run_started(self, run):
        self.run = run
        self.begin(run)

    @hookimpl
    def logged(self, run):
        self.hear(run)

    @hookimpl
    def noted(self, text):
        self.notes.append(text)


def train(folder, tiny, *overrides, ears=None):
    """A tiny run; its folder and its metrics, without those of the machine."""
    changes = [*tiny, "evaluate.every=4", "evaluate.examples=8", "evaluate.test_examples=0", *overrides]
    result = Pipeline.load("program_eval", changes).run(folder, observers={"ears": ears or Ears()})
    rows = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    return result, [{name: value for name, value in row.items() if name not in MEASURED} for row in rows]


def scopes(path: Path) -> Counter:
    """How often each scope is in a trace that a browser's viewer opens."""
    trace = json.loads(gzip.decompress(path.read_bytes()))
    return Counter(each["name"] for each in trace["traceEvents"] if each.get("cat") == "user_annotation")


def test_a_profiled_run_is_the_same_run(tiny, tmp_path):
    """Weights and metrics are those of the run without, bit for bit; stages and trace are in its folder, and no trace else."""
    kinds = []
    ears = Ears(lambda run: kinds.extend(type(part) for _, part, _ in stages(run.learner)))
    plain, plain_rows = train(tmp_path, tiny, "run.steps=24")
    result, rows = train(tmp_path, tiny, "run.steps=24", "run.profile=true", ears=ears)
    assert rows == plain_rows
    weights, wanted = ((each.checkpoint / "model.safetensors").read_bytes() for each in (result, plain))
    assert weights == wanted
    found = json.loads((result.folder / "profile" / "stages.json").read_text())
    rows = {row["stage"]: row for row in found["stages"]}
    expected = [stage for stage, _, _ in stages(ears.run.learner)]
    assert list(rows) == ["wait", *expected, "rest"]
    assert {stage for stage, row in rows.items() if row["ahead"]} == {"source", "batch"}
    assert rows["model.encoder"]["calls"] == rows["backward"]["calls"] == found["updates"] == FEW
    inside = sum(row["seconds"] for row in rows.values() if not row["ahead"])
    assert inside == pytest.approx(found["update"], rel=1e-6)
    assert found["evaluations"] == 6
    traced = scopes(result.folder / "profile" / "trace.json.gz")
    assert traced["update"] == traced["wait"] == traced["backward"] == traced["model.encoder"] == FEW
    assert traced["evaluation"] >= 1
    assert traced["metric.accuracy"] == FEW, "those of an evaluation are no stage of an update"
    said = "\n".join(ears.notes)
    assert "profile: " in said
    assert all(f"  {stage} " in said for stage in [*rows, "evaluation"])
    assert not {"stream", "step"} & vars(ears.run.learner).keys()
    assert [type(part) for _, part, _ in stages(ears.run.learner)] == kinds


@pytest.mark.parametrize("steps", [1, 2])
def test_a_short_run_is_profiled_as_well(tiny, tmp_path, steps):
    """A run of one update has that one timed and traced."""
    result, _ = train(tmp_path, tiny, f"run.steps={steps}", "run.profile=true")
    found = json.loads((result.folder / "profile" / "stages.json").read_text())
    assert found["updates"] == 1
    assert scopes(result.folder / "profile" / "trace.json.gz")["backward"] == 1


def test_a_full_disk_ends_no_run(tiny, tmp_path):
    """What cannot be written is said, and the run ends as it would have."""

    def fill(run):
        (run.folder / "profile").mkdir()
        for name in ("stages.json", "trace.json.gz"):
            (run.folder / "profile" / name).symlink_to("/dev/full")

    ears = Ears(fill)
    result, _ = train(tmp_path, tiny, "run.steps=6", "run.profile=true", ears=ears)
    assert result.status == "FINISHED"
    said = "\n".join(ears.notes)
    for name in ("stages.json", "trace.json.gz"):
        assert f"profile: {name} could not be kept: No space left on device" in said


def test_a_run_that_ends_early_is_let_go(tiny, tmp_path):
    """One that ends before anything was measured says so; one that ends meanwhile has what there was."""
    ears = Ears(logged=lambda run: run.stop("enough"))
    result, _ = train(tmp_path, tiny, "run.steps=60", "run.profile=true", ears=ears)
    assert any("ended before an update was measured" in note for note in ears.notes)
    assert not (result.folder / "profile").exists()
    ears = Ears(logged=lambda run: run.stop("enough"))
    result, _ = train(tmp_path, tiny, "run.steps=60", "run.log_every=12", "run.profile=true", ears=ears)
    assert json.loads((result.folder / "profile" / "stages.json").read_text())["updates"] == 2


def test_a_profiler_that_cannot_begin_ends_no_run(tiny, tmp_path, monkeypatch):
    """There is no trace then, which is said, and the rest is as ever."""

    class Refusing:
        def __init__(self, **_):
            pass

        def start(self):
            raise RuntimeError("no counters")

    monkeypatch.setattr("seqtoolkit.profile.profile", Refusing)
    ears = Ears()
    result, _ = train(tmp_path, tiny, "run.profile=true", ears=ears)
    assert (result.folder / "profile" / "stages.json").exists()
    assert "profile: no trace: no counters" in ears.notes


def test_what_is_watched_is_not_replayed():
    """A capture rests while it is paused: the update runs by itself, on the side, and is replayed again afterwards."""
    diary = []

    class Capturer:
        @contextmanager
        def aside(self):
            diary.append("aside")
            yield

        def watch(self, work):
            return work(), None

        def capture(self, work, beside):
            work()
            return SimpleNamespace(replay=lambda: diary.append("replay"))

    @torch.no_grad()
    def work(batch):
        diary.append("work")
        return {"loss": batch.inputs.sum()}

    from seqtoolkit.flow.batch import Batch

    batch = Batch(torch.ones(2, 1), torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool), None)
    captures = Captures(work, Capturer(), lambda: None, warm=0)
    captures(batch)
    diary.clear()
    captures(batch)
    captures.paused = True
    captures(batch)
    captures.resume()
    captures(batch)
    assert diary == ["replay", "aside", "work", "replay"]


def test_a_rehearsal_times_the_stages_of_any_model(tiny):
    """A model with a decoder of its own is timed stage by stage too, and a stage that is added is found."""
    pipeline = Pipeline.load("program_eval", [*tiny, "model.decoder=separate", "transform=reverse"])
    experiment = Experiment(pipeline.plan, pipeline.registry)
    assert rehearse(experiment).keys() == {stage for stage, _, _ in stages(experiment.learner)}


def test_examples_per_second_leave_evaluations_out(toy, tmp_path, monkeypatch):
    """With updates of 2 seconds and evaluations of 100, a batch of 8 is 4 examples a second, however often it evaluates."""
    now = [1000.0]
    monkeypatch.setattr(window.time, "monotonic", lambda: now[0])
    relay = toy.Witness()
    fit = toy.fit(tmp_path, relay=relay, run={"steps": 12, "log_every": 4}, evaluate={"every": 3})

    def lasting(seconds, work):
        def done(*arguments):
            now[0] += seconds
            return work(*arguments)

        return done

    fit.learner.step = lasting(2.0, fit.learner.step)
    with wrap(fit.evaluation, ("__call__",), lambda: passing(now)):
        fit()
    assert [(step, row["examples_per_second"], row["examples"], row["seconds"]) for step, row in relay.logs] == [
        (4, 4.0, 32.0, 8.0),
        (8, 4.0, 64.0, 16.0),
        (12, 4.0, 96.0, 24.0),
    ]


@contextmanager
def passing(now):
    """A hundred seconds go by."""
    now[0] += 100.0
    yield


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_of_memory_grows_when_memory_is_taken():
    """In units of 10^6 bytes: taking as much as was ever in use, and 64 MB more, moves the peak by 64 MB."""
    taken = Window({}, torch.device("cpu"))
    before = taken.read()["peak_memory_megabytes"]
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
    block = np.ones(int((before - resident + 64) * 1e6), np.uint8)
    after = taken.read()["peak_memory_megabytes"]
    assert after - before == pytest.approx(64, abs=16)
    del block
    assert taken.read()["peak_memory_megabytes"] == after
