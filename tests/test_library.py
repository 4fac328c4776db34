"""The read side of an MLflow store: what was recorded is read back whole, and what is not there is said in one line."""

import math
import os
import shutil
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest

from seqtoolkit.record import Record
from seqtoolkit.train.tracking import library
from seqtoolkit.train.tracking.history import of_client
from seqtoolkit.train.tracking.library import Library
from seqtoolkit.train.tracking.store import Point, Store


@pytest.fixture(scope="module")
def template(tmp_path_factory, database):
    """An MLflow database with two experiments, a sweep of two runs, and a run by itself."""
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    shutil.copy(database, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)  # where MLflow puts artifacts
        return path, *_fill(Store(f"sqlite:///{path}"))


def _fill(store):
    """Record all that; return the parent, and the other runs."""
    programs, store_runs = store.experiment("programs"), []
    store.experiment("language")
    parent = store.create(programs, "cores", 1, {"seqtoolkit.kind": "sweep", "seqtoolkit.sweep": "cores"})
    for number in range(2):
        tags = {"seqtoolkit.sweep": "cores", "mlflow.parentRunId": parent, "seqtoolkit.trial": str(number)}
        run = store.create(programs, f"trial {number}", 2 + number, tags)
        store.params(run, {"model.core": "rmc", "run.seed": str(number)})
        store.metrics(run, [Point("loss", number + 1 / (step + 1), step, step) for step in range(30)])
        store.metrics(run, [Point("system/memory", 1.0, 1, 1), Point("seconds", 2.0, 1, 1)])
        store.end(run, "FINISHED", None, 9)
        store_runs.append(run)
    store_runs.append(store.create(programs, "alone", 7, {}))
    return parent, store_runs


@pytest.fixture
def home(tmp_path, template, monkeypatch):
    """A working directory with that database, and none of MLflow's settings."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    shutil.copy(template[0], tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def opened(home):
    """The library of the working directory."""
    return Library()


def test_experiments_are_found_by_name_and_id(opened):
    """Every experiment is listed and found by its name and by its id; another is named with what was probably meant."""
    names = {each.name: each.experiment_id for each in opened.experiments()}
    assert set(names) == {"Default", "programs", "language"}
    for name, identifier in names.items():
        assert opened.experiment(name) == opened.experiment(identifier) == identifier
    with pytest.raises(ValueError, match=r"no experiment 'program' in sqlite:.*; did you mean programs\?$"):
        opened.experiment("program")
    with pytest.raises(ValueError, match=r"no experiment 'xyz' in .*; there are: (\w+, )+\w+$"):
        opened.experiment("xyz")


def test_runs_by_what_they_are(opened, template, monkeypatch):
    """Runs of an experiment come latest first, over several pages as over one; by sweep, by parent, by kind."""
    _, parent, (first, second, alone) = template
    monkeypatch.setattr(library, "_PAGE", 2)
    assert [each.run_id for each in opened.runs("programs")] == [alone, second, first, parent]
    assert {each.run_id for each in opened.runs()} == {alone, second, first, parent}
    assert {each.run_id for each in opened.runs(sweep="cores")} == {second, first, parent}
    assert [each.run_id for each in opened.runs("programs", parent=parent)] == [second, first]
    assert [each.run_id for each in opened.runs(kind="sweep")] == [parent]
    assert opened.runs("language") == opened.runs(sweep="it's") == opened.runs(sweep='"') == []
    with pytest.raises(ValueError, match="both kinds of quotes"):
        opened.runs(sweep="'\"")


def test_a_run_is_what_was_recorded(opened, template):
    """Name, status, times, params, tags, latest values and parent of a run; no curves unless asked for."""
    _, parent, (first, *_) = template
    run = opened.run(first)
    assert (run.name, run.status, run.begun, run.ended, run.parent) == ("trial 0", "FINISHED", 2, 9, parent)
    assert run.params == {"model.core": "rmc", "run.seed": "0"}
    assert run.tags["seqtoolkit.trial"] == "0"
    assert run.metrics == {"loss": 1 / 30, "system/memory": 1.0, "seconds": 2.0}
    assert not run.curves
    assert set(opened.run(first, curves=True).curves) == {"loss", "seconds"}
    assert set(opened.run(first, curves=["loss", "none"]).curves) == {"loss"}
    record = Record.of_stored(opened.run(first, curves=["loss"]))
    assert (record.run_id, record.name, record.status, record.config) == (first, "trial 0", "FINISHED", run.params)
    np.testing.assert_array_equal(record.curves["loss"].values, 1 / np.arange(1, 31))


def test_a_history_is_whole(home, opened, template):
    """Every point is read, by step; of several at a step the one told last counts; nan and infinity are themselves.

    MLflow's client says the same as the file of the database.
    """
    run, store = template[2][2], Store("sqlite:///mlflow.db")
    store.metrics(run, [Point("x", float(step), 5000 - step, step) for step in range(2500)])
    store.metrics(run, [Point("x", -1.0, 9000, 7), Point("x", -2.0, 1, 8)])
    odd = (math.nan, math.inf, -math.inf)
    store.metrics(run, [Point("odd", value, 1, step) for step, value in enumerate(odd)])
    found = opened.history(run, ["x", "odd", "none"])
    assert set(found) == {"x", "odd"}
    wanted = np.arange(2500.0)
    wanted[7] = -1.0
    np.testing.assert_array_equal(found["x"].steps, np.arange(2500))
    np.testing.assert_array_equal(found["x"].values, wanted)
    np.testing.assert_array_equal(found["odd"].values, odd)
    assert opened.run(run).metrics["odd"] == -math.inf
    slow = of_client(opened._client, run, ["x", "odd", "none"])
    assert set(slow) == set(found)
    for name, curve in slow.items():
        np.testing.assert_array_equal(curve.steps, found[name].steps)
        np.testing.assert_array_equal(curve.values, found[name].values)
    assert sys.float_info.max not in found["odd"].values


def test_a_file_that_cannot_be_asked(opened, template, monkeypatch):
    """Where the file does not answer as expected, MLflow's client is asked; a thousand names are no difficulty."""
    names = ["loss", *(f"none{number}" for number in range(1200))]
    wanted = opened.history(template[2][0], names)["loss"].values
    monkeypatch.setattr(library, "of_file", lambda *_: (_ for _ in ()).throw(sqlite3.OperationalError("no such table")))
    np.testing.assert_array_equal(opened.history(template[2][0], ["loss"])["loss"].values, wanted)
    assert len(wanted) == 30


