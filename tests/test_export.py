"""Export: an MLflow model without pickle, whole or not at all, that answers elsewhere as the model does here."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from seqtoolkit import Pipeline
from seqtoolkit.export import export, need
from seqtoolkit.question import answer
from seqtoolkit.trained import Trained

QUESTIONS = ["1+2", "(7-3)", "1+"]


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """The folder of a run that is in no store."""
    return Pipeline.load("program_eval", tiny).run(tmp_path_factory.mktemp("runs")).folder


@pytest.fixture
def trained(run):
    """Its best model."""
    return Trained.find(run)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """That model, exported; nobody changes it."""
    return export(Trained.find(run), tmp_path_factory.mktemp("exported") / "model")


@pytest.fixture
def model(exported, tmp_path):
    """A copy of the exported model, in another place, and the folder of its data."""
    path = shutil.copytree(exported, tmp_path / "moved" / "there")
    (data,) = (path / "data").iterdir()
    return path, data


def _files(path):
    return {str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()}


def _told(trained):
    return [{"answer": each.answer, "error": each.error} for each in answer(trained, QUESTIONS)]


class TestFolder:
    """What an exported model is made of."""

    def test_it_is_plain_data(self, exported, run, trained):
        """Text and safetensors alone, nothing pickled, no class of Python but the loader; weights as in the checkpoint."""
        found = _files(exported)
        (data,) = (exported / "data").iterdir()
        assert {Path(name).suffix for name in found} == {"", ".txt", ".yaml", ".json", ".safetensors"}
        assert data.name == run.name
        assert all(blob.isascii() for name, blob in found.items() if not name.endswith(".safetensors"))
        assert not any(b"pickle" in blob for blob in found.values())
        flavors = yaml.safe_load(found["MLmodel"])["flavors"]
        assert list(flavors) == ["python_function"]
        assert flavors["python_function"]["loader_module"] == "seqtoolkit.export.served"
        assert flavors["python_function"]["code"] is None
        kept, own = load_file(data / "model.safetensors"), load_file(trained.weights / "model.safetensors")
        assert kept.keys() == own.keys()
        assert all(torch.equal(kept[name], own[name]) for name in own)
        assert oct(exported.stat().st_mode & 0o777) == oct(run.stat().st_mode & 0o777)

    def test_it_says_what_it_needs(self, exported):
        """Requirements name MLflow, the toolkit and the plugins of its parts, no others, with versions."""
        lines = (exported / "requirements.txt").read_text().split()
        names = [line.partition("==")[0] for line in lines]
        assert names == ["mlflow", "seqtoolkit", "seqtoolkit-lstm", "seqtoolkit-program-eval", "torch"]
        assert all(line.partition("==")[2] for line in lines)
        assert not any("+" in line for line in lines)

    def test_it_says_what_it_takes(self, exported):
        """The signature has a question and an answer, and the examples are questions that the model understands."""
        loaded = mlflow.pyfunc.load_model(str(exported))
        assert loaded.metadata.signature.inputs.input_names() == ["question"]
        assert loaded.metadata.signature.outputs.input_names() == ["answer", "error"]
        answers = loaded.predict(loaded.input_example)
        assert len(answers) == 2
        assert answers["error"].isna().all()
        assert loaded.metadata.metadata["seqtoolkit.pipeline"] == "program_eval"

    def test_where_it_was_recorded_stays_at_home(self, tiny, tmp_path):
        """The address of a tracking store, with the password that may be in it, does not go along."""
        changes = ["track=mlflow", "track.tracking_uri=http://me:secret@127.0.0.1:1", "track.system_metrics=false"]
        result = Pipeline.load("program_eval", tiny).run(tmp_path / "runs")
        model = export(Trained.find(result.folder, overrides=changes), tmp_path / "model")
        assert not any(b"secret" in blob for blob in _files(model).values())

    def test_a_uv_project_is_left_alone(self, trained, tmp_path, monkeypatch):
        """The lock file of a project that happens to be the working directory is none of the model's business."""
        (tmp_path / "uv.lock").write_text("version = 1\n")
        (tmp_path / "pyproject.toml").write_text("[project]\nname = 'theirs'\nversion = '1'\n")
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("MLFLOW_UV_AUTO_DETECT", raising=False)
        assert not {"uv.lock", "pyproject.toml"} & set(_files(export(trained, "model")))
        assert "MLFLOW_UV_AUTO_DETECT" not in os.environ

    def test_a_file_of_the_pipeline_goes_along(self, tiny, tmp_path, monkeypatch):
        """A grammar of one's own is copied: the model answers the same when that file is gone; a huge one is refused."""
        monkeypatch.chdir(tmp_path)
        shipped = Pipeline.load("program_eval", tiny).build().source.grammar.path
        shutil.copy(shipped, "my.lark")
        result = Pipeline.load("program_eval", [*tiny, "source.grammar=my.lark"]).run("runs")
        trained = Trained.find(result.folder)
        model = export(trained, "model")
        before = _told(trained)
        with monkeypatch.context() as patch:
            patch.setattr(need, "LARGEST", 10)
            with pytest.raises(ValueError, match=r"source\.grammar: my\.lark is too large to go along with a model"):
                export(trained, "other")
        Path("my.lark").unlink()
        moved = model.rename(tmp_path / "moved")
        assert _told(Trained.find(moved)) == before
        again = export(Trained.find(moved), "again")
        assert not any(str(tmp_path).encode() in blob for blob in _files(again).values())
        shutil.rmtree(moved)
        assert _told(Trained.find(again)) == before
        assert len(list(again.glob("data/*/*.lark"))) == 1


