"""Resources: files that plugins ship are found by name wherever they are installed."""

import subprocess
import sys

import pytest

from seqtoolkit.host.problem import ConfigError
from seqtoolkit.host.resource import find_grammar, find_pipeline, shipped

SHIPS = """
from seqtoolkit.host.hooks import hookimpl
@hookimpl
def pipelines(): return "{0}:experiments"
@hookimpl
def grammars(): return "{0}:grammars"
"""
FILES = {
    "experiments/adding.yaml": "# Add.\n",
    "experiments/paper/adding_long.yaml": "# Add more.\n",
    "experiments/notes.txt": "no pipeline",
    "grammars/sums.lark": "start: \n",
}


@pytest.fixture
def registry(shelf):
    """A plugin that ships pipelines and a grammar."""
    shelf.install("task", SHIPS.format("task"), files=FILES)
    return shelf.discover()


def test_shipped_files_are_found_by_name(registry, shelf):
    """A file is known by its path in the folder without the ending, in folders inside of it too; the ending does no harm."""
    root = shelf.path.resolve() / "task"
    assert shipped("pipelines", registry) == {
        "adding": (root / "experiments/adding.yaml", "task"),
        "paper/adding_long": (root / "experiments/paper/adding_long.yaml", "task"),
    }
    assert shipped("grammars", registry) == {"sums": (root / "grammars/sums.lark", "task")}
    assert find_pipeline("paper/adding_long", registry) == root / "experiments/paper/adding_long.yaml"
    assert find_pipeline("adding.yaml", registry) == root / "experiments/adding.yaml"
    assert find_grammar("sums", registry) == root / "grammars/sums.lark"


def test_file_goes_before_a_shipped_name(registry, tmp_path, monkeypatch):
    """A file at the path is meant before a shipped one of that name; a folder of that name is not."""
    here = tmp_path / "here"
    (here / "adding").mkdir(parents=True)
    monkeypatch.chdir(here)
    assert find_pipeline("adding", registry).parent.name == "experiments"
    (here / "adding.yaml").write_text("a: 1")
    assert str(find_pipeline("adding.yaml", registry)) == "adding.yaml"
    assert find_pipeline(here / "adding.yaml", registry) == here / "adding.yaml"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("addin", "no pipeline 'addin': no file, and none that a plugin ships; did you mean adding?"),
        ("adding_long", "did you mean paper/adding_long?"),
        ("experiments/adding.yml", "did you mean adding?"),
        ("zzz", "none that a plugin ships (`seqtoolkit pipelines` lists them)"),
        ("", "no pipeline ''"),
        ("a\x00b", "no pipeline 'a\\x00b'"),
        ("x" * 5000, "no pipeline 'xxx"),
    ],
)
def test_unknown_pipeline_is_one_line_with_the_one_that_was_meant(name, message, registry):
    """A name that nobody ships is answered with what it resembles, and with how to list them."""
    with pytest.raises(ConfigError) as caught:
        find_pipeline(name, registry)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


def test_file_beside_the_missing_one_is_suggested(registry, tmp_path):
    """A path that is a letter off is answered with the file that lies there."""
    (tmp_path / "mine.yaml").write_text("a: 1")
    with pytest.raises(ConfigError, match=r"did you mean .*mine\.yaml\?"):
        find_pipeline(tmp_path / "mien.yaml", registry)


def test_unknown_grammar_names_those_that_are_there(registry, tmp_path):
    """A grammar that is not there is answered with the list; a folder is no grammar."""
    with pytest.raises(ConfigError, match=r"no grammar 'python'.*\(there are sums\)"):
        find_grammar("python", registry)
    with pytest.raises(ConfigError, match="wanted a grammar, this is a folder"):
        find_grammar(tmp_path, registry)


def test_two_owners_of_a_pipeline_clash_when_it_is_asked_for(shelf):
    """A name that two distributions ship is refused with both named; the rest is found."""
    shelf.install("one", SHIPS.format("one"), files={"experiments/a.yaml": "", "experiments/b.yaml": ""})
    shelf.install("two", SHIPS.format("two"), files={"experiments/a.yaml": ""}, version="2.0")
    registry = shelf.discover()
    assert find_pipeline("b", registry).name == "b.yaml"
    with pytest.raises(ConfigError, match=r"pipeline 'a' is brought by one 1\.0 and two 2\.0"):
        find_pipeline("a", registry)


def test_folder_that_is_not_there_hurts_nobody(shelf):
    """A plugin whose folder is missing, or whose package is, ships nothing."""
    shelf.install("empty", SHIPS.format("empty"))
    shelf.install("lost", SHIPS.format("no_such_package_anywhere"))
    shelf.install("task", SHIPS.format("task"), files=FILES)
    assert sorted(shipped("pipelines", shelf.discover())) == ["adding", "paper/adding_long"]


def test_installed_pipelines_are_found_without_torch():
    """The pipelines and grammars of the installed plugins are found, each a file, and nothing heavy is imported."""
    code = (
        "import sys\nfrom seqtoolkit.host.resource import find_pipeline, shipped\n"
        "assert all(path.is_file() for what in ('pipelines', 'grammars') for path, _ in shipped(what).values())\n"
        "print(*shipped('pipelines'), {'torch', 'mlflow', 'omegaconf'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("set()")