def test_files_and_tags_go_there_and_come_back(home, opened, template):
    """A file and a folder are logged, listed and fetched as they were; a tag is set; the status stays."""
    run = template[2][0]
    (home / "mine").mkdir()
    (home / "mine" / "a.txt").write_text("one")
    opened.log_artifact(run, home / "mine" / "a.txt", "texts/more")
    opened.log_artifact(run, home / "mine")
    opened.set_tag(run, "color", "red")
    assert sorted(opened.artifacts(run)) == ["mine", "texts"]
    assert opened.artifacts(run, "texts/more") == ["texts/more/a.txt"]
    assert opened.download(run, "texts/more/a.txt", home / "new" / "deep").read_text() == "one"
    assert (opened.download(run, "mine", home / "other") / "a.txt").read_text() == "one"
    found = opened.run(run)
    assert (found.tags["color"], found.status, found.ended) == ("red", "FINISHED", 9)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda library, _: library.run("0" * 32), "0000"),
        (lambda library, _: library.runs("nothing"), "no experiment 'nothing'"),
        (lambda library, run: library.download(run, "none.txt", Path("fetched")), r"none\.txt|No such"),
        (lambda library, _: library.set_tag("0" * 32, "a", "b"), "0000"),
    ],
)
def test_what_is_not_there(opened, template, home, ask, message):
    """What the store does not have is a ValueError of one line that names it."""
    with pytest.raises(ValueError, match=message) as caught:
        ask(opened, template[2][0])
    assert "\n" not in str(caught.value)


def test_a_deleted_run_is_not_there(opened, template):
    """Deleted runs are in no list, and are named as deleted."""
    run = template[2][0]
    opened._client.delete_run(run)
    assert run not in {each.run_id for each in opened.runs()}
    with pytest.raises(ValueError, match="mlflow runs restore"):
        opened.run(run)


def test_no_store_is_made_by_looking(home):
    """Looking into a database that is not there is refused and makes none; neither does an address that is none."""
    with pytest.raises(ValueError, match=r"there is no tracking store .*/other\.db"):
        Library("sqlite:///other.db")
    assert not (home / "other.db").exists()
    (home / "text.db").write_text("this is no database" * 100)
    with pytest.raises(ValueError, match=r"the tracking store sqlite:.*text\.db: "):
        Library("sqlite:///text.db")
    with pytest.raises(ValueError, match="htp://nowhere") as caught:
        Library("htp://name:secret@nowhere")
    assert "secret" not in str(caught.value)
