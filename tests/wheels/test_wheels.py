"""The wheels: what they hold, and that they work where there is no checkout."""

import json
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
PACKAGES = {"seqtoolkit": ROOT / "seqtoolkit", **{f"seqtoolkit_{p.name}": p / f"seqtoolkit_{p.name}" for p in PLUGINS}}
TINY = ["run.steps=4", "run.checkpoint_every=2", "evaluate.examples=32", "evaluate.test_examples=32", "batch.size=8"]

pytestmark = [pytest.mark.wheels, pytest.mark.timeout(900)]


def test_wheels_hold_what_they_need(wheels):
    """Each wheel holds all files of its package, its types, its licence, and nothing else."""
    assert wheels.keys() == PACKAGES.keys()
    for package, folder in PACKAGES.items():
        with zipfile.ZipFile(wheels[package]) as archive:
            names = set(archive.namelist())
        held = {name for name in names if ".dist-info/" not in name}
        files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert held == {path.relative_to(folder.parent).as_posix() for path in files}
        assert f"{package}/py.typed" in held
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
        assert not any(path.is_symlink() for path in files)


def test_wheels_run_alone(wheels, installed):
    """Without the checkout, the installed wheels list, copy, check, run and resume their pipelines, by name."""
    installed("python", "-m", "pip", "check")
    version = next(iter(wheels["seqtoolkit"].name.split("-")[1:]))
    assert version in installed("seqtoolkit", "--version")

    homes = f"print(json.dumps([__import__(name).__file__ for name in {list(PACKAGES)}]))"
    assert all(Path(path).is_relative_to(installed.home) for path in installed.python(homes))
    plugins = json.loads(installed("seqtoolkit", "plugins", "--json"))
    assert not plugins["clashes"]
    assert {each["name"]: each["error"] for each in plugins["plugins"]} == dict.fromkeys(
        ["builtin", *(plugin.name for plugin in PLUGINS)]
    )
    shipped = [path for folder in PACKAGES.values() for path in (folder / "pipelines").rglob("*.yaml")]
    listed = installed("seqtoolkit", "pipelines")
    assert all(path.stem in listed for path in shipped)

    installed("seqtoolkit", "pipelines", "copy", "program_eval", "mine.yaml")
    assert "parameters" in installed("seqtoolkit", "check", "mine.yaml", "model.core=lstm")
    installed("seqtoolkit", "run", "program_eval", *TINY)
    run = next((installed.work / "runs").iterdir())
    assert "FINISHED" in installed("seqtoolkit", "run", "--resume", run.name, "run.steps=6")
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert max(steps) == 6
    answer = (
        "from seqtoolkit_program_eval import evaluate; print(json.dumps(evaluate('print(3*4)', 'learning_to_execute')))"
    )
    assert installed.python(answer) == "12"
