"""Reproduction: a run done again gives the same numbers, and where it does not, that is found and said."""

import contextlib
import json
import math
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqtoolkit import Pipeline
from seqtoolkit.archive import Comparison, compare, reproduce
from seqtoolkit.folder import RunFolder
from seqtoolkit.sdk import hookimpl
from seqtoolkit.train.learner import Supervised

rows = st.lists(
    st.fixed_dictionaries(
        {"step": st.integers(0, 5)},
        optional={name: st.floats() for name in ("train/loss", "valid/loss", "seconds", "system/cpu")},
    ),
    max_size=8,
)


class Stop:
    """Ends a run at a step."""

    def __init__(self, at, status="KILLED", reason="enough"):
        self.at, self.status, self.reason = at, status, reason

    @hookimpl
    def logged(self, run, step):
        """Asks for the end."""
        if step == self.at:
            run.stop(self.reason, self.status)


@pytest.fixture(autouse=True)
def _nowhere(tmp_path, monkeypatch):
    """No checkout of git is around, and no curves are drawn, which would take longer than the training."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("seqtoolkit.observer.curves", lambda *_: None)


@pytest.fixture
def train(tiny, tmp_path):
    """Train the tiny pipeline with changes and observers; its folder."""

    def trained(*changes, **observers):
        pipeline = Pipeline.load("program_eval", [*tiny, "run.log_every=1", *changes])
        return pipeline.run(tmp_path / "runs", observers=observers).folder

    return trained


@pytest.fixture(scope="session")
def finished(tiny, tmp_path_factory):
    """A run that is over, never to be changed."""
    pipeline = Pipeline.load("program_eval", [*tiny, "run.log_every=1"])
    folder = tmp_path_factory.mktemp("kept")
    with contextlib.chdir(folder):
        return pipeline.run(folder).folder


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of it in a folder of its own, its config and its notes changed."""

    def copied(old="", new="", **facts):
        path = Path(shutil.copytree(finished, tmp_path / "runs" / finished.name))
        config = (path / "config.yaml").read_text()
        assert old in config
        (path / "config.yaml").write_text(config.replace(old, new))
        RunFolder(path).note(**facts)
        return path

    return copied


def again(path, **options):
    """Do a run again, beside it."""
    return reproduce(path, path.parent, **options)


def change(path, step, name, value):
    """Change one recorded number; the row that had it."""
    changed = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    row = next(row for row in changed if row["step"] == step and name in row)
    row[name] = value(row[name])
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in changed))


def counted(path, upto=99):
    """How many of a run's numbers are to be the same."""
    own = {"step", "seconds", "examples_per_second", "peak_memory_megabytes"}
    return sum(len(row.keys() - own) for row in RunFolder(path).rows() if row["step"] <= upto)


