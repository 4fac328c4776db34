"""`seqtoolkit ui`: what is meant, at which address, and what a run says of itself. tests/services has the browser."""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import zlib
from types import SimpleNamespace

import pytest

from seqtoolkit import page
from seqtoolkit.description import describe, title
from seqtoolkit.page import Goal, Server, address, arrange, browse, find
from seqtoolkit.run import Pipeline
from seqtoolkit.train.tracking import MLflowTracker
from seqtoolkit.train.tracking.layout import TAG, layout
from seqtoolkit.train.tracking.store import EXPERIMENT, Store


@pytest.fixture(scope="module")
def home(tmp_path_factory, database):
    """A folder with a store, in which the run `one` of the experiment `programs` is recorded."""
    place = tmp_path_factory.mktemp("home")
    shutil.copy(database, place)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            patch.delenv(name)
        patch.chdir(place)
        folder = place / "runs" / "one"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text("model: {core: {use: rmc}}\n")
        tracker = MLflowTracker("programs", system_metrics=False)
        params = {"model.core": "rmc", "run.seed": 0, "parameters": 10, "track": "mlflow"}
        run = tracker.start(name="rmc seed 0", params=params, tags={}, folder=folder)
        tracker.log({"valid/accuracy": 0.5, "valid/loss": 1.0, "test/accuracy": 0.25, "seconds": 1.0}, 1)
        tracker.end("FINISHED")
    return SimpleNamespace(path=place, store=f"sqlite:///{place}/mlflow.db", run=run)


@pytest.fixture
def there(home, monkeypatch):
    """Standing in that folder."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(home.path)
    return home


def test_what_is_meant(there):
    """An experiment by name or id, a run by folder, name, or id; nothing means the experiment of the latest run."""
    experiment = Goal(there.store, "1")
    run = Goal(there.store, "1", there.run)
    assert [find(), find("programs"), find("1")] == [experiment] * 3
    assert [find("runs/one"), find("one"), find("on"), find(there.run)] == [run] * 4
    assert find(there.run, there.store) == run


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["program"], r"no experiment 'program' in .*; did you mean programs\?"),
        (["e", "--store", "sqlite:///nowhere.db"], r"there is no tracking store .*nowhere.db; run something first"),
        (["--port", "1", "--host", "203.0.113.1"], r"cannot listen at 203.0.113.1:1: .*; name another by --port"),
    ],
)
def test_mistakes_are_one_line(there, words, reason, capsys, monkeypatch):
    """An unknown experiment, a store that is not there and an address that cannot be had are told in one line."""
    import re

    from seqtoolkit.cli import main

    monkeypatch.setattr(sys, "argv", ["seqtoolkit", "ui", *words])
    with pytest.raises(SystemExit) as end:
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2
    assert re.search(reason, line)
    assert not list(there.path.glob("nowhere*"))


def test_a_server_needs_a_database_and_mlflow_whole(there, monkeypatch):
    """A store that is no database is refused; so is an MLflow without its server, with what to install."""
    with pytest.raises(ValueError, match="databricks is no database"):
        Server("databricks")

    def absent(name):
        raise page.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(page.importlib.metadata, "version", absent)
    with pytest.raises(ValueError, match="not in mlflow-skinny: pip install mlflow"):
        Server(there.store)


def test_a_port_that_is_taken(there):
    """The usual port gives way to a free one where it is taken; one that was asked for is refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"cannot listen at 127.0.0.1:{number}: Address already in use"):
            Server(there.store, port=number)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(page, "USUAL", number)
            assert Server(there.store).port not in {0, number}


def test_a_server_that_dies_is_told(there, monkeypatch):
    """A server that ends by itself is told with its last words, and nothing is left of it."""
    monkeypatch.setattr(page.sys, "executable", "/bin/false")
    with Server(there.store) as server, pytest.raises(ValueError, match=r"has ended \(exit code 1\): it said nothing"):
        server.ready()
    assert server._process.poll() is not None


def test_addresses():
    """The page is that of model training; it opens the saved view, and has no password in it."""
    base = "https://me:secret@host/sub/"
    assert address(base, Goal("s")) == "https://host/sub/#/experiments?workflowType=machine_learning"
    assert address(base, Goal("s", "7")) == "https://host/sub/#/experiments/7/runs?workflowType=machine_learning"
    assert address(base, Goal("s", "7", "ab"), arranged=True).startswith("https://host/sub/#/experiments/7/runs/ab?")
    assert address(base, Goal("s", "7"), arranged=True).endswith("&viewStateShareKey=seqtoolkit-runs")


