"""Fixtures: the wheels, and environments outside of the checkout in which they are installed."""

import fcntl
import json
import os
import shlex
import subprocess
import sys
import venv
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))


class Environment:
    """An environment of its own, and a working directory, both outside of the checkout."""

    def __init__(self, home: Path, work: Path) -> None:
        self.home, self.work = home, work
        work.mkdir(exist_ok=True)
        self.variables = {name: os.environ[name] for name in ("HOME", "XDG_CACHE_HOME") if name in os.environ}
        self.variables |= {"PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        # The wheels' own ranges say what is installed; the pins only say which version of it.
        self.variables |= {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "PIP_CONSTRAINT": str(ROOT / "requirements.txt")}

    def __call__(self, *command: str | Path, code: int = 0) -> str:
        """What a command of the environment prints, with this exit code; where it is to fail, what it says of that."""
        done = subprocess.run(
            [self.home / "bin" / command[0], *command[1:]],
            cwd=self.work,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=800,
        )
        assert done.returncode == code, f"{command}: exit code {done.returncode}: {done.stdout}{done.stderr}"
        return done.stderr if code else done.stdout

    def python(self, program: str) -> object:
        """What a program prints, as JSON."""
        return json.loads(self("python", "-c", f"import json; {program}"))

    def install(self, *wanted: str | Path) -> None:
        """Install wheels, or what they are named, by pip."""
        self("python", "-m", "pip", "install", "-q", "--no-compile", *wanted)


def needed(site: Path) -> list[Distribution]:
    """What the distributions in `site` need by their own word, directly or not, as it is installed where the tests run."""
    own = [*distributions(path=[str(site)])]
    seen = {(canonicalize_name(each.name), "") for each in own}
    found, waiting = {}, [(each, "") for each in own]
    while waiting:
        user, extra = waiting.pop()
        for requirement in map(Requirement, user.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                name = canonicalize_name(requirement.name)
                for key in {(name, each) for each in ("", *requirement.extras)} - seen:
                    seen.add(key)
                    found[name] = Distribution.from_name(name)
                    waiting.append((found[name], key[1]))
    return [*found.values()]


def lend(site: Path, lent: list[Distribution]) -> None:
    """Put links to the files of these distributions into `site`; one for a whole folder that no other has files in."""
    names = {each.name for each in lent}
    others = [each for each in distributions() if each.name not in names]
    shared = {folder for other in others for file in other.files or () for folder in file.parents}
    for each in lent:
        for file in each.files or ():
            if {"..", "__pycache__"}.isdisjoint(file.parts):
                place = next(part for part in (*reversed(file.parents), file) if part not in shared)
                if not (site / place).is_symlink():
                    (site / place).parent.mkdir(parents=True, exist_ok=True)
                    (site / place).symlink_to(each.locate_file(place))


@pytest.fixture(scope="session")
def build():
    """Builds the wheels of some projects into a folder."""

    def make(folder: Path, *projects: Path) -> list[Path]:
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder]
        subprocess.run([*command, *projects], check=True, cwd=folder.parent, timeout=300)
        return sorted(folder.glob("*.whl"))

    return make


@pytest.fixture(scope="session")
def _shelf(tmp_path_factory, build):
    """The folder of the wheels and of an environment that has them, made by the first test process that comes by.

    It has of this environment what the wheels say that they need, and nothing else: installing that anew takes a minute.
    """
    base = tmp_path_factory.getbasetemp()
    shelf = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shelf"
    shelf.mkdir(exist_ok=True)
    with (shelf / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shelf / "ready").exists():
            wheels = build(shelf / "wheels", ROOT, *PLUGINS)
            venv.create(shelf / "venv", clear=True)
            (site,) = (shelf / "venv").glob("lib/python*/site-packages")
            lend(site, [Distribution.from_name("pip")])
            Environment(shelf / "venv", shelf / "work").install("--no-deps", *wheels)
            lend(site, needed(site))
            (shelf / "ready").touch()
    return shelf


@pytest.fixture(scope="session")
def wheels(_shelf):
    """Every wheel, by the name of its package."""
    return {path.name.partition("-")[0]: path for path in (_shelf / "wheels").glob("*.whl")}


@pytest.fixture
def installed(_shelf, tmp_path):
    """An environment that has the wheels and what they need; nobody installs anything else in it."""
    return Environment(_shelf / "venv", tmp_path / "work")


@pytest.fixture(scope="session")
def lay(_shelf, wheels):
    """Makes an environment in a folder that has the wheels itself, and below them what the installed one has."""

    def make(folder: Path) -> Environment:
        environment = Environment(folder / "venv", folder / "work")
        venv.create(environment.home, symlinks=True)
        (site,) = environment.home.glob("lib/python*/site-packages")
        (below,) = (_shelf / "venv").glob("lib/python*/site-packages")
        (site / "below.pth").write_text(f"import site; site.addsitedir({str(below)!r})\n")
        pip = environment.home / "bin" / "pip"
        pip.write_text(f'#!/bin/sh\nexec {shlex.quote(str(environment.home / "bin" / "python"))} -m pip "$@"\n')
        pip.chmod(0o755)
        environment.install("--no-deps", "--ignore-installed", *wheels.values())
        return environment

    return make
