"""Trained: what names a trained model, on this machine and in a store, and what is said where there is none."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import mlflow
import pytest
import torch

from seqtoolkit import Pipeline
from seqtoolkit.export import export, register, registration
from seqtoolkit.folder import RunFolder
from seqtoolkit.train.checkpoint import Checkpoints
from seqtoolkit.train.tracking import attach
from seqtoolkit.train.tracking.library import Library
from seqtoolkit.train.tracking.outbox import State
from seqtoolkit.train.tracking.registry import ModelRegistry, require_names
from seqtoolkit.train.tracking.store import Store
from seqtoolkit.trained import Trained, load_model


@pytest.fixture(scope="module")
def kept(tiny, tmp_path_factory, database):
    """A tracked run of 6 updates, evaluated after 3 and 6, and the address of its store."""
    home = tmp_path_factory.mktemp("kept")
    uri = f"sqlite:///{home}/mlflow.db"
    shutil.copy(database, home)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        changes = ["track=mlflow", f"track.tracking_uri={uri}", "track.system_metrics=false"]
        result = Pipeline.load("program_eval", [*tiny, *changes]).run(home / "runs")
    return RunFolder(result.folder), uri


@pytest.fixture
def place(kept):
    """The run's own folder."""
    return kept[0]


@pytest.fixture
def store(kept, monkeypatch, tmp_path):
    """The store of that run, which is the one in use, in a working directory where there is no run."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", kept[1])
    monkeypatch.chdir(tmp_path)
    return kept[1]


def _same(found, model):
    mine, other = found.state_dict(), model.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in mine)


def _files(path):
    return sorted(each.name for each in path.rglob("*")) if path.exists() else []


class TestHere:
    """Runs that have a folder on this machine."""

    def test_all_names_of_a_run(self, place, tmp_path):
        """A run is found by its id, folder name, a beginning of either, and its path; a checkpoint by its path."""
        words = [place.run_id, place.run_id[:6], place.path.name, place.path.name[:-1], place.path]
        for word in words:
            found = Trained.find(word, "last", place.path.parent)
            assert (found.place.path, found.step) == (place.path, 6)
        found = Trained.find(place.checkpoint("3"))
        assert (found.place.path, found.step, found.weights.name) == (place.path, 3, "step_00000003")
        assert Trained.find(place.checkpoint("3"), "3").step == 3
        assert not _same(found.model, load_model(place.path, "last"))
        assert not found.model.training

    def test_what_is_not_there(self, place, tmp_path):
        """Unknown runs and checkpoints are one line with what there is; no store is asked, or made, for a mere name."""
        with pytest.raises(
            ValueError, match=r"no run 'nothing' in .*runs/; the latest there: .*program_eval"
        ) as caught:
            Trained.find("nothing", folder=place.path.parent)
        assert "\n" not in str(caught.value)
        with pytest.raises(ValueError, match=r"has no checkpoint '4'; there are: (3, )?6"):
            Trained.find(place.path, "4")
        with pytest.raises(
            ValueError, match=r"step_00000003 is one checkpoint, that of step 3; '6' can be had of its run"
        ):
            Trained.find(place.checkpoint("3"), "6")
        loose = shutil.copytree(place.checkpoint("3"), tmp_path / "loose")
        with pytest.raises(ValueError, match=r"loose is a checkpoint outside of its run: it has no config\.yaml two"):
            Trained.find(loose)
        shutil.rmtree(loose)
        assert _files(tmp_path) == []


class TestStored:
    """Runs that only the store knows."""

    def test_it_is_fetched_once(self, store, place, tmp_path, monkeypatch):
        """Config and the checkpoint wanted come from the store, the same numbers; what is here is not fetched again."""
        best = Checkpoints(place.checkpoints).find("best")
        for name, weights in (("last", place.checkpoint("6")), ("3", place.checkpoint("3")), ("best", best)):
            found = Trained.find(place.run_id, name)
            assert _same(found.model, Trained.find(weights).model)
            assert found.weights.name == weights.name
            assert found.place.run_id == place.run_id
            assert found.pipeline.plan == Trained.find(place.path).pipeline.plan
        copy = tmp_path / "runs" / ".fetched" / place.run_id
        assert {each.name for each in copy.iterdir()} == {"config.yaml", "run.json", "tracking.json", "checkpoints"}
        assert not list(copy.rglob("state.pt"))
        assert not list(copy.parent.glob(".*"))
        assert found.place.notes["name"] == "program_eval"
        monkeypatch.setattr(Library, "download", None)
        for name in ("last", "best", "3", "6"):
            assert Trained.find(place.run_id, name).step == (
                6 if name == "last" else Trained.find(place.path, name).step
            )

    def test_a_copy_does_without_the_store(self, store, place, tmp_path, monkeypatch):
        """Where the store is away, what was fetched is used; what was not is said to be in no store."""
        Trained.find(place.run_id, "last")
        monkeypatch.setattr(State, "load", classmethod(lambda cls, folder: cls(store=f"sqlite:///{tmp_path}/gone.db")))
        assert Trained.find(place.run_id, "last").step == 6
        with pytest.raises(ValueError, match=r"no run '\w+' in runs/; .*; and there is no tracking store .*gone\.db"):
            Trained.find(place.run_id, "3")

    def test_a_run_that_has_gone_on_is_fetched_anew(self, store, place, tmp_path):
        """The copy of a run that has ended once more since is replaced, old checkpoints and all."""
        found = Trained.find(place.run_id, "last")
        found.place.note(ended=1)
        found.place.config.write_text("source: of another time\n")
        (found.place.checkpoints / "last").write_text("step_00000001\n")
        again = Trained.find(place.run_id, "last")
        assert again.step == 6
        assert again.place.config.read_text() == place.config.read_text()

    def test_an_interrupted_fetch_leaves_nothing(self, store, place, tmp_path, monkeypatch):
        """What fails halfway is no checkpoint, and the next attempt succeeds."""
        download = Library.download

        def failing(library, run_id, path, to):
            if path.endswith("manifest.json"):
                raise OSError(28, "No space left on device")
            return download(library, run_id, path, to)

        with monkeypatch.context() as patch:
            patch.setattr(Library, "download", failing)
            with pytest.raises(ValueError, match=r"what is fetched cannot be kept in .*: No space left on device"):
                Trained.find(place.run_id, "last")
        assert "model.safetensors" not in _files(tmp_path)
        assert Trained.find(place.run_id, "last").step == 6

    def test_what_no_store_has(self, store, place, tmp_path):
        """Unknown ids, checkpoints, stores, and runs of something else are one line that names the store."""
        foreign = Store(store).create(Store(store).experiment("foreign"), None, 1, {})
        cases = [
            (
                "0" * 32,
                "best",
                None,
                r"no run '0+' in runs/; .* none; and the tracking store .*mlflow\.db: .*0000 not found",
            ),
            (place.run_id, "4", None, r"in sqlite:.*mlflow\.db has no checkpoint '4'; there are: (3, )?6$"),
            (foreign, "best", None, r"has no config\.yaml: seqtoolkit did not make it, or it is not delivered"),
            (place.run_id, "best", f"sqlite:///{tmp_path}/no.db", r"and there is no tracking store .*no\.db"),
        ]
        for run, checkpoint, where, wanted in cases:
            with pytest.raises(ValueError, match=wanted) as caught:
                Trained.find(run, checkpoint, store=where)
            assert "\n" not in str(caught.value)
        assert not (tmp_path / "no.db").exists()

    def test_a_damaged_copy_is_refused(self, store, place):
        """Weights that are not those that were saved are refused, fetched or not."""
        found = Trained.find(place.run_id, "last")
        (found.weights / "model.safetensors").write_bytes(b"nothing")
        with pytest.raises(ValueError, match="is damaged: its checksum"):
            _ = Trained.find(place.run_id, "last").graph


class TestRegistered:
    """Models in the registry."""

    def test_a_version_of_its_run(self, store, place, tmp_path, monkeypatch):
        """A registered model is linked to its run and what that measured at its step, and is found by its address."""
        trained = Trained.find(place.path, "3")
        first = register(trained, "reader", alias="champion")
        second = register(Trained.find(place.path, "last"), "reader")
        assert (first.uri, second.uri) == ("models:/reader/1", "models:/reader/2")
        client = mlflow.MlflowClient(store)
        version = client.get_model_version("reader", "1")
        assert (version.run_id, version.aliases) == (place.run_id, ["champion"])
        logged = client.get_logged_model(first.key)
        assert (logged.source_run_id, str(logged.status), logged.params["model.core"]) == (
            place.run_id,
            "READY",
            "lstm",
        )
        assert {(each.key, each.step) for each in logged.metrics} >= {("valid/loss", 3), ("valid/accuracy", 3)}
        assert (first.key, 3) in {
            (each.model_id, each.step) for each in client.get_run(place.run_id).outputs.model_outputs
        }
        assert client.get_run(place.run_id).info.status == "FINISHED"
        for address, step in (("/1", 3), ("@champion", 3), ("/2", 6), ("/latest", 6)):
            found = Trained.find(f"models:/reader{address}")
            assert found.step == step
            assert found.place.run_id == place.run_id
            assert _same(found.model, Trained.find(place.path, str(step)).model)
        with pytest.raises(ValueError, match="models:/reader/1 is one checkpoint, that of step 3; 'last' can be had"):
            Trained.find("models:/reader/1", "last")
        (tmp_path / "picture.png").write_text("of a copy")
        assert attach(found.place.path, tmp_path / "picture.png", "pictures") is None
        assert "pictures/picture.png" in Library(store).artifacts(place.run_id, "pictures")
        monkeypatch.setattr(ModelRegistry, "download", None)
        assert Trained.find("models:/reader@champion").step == 3
        loaded = mlflow.pyfunc.load_model("models:/reader/1")
        assert list(loaded.predict(loaded.input_example).columns) == ["answer", "error"]

    def test_a_copy_can_be_registered(self, store, place):
        """What was fetched of a run, or of a registered model, is registered like the run itself, by any name."""
        name = "it's v1.2%"
        assert register(Trained.find(place.run_id, "last"), name).run_id == place.run_id
        assert register(Trained.find(f"models:/{name}/1"), name).uri == f"models:/{name}/2"
        assert Trained.find(f"models:/{name}/2").step == 6

    def test_what_is_not_registered(self, store, place, monkeypatch):
        """Unknown models, versions and aliases, foreign models, and addresses that are none: one line with what there is."""
        register(Trained.find(place.path), "known", alias="best")
        client = mlflow.MlflowClient(store)
        client.create_registered_model("foreign")
        client.create_model_version("foreign", str(place.checkpoints), place.run_id)
        cases = {
            "models:/nobody/1": r"no model 'nobody' is registered in sqlite:.*mlflow\.db; there are: .*known",
            "models:/known/7": r"the model 'known' in .* has no version 7; there are: 1$",
            "models:/known@worst": r"has no alias 'worst'; there are: best \(version 1\)$",
            "models:/known": r"wanted models:/NAME/VERSION or models:/NAME@ALIAS, got 'models:/known'",
            "models:/known/1/2": r"wanted models:/NAME/VERSION",
            "models:/foreign/1": r"models:/foreign/1 is no model that seqtoolkit has exported",
        }
        for address, wanted in cases.items():
            with pytest.raises(ValueError, match=wanted) as caught:
                Trained.find(address)
            assert "\n" not in str(caught.value)

    def test_runs_that_cannot_be_registered(self, store, place, tmp_path):
        """A run in no store, not delivered yet, or not in the store that is named: one line with what to do."""
        alone = shutil.copytree(place.path, tmp_path / "alone")
        (alone / "tracking.json").unlink()
        notes = json.loads((alone / "run.json").read_text())
        del notes["run_id"]
        (alone / "run.json").write_text(json.dumps(notes))
        with pytest.raises(ValueError, match=r"the run alone is in no tracking store, .*: train with track=mlflow"):
            register(Trained.find(alone), "model")
        (alone / "outbox.jsonl").write_text('{"kind": "run"}\n')
        with pytest.raises(ValueError, match=r"is not in its tracking store yet: seqtoolkit deliver"):
            register(Trained.find(alone), "model")
        other = f"sqlite:///{tmp_path}/other.db"
        with pytest.raises(ValueError, match=r"there is no tracking store .*other\.db"):
            register(Trained.find(place.path), "model", store=other)
        exported = Trained.find(export(Trained.find(place.path), tmp_path / "model"))
        assert register(exported, "moved").run_id == place.run_id
        exported.place.note(run_id="0" * 32)
        with pytest.raises(ValueError, match=r"the tracking store .*mlflow\.db: .*0000 not found"):
            register(exported, "moved")

    def test_a_server_that_is_away(self, store, place, monkeypatch):
        """A store that does not answer is said so, with its address and no password, by both find and register."""
        away = "http://me:secret@127.0.0.1:1"
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        for act in (
            lambda: Trained.find("models:/known/1", store=away),
            lambda: register(Trained.find(place.path), "known", store=away),
        ):
            with pytest.raises(
                ValueError, match=r"the tracking store http://127\.0\.0\.1:1: Connection refused$"
            ) as caught:
                act()
            assert "secret" not in str(caught.value)

    def test_what_fails_is_not_registered(self, store, place, monkeypatch):
        """Where the model cannot be written it is marked as failed in the store, and no version is made."""

        def fail(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(registration, "write", fail)
        with pytest.raises((OSError, ValueError), match="No space left on device"):
            register(Trained.find(place.path), "failing")
        client = mlflow.MlflowClient(store)
        assert client.search_registered_models("name='failing'") == []
        found = client.search_logged_models([State.load(place.path).experiment], filter_string="name='failing'")
        assert [str(each.status) for each in found] == ["FAILED"]

    @pytest.mark.parametrize("name", ["", " ", "a/b", "a:b", "a@b", ".", "..", "x" * 251, "m-0123abcd", " a", "a\nb"])
    def test_names_that_are_none(self, name):
        """Names that an address could not have are refused before anything is written."""
        with pytest.raises(ValueError, match="name"):
            require_names(name)

    @pytest.mark.parametrize("alias", ["", "latest", "Latest", "v3", "3", "a b", "a/b", "ä", "x" * 256])
    def test_aliases_that_are_none(self, alias):
        """Aliases that MLflow keeps for itself, or cannot be in an address, are refused as well."""
        with pytest.raises(ValueError, match="an alias has letters"):
            require_names("model", alias)

    def test_the_command(self, store, place, type_in, monkeypatch):
        """`seqtoolkit register` prints the address of the version alone; a mistake is one line, exit 2."""
        assert type_in("register", place.path, "typed", "--checkpoint", "3", "--alias", "new") == (
            0,
            "models:/typed/1\n",
            "",
        )
        assert Trained.find("models:/typed@new").step == 3
        code, out, err = type_in("register", place.path, "ty/ped")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "name" in err


@pytest.mark.slow
def test_a_server_over_http(store, place, tiny, tmp_path, monkeypatch):
    """With a server that keeps the files too, a run is registered and found by its address and its id, elsewhere as well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shutil.copy(store.removeprefix("sqlite:///"), tmp_path / "server.db")
    where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    kept = ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", str(tmp_path / "kept")]
    command = [sys.executable, "-m", "mlflow", "server", *where, *kept]
    server = subprocess.Popen(command, cwd=tmp_path, start_new_session=True)
    try:
        uri = f"http://127.0.0.1:{port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        while not Store(uri).answers():
            time.sleep(0.5)
        changes = ["track=mlflow", "track.experiment=over_http", "track.system_metrics=false"]
        result = Pipeline.load("program_eval", [*tiny, *changes]).run("runs")
        assert register(Trained.find(result.folder, "last"), "served", alias="best").uri == "models:/served/1"
        for word in ("models:/served/1", "models:/served@best", result.run_id):
            found = Trained.find(word, *(["last"] if word == result.run_id else []), folder="elsewhere")
            assert _same(found.model, result.model)
            assert found.place.run_id == result.run_id
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
