"""`seqtoolkit compare`: from a real MLflow store, from folders, to a table, files and a page; and what cannot be compared."""

import csv
import json
import math
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from seqtoolkit.compare import compare
from seqtoolkit.compare.table import number, rows
from seqtoolkit.folder import RunFolder
from seqtoolkit.train.tracking.library import Library
from seqtoolkit.train.tracking.outbox import State
from seqtoolkit.train.tracking.store import Point, Store

STEPS = range(10, 60, 10)
LEVEL = {"rmc": 0.9, "lstm": 0.6, "dnc": 0.88}
SPEED = {"rmc": 100.0, "lstm": 400.0, "dnc": 50.0}


def _accuracy(core, seed, step):
    return LEVEL[core] * (1 - math.exp(-step / 20)) + 0.01 * seed


def _rows(core, seed):
    """What a run records, a row each time."""
    for step in STEPS:
        accuracy = _accuracy(core, seed, step)
        taken = {"examples": 8.0 * step, "seconds": 8 * step / SPEED[core]}
        yield {
            "step": step,
            "train/loss": 2 - accuracy,
            "examples_per_second": 1.0,
            "peak_memory_megabytes": 500.0,
            **taken,
        }
        yield {"step": step, "valid/loss": 1 - accuracy, "valid/accuracy": accuracy, **taken}
    yield {"step": STEPS[-1], "test/accuracy": accuracy - 0.02, "test/oddity": 1.0, **taken}


def _config(core, seed):
    return {"model.core": core, f"model.core.{core}_size": 4, "metric.0": "accuracy", "run.seed": seed, "batch.size": 8}


def _store_run(store, experiment, core, seed, tags, status="FINISHED"):
    run = store.create(experiment, f"{core}-{seed}", 10 + seed, tags)
    store.params(run, {key: str(value) for key, value in {**_config(core, seed), "parameters": 1234}.items()})
    points = [
        Point(key, value, row["step"], int(row["step"]))
        for row in _rows(core, seed)
        for key, value in row.items()
        if key != "step"
    ]
    store.metrics(run, points)
    if status != "RUNNING":
        store.end(run, status, None, 99)
    return run


@pytest.fixture(scope="module")
def template(tmp_path_factory, database):
    """An MLflow database: the sweep `cores` of three cores with three seeds, trials that did not end well, and more."""
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    shutil.copy(database, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)  # where MLflow puts artifacts
        return path, _fill(Store(f"sqlite:///{path}"))


def _fill(store):
    """Record all that; return the parent."""
    experiment = store.experiment("programs")
    parent = store.create(experiment, "cores", 1, {"seqtoolkit.kind": "sweep", "seqtoolkit.sweep": "cores"})
    tags = {"seqtoolkit.sweep": "cores", "mlflow.parentRunId": parent}
    for core in LEVEL:
        for seed in range(3):
            _store_run(store, experiment, core, seed, tags)
    for seed, status in enumerate(("FAILED", "KILLED", "RUNNING")):
        _store_run(store, experiment, "rmc", 7 + seed, tags, status)
    _store_run(store, store.experiment("unfinished"), "rmc", 0, {}, "FAILED")
    _store_run(store, store.experiment("single"), "rmc", 0, {})
    store.experiment("empty")
    return parent


