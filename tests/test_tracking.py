"""Tracking as a run sees it: trackers, and a real MLflow store in a file."""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seqtoolkit.train.tracking import MLflowTracker, NullTracker, attach, deliver, environment_tags, outbox
from seqtoolkit.train.tracking.outbox import State
from seqtoolkit.train.tracking.store import Point, Refused, Store, resolve, shorten, tidy
from seqtoolkit.train.tracking.system import SystemMonitor


@pytest.fixture
def home(tmp_path, database, monkeypatch):
    """A working directory with a database, and none of MLflow's settings."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    shutil.copy(database, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def store(home):
    """The store in the working directory."""
    return Store(f"sqlite:///{home}/mlflow.db")


@pytest.fixture
def folder(home):
    """A run's folder."""
    path = home / "runs" / "one"
    path.mkdir(parents=True)
    return path


def _start(tracker, folder, **changes):
    return tracker.start(**{"name": "a name", "params": {}, "tags": {}, "folder": folder} | changes)


def _history(store, run, key):
    return [(metric.step, metric.value) for metric in store._client.get_metric_history(run, key)]


class TestMLflow:
    """MLflowTracker with the default store, courier process and all."""

    def test_a_run_from_start_to_end(self, folder, store, home, caplog):
        """Params, tags, every point, files, directories and the status arrive; nothing stays behind, no server runs.

        Every method may be called before the start and after the end, and a file that is not there is only said.
        """
        tracker = MLflowTracker(experiment="programs", system_every=0.05)
        tracker.log({"loss": -1.0}, 1)
        tracker.artifact(folder / "nothing")
        tracker.end("FAILED")
        assert tracker.where() == "MLflow: not started"
        params = {"model.core.use": "rmc", "lr": 1e-3, "none": None, "list[0]": True}
        run = _start(tracker, folder, params=params, tags={"color": "red"})
        assert run in tracker.where()
        assert tracker.where().endswith("look at it with: seqtoolkit ui runs/one")
        for step in range(2500):
            tracker.log({"loss": 1 / (step + 1), "valid/accuracy": step / 2500}, step)
        (folder / "config.yaml").write_text("first")
        tracker.artifact(folder / "config.yaml", "config")
        (folder / "config.yaml").unlink()
        (folder / "config.yaml").write_text("second")
        tracker.artifact(folder / "config.yaml", "config")
        (folder / "plots").mkdir()
        (folder / "plots" / "loss.png").write_text("picture")
        tracker.artifact(folder / "plots")
        tracker.artifact(folder / "nothing")
        assert "nothing cannot be recorded: No such file" in caplog.text
        tracker.end("FINISHED")
        tracker.log({"loss": -1.0}, 1)
        tracker.end("FAILED")
        found = store._client.get_run(run)
        assert (found.info.status, found.info.run_name, found.data.tags["color"]) == ("FINISHED", "a name", "red")
        assert found.data.params == {"model.core.use": "rmc", "lr": "0.001", "none": "None", "list_0_": "True"}
        assert store._client.get_experiment(found.info.experiment_id).name == "programs"
        assert sorted(_history(store, run, "loss")) == [(step, 1 / (step + 1)) for step in range(2500)]
        assert _history(store, run, "system/system_memory_usage_megabytes")
        files = Path(found.info.artifact_uri)
        assert (files / "config" / "config.yaml").read_text() == "second"
        assert (files / "plots" / "loss.png").read_text() == "picture"
        assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "plots", "tracking.json"]

    def test_going_on_keeps_params_and_counts_further(self, folder, store):
        """A run that goes on has one id, its first params, a tag for each changed one, and the points of both parts."""
        tracker = MLflowTracker(system_metrics=False)
        run = _start(tracker, folder, params={"steps": 10, "seed": 0})
        tracker.log({"loss": 1.0}, 1)
        tracker.end("KILLED")
        assert store._client.get_run(run).info.status == "KILLED"
        tracker = MLflowTracker(system_metrics=False)
        assert _start(tracker, folder, params={"steps": 20, "seed": 0, "new": 1}, resume=run) == run
        tracker.log({"loss": 0.5}, 2)
        tracker.end("FAILED", error="RuntimeError: out of luck")
        found = store._client.get_run(run)
        assert found.data.params == {"steps": "10", "seed": "0", "new": "1"}
        assert found.data.tags["changed.steps"] == "10 -> 20"
        assert "changed.seed" not in found.data.tags
        assert (found.info.status, found.data.tags["error"]) == ("FAILED", "RuntimeError: out of luck")
        assert sorted(_history(store, run, "loss")) == [(1, 1.0), (2, 0.5)]
        with pytest.raises(ValueError, match=f"belongs to the run {run}, not to"):
            _start(MLflowTracker(), folder, resume="0" * 32)

    def test_the_training_process_never_meets_mlflow(self, folder, store):
        """Whoever logs imports neither mlflow nor sqlalchemy; killed, it loses at most its last second."""
        code = (
            "import os, signal, sys, time\nfrom pathlib import Path\n"
            "from seqtoolkit.train.tracking import MLflowTracker\n"
            "tracker = MLflowTracker(system_metrics=False)\n"
            "print(tracker.start(name=None, params={}, tags={}, folder=Path(sys.argv[1])))\n"
            "for step in range(300):\n    tracker.log({'loss': step}, step)\n"
            "journal = Path(sys.argv[1], 'outbox.jsonl')\n"
            "while journal.exists() and journal.read_bytes().count(b'\\n') < 302:\n    time.sleep(0.05)\n"
            "print([name for name in ('mlflow', 'sqlalchemy', 'torch') if name in sys.modules], flush=True)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=False)
        run, modules = done.stdout.split("\n")[:2]
        assert done.returncode == -signal.SIGKILL
        assert modules == "[]"
        while (folder / outbox.JOURNAL).exists():  # the courier outlives it and brings the rest
            time.sleep(0.05)
        assert store._client.get_run(run).info.status == "KILLED"
        assert sorted(_history(store, run, "loss")) == [(step, float(step)) for step in range(300)]

    def test_a_courier_that_dies_costs_nothing(self, folder, store, caplog):
        """With its courier killed the run goes on; what it logged is kept, said, and delivered by the next chance."""
        tracker = MLflowTracker(system_metrics=False)
        run = _start(tracker, folder)
        tracker._dispatch.process.kill()
        tracker._dispatch.process.wait()
        for step in range(100):
            tracker.log({"loss": step}, step)
        tracker.end("FINISHED")
        assert re.search(r"10[123] items are not delivered yet", caplog.text)
        assert deliver(folder.parent) == 0
        assert store._client.get_run(run).info.status == "FINISHED"
        assert len(_history(store, run, "loss")) == 100
        assert deliver(folder.parent) == 0

    def test_a_file_for_a_run_that_is_over(self, folder, store, home):
        """A file is added to a run that has ended, whose status and end stay; not while its process works.

        What the store does not take is kept, and delivered later.
        """
        picture = folder / "picture.png"
        picture.write_text("first")
        assert attach(folder, picture) == "the run is in no tracking store"
        assert attach(folder / "gone", picture) == "the run is in no tracking store"
        tracker = MLflowTracker(system_metrics=False)
        run = _start(tracker, folder)
        assert attach(folder, picture) == "the run is still at work, and its tracking store is left to it"
        tracker.end("KILLED")
        before = store._client.get_run(run).info
        assert attach(folder, picture, "pictures") is None
        after = store._client.get_run(run).info
        assert (after.status, after.end_time) == (before.status, before.end_time)
        stored = Path(after.artifact_uri) / "pictures" / "picture.png"
        assert stored.read_text() == "first"
        assert sorted(path.name for path in folder.iterdir()) == ["picture.png", "tracking.json"]
        picture.unlink()
        picture.write_text("second")
        (stored.parent.parent / "more").touch()
        assert "the tracking store does not have it yet" in attach(folder, picture, "more")
        (stored.parent.parent / "more").unlink()
        assert deliver(folder) == 0
        assert (stored.parent.parent / "more" / "picture.png").read_text() == "second"

    def test_a_file_that_no_store_takes(self, folder):
        """Where the address of a run's store has become none, that is said, and where the reason is."""
        (folder / "picture.png").touch()
        State(store="nonsense://there", run="0" * 32, ended=True).save(folder)
        refused = folder / "outbox.rejected.jsonl"
        assert attach(folder, folder / "picture.png") == f"the tracking store refused it, see {refused}"
        assert "nonsense://there" in refused.read_text()
        assert "No such file" in attach(folder, folder / "nothing.png")

    def test_a_run_that_is_not_there(self, folder):
        """Going on with an unknown run is a ValueError of one line that names it, and leaves nothing in the folder."""
        with pytest.raises(ValueError, match=r"track: .*0000 not found") as caught:
            _start(MLflowTracker(), folder, resume="0" * 32)
        assert "\n" not in str(caught.value)
        assert list(folder.iterdir()) == []

    def test_settings_that_cannot_be(self, home):
        """Settings are checked when they are given; a folder that is not there, when it is used."""
        with pytest.raises(ValueError, match="system_every: wanted seconds above 0, got 0"):
            MLflowTracker(system_every=0)
        with pytest.raises(ValueError, match="experiment: wanted a name"):
            MLflowTracker(experiment=" ")
        with pytest.raises(ValueError, match="cannot be recorded here: No such file"):
            _start(MLflowTracker(), home / "none")

    def test_names_from_the_environment(self, folder, home, monkeypatch):
        """MLflow's own settings name the store and the experiment."""
        shutil.move(home / "mlflow.db", home / "other.db")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
        tracker = MLflowTracker(system_metrics=False)
        run = _start(tracker, folder)
        tracker.end("FINISHED")
        other = Store(f"sqlite:///{home}/other.db")
        assert other._client.get_experiment(other._client.get_run(run).info.experiment_id).name == "theirs"

    def test_names_in_the_pipeline_come_first(self, folder, home, monkeypatch):
        """What the pipeline names goes before the settings; a relative file is that in the working directory."""
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
        tracker = MLflowTracker(experiment="ours", tracking_uri="sqlite:///mlflow.db")
        line = tracker._opening(None, {}, None, fresh=True)
        assert (line["experiment"], line["store"]) == ("ours", f"sqlite:///{home}/mlflow.db")


@pytest.mark.slow
def test_four_processes_make_one_database(tmp_path):
    """Four processes that start at once where there is no database make one, and all record in it."""
    code = (
        "import sys\nfrom seqtoolkit.train.tracking.store import Store\n"
        "store = Store(f'sqlite:///{sys.argv[1]}/mlflow.db')\nimport time\n"
        "print(store.create(store.experiment('shared'), None, 1, {}))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) for _ in range(4)]
    runs = [process.communicate()[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert len(set(runs)) == 4
    store = Store(f"sqlite:///{tmp_path}/mlflow.db")
    assert len({store._client.get_run(run).info.experiment_id for run in runs}) == 1


class TestStore:
    """The store in MLflow's own terms."""

    @pytest.fixture
    def run(self, store):
        """A run to write to."""
        return store.create(store.experiment("e"), None, 1, {})

    def test_values_that_are_no_numbers(self, store, run):
        """NaN stays, infinity becomes the largest number, and a point told twice is one point."""
        points = [Point("nan", math.nan, 1, 1), Point("inf", math.inf, 1, 1), Point("true", True, 1, 1)]
        store.metrics(run, points)
        store.metrics(run, [*points, Point("more", 1, 1, 1)])
        found = store._client.get_run(run).data.metrics
        assert math.isnan(found["nan"])
        assert found["inf"] == sys.float_info.max
        assert (found["true"], found["more"]) == (1.0, 1.0)
        assert [len(_history(store, run, key)) for key in found] == [1] * 4

    def test_more_than_one_call_takes(self, store, run):
        """2500 points and 250 params go in several calls."""
        store.metrics(run, [Point("x", step, step, step) for step in range(2500)])
        store.params(run, {f"p{n}": str(n) for n in range(250)})
        assert len(_history(store, run, "x")) == 2500
        assert len(store._client.get_run(run).data.params) == 250

    def test_keys_and_values_that_mlflow_forbids(self, store, run):
        """Whatever the keys are, MLflow takes them tidied, none is lost, and what is cut off is marked."""
        keys = ["a[0]", "a_0_", "a@b", "", ".", "..", "../x", "/x", "x/", "a//b", "é ü", "x" * 300, "x" * 301, "\n"]
        store.params(run, dict.fromkeys(keys, "v" * 7000))
        store.metrics(run, [Point(key, 1.0, 1, 1) for key in keys])
        found = store._client.get_run(run).data
        assert len(found.params) == len(found.metrics) == len(keys)
        assert {len(value) for value in found.params.values()} == {6000}
        assert all(value.endswith("... (7000 characters)") for value in found.params.values())

    def test_tidy_leaves_good_keys_alone(self):
        """Keys that are allowed stay as they are."""
        good = ["loss", "valid/accuracy", "model.core.use", "a b", "a:b", "a-b", ".hidden"]
        assert tidy(good) == good
        assert shorten("short", 10) == "short"

    def test_what_is_deleted_cannot_go_on(self, store, run):
        """Deleted runs and experiments are refused with what to do."""
        store._client.delete_run(run)
        with pytest.raises(Refused, match="mlflow runs restore"):
            store.reopen(run, {})
        store._client.delete_experiment(store.experiment("e"))
        with pytest.raises(Refused, match="mlflow experiments restore"):
            store.experiment("e")

    @pytest.mark.parametrize(
        "uri", ["htp://nowhere", "sqlite:///text.db", "sqlite:///text.db/mlflow.db", "file:./mlruns"]
    )
    def test_addresses_that_cannot_be(self, home, uri):
        """A store that is none is refused in one line with its address."""
        (home / "text.db").write_text("this is no database, but a text of some length" * 100)
        with pytest.raises(Refused, match=re.escape(uri.rpartition("/")[2])) as caught:
            Store(resolve(uri))
        assert "\n" not in str(caught.value)

    def test_a_key_finds_its_run(self, store):
        """The run with a key is found, and no other."""
        experiment = store.experiment("e")
        run = store.create(experiment, None, 1, {"seqtoolkit.key": "abc"})
        store.create(experiment, None, 1, {"seqtoolkit.key": "abd"})
        assert store.find(experiment, "abc") == run
        assert store.find(experiment, "ab") is None


def test_nothing_is_recorded_nowhere(tmp_path):
    """The tracker `none` has no id, writes nothing, and says so."""
    tracker = NullTracker()
    assert _start(tracker, tmp_path) is None
    tracker.log({"loss": 1.0}, 1)
    tracker.artifact(tmp_path)
    tracker.end("FINISHED")
    assert list(tmp_path.iterdir()) == []
    assert "none" in tracker.where()


def test_tags_tell_versions_and_code(tmp_path):
    """Versions, platform, user and commit; the commit only in a checkout, and whether it is the whole truth."""
    tags = environment_tags(tmp_path)
    assert {"python", "platform", "seqtoolkit", "torch"} <= set(tags)
    assert "mlflow.source.git.commit" not in tags
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("1")
    for command in (["init", "-q"], ["add", "file"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *command], check=True)
    tags = environment_tags(tmp_path)
    assert (len(tags["mlflow.source.git.commit"]), tags["git.dirty"]) == (40, "false")
    (tmp_path / "file").write_text("2")
    assert environment_tags(tmp_path)["git.dirty"] == "true"


def test_the_machine_is_sampled():
    """Samples have MLflow's names and possible values, and stop when told to."""
    samples = []
    monitor = SystemMonitor(samples.append, every=0.01)
    while len(samples) < 3:
        time.sleep(0.01)
    monitor.stop()
    monitor._thread.join()
    seen = len(samples)
    assert "system/disk_available_megabytes" in samples[-1]
    if sys.platform == "linux":
        assert samples[-1]["system/process_memory_usage_megabytes"] > 10
        assert 0 < samples[-1]["system/system_memory_usage_percentage"] < 100
        busy = [sample.get("system/cpu_utilization_percentage", 0) for sample in samples]
        assert all(0 <= value <= 100 for value in busy)
    assert len(samples) == seen


def test_the_package_is_light():
    """Importing it imports neither torch nor mlflow nor matplotlib nor rich."""
    code = "import sys, seqtoolkit.train.tracking; print([m for m in ('torch', 'mlflow', 'matplotlib', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