def test_the_browser_opens_where_there_is_a_display(monkeypatch):
    """Without a display nothing is opened."""
    opened = []
    monkeypatch.setattr(page.webbrowser, "open", lambda address: opened.append(address) or True)
    monkeypatch.setattr(page.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not browse("here")
    monkeypatch.setenv("DISPLAY", ":0")
    assert browse("there")
    assert opened == ["there"]


def test_a_store_that_is_a_server_has_its_pages_itself(there, monkeypatch, capsys):
    """With a server as store no other one is started: its page is printed."""
    from seqtoolkit.cli import main

    goal = Goal("http://127.0.0.1:9", "3")
    monkeypatch.setattr(page, "find", lambda *_: goal)
    monkeypatch.setattr(page, "arrange", lambda _: True)
    monkeypatch.setattr(page, "Server", None)
    monkeypatch.setattr(sys, "argv", ["seqtoolkit", "ui", "--store", "http://127.0.0.1:9", "--no-open"])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert capsys.readouterr().out == f"{address(goal.store, goal, arranged=True)}\n"


def unpacked(tag):
    """The state in the tag of a saved view."""
    state = json.loads(tag)["state"].removeprefix("deflate;")
    return json.loads(zlib.decompress(base64.b64decode(state)))


def test_an_experiment_is_arranged(there):
    """The experiment is one of model training, and its saved views show settings, then results, and the curves."""
    assert arrange(find("programs"))
    tags = Store(there.store)._client.get_experiment("1").tags
    assert EXPERIMENT.items() <= tags.items()
    runs, cores = (unpacked(tags[f"{TAG}seqtoolkit-{key}"]) for key in ("runs", "cores"))
    settings = ["params.`model.core`", "params.`run.seed`", "params.`parameters`"]
    measured = ["metrics.`test/accuracy`", "metrics.`valid/accuracy`", "metrics.`valid/loss`", "metrics.`seconds`"]
    assert runs["selectedColumns"] == settings + measured
    assert [each["type"] for each in runs["compareRunCharts"]] == ["PARALLEL", "LINE", "LINE", "LINE"]
    assert cores["groupBy"]["groupByKeys"] == [{"mode": "param", "groupByData": "model.core"}]
    assert not arrange(Goal("sqlite:////nowhere/at/all.db", "1"))
    assert not arrange(Goal(there.store))


def test_columns_are_what_differs_within_a_core():
    """A setting has a column where runs of one core differ in it: not where another core has another default."""

    def run(core, seed, **params):
        params = {"model.core": core, "run.seed": seed, **params}
        return SimpleNamespace(params=params, metrics={"test/loss": 1.0}, tags={})

    runs = [
        run("rmc", "0", bias="1", lr="1", **{"track.uri": "a"}),
        run("rmc", "1", bias="1", lr="2", **{"track.uri": "b"}),
    ]
    runs += [run("lstm", "0", bias="0", lr="1")]
    columns = unpacked(layout(runs, 0)[f"{TAG}seqtoolkit-runs"])["selectedColumns"]
    assert columns[:4] == ["params.`model.core`", "params.`run.seed`", "params.`lr`", "params.`parameters`"]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ([], "lstm seed 3"),
        (["model.core=lstm", "run.steps=5", "evaluate.every=2", "track=none", "~loss"], "lstm seed 3"),
        (["learner.optimizer.lr=0.01", "model.core.hidden_size=16"], "lstm seed 3 lr=0.01 hidden_size=16"),
        (["a.b=1", "a.c=2", "a.d=3", "a.e=4"], "lstm seed 3 b=1 c=2 d=3 ..."),
        (["grammar=" + "x" * 40], "lstm seed 3 grammar=xxxxxxxxxxxxx..."),
    ],
)
def test_the_name_of_a_run(changes, name):
    """A run's name has its core, its seed, and what was changed that makes it another experiment, in short."""
    plan = Pipeline.load("program_eval", ["model.core=lstm", "run.seed=3"]).plan
    assert title(plan, changes) == name


def test_the_description_of_a_run(tiny, tmp_path):
    """A run keeps its overrides; its description says them, its size, its stages, and how to have it again."""
    pipeline = Pipeline.load("program_eval", [*tiny, "run.seed=5"])
    result = pipeline.run(tmp_path)
    changes = json.loads((result.folder / "run.json").read_text())["changes"]
    assert changes == [*tiny, "run.seed=5"]
    graph = pipeline.build()
    text = describe(pipeline.plan, graph, name="program_eval", folder=result.folder.name, changes=changes)
    for part in ("core **lstm**, seed 5", f"{graph.parameters:,} parameters", "`source.nesting=1`", graph.describe()):
        assert part in text
    assert f"seqtoolkit runs reproduce {result.folder.name}" in text
    assert len(text) < 8000


def test_listing_commands_stay_light():
    """The command is registered without MLflow being imported."""
    code = "import sys, seqtoolkit.cli.ui; print([m for m in ('mlflow', 'torch') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
