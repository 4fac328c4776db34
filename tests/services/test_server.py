"""A tracking server over HTTP with PostgreSQL behind it: runs arrive whole, sweeps are nested, machines share trials."""

import json
import subprocess
import sys
from contextlib import ExitStack

import optuna
import psycopg2
import pytest

from seqtoolkit.train.tracking.library import Library

CHECKPOINTS = "checkpoints/checkpoints"
"""Where a run's are among its artifacts."""


@pytest.fixture(scope="module")
def home(tmp_path_factory, tool):
    """Where the commands of these tests are typed."""
    place = tmp_path_factory.mktemp("home")
    tool.pipeline(place)
    return place


@pytest.fixture(scope="module")
def sweep(server, home, tool):
    """What a sweep of two cores by two seeds says, which the server records."""
    keys = ["model.core=rmc,lstm", "run.seed=0,1", f"track.tracking_uri={server}", "track.experiment=swept"]
    said = tool.type(home, "sweep", "program_eval.yaml", *keys, "--folder", "trials", "--jobs", "2", "--json")
    return json.loads(said)


def test_a_run_arrives_whole(server, home, tool, postgres):
    """Metrics at every step, params, tags, artifacts and the end: the server has what the run's folder has."""
    uri = f"track.tracking_uri={server}"
    tool.type(home, "run", "program_eval.yaml", "model.core=lstm", uri, "track.experiment=whole")
    (folder,) = (home / "runs").iterdir()
    library = Library(server)
    (run,) = library.runs("whole", curves=True)
    assert (run.status, run.name) == ("FINISHED", "lstm seed 0")
    assert (run.params["model.core"], run.params["run.steps"]) == ("lstm", "40")
    assert run.tags["seqtoolkit.pipeline"] == "program_eval"
    assert "Changed in the pipeline" in run.tags["mlflow.note.content"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for name in ("train/loss", "valid/accuracy", "test/loss", "seconds"):
        kept = {row["step"]: row[name] for row in rows if name in row}
        assert dict(zip(*run.curves[name], strict=True)).keys() == kept.keys()
    assert {"config.yaml", "curves.png", "checkpoints"} <= set(library.artifacts(run.run_id))
    assert f"{CHECKPOINTS}/step_00000040" in library.artifacts(run.run_id, CHECKPOINTS)
    copy = library.download(run.run_id, "config.yaml", home / "copied")
    assert copy.read_text() == (folder / "config.yaml").read_text()


def test_the_server_keeps_it_in_postgresql(server, sweep, postgres):
    """What the server records is in PostgreSQL's tables."""
    connection = psycopg2.connect(postgres("mlflow").replace("+psycopg2", ""))
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM tags WHERE key = 'seqtoolkit.sweep' AND value = %s", [sweep["sweep"]])
        assert cursor.fetchone() == (5,)
    connection.close()


def test_a_sweep_is_nested(server, sweep, home, tool, visit):
    """The server has a sweep's trials under their parent, and the page that `seqtoolkit ui` names shows them so."""
    library = Library(server)
    (parent,) = library.runs("swept", kind="sweep")
    trials = library.runs("swept", parent=parent.run_id)
    assert sorted((run.params["model.core"], run.params["run.seed"]) for run in trials) == [
        *(("lstm", "0"), ("lstm", "1"), ("rmc", "0"), ("rmc", "1"))
    ]
    assert {run.status for run in (parent, *trials)} == {"FINISHED"}
    address = tool.type(home, "ui", "swept", "--store", server, "--no-open").strip()
    assert address.startswith(f"{server}/#/experiments/{parent.experiment_id}/runs?")
    page = visit(address)
    page.get_by_text("5 matching runs").wait_for()
    page.get_by_role("link", name=parent.name).wait_for()
    page.locator('[role=gridcell][col-id="attributes.`Run Name`"] button').click()
    for run in trials:
        page.get_by_role("link", name=run.name).wait_for()
    page.shot("sweep")


@pytest.mark.slow
def test_a_comparison_opens_in_a_browser(server, sweep, home, tool, visit):
    """The page of `compare`, of runs that the server has, asks for nothing else, and nothing goes wrong in it."""
    tool.type(home, "compare", "swept", "--store", server, "--by", "model.core", "--to", home / "compared")
    (file,) = (home / "compared").glob("*.html")
    page = visit(file.as_uri())
    page.get_by_text("rmc").first.wait_for()
    page.shot("comparison")
    assert page.errors == []
    assert [each for each in page.asked if not each.startswith(("data:", "blob:"))] == [file.as_uri()]


@pytest.mark.slow
def test_machines_share_the_trials_of_a_study(postgres, tmp_path_factory, tool):
    """Two sweeps with the same storage in PostgreSQL, as of two machines, take different trials of one search."""
    storage = postgres("study")
    optuna.storages.RDBStorage(storage)  # two processes must not make its tables at once
    options = ["--search", "random", "--trials", "3", "--metric", "valid/loss", "--storage", storage, "--json"]
    keys = ["learner.optimizer.lr=loguniform(1e-4,1e-2)", "model.core=lstm", "track=none"]
    command = [sys.executable, "-m", "seqtoolkit", "sweep", "program_eval.yaml", *keys, *options]
    with ExitStack() as stack:
        homes = [tmp_path_factory.mktemp("machine") for _ in range(2)]
        for home in homes:
            tool.pipeline(home)
        works = [
            stack.enter_context(subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
            for home in homes
        ]
        ends = [work.communicate(timeout=400) for work in works]
    assert [work.returncode for work in works] == [0, 0], ends
    (name,) = {json.loads(out)["sweep"] for out, _ in ends}
    study = optuna.load_study(study_name=name, storage=storage)
    assert sum(trial.state == optuna.trial.TrialState.COMPLETE for trial in study.trials) == 3
    runs = [{each.name for each in (home / "runs").iterdir() if (each / "metrics.jsonl").exists()} for home in homes]
    assert sum(map(len, runs)) == 3
    assert not runs[0] & runs[1]
