"""Tracking servers that are slow, silent, dead, or no tracking servers: training goes on and nothing is lost."""

import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import pytest

from seqtoolkit.train.tracking import MLflowTracker, deliver, outbox
from seqtoolkit.train.tracking.store import Refused, Store


@pytest.fixture(autouse=True)
def settings(monkeypatch, tmp_path):
    """None of MLflow's settings, and a working directory of one's own."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tmp_path):
    """A run's folder."""
    path = tmp_path / "runs" / "one"
    path.mkdir(parents=True)
    return path


def _start(tracker, folder, **changes):
    tracker.patience = 60.0 if tracker.patience == 5.0 else tracker.patience  # for slow machines
    return tracker.start(**{"name": "a name", "params": {"lr": 0.1}, "tags": {"a": "b"}, "folder": folder} | changes)


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class TestWithoutAServer:
    """Addresses at which nothing, or something else, answers."""

    def test_nobody_there(self, folder, caplog):
        """A refused connection gives no id at once; the run, its creation included, is kept and said."""
        tracker = MLflowTracker(tracking_uri=f"http://me:secret@127.0.0.1:{_free_port()}", system_metrics=False)
        assert _start(tracker, folder) is None
        assert "kept in" in tracker.where()
        tracker.log({"loss": 1.0}, 1)
        tracker.end("FINISHED")
        assert "(http://127.0.0.1:" in caplog.text
        assert ": Connection refused)" in caplog.text
        assert "4 items are not delivered yet; they are kept in" in caplog.text
        assert [line.item["kind"] for line in outbox.read(folder, 0)] == ["run", "params", "metrics", "end"]
        assert not any(b"secret" in path.read_bytes() for path in folder.iterdir())
        assert "secret" not in caplog.text + tracker.where()

    def test_a_server_that_never_answers(self, folder, caplog):
        """Neither start nor end waits longer than it was told for a server that accepts and keeps silent."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            tracker = MLflowTracker(tracking_uri=f"http://127.0.0.1:{silent.getsockname()[1]}", system_metrics=False)
            tracker.patience = 0.2
            assert _start(tracker, folder) is None
            silent.accept()  # the courier waits for an answer now, and will for ten seconds
            for step in range(1000):
                tracker.log({"loss": 1.0}, step)
            tracker.end("FINISHED", timeout=0.2)
            assert tracker._dispatch.process.poll() == -signal.SIGKILL
        assert outbox.backlog(folder) == 1003
        assert "1003 items are not delivered yet" in caplog.text

    @pytest.mark.parametrize("status", [401, 404])
    def test_an_address_of_something_else(self, status):
        """A server that denies us, or is no MLflow, refuses at the start, in one line with the status."""

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_error(status)

            def log_message(self, *arguments):
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            with pytest.raises(Refused, match=f"{status}") as caught:
                Store(f"http://127.0.0.1:{server.server_port}").experiment("e")
            server.shutdown()
        assert "\n" not in str(caught.value)


class _Server:
    """A real MLflow server that can be stopped, killed and started again."""

    def __init__(self, home):
        self.home, self.port = home, _free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        command = [
            *(
                sys.executable,
                "-m",
                "mlflow",
                "server",
                "--host",
                "127.0.0.1",
                "--port",
                str(self.port),
                "--workers",
                "1",
            ),
            *(
                "--backend-store-uri",
                f"sqlite:///{self.home}/mlflow.db",
                "--artifacts-destination",
                str(self.home / "files"),
            ),
        ]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=os.environ | quiet, cwd=self.home, stdout=log, stderr=log, start_new_session=True
            )
        while True:
            try:
                with urllib.request.urlopen(f"{self.uri}/health"):
                    return
            except OSError:
                assert self.process.poll() is None, (self.home / "log").read_text()
                time.sleep(0.1)

    def signal(self, number):
        os.killpg(self.process.pid, number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The server, running at the beginning of each test."""
    server = _Server(tmp_path_factory.mktemp("server"))
    Store(f"sqlite:///{server.home}/mlflow.db")
    server.start()
    yield server
    server.kill()


