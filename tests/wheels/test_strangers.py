"""Strangers' plugins, as wheels that pip installs beside the toolkit's: good ones work, bad ones are named and hurt nobody."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

TINY = ["run.steps=2", "batch.size=4", "evaluate.examples=4", "evaluate.test_examples=0", "track=none"]
PYPROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "seqtoolkit-{name}"
version = "3.1"
dependencies = ["seqtoolkit>=0.1"]
[project.entry-points.seqtoolkit]
{name} = "seqtoolkit_{name}"
"""
HOOK = "from seqtoolkit.sdk import hookimpl\n"
CORES = HOOK + "@hookimpl\ndef {hook}():\n    return {parts!r}\n"
STRANGERS = {
    "raises": "raise RuntimeError('no licence was found')",
    "future": "SEQTOOLKIT_API = 2\n" + CORES.format(hook="cores", parts={"future": "seqtoolkit_future.core:Future"}),
    "misspelt": CORES.format(hook="coers", parts={"misspelt": "seqtoolkit_misspelt.core:Misspelt"}),
    "gone": CORES.format(hook="cores", parts={"gone": "seqtoolkit_gone.core:Gone"}),
    "clash": CORES.format(hook="cores", parts={"rmc": "seqtoolkit_clash.core:A", "twin": "seqtoolkit_clash.core:B"}),
    "twin": CORES.format(hook="cores", parts={"twin": "seqtoolkit_twin.core:C"}),
}
CAUSES = {
    "raises": "RuntimeError: no licence was found",
    "future": "it needs version 2 of the hooks, this toolkit has 1: upgrade seqtoolkit",
    "misspelt": "there is no hook 'coers'; did you mean cores?",
}

pytestmark = [pytest.mark.wheels, pytest.mark.timeout(900)]


def written(folder: Path, name: str) -> Path:
    """A stranger's distribution; its cores need what nobody has."""
    project = folder / name
    package = project / f"seqtoolkit_{name}"
    package.mkdir(parents=True)
    (project / "pyproject.toml").write_text(PYPROJECT.format(name=name))
    (package / "__init__.py").write_text(STRANGERS[name])
    (package / "core.py").write_text("import no_such_module\n")
    return project


@pytest.fixture(scope="module")
def crowd(lay, build, tmp_path_factory):
    """An environment with the toolkit, a core and a task as `plugins new` writes them, and every stranger."""
    folder = tmp_path_factory.mktemp("crowd")
    environment = lay(folder)
    for kind in ("core", "task"):
        environment("seqtoolkit", "plugins", "new", kind, f"my_{kind}")
    good = [environment.work / "my_core", environment.work / "my_task"]
    wheels = build(folder / "wheels", *good, *(written(folder, name) for name in STRANGERS))
    assert len(wheels) == len(good) + len(STRANGERS)
    environment.install(*wheels)
    return environment


def test_good_plugins_are_listed_and_bad_ones_named(crowd):
    """All that work are listed with what they bring; each that does not is named with distribution, version and cause."""
    text = crowd("seqtoolkit", "plugins")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "my_core seqtoolkit-my-core 0.1.0 core: my_core" in lines
    assert "my_task seqtoolkit-my-task 0.1.0 source: my_task" in lines
    assert {"pipelines: my_core", "pipelines: my_task"} <= {*lines}
    broken = {f"broken: {name} of seqtoolkit-{name} 3.1: {cause}" for name, cause in CAUSES.items()}
    assert {line for line in lines if line.startswith("broken: ")} == broken
    (version,) = re.findall(r"^rmc +seqtoolkit-rmc +(\S+)", text, re.MULTILINE)
    assert {line for line in lines if line.startswith("clash: ")} == {
        f"clash: core 'rmc' is brought by seqtoolkit-clash 3.1 and seqtoolkit-rmc {version}; uninstall one of them",
        "clash: core 'twin' is brought by seqtoolkit-clash 3.1 and seqtoolkit-twin 3.1; uninstall one of them",
    }


