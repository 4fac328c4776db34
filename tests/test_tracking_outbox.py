"""The outbox and its courier: nothing is lost and nothing is doubled, whatever fails and whenever."""

import errno
import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqtoolkit.train.tracking import lock, outbox
from seqtoolkit.train.tracking.courier import Courier
from seqtoolkit.train.tracking.delivery import follow, settle
from seqtoolkit.train.tracking.journal import Journal
from seqtoolkit.train.tracking.lock import hold
from seqtoolkit.train.tracking.outbox import State
from seqtoolkit.train.tracking.store import Refused, Unreachable

RUN = {
    "kind": "run",
    "store": "http://store",
    "experiment": "e",
    "name": "n",
    "key": "k",
    "time": 1,
    "tags": {"a": "b"},
}
RESUME = {"kind": "resume", "store": None, "run": None, "time": 1, "tags": {}}
END = {"kind": "end", "status": "FINISHED", "error": None, "time": 9}


def _metrics(step, **values):
    return {"kind": "metrics", "step": step, "time": 100 + step, "values": values or {"loss": step / 2}}


class _World:
    """A store as it looks from inside; `plan` says what happens to each call: done, lost (the call) or unanswered."""

    uri = "http://store"

    def __init__(self, plan=()):
        self.plan = list(plan)
        self.runs = {}
        self.calls = []
        self.files = []
        self.refuse = lambda point: False
        self.artifacts_fail = False
        self.there = True

    def __call__(self, uri):
        assert uri == self.uri
        return self

    def _act(self, name, action):
        fate = self.plan.pop(0) if self.plan else "done"
        if fate == "lost":
            raise Unreachable("no route")
        self.calls.append(name)
        result = action()
        if fate == "unanswered":
            raise Unreachable("no answer")
        return result

    def experiment(self, name):
        return self._act("experiment", lambda: f"id of {name}")

    def create(self, experiment, name, time, tags):
        run = f"run{len(self.runs)}"
        new = {"experiment": experiment, "tags": tags, "points": [], "params": {}, "status": "RUNNING"}
        self._act("create", lambda: self.runs.__setitem__(run, new))
        return run

    def find(self, experiment, key):
        found = [run for run, what in self.runs.items() if what["tags"]["seqtoolkit.key"] == key]
        return self._act("find", lambda: found[0] if found else None)

    def reopen(self, run, tags):
        self._act("reopen", lambda: self.runs[run].update(status="RUNNING"))
        return self.runs[run]["experiment"]

    def params(self, run, params):
        self._act("params", lambda: self.runs[run]["params"].update(params))

    def metrics(self, run, points):
        if any(map(self.refuse, points)):
            raise Refused("never")
        self._act("metrics", lambda: self.runs[run]["points"].extend(points))

    def artifact(self, run, path, folder):
        if self.artifacts_fail:
            raise Unreachable("no bucket")
        self._act("artifact", lambda: self.files.append((folder, path.name, path.read_text())))

    def end(self, run, status, error, time):
        self._act("end", lambda: self.runs[run].update(status=status))

    def answers(self):
        return self.there


def _write(folder, *lines):
    journal = Journal(folder / outbox.JOURNAL)
    for line in lines:
        journal.put(line)
    journal.close()


def _deliver_all(folder, world):
    courier = Courier(folder, lambda **event: None, world)
    assert courier.empty()
    return courier.finish()


@given(
    steps=st.integers(0, 12),
    plan=st.lists(st.sampled_from(["done", "lost", "unanswered", "killed"]), max_size=25),
)
@settings(max_examples=150, deadline=None)
def test_whatever_fails_all_arrives_in_one_run(tmp_path_factory, steps, plan):
    """Calls are lost, answers are lost, the courier is killed after any call: one run, every point, the right end."""
    folder = tmp_path_factory.mktemp("run")
    params = {"kind": "params", "params": {"x": "1"}}
    _write(folder, RUN, params, *map(_metrics, range(steps)), END)
    world = _World(fate if fate != "killed" else "unanswered" for fate in plan)
    courier = Courier(folder, lambda **event: None, world)
    for fate in plan:
        if fate == "killed":
            courier = Courier(folder, lambda **event: None, world)
        try:
            courier.advance()
        except Unreachable:
            continue
    world.plan = []
    assert _deliver_all(folder, world) == 0
    assert list(world.runs) == ["run0"]
    run = world.runs["run0"]
    assert {point.step for point in run["points"]} == set(range(steps))
    assert all(point == ("loss", point.step / 2, 100 + point.step, point.step) for point in run["points"])
    assert (run["status"], run["params"]) == ("FINISHED", {"x": "1"})
    assert not (folder / outbox.JOURNAL).exists()


