"""What is published and what sets it up: versions, dependencies, licences, the Makefile."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement  # pytest depends on it
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECTS = [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]
HOMES = packages_distributions()

each_project = pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name if path != ROOT else "host")


def read(project: Path) -> dict:
    """The `project` table of a distribution."""
    return tomllib.loads((project / "pyproject.toml").read_text())["project"]


def dependencies(project: Path) -> dict[str, Requirement]:
    """What a distribution depends on, its extras included, by name."""
    facts = read(project)
    extras = [line for lines in facts.get("optional-dependencies", {}).values() for line in lines]
    return {canonicalize_name(each.name): each for each in map(Requirement, [*facts["dependencies"], *extras])}


def pins() -> dict[str, str]:
    """The versions in requirements.txt."""
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    wanted = r"([\w-]+)==([\w.]+)(; platform_system == \"Linux\")?"
    found = [re.fullmatch(wanted, line) for line in lines]
    assert all(found), "each line pins one name: name==version, on Linux alone where it says so"
    return {canonicalize_name(each[1]): each[2] for each in found}


def imported(*folders: Path) -> set[str]:
    """The modules outside of the standard library that the files in folders import, by their first names."""
    trees = [ast.parse(path.read_text()) for folder in folders for path in folder.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = [each.name for node in nodes if isinstance(node, ast.Import) for each in node.names]
    names += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names


def providers(module: str) -> set[str]:
    """The distributions that a module may come from."""
    return {canonicalize_name(name) for name in HOMES.get(module, [module])}


@each_project
def test_one_version(project):
    """The host and its plugins are released together, under one version and one licence, for one range of Pythons."""
    facts, host = read(project), read(ROOT)
    assert all(facts[key] == host[key] for key in ("version", "license", "requires-python"))
    assert (project / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes(), f"cp LICENSE {project}"
    if project != ROOT:
        assert facts["name"] == f"seqtoolkit-{project.name.replace('_', '-')}"
        assert host["version"] in dependencies(project)["seqtoolkit"].specifier


@each_project
def test_dependencies_are_those_imported(project):
    """A distribution depends on what its package imports, on nothing else, and the pins lie inside its ranges."""
    package = project / ("seqtoolkit" if project == ROOT else f"seqtoolkit_{project.name}")
    declared, modules = dependencies(project), imported(package) - {package.name}
    assert not {module for module in modules if not providers(module) & declared.keys()}, "imported, but not declared"
    named = {name for path in package.rglob("*.yaml") for name in re.findall(r"package:([\w-]+)", path.read_text())}
    assert not declared.keys() - set().union(named, *map(providers, modules)), "declared, but not imported"
    for name in declared.keys() - {"seqtoolkit"}:
        assert pins()[name] in declared[name].specifier, f"requirements.txt pins {name} outside of {declared[name]}"


def test_pins_are_used():
    """Each pin is a dependency of a distribution, or a tool that the checks name or import."""
    declared = {name for project in PROJECTS for name in dependencies(project)}
    text = (ROOT / "Makefile").read_text() + (ROOT / "pyproject.toml").read_text()
    tools = set().union(*map(providers, imported(*(project / "tests" for project in PROJECTS))))
    stated = {"pytest-timeout": "timeout = ", "pytest-xdist": "--dist", "import-linter": "lint-imports"}
    unused = {name for name in pins().keys() - declared - tools if stated.get(name, name) not in text}
    assert not unused


FAKE = """#!/bin/sh
# A Python that only says what it is asked for: `-c` answers whether its version will do, `-m venv` copies itself.
case "$1 $2" in
    "-m venv") mkdir -p "$3/bin"; cp "$0" "$3/bin/python";;
    "-m pip") echo "$@" >> "$LOG";;
    "--version "*) echo "Python $VERSION";;
    *) case "$VERSION" in 3.11*|3.12*) exit 0;; *) exit 1;; esac;;
esac
"""


@pytest.fixture
def checkout(tmp_path):
    """A copy of what the set-up reads, with a fake Python; call it to make a target, and get what pip was asked for."""
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("a", "b"):
        (tmp_path / "plugins" / name).mkdir(parents=True)
        (tmp_path / "plugins" / name / "pyproject.toml").touch()
    python, log = tmp_path / "python", tmp_path / "log"
    python.write_text(FAKE)
    python.chmod(0o755)

    def make(target: str = "setup", version: str = "3.11.7") -> tuple[subprocess.CompletedProcess, list[str]]:
        log.write_text("")
        environment = {"PATH": os.environ["PATH"], "LOG": str(log), "VERSION": version}
        command = ["make", target, f"PYTHON={python}"]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        return done, log.read_text().splitlines()

    return make


def test_setup_installs_host_and_every_plugin(checkout):
    """The set-up installs the pins first, then the host and each folder of plugins/, with what is there already."""
    done, asked = checkout()
    assert done.returncode == 0, done.stderr
    assert [line.split("install ")[1] for line in asked] == [
        "-q --no-compile -r requirements.txt",
        "-q --no-deps --no-build-isolation -e . -e plugins/a -e plugins/b",
    ]


def test_setup_is_done_once(checkout, tmp_path):
    """A second set-up does nothing, until a pin, a pyproject.toml or a plugin is changed or added."""
    assert checkout()[1]
    assert not checkout()[1]
    ready = (tmp_path / ".venv" / ".ready").stat().st_mtime
    for changed in ("requirements.txt", "pyproject.toml", "plugins/b/pyproject.toml", "plugins/c/pyproject.toml"):
        (tmp_path / changed).parent.mkdir(exist_ok=True)
        (tmp_path / changed).touch()
        os.utime(tmp_path / changed, (ready + 5, ready + 5))
        assert checkout()[1], changed
        os.utime(tmp_path / changed, (ready - 5, ready - 5))
        assert not checkout()[1]


@pytest.mark.parametrize("version", ["3.10.14", "3.13.0", "2.7.18"])
def test_setup_refuses_other_pythons(checkout, tmp_path, version):
    """With a Python that will not do, the set-up says so in one line and makes nothing."""
    done, asked = checkout(version=version)
    assert done.returncode != 0
    first = done.stderr.splitlines()[0]
    assert first.startswith("seqtoolkit needs Python 3.11 or 3.12, and ")
    assert first.endswith(f"is Python {version}: make setup PYTHON=python3.12")
    assert not asked
    assert not (tmp_path / ".venv").exists()
