"""How a sweep goes: its trials are processes that stand in for a training, and crash, stop and go on as told."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seqtoolkit.folder import RunFolder
from seqtoolkit.sweep import Sweep, crew
from seqtoolkit.sweep.row import Row, ranked
from seqtoolkit.sweep.study import Study
from seqtoolkit.train.tracking.lock import hold

STAND_IN = """
import json, os, re, signal, sys, threading, time
from pathlib import Path

folder, order = Path(sys.argv[1]), b""
while not order.endswith(b"\\n"):
    order += os.read(0, 1)

def note(**facts):
    path = folder / "run.json"
    path.with_suffix(".new").write_text(json.dumps({**json.loads(path.read_text()), **facts}))
    path.with_suffix(".new").replace(path)

def alive(pid):
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False

def stop(number, frame):
    time.sleep(0.5)
    note(status="KILLED", stopped=signal.Signals(number).name)
    os._exit(130)

def follow():
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)

for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, stop)
threading.Thread(target=follow, daemon=True).start()
busy = folder / "busy"
if busy.exists() and alive(busy.read_text()):
    print("two processes at once")
    sys.exit(1)
busy.write_text(str(os.getpid()))
size = int(re.search(r"hidden_size: (\\d+)", (folder / "config.yaml").read_text())[1])
metrics = folder / "metrics.jsonl"
done = len(metrics.read_text().splitlines()) if metrics.exists() else 0
if size == 13:
    print("what came before")
    print("no luck with 13")
    sys.exit(1)
(folder / "threads").write_text(os.environ["OMP_NUM_THREADS"])
for step in range(done + 1, 7):
    time.sleep(0.5 if size >= 100 else 0.02)
    value = float("nan") if size == 14 else size * min(step, 4) / 100
    with metrics.open("a") as file:
        file.write(json.dumps({"step": step, "valid/accuracy": value, "pid": os.getpid()}) + "\\n")
    if size == 6 or (size == 7 and step == 3 and done == 0):
        os.kill(os.getpid(), signal.SIGKILL)
if size == 15:
    note(status="KILLED", stopped="pruned: it falls behind")
    sys.exit(130)
