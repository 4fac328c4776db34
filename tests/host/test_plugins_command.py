"""`seqtoolkit plugins` and `seqtoolkit pipelines`: what they print, and what they do not import."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from seqtoolkit.cli import new, pipelines, plugins
from seqtoolkit.host import resource
from seqtoolkit.host.problem import ConfigError
from seqtoolkit.host.registry import PartError
from seqtoolkit.scaffold.distribution import ScaffoldError

BAD = "from seqtoolkit.host.hooks import hookimpl\n@hookimpl\ndef coers(): return {}"
TASK = """
from seqtoolkit.host.hooks import hookimpl
@hookimpl
def pipelines(): return "task:experiments"
@hookimpl
def cores(): return {"memory": "task:Core"}
@hookimpl
def schedules(): return {"adam": "task:Core", "nothing": "task:nothing"}
class Core: ...
def nothing(step, steps): ...
"""
FILES = {
    "experiments/adding.yaml": "# Add numbers.   seqtoolkit run adding\nsource: numbers\n",
    "experiments/b/c.yaml": "a: 1",
}


@pytest.fixture
def installed(shelf, fakes, monkeypatch):
    """The fake parts, a task that clashes with them, and a broken plugin, as what is installed."""
    shelf.install("broken", BAD, version="0.9")
    shelf.install("task", TASK, version="2.0", files=FILES)
    here = shelf.discover()
    both = type(fakes)((*fakes.plugins, *here.plugins), here.manager)
    monkeypatch.setattr(plugins, "discover", lambda: both)
    monkeypatch.setattr(new, "discover", lambda: both)
    monkeypatch.setattr(resource, "discover", lambda: both)


def said(app, *arguments):
    """What a command prints; an error is raised on."""
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments, catch_exceptions=False, standalone_mode=False)
    return done.stdout


def test_plugins_are_listed_with_what_they_bring(installed):
    """Each plugin is there with distribution, version, parts and files; broken and clashing ones with their cause."""
    lines = [" ".join(line.split()) for line in said(plugins.app).splitlines()]
    assert lines[0] == "plugin distribution version brings"
    assert "fake_parts fake-parts 1.0 source: letters, mix, numbers" in lines
    assert "core: gone, greedy, memory, plain" in lines
    assert "task task 2.0 core: memory" in lines
    assert "pipelines: adding, b/c" in lines
    assert "broken: broken of broken 0.9: there is no hook 'coers'; did you mean cores?" in lines
    assert "clash: core 'memory' is brought by fake-parts 1.0 and task 2.0; uninstall one of them" in lines


def test_plugins_as_json(installed):
    """The same as JSON, for programs."""
    found = json.loads(said(plugins.app, "--json"))
    by_name = {plugin["name"]: plugin for plugin in found["plugins"]}
    assert by_name["task"]["brings"] == {"core": ["memory"], "schedule": ["adam", "nothing"]}
    assert by_name["task"]["files"] == {"pipelines": ["adding", "b/c"]}
    assert by_name["task"]["version"] == "2.0"
    assert "coers" in by_name["broken"]["error"]
    assert found["clashes"] == [{"kind": "core", "name": "memory", "distributions": ["fake-parts", "task"]}]


def test_part_is_shown_with_its_parameters(installed):
    """A part is shown with docstring, origin, and each parameter's type, default, choices and meaning."""
    text = said(plugins.app, "show", "numbers")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "source numbers from fake-parts 1.0, fake_parts:Numbers"
    assert "Numbers to learn." in lines
    assert "length int required How many there are." in lines
    assert "curriculum mix | baseline mix" in lines
    assert "file path | null null" in lines
    assert "Args:" not in text
    lines = [" ".join(line.split()) for line in said(plugins.app, "show", "supervised").splitlines()]
    assert "optimizer optimizer adam" in lines
    assert "It takes no parameters." in said(plugins.app, "show", "nothing")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("adam", "'adam' is of several kinds: say optimizer:adam or schedule:adam"),
        (
            "numbrs",
            "no part 'numbrs'; did you mean numbers? (`seqtoolkit plugins` lists them) (broken plugins: broken of",
        ),
        ("core:memory", "core 'memory' is brought by fake-parts 1.0 and task 2.0"),
        ("memory", "core 'memory' is brought by fake-parts 1.0 and task 2.0"),
        ("cor:plain", "no kind of parts 'cor'; did you mean core?"),
        ("core:plane", "no core 'plane'; did you mean plain?"),
    ],
)
def test_part_that_cannot_be_shown(part, message, installed):
    """A name that is unknown, of several kinds or of several owners is one line that says what to do."""
    with pytest.raises(PartError) as caught:
        said(plugins.app, "show", part)
    assert message in str(caught.value)
    assert "required" not in said(plugins.app, "show", "optimizer:adam")


def test_pipelines_are_listed_with_their_first_line(installed):
    """Each pipeline is there with the distribution that ships it and what its first comment says."""
    lines = [" ".join(line.split()) for line in said(pipelines.app).splitlines()]
    assert lines == ["pipeline from what it is", "adding task Add numbers.", "b/c task"]