def test_the_same_as_json(crowd):
    """Programs are told the same, and that all else works."""
    found = json.loads(crowd("seqtoolkit", "plugins", "--json"))
    plugins = {plugin["name"]: SimpleNamespace(**plugin) for plugin in found["plugins"]}
    assert {name: each.error for name, each in plugins.items() if each.error} == CAUSES
    assert plugins["my_core"].brings == {"core": ["my_core"]}
    assert plugins["my_core"].files == {"pipelines": ["my_core"]}
    assert plugins["gone"].brings == {"core": ["gone"]}
    assert {each["name"]: each["distributions"] for each in found["clashes"]} == {
        "rmc": ["seqtoolkit-clash", "seqtoolkit-rmc"],
        "twin": ["seqtoolkit-clash", "seqtoolkit-twin"],
    }


@pytest.mark.parametrize(
    "pipeline",
    [
        pytest.param(["my_core"], id="core"),
        pytest.param(["my_task", "model.core=my_core"], id="both"),
        pytest.param(["program_eval", "model.core=lstm"], id="own"),
    ],
)
def test_what_works_trains_beside_what_does_not(crowd, pipeline):
    """The stranger's core and task train from their pipelines and with each other, and the toolkit's own go on as ever."""
    assert "FINISHED" in crowd("seqtoolkit", "run", *pipeline, *TINY)


def test_installed_core_is_shown(crowd):
    """A stranger's part is shown with its origin and its parameters."""
    text = crowd("seqtoolkit", "plugins", "show", "my_core")
    assert "core my_core from seqtoolkit-my-core 0.1.0, seqtoolkit_my_core.core:MyCore" in text
    assert re.search(r"hidden_size +int +128 +The length of the memory", text)


@pytest.mark.parametrize(
    ("core", "told"),
    [
        ("rmc", ["seqtoolkit-clash 3.1", "seqtoolkit-rmc ", "uninstall one of them"]),
        ("twin", ["seqtoolkit-clash 3.1", "seqtoolkit-twin 3.1", "uninstall one of them"]),
        ("misspelt", [f"misspelt of seqtoolkit-misspelt 3.1: {CAUSES['misspelt']}"]),
        ("future", [f"future of seqtoolkit-future 3.1: {CAUSES['future']}"]),
        ("raises", [f"raises of seqtoolkit-raises 3.1: {CAUSES['raises']}"]),
        (
            "gone",
            ["seqtoolkit-gone 3.1: cannot import seqtoolkit_gone.core:Gone: ", "No module named 'no_such_module'"],
        ),
    ],
)
def test_asking_for_what_does_not_work(crowd, core, told):
    """It is one line with the key, every distribution that is to blame and the cause, and exit code 2."""
    (line,) = crowd("seqtoolkit", "check", "program_eval", f"model.core={core}", code=2).splitlines()
    assert line.startswith("seqtoolkit: model.core")
    assert all(each in line for each in told), line


@pytest.mark.slow
def test_uninstalling_heals(lay, build, tmp_path):
    """Where the one that clashes is uninstalled, all is as it was."""
    environment = lay(tmp_path)
    before = environment("seqtoolkit", "plugins")
    environment.install(*build(tmp_path / "wheels", written(tmp_path, "clash")))
    assert "clash: core 'rmc'" in environment("seqtoolkit", "plugins")
    environment("seqtoolkit", "check", "program_eval", "model.core=rmc", code=2)
    environment("pip", "uninstall", "-q", "-y", "seqtoolkit-clash")
    assert environment("seqtoolkit", "plugins") == before
    assert "parameters" in environment("seqtoolkit", "check", "program_eval", "model.core=rmc")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["core", "task"])
def test_commands_of_the_readme_work(lay, tmp_path, kind):
    """A person who follows the README of a new plugin installs it, sees its tests pass, trains with it and builds a wheel."""
    environment = lay(tmp_path)
    said = environment("seqtoolkit", "plugins", "new", kind, "mine")
    assert said.splitlines()[1:] == ["  pip install -e './mine[test]'", "  pytest ./mine", "  seqtoolkit run mine"]
    project = environment.work = environment.work / "mine"
    blocks = re.findall(r"^```sh\n(.*?)^```$", (project / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    (environment.home / "bin" / "bash").symlink_to("/bin/bash")
    printed = ""
    for block in blocks:
        script = re.sub(r"^(seqtoolkit run .*)$", rf"\1 {' '.join(TINY)}", block, flags=re.MULTILINE)
        printed += environment("bash", "-euo", "pipefail", "-c", script)
    assert re.search(r" \d+ passed in ", printed), printed
    assert printed.count("FINISHED") == 2
    assert [path.name for path in (project / "dist").iterdir()] == ["seqtoolkit_mine-0.1.0-py3-none-any.whl"]
