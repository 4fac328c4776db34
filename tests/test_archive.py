"""Archive: what is kept of runs, listed, described and told apart, however damaged."""

import json
import math
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from seqtoolkit import ConfigError, Pipeline
from seqtoolkit.archive import describe_run, diff_runs, differences, list_runs
from seqtoolkit.archive.entry import Entry
from seqtoolkit.archive.listing import handles
from seqtoolkit.folder import RunError, RunFolder
from seqtoolkit.sdk import hookimpl
from seqtoolkit.train.tracking.lock import hold
from seqtoolkit.train.tracking.outbox import State


@pytest.fixture(scope="session")
def kept(tiny, tmp_path_factory):
    """A folder with one run that is over."""
    folder = tmp_path_factory.mktemp("runs")
    Pipeline.load("program_eval", tiny).run(folder, tags={"seqtoolkit.sweep": "lr", "seqtoolkit.trial": "3"})
    return folder


@pytest.fixture
def folder(kept, tmp_path):
    """A copy of it, to be changed."""
    return Path(shutil.copytree(kept, tmp_path / "runs"))


def only(folder):
    """The one run in a folder."""
    (path,) = folder.iterdir()
    return path


def make(folder, name, *, notes=None, rows=(), config="run: {seed: 1, steps: 9}\nmodel: {core: {use: lstm}}\n"):
    """The folder of a run that never was."""
    path = folder / name
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(config)
    (path / "run.json").write_text(json.dumps({"name": "p", "status": "FINISHED", **(notes or {})}))
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def note(path, **facts):
    """Change facts in a run's notes."""
    RunFolder(path).note(**facts)


def test_a_run_is_listed_with_what_it_was_and_came_to(folder):
    """A run's facts are those of its config, its metrics, its best checkpoint and its tags."""
    (run,), total = list_runs(folder)
    path = only(folder)
    rows = RunFolder(path).rows()
    best = int(RunFolder(path).checkpoint("best").name.removeprefix("step_"))
    value = next(row["valid/accuracy"] for row in rows if row["step"] == best and "valid/accuracy" in row)
    assert total == 1
    assert (run.name, run.run_id, run.folder) == (path.name, path.name, path)
    assert (run.pipeline, run.core, run.seed, run.status) == ("program_eval", "lstm", 0, "FINISHED")
    assert (run.step, run.steps, run.reason) == (6, 6, None)
    assert run.best == ("valid/accuracy", value, best)
    assert run.test == ("test/accuracy", RunFolder(path).notes["metrics"]["test/accuracy"], 6)
    assert run.seconds == rows[-1]["seconds"]
    assert (run.sweep, run.trial) == ("lr", "3")
    assert f"{run.begun:%Y%m%d-%H%M%S}" == path.name[:15]


def test_the_newest_comes_first_and_filters_take_away(tmp_path):
    """Order is by when a run was made; pipeline, status and number take away; the total stays."""
    for day, status, name in ((1, "FINISHED", "a"), (3, "KILLED", "b"), (2, "FINISHED", "b")):
        make(tmp_path, f"2026010{day}-000000-x-0000", notes={"status": status, "name": name})
    days = lambda **wanted: [run.name[7] for run in list_runs(tmp_path, **wanted).runs]  # noqa: E731
    assert days() == ["3", "2", "1"]
    assert days(reverse=True) == ["1", "2", "3"]
    assert days(limit=2) == ["3", "2"]
    assert days(pipeline="b") == ["3", "2"]
    assert days(status="finished") == ["2", "1"]
    assert days(status="finished", pipeline="b", limit=5) == ["2"]
    assert list_runs(tmp_path, pipeline="none of these") == ([], 3)


def test_a_status_that_is_none_is_a_mistake(tmp_path, type_in):
    """A word that is no status finds no runs, and is told from one of which there are none."""
    make(tmp_path / "runs", "20260101-000000-a-1")
    code, out, err = type_in("runs", "--status", "finshed", "--json")
    assert (code, out) == (2, "")
    assert err.startswith("seqtoolkit: --status: wanted one of running, finished, failed, ")
    assert err.endswith("got 'finshed'\n")
    assert type_in("runs", "--status", "starting", "--json")[:2] == (0, "[]\n")


