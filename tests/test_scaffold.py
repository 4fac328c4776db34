"""`seqtoolkit plugins new`: what it writes is whole, clean and tested, and what it cannot write it says in one line."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement  # pytest depends on it

from seqtoolkit.host.registry import discover
from seqtoolkit.scaffold import distribution
from seqtoolkit.scaffold.distribution import FORMS, ScaffoldError, write

ROOT = Path(__file__).parents[1]
LONGEST = "a" * distribution._LONGEST

each_form = pytest.mark.parametrize("form", FORMS)


def call(folder, *command, code=0):
    """What a tool prints, run in a folder; it has to end with this exit code."""
    command = [sys.executable, "-m", *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=250
    )
    assert done.returncode == code, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@each_form
def test_tests_pass_at_once(form, tmp_path):
    """The tests of a new distribution pass before it is installed, but for those that need that and say so."""
    target = write(form, f"my_{form}", tmp_path, discover())
    said = call(target, "pytest", "-q", "-rs", "-p", "no:cacheprovider")
    assert re.search(r"^\d+ passed, \d+ skipped in", said, re.MULTILINE), said
    assert "not installed: pip install -e '.[test]'" in said


@pytest.mark.parametrize(
    ("file", "right", "wrong", "law"),
    [
        ("core.py", "return state, state", "return state.flip(0), state", "rows"),
        ("source.py", "self.split, indexes,", "self.split, indexes - indexes[0],", "order"),
        pytest.param(
            "environment.py",
            "arrays.arange(self.num_envs) << 40",
            "self.num_envs << 40",
            "apart",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_tests_see_what_breaks(file, right, wrong, law, tmp_path):
    """A change that breaks a law makes the distribution's own tests fail, by the name of the law."""
    form = {"source.py": "task"}.get(file, file.removesuffix(".py"))
    target = write(form, f"my_{form}", tmp_path, discover())
    path = target / f"seqtoolkit_my_{form}" / file
    text = path.read_text()
    assert text.count(right) == 1
    path.write_text(text.replace(right, wrong))
    said = call(target, "pytest", "-p", "no:cacheprovider", f"tests/test_{path.stem}.py::test_law[{law}]", code=1)
    assert f"LawBroken: {law}" in said
    assert "1 failed in" in said


@each_form
@pytest.mark.parametrize("name", ["ab", LONGEST])
def test_code_is_clean(form, name, tmp_path):
    """However long the name, ruff has nothing to say on what is written, nor to change in it."""
    target = write(form, name, tmp_path, discover())
    call(target, "ruff", "check", "--no-cache", ".")
    call(target, "ruff", "format", "--no-cache", "--check", ".")


def test_types_are_right(tmp_path):
    """The packages are typed, and mypy finds no fault in them."""
    packages = [write(form, f"my_{form}", tmp_path, discover()) / f"seqtoolkit_my_{form}" for form in FORMS]
    # The settings and the cache of the checkout, which spare this the reading of torch.
    call(tmp_path, "mypy", "--config-file", ROOT / "pyproject.toml", "--cache-dir", ROOT / ".mypy_cache", *packages)