@pytest.fixture
def home(tmp_path, template, monkeypatch):
    """A working directory with that database, and none of MLflow's settings."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    shutil.copy(template[0], tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _folder_run(parent, core, seed, *, status="FINISHED", change=None, **facts):
    """A run's folder as a run leaves it, its rows changed by `change`."""
    model = {"core": {"use": core, f"{core}_size": 4}}
    place = RunFolder.create(parent, "toy", {"model": model, "metric": [{"use": "accuracy"}], "run": {"seed": seed}})
    place.note(status=status, **facts)
    found = [row if change is None else change(row) for row in _rows(core, seed)]
    (place.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    return place


class TestStore:
    """From a real store, with no folder of any run."""

    def test_a_sweep_by_name_and_parent_and_its_experiment(self, home, template):
        """All three name the same runs; the parent is no run of them, and those that did not finish are left out."""
        parent = template[1]
        found = [compare(name) for name in ("cores", parent, "programs")]
        for each in found:
            assert {group.name: len(group.records) for group in each.groups} == {"rmc": 3, "lstm": 3, "dnc": 3}
            assert sorted((left.name, left.reason) for left in each.left) == [
                ("rmc-7", "failed"),
                ("rmc-8", "killed"),
                ("rmc-9", "running"),
            ]
            assert each.selection.parent == parent
            assert "3 runs are left out." in each.notes
        assert [each.name for each in found] == ["cores", "cores", "programs"]

    def test_the_numbers_are_those_that_were_recorded(self, home):
        """Final and best values, costs, directions, order of metrics and verdicts are those of what was recorded."""
        found = compare("cores")
        assert [metric.name for metric in found.metrics] == [
            "test/accuracy",
            "test/oddity",
            "valid/accuracy",
            "valid/loss",
            "train/loss",
        ]
        measured = {metric.name: metric for metric in found.metrics}
        for core in LEVEL:
            last = np.array([_accuracy(core, seed, STEPS[-1]) for seed in range(3)])
            assert sorted(measured["valid/accuracy"].final[core].values) == pytest.approx(last)
            assert measured["valid/loss"].best[core].mean == pytest.approx((1 - last).mean())
            assert measured["test/accuracy"].final[core].mean == pytest.approx(last.mean() - 0.02)
            assert found.costs["seconds"][core].mean == 8 * STEPS[-1] / SPEED[core]
            assert found.costs["examples_per_second"][core].mean == pytest.approx(SPEED[core])
            assert found.costs["peak_memory_megabytes"][core].mean == 500
        assert {name: each.better for name, each in measured.items()} == {
            "test/accuracy": "higher",
            "test/oddity": None,
            "valid/accuracy": "higher",
            "valid/loss": "lower",
            "train/loss": "lower",
        }
        assert measured["valid/accuracy"].verdict.winner is None
        assert "the interval of rmc overlaps with that of dnc" in measured["valid/accuracy"].verdict.reason
        (chosen,) = compare("cores", ["model.core"], ["valid/loss"]).metrics
        assert (chosen.name, chosen.final) == ("valid/loss", measured["valid/loss"].final)

    def test_curves_by_step_examples_and_seconds(self, home):
        """The same means stand at steps, at examples and at seconds; a metric that was measured once has no curve."""
        measured = {metric.name: metric for metric in compare("cores").metrics}
        assert not measured["test/accuracy"].curves
        for axis, factor in (("step", 1), ("examples", 8), ("seconds", 8 / SPEED["lstm"])):
            band = measured["valid/accuracy"].curves[axis]["lstm"]
            assert band.x == pytest.approx([factor * step for step in STEPS])
            assert band.mean == pytest.approx([_accuracy("lstm", 1, step) for step in STEPS])

    def test_files_go_to_the_parent(self, home, template, type_in):
        """The command writes into --folder, logs all files under `compare/` of the parent, and leaves its status."""
        code, out, err = type_in("compare", "cores")
        assert (code, err) == (0, "")
        assert "stored" not in out
        written = {path.name for path in (home / "runs" / "compare-cores").iterdir()}
        library = Library()
        assert {path.removeprefix("compare/") for path in library.artifacts(template[1], "compare")} == written
        assert library.run(template[1]).status == "RUNNING"
        code, out, _ = type_in("compare", "single", "--to", "mine")
        assert (code, "stored" in out) == (0, False)
        assert (home / "mine" / "comparison.html").exists()


class TestFolder:
    """From folders alone, no store in sight."""

    @pytest.fixture
    def runs(self, tmp_path, monkeypatch):
        """Runs of two cores in `runs`, of which rmc is better, and one that was pruned."""
        monkeypatch.chdir(tmp_path)
        for core in ("rmc", "lstm"):
            for seed in range(3):
                _folder_run(tmp_path / "runs", core, seed, tags={"seqtoolkit.sweep": "mine"})
        stopped = "pruned: valid/accuracy 0.1 after 20 updates is worse than the trials before"
        _folder_run(tmp_path / "runs", "dnc", 0, status="KILLED", stopped=stopped, tags={"seqtoolkit.sweep": "mine"})
        _folder_run(tmp_path / "runs", "dnc", 1, status="FINISHED")
        return tmp_path / "runs"

    def test_a_folder_has_what_the_store_has(self, runs, home):
        """The statistics of a folder are those of the same runs in a store."""
        here, there = compare(runs, metrics=["valid/accuracy"]), compare("cores", metrics=["valid/accuracy"])
        for core in ("rmc", "lstm"):
            mine, theirs = (each.metrics[0].final[core] for each in (here, there))
            assert sorted(mine.values) == pytest.approx(sorted(theirs.values))
            assert mine.interval[0] == pytest.approx(theirs.interval[0], abs=0.01)
        assert here.origin == "the folder runs/"

    def test_a_sweep_that_is_in_no_store(self, runs):
        """A sweep is found in the folder by the name in its runs, or by its own folder; what was pruned is named so."""
        (runs / "mine").mkdir()
        for name in ("mine", runs / "mine"):
            found = compare(name, folder=runs)
            assert {group.name: len(group.records) for group in found.groups} == {"rmc": 3, "lstm": 3}
            assert [left.reason[:6] for left in found.left] == ["pruned"]
            winner = next(metric for metric in found.metrics if metric.name == "valid/accuracy").verdict
            assert winner.winner == "rmc"
            assert found.selection.place == runs / "mine"

    def test_the_files_of_a_sweep_go_to_its_folder(self, runs, type_in):
        """They do so without a store as well, and then nothing is said of one; a sweep without a folder has another."""
        where = []
        for _ in range(2):
            code, out, err = type_in("compare", "mine")
            assert (code, err, "stored" in out) == (0, "", False)
            where.append(re.search(r"page +(\S+)", out)[1])
            (runs / "mine").mkdir(exist_ok=True)
        assert where == ["runs/compare-mine/comparison.html", "runs/mine/compare/comparison.html"]

    def test_a_damaged_folder_stops_nobody(self, runs):
        """A run whose config cannot be read is left out with the reason; of metrics, what is no row is not there."""
        first, second, third, *_ = (path for path in runs.iterdir() if RunFolder(path).notes["status"] == "FINISHED")
        (first / "config.yaml").write_text("a: [")
        (second / "metrics.jsonl").write_text("{nonsense}\n{}\n")
        with (third / "metrics.jsonl").open("ab") as file:
            file.write(b'{"step": 60, "valid/accuracy": 0.\x00\xff')
        found = compare(runs)
        reasons = {left.name: left.reason for left in found.left if not left.reason.startswith("pruned")}
        assert list(reasons) == [first.name]
        assert reasons[first.name].startswith("cannot be read: ")
        ends = {record.name: len(record.curves) for group in found.groups for record in group.records}
        assert (ends[second.name], ends[third.name]) == (0, 9)
        assert "test/accuracy: runs without a finite final value are not in its statistics: " in " ".join(found.notes)

    def test_a_folder_that_knows_its_run_in_the_store(self, runs, home, template):
        """The files of a sweep with a folder of its own go to the store that this names, by way of its outbox."""
        (runs / "cores").mkdir()
        (own,) = Library().runs("single")
        State(store=f"sqlite:///{home}/mlflow.db", run=own.run_id, ended=True).save(runs / "cores")
        found = compare("cores", folder=runs)
        paths = found.write(home / "out")[:2]
        assert found.publish(paths) is None
        assert sorted(Library().artifacts(own.run_id, "compare")) == [
            "compare/comparison.html",
            "compare/comparison.md",
        ]
        assert compare(runs).publish(paths) == "the runs have no parent run in a tracking store"

    def test_runs_that_lack_numbers(self, tmp_path, monkeypatch):
        """Nan at the end, a metric that a group has not, curves of different lengths: all are said, none is counted."""
        monkeypatch.chdir(tmp_path)

        def broken(row):
            return {**row, "valid/loss": math.nan} if row["step"] == STEPS[-1] and "valid/loss" in row else row

        def unlike(row):
            return {key.replace("valid/accuracy", "valid/other"): value for key, value in row.items()}

        def early(row):
            return {} if row["step"] > 30 else row

        for seed in range(3):
            _folder_run(tmp_path / "runs", "rmc", seed, change=broken if seed == 1 else None)
            _folder_run(tmp_path / "runs", "lstm", seed, change=unlike)
        short = _folder_run(tmp_path / "runs", "dnc", 0)
        kept = [row for row in short.rows() if row["step"] <= 30]
        (short.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
        _folder_run(tmp_path / "runs", "dnc", 1)
        found = compare("runs")
        measured = {metric.name: metric for metric in found.metrics}
        loss, accuracy = measured["valid/loss"], measured["valid/accuracy"]
        assert (loss.final["rmc"].n, loss.final["rmc"].lacking) == (2, 1)
        assert loss.curves["step"]["rmc"].x[-1] == STEPS[-2]
        assert accuracy.final["lstm"] is None
        assert set(accuracy.curves["step"]) == {"rmc", "dnc"}
        assert accuracy.curves["step"]["dnc"].x[-1] == 30
        assert loss.verdict.winner is accuracy.verdict.winner is None
        text = " ".join(found.notes)
        assert "valid/loss: runs without a finite final value are not in its statistics: 1 of 3 of rmc." in text
        assert "valid/accuracy: runs without a finite final value are not in its statistics: all of lstm." in text
        assert "The runs of dnc end between step 30 and step 50" in text
        for path in found.write(tmp_path / "out"):
            assert "nan" not in (path.read_text().lower() if path.suffix in {".csv", ".json", ".md"} else "")

    def test_a_note_of_what_is_set_aside(self, runs):
        """Seeds that differ, a group of one run, settings mixed by --by: each has its sentence."""
        found = compare(runs, by=["run.seed"])
        text = " ".join(found.notes)
        assert "Groups mix runs that differ in model.core" in text
        assert "Not compared, though different between runs: run.seed." in text
        assert "With 2 runs in a group an interval reaches from the least to the greatest value" in text
        assert "A group of one run has no interval" in " ".join(compare(runs).notes)


class Reader(HTMLParser):
    """The words of a page, what it points at, and whether its tags are closed in order."""

    def __init__(self):
        super().__init__()
        self.words, self.points, self.open, self.identifiers = [], [], [], []

    def handle_starttag(self, tag, attrs):
        """Keep what it points at."""
        self.points += [
            value for key, value in attrs if key in {"src", "href", "srcset", "data", "action", "xlink:href"}
        ]
        self.identifiers += [value for key, value in attrs if key == "id"]
        if tag not in {"meta", "input"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Nothing is open after it."""
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        """It closes the one that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Keep the words."""
        self.words.append(data)


class TestPage:
    """The page and the other files."""

    @pytest.fixture(scope="class")
    def written(self, template, tmp_path_factory):
        """A comparison and its files."""
        found = compare("cores", store=f"sqlite:///{template[0]}")
        return found, {path.name: path for path in found.write(tmp_path_factory.mktemp("out"))}

    def test_every_number_is_on_the_page(self, written):
        """Each mean, deviation, end and interval of the table, each run and each note stands on the page."""
        found, paths = written
        reader = Reader()
        reader.feed(paths["comparison.html"].read_text())
        assert reader.open == []
        words = "\n".join(reader.words)
        for row in rows(found):
            if row.metric not in found.costs:
                each = row.summary
                wanted = [each.mean, each.deviation, each.low, each.high]
                assert all(number(value) in reader.words for value in wanted), row
                assert f"[{number(each.interval.low)}, {number(each.interval.high)}]" in reader.words
        names = [record.name for group in found.groups for record in group.records] + [left.name for left in found.left]
        assert all(name in words for name in names)
        assert all(note in words for note in found.notes)
        assert all(metric.verdict.reason in words for metric in found.metrics)
        assert all(key in words for key in (*found.grouping.differ, *found.grouping.same))

    def test_the_page_fetches_nothing(self, written):
        """It points at places in itself only, every one of which is there; style and script name no address."""
        text = written[1]["comparison.html"].read_text()
        reader = Reader()
        reader.feed(text)
        assert reader.points
        assert {point.removeprefix("#") for point in reader.points} <= set(reader.identifiers)
        assert len(reader.identifiers) == len(set(reader.identifiers))
        assert set(re.findall(r"\w+://[^\s\"'<;]+", text)) <= {"http://www.w3.org/2000/svg", written[0].origin}
        assert not re.search(r"@import|url\(|fetch\(|XMLHttp|<link|<img|<iframe", text)

    def test_the_page_is_readable_without_its_script(self, written):
        """Curves of the first metric by step are drawn and chosen in the page itself, one line a group."""
        text = re.sub(r"<script.*?</script>", "", written[1]["comparison.html"].read_text(), flags=re.DOTALL)
        assert re.search(r'<input [^>]*id="m0"[^>]* checked>', text)
        assert "#m0:checked ~ main .m0 { display: block; }" in text
        first = text[text.index('class="m m0"') :]
        chart = first[first.index('<svg class="chart"') : first.index("</svg>", first.index('<svg class="chart"'))]
        assert len(re.findall(r'<path class="mean"', chart)) == 3
        assert "valid/accuracy by step" in chart

    def test_a_name_is_no_markup(self, tmp_path, monkeypatch):
        """What users called things is shown as they wrote it, and can do nothing."""
        monkeypatch.chdir(tmp_path)
        evil = "</script><script>alert(1)</script>"
        for seed in range(2):
            _folder_run(tmp_path / "runs", "rmc", seed)
        for path in (tmp_path / "runs").glob("*/config.yaml"):
            path.write_text(path.read_text() + f"note: '{evil}{path.parent.name[-1:]}'\n")
        found = compare("runs", by=["note"])
        text = found.write(tmp_path / "out")[0].read_text()
        assert "<script>alert" not in text
        assert text.count("<script") == text.count("</script>") == 3

    def test_csv_and_json_have_the_same_numbers(self, written):
        """Both have every statistic in full precision; the curves' CSV has every point."""
        found, paths = written
        lines = list(csv.DictReader(paths["comparison.csv"].open()))
        kept = json.loads(paths["comparison.json"].read_text())
        assert len(lines) == len(list(rows(found)))
        for line, row in zip(lines, rows(found), strict=True):
            assert (line["metric"], line["value"], line["group"]) == row[:3]
            assert float(line["mean"]) == row.summary.mean
            assert float(line["interval_low"]) == row.summary.interval.low
            assert (int(line["n"]), int(line["seeds"])) == (3, 3)
        for metric, told in zip(found.metrics, kept["metrics"], strict=True):
            assert told["final"]["rmc"]["mean"] == metric.final["rmc"].mean
            assert (told["winner"], told["verdict"]) == (metric.verdict.winner, metric.verdict.reason)
        assert {run["seed"] for group in kept["groups"] for run in group["runs"]} == {"0", "1", "2"}
        points = list(csv.DictReader(paths["curves.csv"].open()))
        bands = [band for metric in found.metrics for axis in metric.curves.values() for band in axis.values()]
        assert len(points) == sum(len(band.x) for band in bands)
        assert float(points[0]["mean"]) == bands[0].mean[0]

    def test_markdown_has_a_table_for_each_metric(self, written):
        """Each metric has its table with a line a group, its verdict, and every line of a table as many cells."""
        found, paths = written
        text = paths["comparison.md"].read_text()
        for metric in found.metrics:
            part = text.split(f"## {metric.name}")[1].split("\n## ")[0]
            assert f"| rmc | final | 3 | {number(metric.final['rmc'].mean)} ± " in part
            assert metric.verdict.reason in part
        for table in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
            assert len({line.count("|") for line in table.splitlines()}) == 1

    def test_pictures_have_a_panel_for_each_axis(self, written):
        """A PNG for each metric with a curve: three panels beside each other; the same bytes each time."""
        found, paths = written
        assert {name for name in paths if name.endswith(".png")} == {
            "valid-accuracy.png",
            "valid-loss.png",
            "train-loss.png",
        }
        before = paths["train-loss.png"].read_bytes()
        height, width, _ = imread(paths["train-loss.png"]).shape
        assert width > 3 * height
        found.write(paths["train-loss.png"].parent)
        assert paths["train-loss.png"].read_bytes() == before


class TestCommand:
    """What is typed, and what is printed."""

    def test_the_table(self, home, type_in):
        """Groups with runs, mean, deviation and interval, verdicts, notes, who is left out, and where the page is."""
        code, out, _ = type_in("compare", "programs", "--by", "model.core", "--metric", "valid/loss")
        found = compare("programs", metrics=["valid/loss"])
        assert code == 0
        assert "9 finished runs in 3 groups by model.core, 3 left out" in out
        for core in LEVEL:
            each = found.metrics[0].final[core]
            assert re.search(
                rf"{core} +3 +{number(each.mean)} ± {number(each.deviation)} +\[{number(each.interval.low)}, ", out
            )
        assert found.metrics[0].verdict.reason in out
        assert "left out: rmc-8 (killed)" in out
        assert f"page    {Path('runs/compare-programs/comparison.html')}" in out
        assert "\x1b" not in out

    @pytest.mark.parametrize(("option", "name"), [("--json", "json"), ("--csv", "csv"), ("--markdown", "md")])
    def test_for_programs(self, home, type_in, option, name):
        """What is printed with an option is the file, and nothing else."""
        code, out, err = type_in("compare", "single", option)
        assert (code, err) == (0, "")
        assert out == (home / "runs" / "compare-single" / f"comparison.{name}").read_text()

    def test_one_run(self, home, type_in):
        """One run is one group without interval and winner, and can be looked at all the same."""
        code, out, _ = type_in("compare", "single")
        assert code == 0
        assert "1 finished run in 1 group\n" in out
        assert "No winner: there is one group only." in out
        assert "A group of one run has no interval" in out

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (
                ["program"],
                r"no experiment or sweep 'program' in sqlite:.*; did you mean programs\?; nor is 'program' a folder",
            ),
            (["core"], r"did you mean cores\?"),
            (["zzz"], "there are: "),
            (["unfinished"], r"no run of 'unfinished' is finished, .*: rmc-0 \(failed\)"),
            (["empty"], "no run of 'empty' is finished.*: there are no runs at all"),
            (
                ["programs", "--metric", "valid/acuracy"],
                r"--metric: no finished run has 'valid/acuracy'; did you mean valid/accuracy\?",
            ),
            (["programs", "--by", "model.coer"], r"--by: no run has a setting 'model.coer'; did you mean model.core\?"),
            (["programs", "--json", "--csv"], "exclude one another"),
            (["programs", "--store", "sqlite:///none.db"], r"there is no tracking store .*none\.db"),
            (["programs", "--to", "file/deep"], r"file.* cannot be written: "),
            (["nothing"], "no experiment or sweep 'nothing'"),
        ],
    )
    def test_what_cannot_be_compared(self, home, type_in, words, message):
        """A mistake is one line that says what is there instead, and exit code 2."""
        (home / "file").touch()
        code, out, err = type_in("compare", *words)
        assert (code, out) == (2, "")
        assert re.search(message, err), err
        assert err.count("\n") == 1

    def test_a_folder_without_runs(self, home, type_in):
        """A folder in which no run is is told to be none."""
        (home / "nothing").mkdir()
        code, _, err = type_in("compare", "nothing")
        assert code == 2
        assert "nothing" in err