def test_runs_are_sorted_by_the_last_value_of_a_metric(tmp_path):
    """The highest comes first, of a loss the lowest; reverse turns that around; NaN and nothing come last either way."""
    for name, values in {"a": [9, 1], "b": [3], "c": [2], "n": [math.nan], "o": []}.items():
        make(tmp_path, name, rows=[{"step": s, "valid/accuracy": v, "valid/loss": v} for s, v in enumerate(values)])
    names = lambda *wanted: "".join(run.name for run in list_runs(tmp_path, sort=wanted[0], reverse=wanted[1]).runs)  # noqa: E731
    assert names("valid/accuracy", False)[:3] == "bca"
    assert names("valid/accuracy", True)[:3] == "acb"
    assert names("valid/loss", False)[:3] == "acb"
    assert names("valid/loss", True)[:3] == "bca"
    assert list_runs(tmp_path, sort="valid/loss", limit=1).runs[0].sorted_by == 1
    with pytest.raises(ValueError, match=r"no run has the metric 'valid/los'; there are: valid/accuracy, valid/loss$"):
        list_runs(tmp_path, sort="valid/los")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.yaml", None, "config.yaml is missing"),
        ("config.yaml", b"\xff\xfe\x00", "config.yaml is no text"),
        ("config.yaml", b"a: [1\n", "config.yaml is not a pipeline"),
        ("config.yaml", b"- 1\n", "config.yaml is not a pipeline"),
        ("config.yaml", b"", "config.yaml is not a pipeline"),
        ("config.yaml", b"[" * 5000, "config.yaml is not a pipeline"),
        ("run.json", None, "run.json is missing"),
        ("run.json", b'{"name": ', "run.json is not JSON"),
        ("run.json", b"[1]", "run.json is not JSON"),
        ("run.json", b"[" * 9999, "run.json is not JSON"),
        ("run.json", b'{"run_id": ["a"]}', "run.json is not JSON"),
        ("run.json", b'{"run_id": 5, "changes": 5}', "run.json is not JSON"),
        ("run.json", b'{"environment": "x"}', "run.json is not JSON"),
    ],
)
def test_a_damaged_run_is_listed_as_damaged(tmp_path, type_in, name, content, said):
    """Whatever is missing or broken in one folder is said, and the runs beside it are listed."""
    good, bad = make(tmp_path / "r", "20260101-000000-good-1"), make(tmp_path / "r", "20260102-000000-bad-1")
    (bad / name).unlink() if content is None else (bad / name).write_bytes(content)
    found = {run.folder: run for run in list_runs(tmp_path / "r").runs}
    assert found[good].status == "FINISHED"
    assert found[bad].status == "DAMAGED"
    assert said in found[bad].reason
    code, out, _ = type_in("runs", "--folder", "r")
    assert code == 0
    assert f"damaged: {bad.name}: {said}" in out
    assert RunFolder.find(good.name, tmp_path / "r").path == good
    if name == "run.json":
        assert describe_run(bad).run.status == "DAMAGED"


def test_lines_that_are_no_metrics_are_passed_over(tmp_path):
    """A metrics file with a line cut off, one of bytes and one of another kind gives all its other rows."""
    path = make(tmp_path, "a")
    lines = [b'{"step": 1, "valid/x": 1.5}', b"\xff", b"[]", b'{"step": "2"}', b'{"step": 2, "valid/x": NaN, "t": "s"}']
    (path / "metrics.jsonl").write_bytes(b"\n".join([*lines, b'{"step": 3, "val']))
    rows = list(Entry(path).rows())
    assert [row["step"] for row in rows] == [1, 2]
    assert list(rows[1]) == ["step", "valid/x"]
    assert list_runs(tmp_path).runs[0].step == 2


@given(st.lists(st.integers(0, 40_000), max_size=12), st.booleans())
def test_rows_are_read_from_the_end_as_from_the_beginning(tmp_path_factory, sizes, ended):
    """However long its lines, a metrics file read backward gives its rows in the reverse order."""
    path = make(tmp_path_factory.mktemp("back"), "a")
    text = "\n".join(json.dumps({"step": number, "x" * size: 1.0}) for number, size in enumerate(sizes))
    (path / "metrics.jsonl").write_text(text + "\n" * ended)
    entry = Entry(path)
    assert list(entry.rows_back()) == list(entry.rows())[::-1]


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(
            ["20260101-000000-a-0001", "20260101-000000-a-0002", "20260101-000001-b-0001", "mine", "minus"]
        ),
        st.none() | st.text("ab", min_size=1, max_size=12),
        min_size=1,
    )
)
def test_a_listed_name_is_taken_by_commands(tmp_path_factory, ids):
    """What the list shows for a run finds that run and no other, be runs tracked, copied or named alike."""
    folder = tmp_path_factory.mktemp("names")
    for name, run_id in ids.items():
        make(folder, name, notes={"run_id": run_id})
    shown = [(run.run, run.folder) for run in list_runs(folder).runs]
    assert len({word for word, _ in shown}) == len(ids)
    for word, path in shown:
        assert RunFolder.find(word, folder).path == path.resolve()