def test_a_run_comes_out_equal(copy, type_in):
    """The same config and seed give every number again, in a new folder that says what it reproduces; exit code 0."""
    path = copy()
    code, out, _ = type_in("runs", "reproduce", path.name, "--folder", path.parent, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["equal"] is True
    assert found["environment"] == {}
    assert found["notes"] == []
    assert found["comparison"] == {"upto": 6, "values": counted(path), "different": 0, "first": None}
    notes = RunFolder(Path(found["folder"])).notes
    assert notes["tags"] == {"seqtoolkit.reproduces": path.name}
    assert (notes["name"], notes["changes"]) == ("program_eval", RunFolder(path).notes["changes"])
    assert Path(found["folder"]).name != path.name


def test_quiet_shows_the_result_alone(copy, type_in):
    """With -q no progress of the training is shown, and the verdict is."""
    path = copy()
    code, out, err = type_in("runs", "reproduce", path.name, "--folder", path.parent, "-q")
    assert (code, err) == (0, "")
    assert out.endswith("equal     every number is the same\n")


def test_another_task_comes_out_equal(tmp_path):
    """A run of another task and core gives every number again."""
    small = ["batch.size=8", "model.core=rmc", "run.steps=4", "run.log_every=1", "track=none", "run.threads=1"]
    small += ["model.core.head_size=8", "evaluate.every=2", "evaluate.examples=16", "evaluate.test_examples=16"]
    path = Pipeline.load("nth_farthest", small).run(tmp_path).folder
    found = again(path)
    assert found.equal
    assert found.comparison.values == counted(path)


def test_another_seed_is_found(copy, type_in):
    """With the seed changed in its config a run comes out different from the first step on; exit code 1."""
    path = copy("seed: 0\n  device", "seed: 1\n  device")
    code, out, _ = type_in("runs", "reproduce", path, "--folder", path.parent)
    assert code == 1
    assert "different step 1: train/loss was 2." in out
    assert ", relative difference " in out
    assert f"of {counted(path)} values are not the same" in out


@pytest.mark.parametrize(("step", "name"), [(1, "train/gradient_norm"), (3, "valid/loss"), (6, "test/accuracy")])
def test_one_number_is_enough(copy, step, name):
    """The next number to the one recorded is found, wherever it stands, with its step, name, both values and size."""
    path = copy()
    change(path, step, name, lambda value: math.nextafter(value, math.inf))
    was = next(row[name] for row in RunFolder(path).rows() if row["step"] == step and name in row)
    first, count = (found := again(path)).comparison.first, found.comparison.different
    assert not found.equal
    assert (first.step, first.metric, first.was, count) == (step, name, was, 1)
    assert first.now == math.nextafter(was, -math.inf)
    assert first.relative == (was - first.now) / was


def test_a_number_that_does_not_come_again_is_found(copy):
    """What one of two runs that both came to their end has recorded there, and the other has not, is a difference."""
    path = copy()
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "test/beauty": 1.0}\n')
    assert again(path).comparison.first == (6, "test/beauty", 1.0, None)


def test_numbers_of_the_machine_may_differ(copy):
    """Speed, seconds and memory are no part of the result."""
    path = copy()
    for name in ("examples_per_second", "seconds", "peak_memory_megabytes"):
        change(path, 1, name, lambda value: 2 * value)
    assert again(path).equal


def test_what_differs_of_the_environment_is_said_first(copy, finished, type_in):
    """A version and a platform that were others are named with both values before the training; the numbers decide."""
    environment = {**RunFolder(finished).notes["environment"], "torch": "1.0", "git.dirty": "true", "gone": "1"}
    del environment["threads"]
    path = copy(environment=environment)
    heard = []
    found = again(path, hear=lambda differing: heard.append((dict(differing), _begun(path.parent))))
    now = RunFolder(found.folder).notes["environment"]
    ((differing, begun),) = heard
    assert not begun
    assert differing == found.environment
    assert differing["torch"] == {"a": "1.0", "b": now["torch"]}
    assert differing["threads"] == {"b": now["threads"]}
    assert differing["gone"] == {"a": "1"}
    assert "python" not in differing
    assert any("files differ from their commit" in note for note in found.notes)
    assert found.equal
    _, out, _ = type_in("runs", "reproduce", path, "--folder", path.parent, "--steps", 1)
    assert out.startswith("differs   torch: was 1.0, is now ")
    assert "differs   threads: was not recorded, is now " in out


def _begun(folder):
    """Whether any run but the first has recorded a number."""
    return len([path for path in folder.glob("*/metrics.jsonl") if path.read_text()]) > 1


def test_a_run_that_cannot_begin_says_what_else_differs(copy, finished):
    """Where a part of the pipeline is not here, the error comes with the versions that are others."""
    environment = {**RunFolder(finished).notes["environment"], "numpy": "1.0"}
    path = copy("use: lstm", "use: nowhere", environment=environment)
    with pytest.raises(ValueError, match=r"model\.core\.use: no core 'nowhere'(.|\n)*numpy: was 1\.0, is now "):
        again(path)
    assert list(path.parent.iterdir()) == [path]


def test_a_killed_run_is_compared_as_far_as_it_went(train):
    """The new run goes no further than the killed one did, and what both have is compared."""
    path = train(stop=Stop(4))
    found = again(path)
    assert found.equal
    assert found.comparison == Comparison(4, counted(path), 0, None)
    assert found.notes[0] == "the run ended after step 4 (KILLED, enough): compared up to there"
    assert max(row["step"] for row in RunFolder(found.folder).rows()) == 4