class TestWhole:
    """A model is there whole or not at all."""

    def test_what_is_there_is_not_replaced_unasked(self, trained, tmp_path):
        """A folder that is there is refused; with force an exported model or an empty folder is replaced, nothing else."""
        other = tmp_path / "other"
        other.mkdir()
        with pytest.raises(ValueError, match=r"other is there already: .* --force"):
            export(trained, other)
        export(trained, other, force=True)
        (other / "mine").write_text("a trace of the old one")
        export(trained, other, force=True)
        assert not (other / "mine").exists()
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "thesis").touch()
        with pytest.raises(ValueError, match=r"home is no exported model, and is not replaced"):
            export(trained, tmp_path / "home", force=True)
        with pytest.raises(ValueError, match=r"thesis/model cannot be written: (Not a directory|File exists)"):
            export(trained, tmp_path / "home" / "thesis" / "model")
        assert sorted(each.name for each in tmp_path.iterdir()) == ["home", "other"]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
    def test_an_interrupted_export_leaves_nothing(self, trained, tmp_path, monkeypatch, error):
        """Where writing ends early no folder is left, neither the model's nor one beside; what force would replace stays."""
        old = export(trained, tmp_path / "old")
        before = _files(old)

        def stop(path, **_):
            Path(path).mkdir()
            (Path(path) / "MLmodel").write_text("half")
            raise error

        monkeypatch.setattr(mlflow.pyfunc, "save_model", stop)
        for target in (tmp_path / "new", old):
            with pytest.raises((KeyboardInterrupt, ValueError), match=r"^$|cannot be written: No space left on device"):
                export(trained, target, force=True)
        assert [each.name for each in tmp_path.iterdir()] == ["old"]
        assert _files(old) == before

    def test_what_is_replaced_comes_back(self, trained, tmp_path, monkeypatch):
        """Where the new model cannot take its place, the old one stays."""
        old = export(trained, tmp_path / "old")
        before, rename = _files(old), Path.rename

        def fail(path, target):
            if Path(target) == old:
                calls.append(path)
                if len(calls) == 1:
                    raise OSError(5, "Input/output error")
            return rename(path, target)

        calls = []
        monkeypatch.setattr(Path, "rename", fail)
        with pytest.raises(ValueError, match="old cannot be written: Input/output error"):
            export(trained, old, force=True)
        assert _files(old) == before
        assert [each.name for each in tmp_path.iterdir()] == ["old"]

    @pytest.mark.parametrize("name", ["config.yaml", "model.safetensors"])
    def test_a_damaged_model_is_refused(self, model, name):
        """A changed byte, or a missing file, is one line that names the file; MLflow says the same."""
        path, data = model
        blob = bytearray((data / name).read_bytes())
        blob[-2] ^= 1
        (data / name).write_bytes(blob)
        for load in (Trained.find, mlflow.pyfunc.load_model):
            with pytest.raises(ValueError, match=rf"{name} is damaged: its checksum is not the one that was saved$"):
                load(str(path))
        (data / name).unlink()
        with pytest.raises(ValueError, match=f"is no .*{name}"):
            Trained.find(path)

    def test_a_damaged_manifest_is_refused(self, model):
        """A manifest that is none, or knows nothing of the pipeline, is one line."""
        path, data = model
        manifest = json.loads((data / "manifest.json").read_text())
        del manifest["sha256"]["config.yaml"]
        (data / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(ValueError, match=r"its manifest.json does not know config.yaml"):
            Trained.find(path)
        (data / "manifest.json").write_text("[]")
        with pytest.raises(ValueError, match=r"its manifest.json is not one"):
            Trained.find(path)

    def test_a_missing_plugin_is_named(self, model):
        """Where a distribution is absent that the model needs, one line says what to install, before anything is built."""
        path, data = model
        manifest = json.loads((data / "manifest.json").read_text())
        manifest["needs"] |= {"seqtoolkit-nowhere": "1.2", "seqtoolkit-neither": "3"}
        (data / "manifest.json").write_text(json.dumps(manifest))
        wanted = r"needs what is not installed here: pip install seqtoolkit-nowhere==1\.2 seqtoolkit-neither==3$"
        with pytest.raises(ValueError, match=wanted):
            mlflow.pyfunc.load_model(str(path))


class TestAnswers:
    """An exported model says what the model says."""

    def test_it_answers_as_the_model_does(self, model, trained):
        """Batches of questions, in order, are answered alike; what is no question has its error beside the others."""
        loaded = mlflow.pyfunc.load_model(str(model[0]))
        found = loaded.predict(pd.DataFrame({"question": QUESTIONS})).to_dict("records")
        assert found == _told(trained)
        assert [each["error"] is None for each in found] == [True, True, False]
        assert "line 1, column 3" in found[2]["error"]
        said = loaded._model_impl.predict(pd.DataFrame({"question": ["1+2", None, 3.0]}))
        assert said["error"].tolist() == [None, "wanted a text, got NoneType", "wanted a text, got float"]
        assert len(loaded._model_impl.predict(pd.DataFrame({"question": []}))) == 0

    def test_it_is_found_like_a_run(self, model, trained):
        """The folder, or its data, names the model as its run's folder does; there is one checkpoint in it."""
        for place in model:
            found = Trained.find(place)
            assert found.step == trained.step
            assert found.place.run_id == trained.place.run_id
            assert Trained.find(place, str(trained.step)).weights == found.weights
            with pytest.raises(ValueError, match=rf"is one checkpoint, that of step {trained.step}; 'last' can be had"):
                Trained.find(place, "last")
        (model[0] / "data").rename(model[0] / "gone")
        with pytest.raises(ValueError, match="there is no model that seqtoolkit has exported"):
            Trained.find(model[0])

    def test_a_process_of_its_own(self, model, trained, tmp_path):
        """A fresh process elsewhere loads it with MLflow, without unpickling anything, and gives the same answers."""
        code = (
            "import json, pickle, sys\nimport mlflow.pyfunc, pandas, torch, seqtoolkit.export.served\n"
            "def never(*_, **__):\n    raise AssertionError('something is unpickled')\n"
            "pickle.load = pickle.loads = pickle.Unpickler = torch.load = never\n"
            "asked = pandas.DataFrame({'question': json.loads(sys.argv[2])})\n"
            "print(mlflow.pyfunc.load_model(sys.argv[1]).predict(asked).to_json(orient='records'))\n"
        )
        command = [sys.executable, "-c", code, str(model[0]), json.dumps(QUESTIONS)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == _told(trained)

    def test_a_task_without_questions_takes_arrays(self, trained, tmp_path, monkeypatch):
        """A model whose task cannot be asked is exported over arrays, with a signature by the graph's specs."""
        monkeypatch.setattr(type(trained.graph.source), "asks", "")
        loaded = mlflow.pyfunc.load_model(str(export(trained, tmp_path / "model")))
        (inputs,), (outputs,) = loaded.metadata.signature.inputs.inputs, loaded.metadata.signature.outputs.inputs
        assert (inputs.type, inputs.shape, outputs.type, outputs.shape) == (
            np.dtype("int64"),
            (-1, -1),
            np.dtype("float32"),
            (-1, -1, 11),
        )
        given = np.array([[1, 2, 3, 0, 0], [3, 1, 1, 0, 0]])
        with torch.no_grad():
            wanted = trained.model(torch.from_numpy(given.T), answers=2)[0].transpose(0, 1).numpy()
            every = trained.model(torch.from_numpy(given.T))[0].transpose(0, 1).numpy()
        np.testing.assert_array_equal(loaded.predict(given, params={"answers": 2}), wanted)
        np.testing.assert_array_equal(loaded.predict(given, params={"answers": 0}), every)
        assert loaded.predict(loaded.input_example).shape[0] == len(loaded.input_example)


class Served:
    """A server of MLflow's for a model, on loopback."""

    def __init__(self, model, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "models",
            "serve",
            "--model-uri",
            str(model),
            "--env-manager",
            "local",
        ]
        where = ["--host", "127.0.0.1", "--port", self.url.rpartition(":")[2], "--workers", "1"]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where it looks for its own server
        self.log = folder / "serve.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *where],
                cwd=folder,
                env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def ask(self, path, data=None):
        """The status and the text of an answer."""
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(f"{self.url}{path}", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answered:
                return answered.status, answered.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def wait(self):
        """Wait until it answers; fail with what it printed where it ends."""
        while True:
            assert self.process.poll() is None, self.log.read_text()
            try:
                return self.ask("/ping")
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)

    def stop(self):
        """End it, and the server that it has started."""
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait()


def test_mlflow_serves_it(model, trained, tmp_path):
    """`mlflow models serve` answers questions over HTTP as the model does in Python, and says what a request lacks."""
    server = Served(model[0], tmp_path)
    try:
        assert server.wait()[0] == 200
        rows = [{"question": each} for each in QUESTIONS]
        status, text = server.ask("/invocations", {"dataframe_records": rows})
        assert (status, json.loads(text)) == (200, {"predictions": _told(trained)})
        status, text = server.ask("/invocations", {"dataframe_records": [{"program": "1+2"}]})
        assert status == 400
        assert "Model is missing inputs ['question']" in json.loads(text)["message"]
    finally:
        server.stop()


class TestCommand:
    """`seqtoolkit export`."""

    def test_it_writes_and_says_how_to_serve(self, run, type_in, tmp_path):
        """The command writes the checkpoint that was asked for, and prints the command that serves it."""
        code, out, err = type_in("export", run, "--to", "model", "--checkpoint", "last")
        assert (code, err) == (0, "")
        assert out.splitlines()[:2] == ["model model", f"of    {run.name}, step 6"]
        assert "mlflow models serve --model-uri model --env-manager local --host 127.0.0.1" in out
        assert Trained.find(tmp_path / "model").step == 6

    def test_mistakes_are_one_line(self, run, type_in, tmp_path):
        """No such run or checkpoint, a folder that is there, a model that is damaged: exit 2, one line, nothing written."""
        (tmp_path / "there").mkdir()
        (tmp_path / "broken").mkdir()
        (tmp_path / "broken" / "MLmodel").touch()
        cases = [
            (["nothing"], "no run 'nothing' in runs/"),
            ([run, "--checkpoint", "5"], "has no checkpoint '5'; there are: "),
            ([run, "--to", "there"], "there is there already"),
            (["broken"], "broken is no model that seqtoolkit has exported"),
        ]
        for words, wanted in cases:
            code, out, err = type_in("export", "--to", "model", *words)
            assert (code, out, err.count("\n")) == (2, "", 1)
            assert wanted in err
        assert sorted(each.name for each in tmp_path.iterdir()) == ["broken", "there"]