@each_form
def test_distribution_is_whole(form, tmp_path):
    """It has the files of a distribution, none with a gap, and says of itself what this toolkit needs to hear."""
    target = write(form, "my_part", tmp_path, discover())
    part = {"task": "source"}.get(form, form)
    files = {path.relative_to(target).as_posix(): path.read_text() for path in target.rglob("*") if path.is_file()}
    package = {
        f"seqtoolkit_my_part/{name}" for name in ("__init__.py", "py.typed", f"{part}.py", "pipelines/my_part.yaml")
    }
    tests = {"tests/test_plugin.py", f"tests/test_{part}.py"}
    assert tests < files.keys()
    assert package | tests | {"pyproject.toml", "README.md", ".gitignore"} <= files.keys()
    assert not [name for name, text in files.items() if re.search(r"\$\w|\$\{|template", name + text) or "NAME" in name]
    project = tomllib.loads(files["pyproject.toml"])["project"]
    wanted = {each.name: each for each in map(Requirement, project["dependencies"])}
    extra = {each.name: each for each in map(Requirement, project["optional-dependencies"]["test"])}
    (partner,) = extra.keys() - {"pytest"}
    plugins = {plugin.distribution: plugin for plugin in discover().plugins}
    assert plugins["seqtoolkit"].version in wanted["seqtoolkit"].specifier
    assert plugins[partner].version in extra[partner].specifier
    major, minor = map(int, plugins["seqtoolkit"].version.split(".")[:2])
    assert (f"{major + 1}.0" if major else f"0.{minor + 1}") not in wanted["seqtoolkit"].specifier
    (library,) = wanted.keys() - {"seqtoolkit"}
    assert version(library) in wanted[library].specifier


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("", ""),
        ("x", ""),
        ("é", ""),
        ("9a", ""),
        ("../up", ""),
        ("nul\0l", "nul_l"),
        ("my-core", "my_core"),
        ("MyCore", "my_core"),
        ("my core", "my_core"),
        ("my__core", "my_core"),
        ("_core", ""),
        ("core_", ""),
        (f"{LONGEST}a", ""),
    ],
)
def test_odd_name_is_refused(name, near, tmp_path):
    """A name that is no short word of small letters is one line that says what is wanted, and what is like it."""
    with pytest.raises(ScaffoldError, match=r"^NAME: wanted 2 to 28 lower-case letters, .*, got '") as caught:
        write("core", name, tmp_path, discover())
    assert str(caught.value).endswith(f"; did you mean {near}?") == bool(near)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("class", "'class' is a word of Python or YAML"),
        ("null", "'null' is a word of Python or YAML"),
        ("yes", "'yes' is a word of Python or YAML"),
        ("none", "the class of 'none' would be None, which is taken"),
        ("value_error", "the class of 'value_error' would be ValueError, which is taken"),
        ("tensor", "the class of 'tensor' would be Tensor, which is taken"),
        ("pipeline", "the class of 'pipeline' would be Pipeline, which is taken"),
        ("lstm", "core 'lstm' is brought by seqtoolkit-lstm 0.1.0 already"),
        ("program_eval", "pipeline 'program_eval' is shipped by seqtoolkit-program-eval already"),
    ],
)
def test_taken_name_is_refused(name, told, tmp_path):
    """A name that means something else is one line that says what, and whose it is."""
    with pytest.raises(ScaffoldError) as caught:
        write("core", name, tmp_path, discover())
    assert str(caught.value) == f"NAME: {told}; choose another name"
    assert not list(tmp_path.iterdir())


def test_installed_package_is_not_shadowed(tmp_path, monkeypatch):
    """A name whose package is installed already, whatever it brings, is refused."""
    (tmp_path / "seqtoolkit_other").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ScaffoldError, match=r"^NAME: a package seqtoolkit_other is installed already; "):
        write("core", "other", tmp_path, discover())


def test_kinds_have_names_of_their_own(tmp_path):
    """A core may be called as a source is: the kinds do not clash."""
    assert discover().owner("source", "mix")
    assert write("core", "mix", tmp_path, discover()).is_dir()
    with pytest.raises(ScaffoldError, match=r"^NAME: source 'mix' is brought by seqtoolkit "):
        write("task", "mix", tmp_path, discover())


@pytest.mark.parametrize(
    ("form", "hint"), [("cell", ""), ("cores", "; did you mean core?"), ("Task", "; did you mean task?")]
)
def test_unknown_kind_is_refused(form, hint, tmp_path):
    """There are cores, tasks and environments; what is like one of them is said."""
    with pytest.raises(ScaffoldError) as caught:
        write(form, "mine", tmp_path, discover())
    wanted = "KIND: wanted core (a memory core), task (a source of examples) or environment (worlds to act in)"
    assert str(caught.value) == f"{wanted}, got {form!r}{hint}"


def test_nothing_is_written_over(tmp_path):
    """Where something of that name is already, even an empty folder or a lost link, it stays as it is."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "lost")
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    for name in ("empty", "file", "link"):
        with pytest.raises(ScaffoldError, match=rf"/{name} is there already; nothing is written over$"):
            write("core", name, tmp_path, discover())
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_folder_that_takes_nothing_is_named(tmp_path, monkeypatch):
    """A folder that is not there, is a file, or may not be written is one line with its path and the cause."""
    (tmp_path / "file").touch()
    for folder, told in {
        "lost": "No such file or directory",
        "file": "Not a directory",
        "nul\0l": "embedded null byte",
    }.items():
        with pytest.raises(ScaffoldError, match=rf"/mine: {told}$") as caught:
            write("core", "mine", tmp_path / folder, discover())
        assert str(caught.value).isprintable()

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ScaffoldError, match=r"/mine: Permission denied$"):
        write("core", "mine", tmp_path, discover())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_half_written(error, tmp_path, monkeypatch):
    """Where writing fails or is interrupted, what was written is taken away again."""
    real, written = Path.write_text, []

    def fail(path, *args, **options):
        written.append(path)
        if len(written) == 4:
            raise error
        return real(path, *args, **options)

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(type(error)):
        write("core", "mine", tmp_path, discover())
    assert len(written) == 4
    assert not list(tmp_path.iterdir())
