"""The frozen surfaces: what plugins and pipelines are written against changes on purpose only."""

import dataclasses
import inspect
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

import seqtoolkit
from seqtoolkit import archive, assess, bench, compare, export, sdk, sweep, testing
from seqtoolkit.cli import app
from seqtoolkit.experiment import SECTIONS
from seqtoolkit.host import hooks
from seqtoolkit.host.freezer import KEYS, SLOTS
from seqtoolkit.host.registry import discover
from seqtoolkit.host.resource import shipped
from seqtoolkit.host.schema import plain, schema

GOLDEN = Path(__file__).parent / "golden"
MODULES = (seqtoolkit, sdk, testing, bench, archive, assess, compare, export, sweep)


def public() -> list[str]:
    """The names of `seqtoolkit`, and of its modules that others may import from."""
    return [f"{module.__name__}.{name}" for module in MODULES for name in module.__all__]


def hook_calls() -> list[str]:
    """Each hook as it is called, and the version of all."""
    found = [value for value in vars(hooks).values() if hasattr(value, f"{hooks.PROJECT}_spec")]
    return [
        f"API {hooks.API}",
        *(f"{each.__name__}({', '.join(inspect.signature(each).parameters)})" for each in found),
    ]


def pipeline_keys() -> list[str]:
    """Each key of a pipeline with what stands there: a part of a kind, or a value, and its default."""
    parts = {slot.key: f"{slot.kind} = {plain(slot.default)}" for slot in SLOTS}
    settings = {
        (section, field.name): f"{field.type} = {plain(field.default)}"
        for section, factory in SECTIONS.items()
        for field in schema(factory, given=()).fields.values()
    }
    found = {**parts, **settings}
    ordered = sorted(found, key=lambda key: (KEYS.index(key[0]), key not in parts))
    return [f"{'.'.join(key)}: {found[key]}" for key in ordered]


def match(name: str, text: str) -> None:
    """Compare with the golden file of this name, or write it where REGENERATE is set."""
    path = GOLDEN / name
    if os.environ.get("REGENERATE"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    wanted = path.read_text() if path.exists() else ""
    assert text == wanted, f"this changes a frozen surface; if you mean to, `make golden` and commit {path.name}"


@pytest.mark.parametrize("surface", [public, hook_calls, pipeline_keys])
def test_surface_is_frozen(surface):
    """What plugins and pipelines build on is what it was, or the change shows in a golden file."""
    match(f"{surface.__name__}.txt", "\n".join(surface()) + "\n")


@pytest.mark.parametrize("name", shipped("pipelines"))
def test_pipeline_is_checked(name):
    """`seqtoolkit check` accepts every shipped pipeline, and what flows through it and its size are what they were."""
    done = CliRunner().invoke(app, ["check", name])
    assert done.exit_code == 0, done.output
    match(f"check/{name}.txt", done.stdout)


@pytest.mark.parametrize("name", discover().names("core"))
def test_weights_keep_their_names(name):
    """The names and shapes in a core's state_dict are what they were: saved weights still load."""
    core = discover().resolve("core", name)(input_size=5)
    lines = [f"{key} {list(value.shape)}" for key, value in core.state_dict().items()]
    match(f"core/{name}.txt", "\n".join(lines) + "\n")


def test_every_name_can_be_had():
    """Each public name is there to be imported, and documented."""
    for module in MODULES:
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                assert inspect.getdoc(value), f"{module.__name__}.{name} has no docstring"
    assert all(inspect.getdoc(section) and dataclasses.is_dataclass(section) for section in SECTIONS.values())


def test_every_hook_is_told_in_a_sentence():
    """Each hook's docstring is one sentence on one line: it is what the plugin guide prints."""
    for each in vars(hooks).values():
        if hasattr(each, f"{hooks.PROJECT}_spec"):
            text = inspect.getdoc(each)
            assert text, each
            assert text.endswith(".")
            assert len(text.splitlines()) == 1
