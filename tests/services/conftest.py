"""Services for the tests beside: PostgreSQL, a tracking server over HTTP, MLflow's pages in Chromium; all on loopback."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import psycopg2
import pytest
from omegaconf import OmegaConf
from playwright.sync_api import sync_playwright

from seqtoolkit.run import Pipeline

SHOTS = Path(__file__).parents[2] / "build" / "services"
QUIET = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
SMALL = [
    *("source.nesting=1", "batch.size=16", "model.head.sizes=[16]", "track.system_metrics=false"),
    *("run.steps=40", "run.log_every=5", "run.checkpoint_every=0"),
    *("evaluate.every=10", "evaluate.examples=40", "evaluate.test_examples=40"),
]
PATIENCE = 400
"""Seconds, for machines that are busy."""


def pytest_sessionstart(session):
    """Remove the pictures of the last time, once for all test processes."""
    if not hasattr(session.config, "workerinput"):
        shutil.rmtree(SHOTS, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """What stands in this folder is for `make test-services`."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.services)
            item.add_marker(pytest.mark.timeout(900))


def free_port():
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def process(command, log, **options):
    """A program in a group of its own, which is gone afterwards, whatever happens."""
    with log.open("wb") as out:
        made = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **options, process_group=0)
    try:
        yield made
    finally:
        for number in (signal.SIGINT, signal.SIGKILL):
            try:
                os.killpg(made.pid, number)
                made.wait(20)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        made.wait()


def until(answers, running, log):
    """Wait until `answers` gives something, while the program is running; give that."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert running.poll() is None, log.read_text()
        if found := answers():
            return found
        time.sleep(0.1)
    raise AssertionError(f"no answer in {PATIENCE} s\n{log.read_text()}")


def healthy(address):
    """Whether an MLflow server answers."""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5):
            return True
    except OSError:
        return False


@pytest.fixture(scope="session", autouse=True)
def _plain():
    """None of MLflow's settings, and one thread."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            patch.delenv(name)
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("DISPLAY", raising=False)
        patch.delenv("WAYLAND_DISPLAY", raising=False)
        yield


@pytest.fixture(scope="session")
def postgres():
    """PostgreSQL with an empty cluster; call it for the address of a database, made where there is none."""
    (bin_,) = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]
    home = Path(tempfile.mkdtemp(prefix="postgres-"))
    someone = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(home, "postgres", "postgres")
        someone = {"user": "postgres", "group": "postgres", "extra_groups": []}
    data, port = home / "data", free_port()
    initdb = [bin_ / "initdb", "-D", data, "-U", "seqtoolkit", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": home, "fsync": "off"}
    options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    root = f"postgresql://seqtoolkit@127.0.0.1:{port}"

    def answers():
        try:
            psycopg2.connect(f"{root}/postgres").close()
        except psycopg2.OperationalError:
            return False
        return True

    def database(name):
        connection = psycopg2.connect(f"{root}/postgres")
        connection.autocommit = True  # databases are not made in a transaction
        with connection.cursor() as cursor, suppress(psycopg2.errors.DuplicateDatabase):
            cursor.execute(f"CREATE DATABASE {name}")
        connection.close()
        return f"{root}/{name}".replace("postgresql:", "postgresql+psycopg2:")

    try:
        subprocess.run(initdb, cwd=home, check=True, capture_output=True, **someone)
        log = home.with_name(f"{home.name}.log")
        with process([bin_ / "postgres", "-D", data, *options], log, cwd=home, **someone) as running:
            until(answers, running, log)
            yield database
    finally:
        shutil.rmtree(home)
        home.with_name(f"{home.name}.log").unlink(missing_ok=True)


@pytest.fixture(scope="session")
def server(postgres, tmp_path_factory):
    """The address of a real tracking server, with PostgreSQL behind it."""
    home, port = tmp_path_factory.mktemp("server"), free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", postgres("mlflow"), "--artifacts-destination", home / "files"]
    address = f"http://127.0.0.1:{port}"
    with process(command, home / "log", cwd=home, env=os.environ | QUIET) as running:
        until(lambda: healthy(address), running, home / "log")
        yield address


@pytest.fixture(scope="session")
def learned(tmp_path_factory):
    """A folder with an SQLite store, in which two cores have learned from two seeds each."""
    home = tmp_path_factory.mktemp("learned")
    pipeline(home)
    runs = [(f"model.core={core}", f"run.seed={seed}") for core in ("rmc", "lstm") for seed in (0, 1)]
    with ThreadPoolExecutor(2) as both:
        list(both.map(lambda settings: typed(home, "run", "program_eval.yaml", *settings), runs))
    return home


def pipeline(home):
    """Write a small pipeline to the folder `home`."""
    resolved = Pipeline.load("program_eval", SMALL).plan.resolved
    (home / "program_eval.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(resolved)))


def typed(home, *words, code=0):
    """What a command of seqtoolkit prints in the folder `home`."""
    command = [sys.executable, "-m", "seqtoolkit", *map(str, words)]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def tool():
    """What tests do: type a command, start `seqtoolkit ui`, take pictures."""

    @contextmanager
    def pages(home, *words):
        """`seqtoolkit ui` at work: its process and the address that it printed."""
        log = home / "ui.log"
        command = [sys.executable, "-m", "seqtoolkit", "ui", "--no-open", "--port", str(free_port()), *words]
        with process(command, log, cwd=home) as running:
            (address, *_) = until(lambda: log.read_text().split(), running, log)
            yield SimpleNamespace(process=running, address=address)

    return SimpleNamespace(type=typed, pages=pages, pipeline=pipeline)


@pytest.fixture(scope="session")
def chromium():
    """Debian's Chromium, without a display."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as player:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = player.chromium.launch(executable_path=path, args=["--no-sandbox"], headless=True)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, request):
    """Visit a page: its window, with what went wrong in it in `errors`, and `shot` to keep a picture in build/services."""
    context = chromium.new_context(viewport={"width": 1500, "height": 950})

    def visited(address):
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.errors, page.asked = [], []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda line: page.errors.append(line.text) if line.type == "error" else None)
        page.on("request", lambda asked: page.asked.append(asked.url))
        page.shot = lambda name: page.screenshot(path=SHOTS / f"{name}.png")
        page.goto(address)
        return page

    yield visited
    for number, page in enumerate(context.pages):
        if getattr(request.node, "failed", False):
            page.screenshot(path=SHOTS / f"failed-{request.node.name}-{number}.png")
    context.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Let `visit` know whether its test has failed."""
    report = yield
    item.failed = getattr(item, "failed", False) or report.failed
    return report