def test_a_new_courier_goes_on_where_the_last_one_was(tmp_path):
    """What was delivered is not sent again by the next courier, and it knows the run."""
    _write(tmp_path, RUN, _metrics(0), {"kind": "params", "params": {}}, _metrics(1), END)
    world = _World()
    while Courier(tmp_path, lambda **event: None, world).advance():
        pass
    assert world.calls == ["experiment", "create", "metrics", "params", "metrics", "end"]


def test_a_line_that_is_being_written_is_left_for_later(tmp_path):
    """Half a line is not there yet; when the rest comes, it is delivered whole."""
    _write(tmp_path, RUN)
    line = json.dumps(_metrics(1)) + "\n"
    world = _World()
    courier = Courier(tmp_path, lambda **event: None, world)
    for part in (line[:20], line[20:]):
        with (tmp_path / outbox.JOURNAL).open("a") as file:
            file.write(part)
        assert courier.empty()
    assert [point.step for point in world.runs["run0"]["points"]] == [1]


def test_points_travel_together(tmp_path):
    """A thousand points are one call, and no call has more."""
    _write(tmp_path, RUN, *(_metrics(step, a=1.0, b=2.0) for step in range(1250)))
    world = _World()
    assert Courier(tmp_path, lambda **event: None, world).empty()
    assert world.calls == ["experiment", "create", "metrics", "metrics", "metrics"]
    assert len(world.runs["run0"]["points"]) == 2500


def test_what_the_store_refuses_is_set_aside(tmp_path):
    """One point that is refused costs no other; it is kept with the reason, and not offered again."""
    _write(tmp_path, RUN, *(_metrics(step) for step in range(5)), END)
    world = _World()
    world.refuse = lambda point: point.step == 3
    assert _deliver_all(tmp_path, world) == 0
    assert sorted(point.step for point in world.runs["run0"]["points"]) == [0, 1, 2, 4]
    rejected = [json.loads(line) for line in (tmp_path / outbox.REJECTED).read_text().splitlines()]
    assert [(each["step"], each["reason"]) for each in rejected] == [(3, "never")]
    assert world.runs["run0"]["status"] == "FINISHED"


def test_a_store_without_its_artifacts_still_gets_the_rest(tmp_path):
    """Where only files cannot be stored, the rest goes on, the files are kept, and a later delivery brings them."""
    (tmp_path / "picture.png").write_text("colors")
    snapshot = outbox.snapshot(tmp_path / "picture.png", tmp_path)
    artifact = {"kind": "artifact", "path": str(snapshot.relative_to(tmp_path)), "folder": "plots"}
    _write(tmp_path, RUN, artifact, _metrics(1), END)
    world = _World()
    world.artifacts_fail = True
    assert _deliver_all(tmp_path, world) == 1
    assert len(world.runs["run0"]["points"]) == 1
    assert outbox.backlog(tmp_path) == 1
    world.artifacts_fail = False
    assert _deliver_all(tmp_path, world) == 0
    assert world.files == [("plots", "picture.png", "colors")]
    assert not (tmp_path / outbox.FILES).exists()


def test_what_was_postponed_stays_when_the_store_is_gone(tmp_path):
    """Files that were postponed are all still there after a try at which the store did not answer."""
    artifacts = []
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
        snapshot = outbox.snapshot(tmp_path / name, tmp_path)
        artifacts.append({"kind": "artifact", "path": str(snapshot.relative_to(tmp_path)), "folder": ""})
    _write(tmp_path, RUN, *artifacts, END)
    world = _World()
    world.artifacts_fail = True
    assert _deliver_all(tmp_path, world) == 3
    world.there = False
    assert _deliver_all(tmp_path, world) == 3
    assert outbox.backlog(tmp_path) == 3
    world.there, world.artifacts_fail = True, False
    assert _deliver_all(tmp_path, world) == 0
    assert sorted(content for _, _, content in world.files) == ["a", "b", "c"]


def test_a_file_waits_in_its_turn_for_a_store_that_is_gone(tmp_path):
    """Where the store does not answer at all, nothing is postponed: the outbox stays in order."""
    (tmp_path / "a").write_text("a")
    path = outbox.snapshot(tmp_path / "a", tmp_path).relative_to(tmp_path)
    _write(tmp_path, RUN, {"kind": "artifact", "path": str(path), "folder": ""}, _metrics(1), END)
    world = _World()
    world.artifacts_fail, world.there = True, False
    courier = Courier(tmp_path, lambda **event: None, world)
    assert not courier.empty()
    assert (outbox.backlog(tmp_path), courier.state.postponed) == (3, [])