def test_a_run_that_was_killed_and_went_on_comes_out_equal(train):
    """Going on after a kill changes no number, so all of them are compared."""
    path = train(stop=Stop(4))
    Pipeline.resume(path)
    found = again(path)
    assert found.equal
    assert found.comparison.upto == 6
    assert found.comparison.values == counted(path)
    assert found.notes == ["the run went on once or more; its environment is that of the last time"]


@pytest.mark.parametrize(("status", "changes"), [("KILLED", ["learner.clip=0.01"]), ("FINISHED", [])])
def test_a_run_that_went_on_differently_is_compared_up_to_there(train, status, changes):
    """Changes at a resumption, and going on after an end, are no part of the config: numbers after them are not compared."""
    path = train(stop=Stop(4, status))
    Pipeline.resume(path, changes)
    found = again(path)
    assert found.equal
    assert found.comparison.upto == 4
    assert "after step 4 the run went on " in found.notes[0]
    change(path, 4, "train/loss", lambda value: value + 1)
    assert again(path).comparison.first[:2] == (4, "train/loss")


def test_going_on_after_the_end_changes_nothing(train):
    """A run that had ended and was tested once more, for it had no updates left, is the same run."""
    path = train()
    Pipeline.resume(path)
    tests = [row for row in RunFolder(path).rows() if "test/loss" in row]
    assert len(tests) == 2
    found = again(path)
    assert found.equal
    assert found.comparison.upto == 6


@pytest.mark.parametrize("tested", [10, 0])
def test_an_early_stop_comes_again(train, tested):
    """A run that lost its patience stops at the same step again, and all of its numbers are the same."""
    words = ["evaluate.every=1", "evaluate.patience=1", "run.steps=50", "evaluate.best=sequence_accuracy"]
    path = train(*words, f"evaluate.test_examples={tested}")
    last = int(RunFolder(path).rows()[-1]["step"])
    assert last < 50
    found = again(path)
    assert found.equal
    assert (found.status, found.comparison.upto, found.comparison.values) == ("FINISHED", last, counted(path))


def test_the_clock_may_end_the_new_run_sooner_or_later(copy):
    """Of a run with a time limit what both have is compared, and it is said how far and why."""
    path = copy("time_limit: null", "time_limit: 1.0e-09")
    found = again(path)
    assert found.equal
    assert found.comparison.upto == 1
    assert any("run.time_limit ends a run by the clock" in note for note in found.notes)
    assert any(note.startswith("the new run ended after step 1 (run.time_limit") for note in found.notes)
    config = (path / "config.yaml").read_text().replace("1.0e-09", "1000.0")
    (found.folder / "config.yaml").write_text(config)
    later = again(found.folder)
    assert later.equal
    assert later.comparison.upto == 1
    assert RunFolder(later.folder).notes["status"] == "KILLED"


def test_it_goes_no_further_than_asked(copy):
    """--steps ends the new run early, by the config as it is: its numbers are those of the whole run."""
    path = copy()
    change(path, 4, "train/loss", lambda value: value + 1)
    found = again(path, steps=3)
    assert found.equal
    assert found.comparison.values == counted(path, 3)
    assert found.notes == ["compared up to step 3, as asked"]
    assert max(row["step"] for row in RunFolder(found.folder).rows()) == 3
    assert RunFolder(found.folder).notes["stopped"] == "a reproduction up to step 3"


def test_a_run_that_failed_fails_again(train, copy, monkeypatch):
    """What a run failed of is expected of its reproduction; where only the new one fails, they are different."""
    whole = copy()
    real, calls = Supervised.step, []

    def fail(self, batch):
        calls.append(batch)
        if len(calls) % 3 == 0:
            raise RuntimeError("out of luck")
        return real(self, batch)

    monkeypatch.setattr(Supervised, "step", fail)
    with pytest.raises(RuntimeError):
        train()
    (path,) = (each for each in whole.parent.iterdir() if each != whole)
    found = again(path)
    assert found.equal
    assert any("failed as the first one did: RuntimeError: out of luck" in note for note in found.notes)
    monkeypatch.setattr(Supervised, "step", real)
    healed = again(path)
    assert healed.equal
    assert healed.notes[-1] == "the new run did not fail"
    monkeypatch.setattr(Supervised, "step", fail)
    found = again(whole)
    assert not found.equal
    assert found.error == "RuntimeError: out of luck"
    assert found.comparison.different == 0