def test_a_listed_name_is_short_but_not_for_a_day_only(tmp_path):
    """Of an id eight characters are shown, of a folder's name the time, and more where that is shared."""
    make(tmp_path, "20260101-000000-a-0001", notes={"run_id": "0123456789abcdef"})
    make(tmp_path, "20260101-000001-b-0001")
    make(tmp_path, "20260102-000000-c-0001", notes={"run_id": "0123456780000000"})
    found = [Entry(path) for path in sorted(tmp_path.iterdir())]
    assert list(handles(found).values()) == ["0123456789", "20260101-000001", "0123456780"]


def test_a_run_whose_process_is_gone_has_died(folder):
    """A run said to be running is so while a process holds its metrics; after kill -9 it is said to have died."""
    path = only(folder)
    note(path, status="RUNNING")
    status = lambda: list_runs(folder).runs[0].status  # noqa: E731
    assert status() == "DIED"
    with hold(path / "metrics.jsonl"):
        assert status() == "RUNNING"
    code = "import sys, pathlib, seqtoolkit.train.tracking.lock as lock\n"
    code += "held = lock.hold(pathlib.Path(sys.argv[1]))\nprint('held', flush=True)\nsys.stdin.read()"
    command = [sys.executable, "-c", code, str(path / "metrics.jsonl")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        assert status() == "RUNNING"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert status() == "DIED"


def test_a_run_at_work_is_seen_at_work(tiny, tmp_path):
    """While a run trains it is listed as running at the step that it is at, though it has no tracking store; then as over."""

    class Look:
        """Lists the runs from inside of one."""

        def __init__(self):
            self.seen = []

        @hookimpl(trylast=True)
        def logged(self, step):
            self.seen += [(run.status, run.step) for run in list_runs(tmp_path).runs]

    look = Look()
    Pipeline.load("program_eval", [*tiny, "run.steps=4"]).run(tmp_path, observers={"look": look})
    assert look.seen == [("RUNNING", 2), ("RUNNING", 4)]
    assert list_runs(tmp_path).runs[0].status == "FINISHED"


def test_a_run_that_never_began_says_so(tmp_path):
    """A folder without a status is a run that was not started, or that starts while its journal is held."""
    path = make(tmp_path, "a")
    (path / "run.json").write_text('{"name": "p"}')
    assert list_runs(tmp_path).runs[0].status == "UNSTARTED"
    with hold(path / "outbox.jsonl"):
        assert list_runs(tmp_path).runs[0].status == "STARTING"


def test_listing_imports_neither_torch_nor_mlflow(folder):
    """The list, a run and the difference of two are had without torch and mlflow, on which seconds would be spent."""
    code = "import sys\nfrom seqtoolkit.cli import main\ntry:\n    main()\nexcept SystemExit as end:\n    assert not end.code"
    code += "\nassert not {'torch', 'mlflow', 'matplotlib', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    name = only(folder).name
    for words in (["--sort", "valid/loss"], ["show", name], ["diff", name, name]):
        command = [sys.executable, "-c", code, "runs", *words]
        done = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_a_folder_without_runs_says_what_to_do(type_in):
    """An empty folder, a missing one, and filters that leave nothing are a line each, and no error; JSON is an empty list."""
    for place in ("missing", "."):
        code, out, _ = type_in("runs", "--folder", place)
        assert code == 0
        assert out == f"no runs in {place}/: `seqtoolkit run PIPELINE` makes one, --folder looks elsewhere\n"
    assert json.loads(type_in("runs", "--json")[1]) == []


def test_the_list_is_printed_whole_and_as_json(folder, type_in):
    """The table has a line a run, `list` is the default, -n says what it left out; JSON has the same facts."""
    make(folder, "20250101-000000-p-0001", notes={"status": "FAILED"})
    code, out, _ = type_in("runs", "--folder", folder)
    assert code == 0
    assert len(out.splitlines()) == 3
    assert "lr 3" in out
    assert type_in("runs", "list", "--folder", folder)[1] == out
    assert type_in("runs", "-n", "1", "--folder", folder)[1].endswith("1 of 2; -n 0 lists all\n")
    found = json.loads(type_in("runs", "--json", "--folder", folder, "--status", "finished")[1])
    assert [run["status"] for run in found] == ["FINISHED"]
    assert found[0]["best"]["metric"] == "valid/accuracy"
    code, out, _ = type_in("runs", "--folder", folder, "--pipeline", "q")
    assert (code, out) == (0, f"none of the 2 runs in {folder}/ is of that pipeline and status\n")


def test_options_are_not_lost(folder, type_in):
    """Options of the list before another command are refused, not passed over."""
    code, _, err = type_in("runs", "--folder", folder, "show", "x")
    assert (code, err) == (2, "seqtoolkit: options stand behind `show`: folder would be lost before it\n")


def test_a_run_is_described(folder):
    """The description has the config, the course of each metric, the checkpoints by name and the other files."""
    path = only(folder)
    found = describe_run(path.name, folder)
    rows = RunFolder(path).rows()
    losses = {row["step"]: row["valid/loss"] for row in rows if "valid/loss" in row}
    course = found.metrics["valid/loss"]
    assert found.config["model"]["core"]["hidden_size"] == 16
    assert "model.core.hidden_size=16" in found.changes
    assert course.last == (losses[6], 6)
    assert course.lowest.value == min(losses.values()) == losses[course.lowest.step]
    assert course.highest.value == max(losses.values()) == losses[course.highest.step]
    names = {each.step: each.names for each in found.checkpoints}
    assert [step for step, name in names.items() if "best" in name] == [found.run.best.step]
    assert "last" in names[6]
    assert {"config.yaml", "run.json", "metrics.jsonl", "curves.png"} == set(found.files)
    assert {"python", "platform", "torch", "threads", "device", "seqtoolkit-lstm"} <= set(found.environment)
    assert found.store is None
    assert found.command


def test_nan_hides_no_extreme(tmp_path):
    """The lowest and highest of a metric are numbers where it ever was one."""
    make(tmp_path, "a", rows=[{"step": step, "x": value} for step, value in enumerate([math.nan, 2.0, 1.0, math.nan])])
    found = describe_run("a", tmp_path).metrics["x"]
    assert (found.lowest, found.highest) == ((1.0, 2), (2.0, 1))
    assert math.isnan(found.last.value)


def test_a_run_is_shown(folder, type_in):
    """What is shown has the store without its password, what waits for it, why the run ended, and how it went on."""
    path = only(folder)
    State(store="postgresql://me:secret@host/db", experiment="1", run="abc").save(path)
    (path / "outbox.jsonl").write_text('{"kind": "end"}\n')
    note(path, status="FAILED", error="ValueError: too much", resumed=[{"step": 3, "changed": ["run.steps=6"]}])
    code, out, _ = type_in("runs", "show", path.name[:15], "--folder", folder)
    assert code == 0
    assert "FAILED, step 6 of 6 (ValueError: too much)" in out
    assert "resumed   after step 3, with run.steps=6" in out
    assert "postgresql://host/db" in out
    assert "secret" not in out
    assert "1 items wait" in out
    assert "{use: lstm, hidden_size: 16" in out
    shown = json.loads(type_in("runs", "show", path.name, "--folder", folder, "--json")[1])
    assert shown["store"]["undelivered"] == 1
    assert shown["metrics"]["valid/loss"]["last"]["step"] == 6


def test_a_config_is_printed_as_it_runs(folder, type_in):
    """`show --config` prints the file itself, to run again or to change."""
    path = only(folder)
    code, out, _ = type_in("runs", "show", path, "--config")
    assert (code, out) == (0, (path / "config.yaml").read_text())


@pytest.mark.parametrize("command", [["show", "nothing"], ["diff", "nothing", "nothing"], ["reproduce", "nothing"]])
def test_a_run_that_is_not_there_is_one_line(command, type_in, folder):
    """Each command names the runs that are there."""
    code, _, err = type_in("runs", *command, "--folder", folder)
    assert code == 2
    assert err == f"seqtoolkit: no run 'nothing' in {folder}/; the latest there: {only(folder).name}\n"


def test_a_damaged_config_is_one_line(tmp_path):
    """Where all of a config is needed, what is wrong with it is said with its line."""
    make(tmp_path, "a", config="a: 1\nb: [\n")
    with pytest.raises(ConfigError, match=r"config\.yaml:3:1: "):
        describe_run("a", tmp_path)
    (tmp_path / "a" / "config.yaml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"config\.yaml: cannot be read: no text"):
        diff_runs("a", "a", tmp_path)
    with pytest.raises(RunError):
        describe_run("b", tmp_path)


scalars = st.none() | st.booleans() | st.integers(-2, 2) | st.floats() | st.text("ab", max_size=2)
mappings = st.dictionaries(st.text("abc", min_size=1, max_size=2), scalars, max_size=6)


@given(mappings)
def test_nothing_differs_from_itself(mapping):
    """A mapping does not differ from a copy of it, NaN or not."""
    assert differences(mapping, dict(mapping)) == {}


@given(mappings, mappings)
def test_differences_are_symmetric(a, b):
    """The other way around the same keys differ, with sides exchanged."""
    one, other = differences(a, b), differences(b, a)
    exchange = {"a": "b", "b": "a"}
    text = lambda each: [f"{side} {value!r}" for side, value in sorted(each.items(), key=lambda pair: pair[0])]  # noqa: E731
    exchanged = {key: {exchange[side]: value for side, value in each.items()} for key, each in other.items()}
    assert {key: text(each) for key, each in one.items()} == {key: text(each) for key, each in exchanged.items()}


@given(mappings, mappings)
def test_differences_are_all_that_differs(a, b):
    """One mapping with the differences applied is the other, and no difference is left out or needless."""
    found = differences(a, b)
    patched = {key: value for key, value in a.items() if "b" in found.get(key, "b")}
    patched |= {key: each["b"] for key, each in found.items() if "b" in each}
    assert patched.keys() == b.keys()
    assert differences(patched, b) == {}
    assert all(repr(each.get("a")) != repr(each.get("b")) or len(each) == 1 for each in found.values())


@given(mappings, st.text("abc", min_size=1, max_size=2), scalars)
def test_a_changed_value_is_found(mapping, key, value):
    """One value changed, or one key more, is the one difference."""
    former = mapping.get(key, ...)
    assume(former is ... or (former != value and not (former != former and value != value)))  # noqa: PLR0124  NaN
    assert set(differences(mapping, {**mapping, key: value})) == {key}


def test_true_is_not_one():
    """A switch and a number are different values, whatever Python says."""
    assert differences({"a": True, "b": 1}, {"a": 1, "b": 1.0}) == {"a": {"a": True, "b": 1}}


def test_two_runs_are_told_apart(folder, type_in):
    """What differs in config, environment and final metrics is shown on its side; what only one has is on one side."""
    first = only(folder)
    second = Path(shutil.copytree(first, folder / "20990101-000000-other-0001"))
    config = (second / "config.yaml").read_text()
    config = config.replace("use: lstm\n    hidden_size: 16\n", "use: gru\n    units: 16\n")
    (second / "config.yaml").write_text(config)
    environment = {**RunFolder(first).notes["environment"], "torch": "9.9", "mlflow.user": "someone else"}
    note(second, environment=environment, resumed=[{"step": 6, "changed": ["run.steps=8"]}])
    with (second / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "valid/loss": 0.25, "seconds": 7, "system/cpu": 1}\n')
    found = diff_runs(first.name, second.name, folder)
    assert found.config == {
        "model.core": {"a": "lstm", "b": "gru"},
        "model.core.hidden_size": {"a": 16},
        "model.core.units": {"b": 16},
        "resumed": {"b": "run.steps=8 after step 6"},
    }
    assert found.environment == {"torch": {"a": RunFolder(first).notes["environment"]["torch"], "b": "9.9"}}
    assert found.metrics["valid/loss"]["b"] == 0.25
    assert not {"seconds", "system/cpu"} & set(found.metrics)
    assert not found.equal
    back = diff_runs(second.name, first.name, folder)
    assert back.config["model.core"] == {"a": "gru", "b": "lstm"}
    code, out, _ = type_in("runs", "diff", first.name, second.name, "--folder", folder)
    assert code == 0
    assert "hidden_size" in out
    assert "9.9" in out
    assert json.loads(type_in("runs", "diff", first, second, "--json")[1])["equal"] is False


def test_equal_runs_are_said_to_be_equal(folder, type_in):
    """A run and a copy of it are equal; one final metric that differs and they are not."""
    first = only(folder)
    second = shutil.copytree(first, folder / "20990101-000000-other-0001")
    code, out, _ = type_in("runs", "diff", first, second)
    assert (code, out) == (0, "equal: settings, environment and final metrics are the same\n")
    with (second / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "test/loss": 0.25}\n')
    found = diff_runs(first, second)
    assert not found.config
    assert not found.environment
    assert not found.equal
