"""Sweeps of real trainings: killed ones go on to the same numbers, Optuna prunes, MLflow has them under one parent."""

import os
import shutil
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from seqtoolkit import Pipeline
from seqtoolkit.folder import RunFolder
from seqtoolkit.sweep import Sweep, crew
from seqtoolkit.sweep.study import Study, seat
from seqtoolkit.sweep.trial import Reporter
from seqtoolkit.train.measure import MEASURED
from seqtoolkit.train.tracking.library import Library
from seqtoolkit.train.tracking.store import Store


def losses(rows):
    """Rows of metrics without those of the machine."""
    return [{name: value for name, value in row.items() if name not in MEASURED} for row in rows]


def test_a_trial_that_is_killed_goes_on_to_the_same_numbers(tiny, tmp_path, monkeypatch):
    """A trial that gets a signal 9 is killed, and the next command has it end with the metrics of one left in peace."""
    monkeypatch.chdir(tmp_path)
    words = [*tiny, "run.steps=24", "run.checkpoint_every=4", "evaluate.every=8", "run.threads=1"]
    members = []
    start = crew.Crew.start

    def started(self, *given):
        members.append(start(self, *given))
        return members[-1]

    def kill(rows):
        if any(row.step >= 4 for row in rows):
            members[0].process.kill()

    monkeypatch.setattr(crew.Crew, "start", started)
    sweep = Sweep.load("program_eval", [*words, "run.seed=3,4"], search="random", trials=1)
    (row,) = sweep.run(watch=kill)
    assert (row.status, row.error) == ("killed", "killed by SIGKILL")
    assert 4 <= row.step < 24
    (row,) = Sweep.load("program_eval", [*words, "run.seed=3,4"], search="random", trials=1).run()
    assert (row.status, row.step) == ("finished", 24)
    alone = Pipeline.load("program_eval", [*words, f"run.seed={row.values['run.seed']}"]).run()
    place = RunFolder(Path(row.run))
    assert losses(place.rows()) == losses(RunFolder(alone.folder).rows())
    assert row.best == max(each["valid/accuracy"] for each in place.rows() if "valid/accuracy" in each)
    assert place.notes["resumed"][0]["status"] == "KILLED"


def test_a_trial_that_falls_behind_is_pruned(tiny, tmp_path, monkeypatch):
    """With --prune a trial ends at the evaluation at which the median of those before is better than it was so far."""
    monkeypatch.chdir(tmp_path)
    sweep = Sweep.load("program_eval", [*tiny, "run.seed=0,1"], search="random", trials=6, prune=True)
    sweep.folder.mkdir(parents=True)
    where = str(sweep.folder / "study.jsonl")
    study = Study(sweep.name, where, sweep.design.space, "higher", "random", 0)
    study.fill(sweep.design.wanted())
    for number in range(5):
        assert study.claim() == number
        study.suggest(number)
        seat(sweep.name, where, number).report(2.0, 3)
        study.end(number, TrialState.COMPLETE, 2.0)
    (row,) = [row for row in sweep.run() if row.number == 5]
    assert (row.status, row.step, row.steps) == ("pruned", 3, 6)
    assert row.error.startswith("pruned: valid/accuracy")
    notes = RunFolder(Path(row.run)).notes
    assert (notes["status"], notes["stopped"]) == ("KILLED", row.error)


class TestReporter:
    """What a trial tells Optuna."""

    @pytest.mark.parametrize(
        ("value", "prune", "steps", "stopped"),
        [(0.1, True, 10, 1), (0.9, True, 10, 0), (0.1, False, 10, 0), (0.1, True, 3, 0)],
    )
    def test_it_stops_what_falls_behind(self, value, prune, steps, stopped):
        """A run is stopped as killed if it is below the median of the others, only if that is wanted, and not at its end."""
        study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner())
        for _ in range(5):
            other = study.ask()
            other.report(0.5, 3)
            study.tell(other, 0.5)
        run, stops = _Run(), []
        run.steps = steps
        run.stop = lambda *given: stops.append(given)
        reporter = Reporter(study.ask(), "valid/accuracy", prune=prune)
        reporter.evaluated(run, 3, {"valid/accuracy": value})
        assert len(stops) == stopped
        assert all(reason.startswith("pruned: ") and status == "KILLED" for reason, status in stops)

    def test_what_is_reported(self):
        """Each step once, a number alone, of the one metric; a resumed trial's reports again without a warning."""
        study = optuna.create_study(direction="maximize")
        trial = study.ask()
        for _ in range(2):
            reporter = Reporter(trial, "valid/accuracy", prune=True)
            for step, metrics in (
                (3, {"valid/accuracy": 0.1}),
                (6, {"valid/accuracy": float("nan")}),
                (9, {"test/loss": 1}),
            ):
                reporter.evaluated(_Run(), step, metrics)
        assert study.trials[0].intermediate_values == {3: 0.1}


class _Run:
    steps = 10


@pytest.mark.slow
def test_runs_in_mlflow_are_under_one_parent(tiny, tmp_path, database, monkeypatch):
    """The parent has the space, the counts, the best value and the table; trials carry its id, the sweep and a number.

    A trial that fails as it begins is told in the table and the counts; the same command again has no second parent.
    """
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    shutil.copy(database, tmp_path / "mlflow.db")
    words = [each for each in tiny if not each.startswith("track")] + ["run.device=cpu,cuda:99"]
    sweep = Sweep.load("program_eval", words)
    rows = sweep.run()
    assert [row.status for row in rows] == ["finished", "failed"]
    assert "cuda:99" in rows[1].error
    library = Library(f"sqlite:///{tmp_path}/mlflow.db")
    stored = {run.name: run for run in library.runs(library.experiment("program_eval"))}
    parent, (child,) = stored.pop(sweep.name), stored.values()
    assert (parent.status, parent.run_id) == ("FINISHED", sweep.parent.run)
    assert parent.tags["seqtoolkit.kind"] == "sweep"
    assert parent.params["sweep.space.run.device"] == "cpu, cuda:99"
    assert (parent.metrics["sweep/finished"], parent.metrics["sweep/failed"]) == (1, 1)
    assert parent.metrics["sweep/best"] == rows[0].best
    assert child.run_id == rows[0].run_id
    tags = {"mlflow.parentRunId": parent.run_id, "seqtoolkit.sweep": sweep.name, "seqtoolkit.trial": "0"}
    assert {**child.tags, **tags} == child.tags
    client = Store(library.uri)._client
    assert [each.path for each in client.list_artifacts(parent.run_id)] == ["trials.json"]
    again = Sweep.load("program_eval", words)
    assert again.run() == rows
    assert again.idle
    assert sweep.compare().name == "comparison.html"
    assert "compare" in [each.path for each in client.list_artifacts(parent.run_id)]