def test_an_interrupted_reproduction_is_no_verdict(copy, type_in, monkeypatch):
    """After Ctrl-C what was trained is compared, and the exit code is that of an interrupted run."""
    path = copy()
    real = Pipeline.run

    def run(self, folder, observers, **options):
        return real(self, folder, observers={**observers, "interrupt": Stop(2, reason="SIGINT")}, **options)

    monkeypatch.setattr(Pipeline, "run", run)
    code, out, _ = type_in("runs", "reproduce", path, "--folder", path.parent)
    assert code == 130
    assert "the new run ended after step 2 (SIGINT), before the first: compared up to there" in out


def test_nothing_to_compare_is_an_error(copy):
    """A run without metrics, or without any so early, cannot be compared; nothing is trained."""
    path = copy()
    with pytest.raises(ValueError, match="--steps: wanted at least 1, got 0"):
        again(path, steps=0)
    lines = (path / "metrics.jsonl").read_text().splitlines()
    (path / "metrics.jsonl").write_text("\n".join(lines[4:]) + "\n")
    with pytest.raises(ValueError, match=r"no metrics up to step 1, the first of step \d: there is nothing to compare"):
        again(path, steps=1)
    (path / "metrics.jsonl").unlink()
    with pytest.raises(ValueError, match="has recorded no metrics: there is nothing to compare with"):
        again(path)
    assert list(path.parent.iterdir()) == [path]


@given(rows, st.booleans())
def test_a_recording_is_equal_to_itself(recorded, whole):
    """Whatever was recorded, NaN too, it is equal to itself."""
    found = compare(recorded, [dict(row) for row in recorded], 5, whole=whole)
    assert (found.different, found.first) == (0, None)


@given(rows, st.data())
def test_any_value_that_is_compared_counts(recorded, data):
    """A change of any value is found if, and only if, it is not the machine's and not after the last step compared."""
    places = [(number, name) for number, row in enumerate(recorded) for name in row if name != "step"]
    if not places:
        return
    number, name = data.draw(st.sampled_from(places))
    upto = data.draw(st.integers(0, 5))
    changed = [dict(row) for row in recorded]
    changed[number][name] = 12345.5 if recorded[number][name] != 12345.5 else 1.0
    found = compare(recorded, changed, upto, whole=False)
    step = recorded[number]["step"]
    expected = step <= upto and name.endswith("/loss")
    assert found.different == expected
    if expected:
        assert found.first[:2] == (step, name)


@given(rows)
def test_comparing_is_symmetric(recorded):
    """The other way around as many values are compared and differ, and the first one is the same place."""
    other = [{**row, "train/loss": 1.5} for row in recorded]
    there, back = (compare(*pair, 5, whole=True) for pair in ((recorded, other), (other, recorded)))
    assert (there.values, there.different) == (back.values, back.different)
    assert (there.first and there.first[:2]) == (back.first and back.first[:2])


@pytest.mark.parametrize(("step", "whole", "different"), [(1, False, 1), (2, False, 0), (2, True, 1), (3, True, 0)])
def test_what_only_one_has_counts_but_at_an_end(step, whole, different):
    """A value that one lacks is a difference; at the last step only where both came to the same end."""
    short, long = [{"step": 1, "a": 1.0}], [{"step": 1, "a": 1.0}, {"step": step, "b": 1.0}]
    for pair in ((short, long), (long, short)):
        found = compare(*pair, 2, whole=whole)
        assert found.different == different
        assert found.values == 1 + different


def test_the_size_of_a_difference_has_no_side():
    """It is relative to the larger of both, and there is none to what is no number."""
    first = lambda was, now: compare([{"step": 0, "a": was}], [{"step": 0, "a": now}], 0, whole=True).first  # noqa: E731
    assert first(1.0, 4.0).relative == first(4.0, 1.0).relative == 0.75
    assert first(0.0, 1e-300).relative == 1.0
    assert first(-1.0, 1.0).relative == 2.0
    assert first(math.nan, 1.0).relative is None
    assert first(math.inf, 1.0).relative is None