@pytest.mark.slow
@pytest.mark.timeout(150)
class TestServer:
    """A real server over HTTP."""

    def test_it_stops_dies_and_comes_back(self, folder, server, caplog):
        """Stopped and killed in the middle of a run, it has every point, file and the status after it came back."""
        tracker = MLflowTracker(tracking_uri=server.uri, system_metrics=False)
        run = _start(tracker, folder)
        page = f"{server.uri}/#/experiments/{tracker._dispatch.experiment}/runs/{run}"
        assert tracker.where() == f"MLflow: {page}?workflowType=machine_learning"
        for step in range(500):
            tracker.log({"loss": step, "nan": float("nan"), "inf": float("-inf")}, step)
        server.signal(signal.SIGSTOP)
        for step in range(500, 1500):
            tracker.log({"loss": step}, step)
        (folder / "plot.png").write_text("picture")
        tracker.artifact(folder / "plot.png", "plots")
        time.sleep(2)  # lets the courier meet the stopped server; what is asserted holds either way
        server.kill()
        for step in range(1500, 2500):
            tracker.log({"loss": step}, step)
        tracker._journal.flush()
        while not tracker._dispatch.offline:
            time.sleep(0.05)
        server.start()
        while outbox.backlog(folder):
            time.sleep(0.05)
        tracker.log({"loss": -1.0}, 2500)
        tracker.end("FINISHED")
        client = Store(server.uri)._client
        found = client.get_run(run)
        assert (found.info.status, found.data.params, found.data.tags["a"]) == ("FINISHED", {"lr": "0.1"}, "b")
        steps = [metric.step for metric in client.get_metric_history(run, "loss")]
        assert sorted(steps) == list(range(2501))
        assert [each.path for each in client.list_artifacts(run, "plots")] == ["plots/plot.png"]
        assert "does not answer" in caplog.text
        assert "answers again" in caplog.text
        assert not (folder / outbox.JOURNAL).exists()

    def test_a_run_that_it_never_saw_is_delivered_later(self, folder, server):
        """A whole run without the server appears with its name, params, times, files and status when there is one."""
        server.kill()
        tracker = MLflowTracker(experiment="later", tracking_uri=server.uri, system_metrics=False)
        before = time.time_ns() // 1_000_000
        assert _start(tracker, folder) is None
        tracker.log({"loss": 0.5}, 7)
        (folder / "config.yaml").write_text("a: 1")
        tracker.artifact(folder / "config.yaml")
        after = time.time_ns() // 1_000_000
        tracker.end("FAILED", error="KeyError: 'x'")
        assert outbox.backlog(folder) == 5
        assert deliver(folder.parent) == 5
        server.start()
        assert deliver(folder.parent) == 0
        client = Store(server.uri)._client
        (found,) = client.search_runs([client.get_experiment_by_name("later").experiment_id])
        assert (found.info.run_name, found.info.status, found.data.params) == ("a name", "FAILED", {"lr": "0.1"})
        assert found.data.tags["error"] == "KeyError: 'x'"
        (point,) = client.get_metric_history(found.info.run_id, "loss")
        assert (point.step, point.value) == (7, 0.5)
        assert before <= found.info.start_time <= point.timestamp <= after <= found.info.end_time
        assert [each.path for each in client.list_artifacts(found.info.run_id)] == ["config.yaml"]
        assert outbox.State.load(folder).run == found.info.run_id

    def test_what_was_left_goes_with_the_next_run(self, folder, server):
        """A run that starts beside an undelivered one delivers it on the way; both are on the server once."""
        server.kill()
        tracker = MLflowTracker(experiment="next", tracking_uri=server.uri, system_metrics=False)
        _start(tracker, folder)
        tracker.end("FINISHED")
        server.start()
        (folder.parent / "two").mkdir()
        tracker = MLflowTracker(experiment="next", tracking_uri=server.uri, system_metrics=False)
        _start(tracker, folder.parent / "two")
        while (folder / outbox.JOURNAL).exists():
            time.sleep(0.05)
        tracker.end("FINISHED")
        client = Store(server.uri)._client
        found = client.search_runs([client.get_experiment_by_name("next").experiment_id])
        assert [each.info.status for each in found] == ["FINISHED"] * 2