def test_pipeline_is_copied_out(installed, tmp_path, monkeypatch):
    """A pipeline is copied to here, into a folder, or to a file; nothing is written over unless told to."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert said(pipelines.app, "copy", "adding") == "adding.yaml\n"
    assert (here / "adding.yaml").read_text() == FILES["experiments/adding.yaml"]
    (here / "adding.yaml").write_text("mine")
    with pytest.raises(ConfigError, match=r"^adding.yaml is there already; --force writes over it$"):
        said(pipelines.app, "copy", "adding", ".")
    assert (here / "adding.yaml").read_text() == "mine"
    said(pipelines.app, "copy", "adding", "--force")
    assert (here / "adding.yaml").read_text() == FILES["experiments/adding.yaml"]
    said(pipelines.app, "copy", "b/c", "other.yaml")
    assert (here / "other.yaml").read_text() == "a: 1"
    with pytest.raises(ConfigError, match=r"nowhere/x\.yaml: No such file or directory"):
        said(pipelines.app, "copy", "b/c", "nowhere/x.yaml")
    with pytest.raises(ConfigError, match=r"did you mean adding\?"):
        said(pipelines.app, "copy", "addin")


def run(*arguments, after=""):
    """The installed command line in its own process."""
    code = f"import sys\nfrom seqtoolkit.cli import main\nsys.argv = ['seqtoolkit', *{arguments!r}]\n"
    code += f"try:\n    main()\nfinally:\n    {after or 'pass'}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


LISTINGS = [["plugins"], ["plugins", "--json"], ["plugins", "new", "--help"], ["pipelines"], ["--help"]]


@pytest.mark.parametrize("command", LISTINGS)
def test_listing_imports_nothing_heavy(command):
    """What is installed can be listed without importing torch or mlflow."""
    done = run(*command, after="print({'torch', 'mlflow', 'numpy', 'lark'} & {*sys.modules})")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("set()")


def test_new_plugin_says_what_to_do_next(installed, tmp_path, monkeypatch):
    """A new distribution is written here or into a folder, and three commands follow, as a shell takes them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two words").mkdir()
    for options, place, quoted in (
        ((), "mine", "./mine"),
        (("--into", "two words"), "two words/mine", "'./two words/mine'"),
        (("--into", f"{tmp_path}/two words/"), f"{tmp_path}/two words/its", f"'{tmp_path}/two words/its'"),
    ):
        name = place.rpartition("/")[2]
        first, *rest = said(plugins.app, "new", "core", name, *options).splitlines()
        assert first.startswith(f"{place}: ")
        assert "9 files" in first
        assert rest == [
            f"  pip install -e '{quoted.strip(chr(39))}[test]'",
            f"  pytest {quoted}",
            f"  seqtoolkit run {name}",
        ]
        assert (tmp_path / place / "pyproject.toml").is_file()


def test_new_plugin_takes_no_name_that_is_taken(installed, tmp_path):
    """The parts and pipelines that are installed, clashing ones included, keep their names."""
    for kind, name, told in (
        ("core", "memory", "core 'memory' is brought by fake-parts 1.0 already"),
        ("task", "numbers", "source 'numbers' is brought by fake-parts 1.0 already"),
        ("core", "adding", "pipeline 'adding' is shipped by task already"),
    ):
        with pytest.raises(ScaffoldError, match=f"^NAME: {told}; choose another name$"):
            said(plugins.app, "new", kind, name, "--into", str(tmp_path))


MISTAKES = [
    ["plugins", "show", "no_such_part"],
    ["plugins", "new", "cor", "x"],
    ["pipelines", "copy", "no_such_pipeline"],
]


@pytest.mark.parametrize("command", MISTAKES)
def test_mistake_is_a_line_on_stderr_and_exit_code_2(command):
    """A user's mistake is one line on stderr, without a traceback."""
    done = run(*command)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(("seqtoolkit: no ", "seqtoolkit: KIND: "))
    assert done.stderr.count("\n") == 1


def test_new_plugin_imports_nothing_heavy(tmp_path):
    """A new distribution is written without importing torch or mlflow."""
    done = run(
        "plugins", "new", "core", "mine", "--into", str(tmp_path), after="print({'torch', 'mlflow'} & {*sys.modules})"
    )
    assert done.stdout.splitlines()[1:] == [
        f"  pip install -e '{tmp_path}/mine[test]'",
        f"  pytest {tmp_path}/mine",
        "  seqtoolkit run mine",
        "set()",
    ]


def test_every_installed_part_can_be_shown():
    """Each part that the installed plugins bring has a schema: its signature is fit for a pipeline."""
    from seqtoolkit.host.registry import discover

    registry = discover()
    assert not registry.broken
    assert not registry.clashes
    for kind in registry.kinds:
        for name in registry.names(kind):
            assert registry.schema(kind, name).doc, f"{kind} {name} has no docstring"