note(status="FINISHED", run_id=f"id-{size}")
"""
FIXED = ["model.core=lstm", "track=none", "run.steps=6"]
WRITES = "import sys, seqtoolkit.sweep.crew as crew; crew.COMMAND = (sys.executable, {script!r})\n"


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The program that stands in for a training, in an empty working directory."""
    path = tmp_path / "stand_in.py"
    path.write_text(STAND_IN)
    monkeypatch.setattr(crew, "COMMAND", (sys.executable, str(path)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def load(script):
    """A sweep over sizes."""

    def loaded(*sizes, **options):
        words = [f"model.core.hidden_size={','.join(map(str, sizes))}"] if sizes else []
        return Sweep.load("program_eval", [*FIXED, *words], **options)

    return loaded


def size(row: Row) -> int:
    """The size that a trial had."""
    return row.values["model.core.hidden_size"]


def statuses(rows: list[Row]) -> dict[int, str]:
    """The status of each size."""
    return {size(row): row.status for row in rows}


def pids(row: Row) -> set[int]:
    """The processes that have worked on a trial."""
    return {int(each["pid"]) for each in RunFolder(Path(row.run)).rows()}


def command(script: Path, *words: str) -> list[str]:
    """`seqtoolkit sweep` with trials that stand in for a training."""
    program = WRITES.format(script=str(script)) + "from seqtoolkit.cli import main\nmain()"
    return [sys.executable, "-c", program, "sweep", "program_eval", *FIXED, *words]


def until(done, seconds=60):
    """Wait for something to be so."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


def written(folder: Path) -> int:
    """How many rows of metrics the runs in a folder have."""
    return sum(len(path.read_text().splitlines()) for path in folder.glob("runs/*/metrics.jsonl"))


class TestOutcomes:
    """What becomes of trials."""

    def test_one_that_ends_badly_is_marked_and_the_rest_go_on(self, load):
        """Failing, dying, being pruned and never having a number are told apart; the log's end is kept."""
        sweep = load(8, 13, 14, 15, 7, 9)
        watched = []
        rows = sweep.run(jobs=2, watch=watched.append)
        found = {8: "finished", 13: "failed", 14: "failed", 15: "pruned", 7: "killed", 9: "finished"}
        assert statuses(rows) == found
        assert [size(row) for row in rows] == [9, 8, 15, 13, 14, 7]
        by = {size(row): row for row in rows}
        assert (by[9].best, by[9].step, by[9].steps, by[9].run_id) == (0.36, 6, 6, "id-9")
        assert by[13].error == "no luck with 13"
        assert by[13].log == "what came before\nno luck with 13"
        assert by[14].error == "valid/accuracy was never a number"
        assert by[7].error == "killed by SIGKILL"
        assert RunFolder(Path(by[7].run)).notes["status"] == "KILLED"
        assert RunFolder(Path(by[13].run)).notes["status"] == "FAILED"
        assert max(sum(row.status == "running" for row in each) for each in watched) == 2
        threads = {int((Path(row.run) / "threads").read_text()) for row in rows if size(row) != 13}
        assert threads == {max(1, len(os.sched_getaffinity(0)) // 2)}

    def test_the_same_command_goes_on(self, load):
        """What is finished, pruned or failed stays; what was killed goes on where it was; then nothing is left."""
        first = {size(row): row for row in load(8, 13, 15, 7).run(jobs=2)}
        again = load(8, 13, 15, 7)
        rows = {size(row): row for row in again.run()}
        assert not again.idle
        assert {key: row for key, row in rows.items() if key != 7} == {
            key: row for key, row in first.items() if key != 7
        }
        assert (rows[7].status, rows[7].run, rows[7].best) == ("finished", first[7].run, 0.28)
        assert len(pids(rows[7])) == 2
        assert [row["step"] for row in RunFolder(Path(rows[7].run)).rows()] == [1, 2, 3, 4, 5, 6]
        third = load(8, 13, 15, 7)
        assert {size(row): row for row in third.run()} == rows
        assert third.idle
        assert {size(row): row for row in third.rows()} == rows

    def test_a_trial_that_is_killed_each_time(self, load):
        """A command goes on with a killed trial once, and not again and again."""
        for attempts in (1, 2):
            (row,) = [row for row in load(6, 8).run() if size(row) == 6]
            assert (row.status, row.step, len(pids(row))) == ("killed", attempts, attempts)

    def test_a_killed_trial_whose_run_was_removed(self, load):
        """It is begun again, with the values that it had."""
        (row,) = [row for row in load(8, 7).run() if size(row) == 7]
        shutil.rmtree(row.run)
        (again,) = [row for row in load(8, 7).run() if size(row) == 7]
        assert (again.number, again.values, again.status) == (row.number, row.values, "killed")
        assert again.run != row.run
        assert len(load(8, 7).rows()) == 2

    def test_failed_trials_run_anew_if_asked(self, load, script):
        """--retry runs each failed trial in a run of its own, which takes the other's place in the table."""
        before = {size(row): row for row in load(8, 13).run()}
        script.write_text(STAND_IN.replace("size == 13", "size == 130"))
        after = {size(row): row for row in load(8, 13).run(retry=True)}
        assert after[8] == before[8]
        assert (after[13].status, after[13].number) == ("finished", 2)
        assert after[13].run != before[13].run
        assert len(load(8, 13).rows()) == 2

    def test_a_run_that_was_finished_by_hand_is_only_told(self, load):
        """A killed trial whose run has come to its end meanwhile is not run again."""
        (row,) = [row for row in load(8, 7).run() if size(row) == 7]
        RunFolder(Path(row.run)).note(status="FINISHED")
        (row,) = [row for row in load(8, 7).run() if size(row) == 7]
        assert (row.status, row.step, len(pids(row))) == ("finished", 3, 1)

    def test_more_trials_later(self, load):
        """A search of more trials than before keeps those that it has."""
        options = {"search": "random", "seed": 3}
        words = "model.core.hidden_size=logint(16,90)"
        first = Sweep.load("program_eval", [*FIXED, words], trials=2, **options).run()
        rows = Sweep.load("program_eval", [*FIXED, words], trials=4, **options).run(jobs=2)
        assert sorted(row.number for row in rows) == [0, 1, 2, 3]
        assert [row for row in rows if row.number < 2] == ranked(first, "higher")
        assert len({size(row) for row in rows}) == 4
        assert rows[0].best == max(row.best for row in rows)

    def test_runs_are_found_by_their_names(self, load):
        """A trial's run is one of `runs/`, tagged with the sweep and its number."""
        sweep = load(8, 9)
        for row in sweep.run(jobs=2):
            place = RunFolder.find(Path(row.run).name, Path("runs"))
            assert place.notes["tags"] == {"seqtoolkit.sweep": sweep.name, "seqtoolkit.trial": str(row.number)}
            assert RunFolder.find(row.run_id, Path("runs")).path == place.path


class TestStopping:
    """Ctrl-C, and processes that die."""

    def test_ctrl_c_has_trials_save_and_end(self, load):
        """Those under way end as killed, no other is begun, and the next command goes on with all."""

        def interrupt(rows):
            if sum(row.step > 0 for row in rows) == 2 and not sent:
                sent.append(os.kill(os.getpid(), signal.SIGINT))

        sent = []
        sweep = load(100, 101, 8)
        rows = sweep.run(jobs=2, watch=interrupt)
        assert sweep.interrupted
        assert statuses(rows) == {100: "killed", 101: "killed", 8: "waiting"}
        assert [RunFolder(Path(row.run)).notes["stopped"] for row in rows if row.run] == ["SIGINT", "SIGINT"]
        assert set(statuses(load(100, 101, 8).run(jobs=3)).values()) == {"finished"}

    def test_twice_is_at_once(self, load):
        """A second Ctrl-C kills the trials, which go on later all the same."""

        def interrupt(rows):
            if sum(row.step > 0 for row in rows) == 2:
                os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            load(100, 101).run(jobs=2, watch=interrupt)
        rows = load(100, 101).run(jobs=2)
        assert set(statuses(rows).values()) == {"finished"}
        assert [row["step"] for row in RunFolder(Path(rows[0].run)).rows()] == [1, 2, 3, 4, 5, 6]

    @pytest.mark.slow
    def test_a_sweep_that_is_killed(self, load, script, tmp_path):
        """Its trials notice, save and end; the same command waits for them and goes on; meanwhile a second one is refused."""
        words = ("model.core.hidden_size=100,101", "--jobs", "2")
        with subprocess.Popen(command(script, *words), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            until(lambda: written(tmp_path) >= 2)
            with pytest.raises(ValueError, match="another process is at work on this sweep"):
                load(100, 101).run()
            process.kill()
        rows = load(100, 101).run(jobs=2)
        assert set(statuses(rows).values()) == {"finished"}
        assert [len(pids(row)) for row in rows] == [2, 2]

    def test_a_trial_that_had_only_begun(self, load):
        """A trial whose sweep died before it had a run is begun."""
        sweep = load(8, 9)
        sweep.folder.mkdir(parents=True)
        study = Study(sweep.name, str(sweep.folder / "study.jsonl"), sweep.design.space, "higher", "grid", 0)
        study.fill(sweep.design.wanted())
        assert study.claim() == 0
        assert statuses(sweep.run()) == {8: "finished", 9: "finished"}


class TestStorage:
    """Trials that several processes share."""

    def test_two_processes_share_the_trials(self, load, script, tmp_path):
        """Each trial is run once, by one of them; each process sees all of them."""
        storage = f"sqlite:///{tmp_path}/shared.db"
        sizes = (20, 21, 22, 100, 23, 24, 101)
        words = (f"model.core.hidden_size={','.join(map(str, sizes))}", "--storage", storage, "--json")
        with subprocess.Popen(command(script, *words), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            rows = load(*sizes, storage=storage).run()
            told = json.loads(process.communicate()[0])
        assert process.returncode == 0
        rows = load(*sizes, storage=storage).rows()
        assert statuses(rows) == dict.fromkeys(sizes, "finished")
        assert len(list(tmp_path.glob("runs/2*"))) == len(sizes) == len(told["trials"])
        assert all(len(pids(row)) == 1 for row in rows)
        assert {row.machine for row in rows} == {os.uname().nodename}

    def test_a_machine_that_is_lost(self, load, tmp_path):
        """A trial whose machine has given no sign of life for long is run anew, and stands in the table once."""
        storage = f"sqlite:///{tmp_path}/shared.db"
        sweep = load(8, 9, storage=storage)
        study = Study(sweep.name, storage, sweep.design.space, "higher", "grid", 0)
        study.fill(sweep.design.wanted())
        study.suggest(study.claim())
        study.note(0, status="running", run="/nowhere", machine="another")
        assert statuses(sweep.run()) == {8: "running", 9: "finished"}
        with study.storage.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")
        rows = load(8, 9, storage=storage).run()
        assert statuses(rows) == {8: "finished", 9: "finished"}
        assert sorted(row.number for row in rows) == [1, 2]

    @pytest.mark.slow
    def test_going_on_much_later(self, load, tmp_path):
        """Trials that were interrupted here go on where they were, however long ago that was."""
        storage = f"sqlite:///{tmp_path}/shared.db"

        def interrupt(rows):
            if sum(row.step > 0 for row in rows) == 2 and not sent:
                sent.append(os.kill(os.getpid(), signal.SIGINT))

        sent = []
        sweep = load(100, 101, storage=storage)
        first = {size(row): row for row in sweep.run(jobs=2, watch=interrupt)}
        assert {row.status for row in first.values()} == {"killed"}
        with sweep._study().storage.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")
        rows = {size(row): row for row in load(100, 101, storage=storage).run()}
        assert {row.status for row in rows.values()} == {"finished"}
        assert {key: (row.number, row.run) for key, row in rows.items()} == {
            key: (row.number, row.run) for key, row in first.items()
        }

    @pytest.mark.parametrize(
        ("storage", "told"),
        [
            ("nothing://x", "--storage nothing://x: "),
            ("sqlite:////no/such/folder/x.db", "--storage sqlite:////no/such/folder/x.db: "),
            ("postgresql+nodriver://me:secret@localhost/x", "--storage postgresql+nodriver://localhost/x: "),
        ],
    )
    def test_a_storage_that_cannot_be_had(self, load, storage, told):
        """It is one line that begins with the option, and has no password."""
        with pytest.raises(ValueError, match="--storage") as error:
            load(8, 9, storage=storage).run()
        assert str(error.value).startswith(told)
        assert "secret" not in str(error.value)
        assert "\n" not in str(error.value)


class TestCommand:
    """`seqtoolkit sweep`."""

    def test_what_it_prints(self, script, type_in):
        """A line for each change to stderr; the table with the best first, what failed and why, and what to do next."""
        words = ("sweep", "program_eval", *FIXED, "model.core.hidden_size=8,9,13")
        code, out, err = type_in(*words)
        assert code == 0
        lines = out.splitlines()
        assert " ".join(lines[0].split()) == "trial status hidden_size parameters step valid/accuracy time run"
        assert [line.split()[1:3] + line.split()[4:6] for line in lines[1:3]] == [
            ["finished", "9", "6/6", "0.3600"],
            ["finished", "8", "6/6", "0.3200"],
        ]
        assert "trial 2 failed: no luck with 13" in lines
        assert "failed  1 of 3; --retry runs them anew" in lines
        assert "best    trial 1: valid/accuracy 0.3600, model.core.hidden_size=9" in lines
        assert [line.split()[:3] for line in err.splitlines() if line.startswith("trial")] == [
            ["trial", str(number), status]
            for number, end in ((0, "finished"), (1, "finished"), (2, "failed"))
            for status in ("running", end)
        ]
        assert "    no luck with 13" in err
        code, out, err = type_in(*words, "-q", "--json")
        found = json.loads(out)
        assert (code, err) == (0, "")
        assert found["best"]["values"] == {"model.core.hidden_size": 9}
        assert [row["status"] for row in found["trials"]] == ["finished", "finished", "failed"]
        assert "nothing was left to do" in type_in(*words)[1]

    def test_nothing_finished(self, script, type_in):
        """Where no trial has come to an end, the exit code is 1."""
        code, out, _ = type_in("sweep", "program_eval", *FIXED, "model.core.hidden_size=13,14")
        assert code == 1
        assert "best" not in out

    def test_ctrl_c(self, script, tmp_path):
        """It says how to go on, without a password, and the exit code is 130."""
        words = ("model.core.hidden_size=100,101", "--storage", f"sqlite:///{tmp_path}/x.db")
        with subprocess.Popen(
            command(script, *words), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            until(lambda: written(tmp_path) >= 1)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "interrupted; the same command goes on: seqtoolkit sweep program_eval" in err
        assert "killed  1 of 2; the same command goes on with them" in out

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["run.seed=0,1", "--jobs", "0"], "jobs: wanted at least 1, got 0"),
            (["run.seed=0,1", "--trials", "0", "--search", "random"], "sweep.trials: wanted at least 1, got 0"),
            (["run.seed=0,1", "--metric", "speed"], "metric: there is no speed; wanted one of valid/accuracy"),
            (["run.seed=0,1", "--storage", "x.db"], "--storage: wanted a URL such as sqlite:///x.db, got 'x.db'"),
            (["run.seed="], "run.seed: no value; write run.seed=null for none"),
            (["run.seed=0,1", "--folder", "/dev/null"], "runs cannot be kept in /dev/null: "),
        ],
    )
    def test_mistakes(self, script, type_in, words, told):
        """Each is one line, and the exit code is 2."""
        code, out, err = type_in("sweep", "program_eval", *FIXED, *words)
        assert (code, out) == (2, "")
        assert err.startswith(f"seqtoolkit: {told}")
        assert len(err.splitlines()) == 1


def test_a_lock_is_held_by_both_processes(tmp_path):
    """The lock on a trial's run outlives the process that took it, as long as one that inherited it is there."""
    lock = hold(tmp_path / "lock")
    with subprocess.Popen(["sleep", "60"], pass_fds=[lock.descriptor]) as other:
        os.close(lock.descriptor)
        assert hold(tmp_path / "lock") is None
        other.kill()
    hold(tmp_path / "lock", wait=10).release()


def test_what_a_run_writes_is_read_as_it_comes(tmp_path):
    """The step and the best value follow the file, whole lines alone, and also where a resumed run writes it anew."""
    path = tmp_path / "metrics.jsonl"
    reading = crew.Reading(path, "loss", "lower")
    reading.read()
    path.write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": NaN}\n{"step": 3, "lo')
    reading.read()
    assert (reading.step, reading.best) == (2, 3.0)
    path.write_text('{"step": 1, "loss": 2.0}\n')
    reading.read()
    assert (reading.step, reading.best) == (1, 2.0)
    path.write_text('{"step": 1, "loss": 2.000000001}\n{"step": 2, "loss": 1.5}\n')
    reading.read()
    assert (reading.step, reading.best) == (2, 1.5)


class TestTrial:
    """`python -m seqtoolkit.sweep.trial`, the real one."""

    def test_it_ends_with_its_sweep(self, tmp_path):
        """Where the sweep's end of its standard input is closed, it gets a SIGTERM, upon which a run saves and ends."""
        facts = {
            "sweep": "a",
            "storage": "b",
            "number": 0,
            "metric": "m",
            "better": "higher",
            "prune": False,
            "tags": {},
        }
        words = [sys.executable, "-m", "seqtoolkit.sweep.trial", str(tmp_path / "none")]
        done = subprocess.run(words, input=json.dumps(facts).encode() + b"\n", capture_output=True, check=False)
        assert done.returncode == -signal.SIGTERM

    def test_it_is_begun_by_a_sweep(self, tmp_path):
        """Without an order it says what begins it."""
        words = [sys.executable, "-m", "seqtoolkit.sweep.trial", str(tmp_path)]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False, text=True)
        assert done.returncode == 2
        assert done.stderr.startswith("a trial is begun by a sweep")