def test_a_run_without_an_end_is_killed_and_can_go_on(tmp_path):
    """When the writer died, the run becomes KILLED; going on in the folder reopens the same run."""
    _write(tmp_path, RUN, _metrics(0))
    world = _World()
    _deliver_all(tmp_path, world)
    assert world.runs["run0"]["status"] == "KILLED"
    _write(tmp_path, RESUME, _metrics(1), END)
    assert _deliver_all(tmp_path, world) == 0
    assert world.runs["run0"]["status"] == "FINISHED"
    assert [point.step for point in world.runs["run0"]["points"]] == [0, 1]


def test_the_old_courier_leaves_a_run_that_goes_on(tmp_path, monkeypatch):
    """A courier whose process has died does not say KILLED while a new process writes the same outbox."""
    _write(tmp_path, RUN, _metrics(0))
    world = _World()
    monkeypatch.setattr("seqtoolkit.train.tracking.courier.Courier.__init__.__defaults__", (world,))
    closed = threading.Event()
    closed.set()
    with hold(tmp_path / outbox.JOURNAL):
        follow(tmp_path, closed, lambda **event: None)
    assert world.runs["run0"]["status"] == "RUNNING"
    follow(tmp_path, closed, lambda **event: None)
    assert world.runs["run0"]["status"] == "KILLED"


def test_leftovers_of_earlier_runs_go_along(tmp_path, monkeypatch):
    """A courier with nothing to do delivers the runs beside its own, but none that is being worked on."""
    for name in ("own", "left", "busy"):
        (tmp_path / name).mkdir()
        _write(tmp_path / name, RUN | {"key": name}, _metrics(0), END)
    world = _World()
    monkeypatch.setattr("seqtoolkit.train.tracking.courier.Courier.__init__.__defaults__", (world,))
    closed, heard = threading.Event(), []

    def say(**event):
        heard.append(event)
        if "busy" in event.get("text", ""):
            closed.set()

    monkeypatch.setattr(
        "seqtoolkit.train.tracking.outbox.find", lambda folder: [folder / name for name in ("left", "own", "busy")]
    )
    with hold(tmp_path / "busy" / outbox.JOURNAL):
        assert follow(tmp_path / "own", closed, say) == 0
    assert {what["tags"]["seqtoolkit.key"] for what in world.runs.values()} == {"own", "left"}
    assert outbox.backlog(tmp_path / "busy") == 3
    assert settle(tmp_path / "busy", say) == 0


def test_an_unreachable_store_is_tried_a_few_times_at_the_end(tmp_path, monkeypatch):
    """At the end of a run the courier gives up after three tries and says how much is left."""
    _write(tmp_path, RUN, _metrics(0), END)
    world = _World(["lost"] * 10)
    monkeypatch.setattr("seqtoolkit.train.tracking.courier.Courier.__init__.__defaults__", (world,))
    monkeypatch.setattr("seqtoolkit.train.tracking.delivery.time.sleep", lambda seconds: None)
    closed, heard = threading.Event(), []
    closed.set()
    assert follow(tmp_path, closed, lambda **event: heard.append(event["event"])) == 3
    assert heard.count("offline") == 3
    assert len(world.plan) == 7


def test_passwords_are_not_written_down(tmp_path, monkeypatch):
    """The state has the address without name and password; a later delivery takes them from the environment."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@store")
    world = _World()
    world.uri = "http://me:secret@store"
    _write(tmp_path, RUN | {"store": "http://store"}, _metrics(0))
    courier = Courier(tmp_path, lambda **event: None, world)
    assert courier.empty()
    assert "secret" not in (tmp_path / outbox.STATE).read_text()
    assert world.runs


def test_a_torn_line_is_cut_off_and_garbage_is_passed_over(tmp_path):
    """What was written before a kill stays readable; a half line goes, and a line of garbage costs only itself."""
    _write(tmp_path, RUN, _metrics(0))
    with (tmp_path / outbox.JOURNAL).open("ab") as file:
        file.write(b'\xff\x00 garbage\n[1]\n{"kind": "metrics", "st')
    _write(tmp_path, _metrics(1), END)
    world = _World()
    assert _deliver_all(tmp_path, world) == 0
    assert [point.step for point in world.runs["run0"]["points"]] == [0, 1]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"unknown": 1}', '{"sent": 0, "more": 2}'])
def test_a_broken_state_begins_anew(tmp_path, content):
    """A state file that is none is as good as absent."""
    (tmp_path / outbox.STATE).write_text(content)
    assert State.load(tmp_path) == State()


def test_the_newest_snapshot_survives_its_original(tmp_path):
    """A snapshot is what was there, when the original has been replaced or removed; of directories as well."""
    original = tmp_path / "checkpoint"
    original.mkdir()
    (original / "weights").write_text("first")
    snapshot = outbox.snapshot(original, tmp_path)
    (original / "weights.new").write_text("second")
    (original / "weights.new").replace(original / "weights")
    assert (snapshot / "weights").read_text() == "first"
    assert snapshot.name == "checkpoint"
    with pytest.raises(OSError, match="nothing"):
        outbox.snapshot(tmp_path / "nothing", tmp_path)


class TestJournal:
    """The file of lines."""

    def test_lines_come_out_as_they_went_in(self, tmp_path):
        """Numbers of every kind, infinities and text are read back, in order."""
        values = {"a": 1, "b": np.float32(0.5), "c": float("inf"), "d": True, "e": "ü\n"}
        _write(tmp_path, *({"n": n, **values} for n in range(2500)))
        lines = [json.loads(line) for line in (tmp_path / outbox.JOURNAL).read_text().splitlines()]
        assert [line["n"] for line in lines] == list(range(2500))
        assert lines[0] == {"n": 0, "a": 1, "b": 0.5, "c": float("inf"), "d": True, "e": "ü\n"}

    def test_what_is_no_number_costs_only_its_line(self, tmp_path, caplog):
        """A value that cannot be written is said, and the lines around it are kept."""
        _write(tmp_path, {"n": 1}, {"n": object()}, {"n": 2})
        assert [json.loads(line) for line in (tmp_path / outbox.JOURNAL).read_text().splitlines()] == [
            {"n": 1},
            {"n": 2},
        ]
        assert "object" in caplog.text

    def test_a_full_disk_loses_nothing_while_memory_lasts(self, tmp_path, monkeypatch, caplog):
        """Lines wait while the disk is full, half-written ones are taken back, and the newest survive the limit."""
        journal = Journal(tmp_path / "j", every=1000, limit=2000)
        journal.put({"n": -1})
        journal.flush()
        real = os.pwrite

        def half(descriptor, data, offset):
            if offset > real_size:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(descriptor, data[:5], offset)

        real_size = (tmp_path / "j").stat().st_size
        monkeypatch.setattr(os, "pwrite", half)
        for n in range(1500):
            journal.put({"n": n})
        with pytest.raises(OSError, match="No space"):
            journal.flush()
        assert (tmp_path / "j").read_text() == '{"n": -1}\n'
        for n in range(1500, 4000):
            journal.put({"n": n})
        monkeypatch.setattr(os, "pwrite", real)
        journal.close()
        numbers = [json.loads(line)["n"] for line in (tmp_path / "j").read_text().splitlines()]
        assert numbers == [-1, *range(1000), *range(2000, 4000)]
        assert "1000 lines" in caplog.text

    def test_a_killed_process_keeps_what_it_wrote(self, tmp_path):
        """After SIGKILL the file has all whole lines that were there when it was last looked at."""
        code = (
            "import sys, itertools, time\nfrom pathlib import Path\n"
            "from seqtoolkit.train.tracking.journal import Journal\n"
            "journal = Journal(Path(sys.argv[1]), every=0.02)\n"
            "for n in itertools.count():\n    journal.put({'n': n})\n    time.sleep(0.0005)\n"
        )
        path = tmp_path / "j"
        process = subprocess.Popen([sys.executable, "-c", code, str(path)])
        while not path.exists() or path.stat().st_size < 5000:
            time.sleep(0.01)
        seen = path.stat().st_size
        process.kill()
        process.wait()
        assert path.stat().st_size >= seen
        Journal(path).close()
        numbers = [json.loads(line)["n"] for line in path.read_text().splitlines()]
        assert numbers == list(range(len(numbers)))

    def test_two_writers_are_one_too_many(self, tmp_path, monkeypatch):
        """A journal that another one has open cannot be opened; closing it frees it, and put after that is nothing."""
        first = Journal(tmp_path / "j")
        monkeypatch.setattr("seqtoolkit.train.tracking.journal.hold", lambda path, wait: hold(path))
        with pytest.raises(BlockingIOError, match="another process"):
            Journal(tmp_path / "j")
        first.close()
        first.put({"late": 1})
        first.close()
        Journal(tmp_path / "j").close()
        assert (tmp_path / "j").read_bytes() == b""


def test_a_lock_on_a_file_that_its_holder_removed_is_none(tmp_path, monkeypatch):
    """Who got the lock of a file that was removed meanwhile locks the file that is there now, as all others do."""
    path = tmp_path / "lock"
    first = hold(path)
    assert hold(path) is None
    first.release()
    real = lock._locked

    def removed_in_between(descriptor):
        monkeypatch.setattr(lock, "_locked", real)
        path.unlink()
        return real(descriptor)

    monkeypatch.setattr(lock, "_locked", removed_in_between)
    assert hold(path) is None
    second = hold(path, wait=0.1)
    assert hold(path) is None
    second.release()
