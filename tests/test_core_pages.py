"""Each bundled core has a page in the docs, whose formula counts the core's parameters whatever its settings."""

import random
import re
from inspect import signature
from pathlib import Path

import pytest

from seqtoolkit.host import annotation as notes
from seqtoolkit.host.registry import discover

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "cores"
COUNT = re.compile(r"^<!-- parameter count: (\w+) -->\n+```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECTIONS = ["Equations", "Parameters", "Choices", "Speed"]
CORES = {
    name: PAGES / f"{name}.md"
    if plugin.distribution == "seqtoolkit"
    else ROOT / "plugins" / plugin.distribution.removeprefix("seqtoolkit-").replace("-", "_") / "README.md"
    for plugin in discover().plugins
    for name in plugin.parts.get("core", ())
}
TRIES, WANTED = 200, 25

each_core = pytest.mark.parametrize("name", CORES)


def drawn(field, dice):
    """A value for a parameter of a core: small, odd, or one of its choices."""
    kinds = notes.alternatives(field.annotation)
    values = list(field.choices) + [True, False] * (bool in kinds) + [1, 2, 3, 5] * (int in kinds)
    values += [None] * (type(None) in kinds) + [0.3, 1.5] * (float in kinds)
    return dice.choice(values or [field.default])


def settings_of(name, dice):
    """Random settings of a core, input_size among them."""
    fields = discover().schema("core", name).fields
    chosen = {each.name: drawn(each, dice) for each in fields.values()}
    return chosen | {"input_size": dice.choice([1, 4, (1, 3), (3, 2)])}


@each_core
def test_each_core_has_a_page(name):
    """The page of a core is its plugin's README (the host's own have no other), in sections of one order, and the index names it."""
    readme = CORES[name]
    links = [path for path in PAGES.glob("*.md") if path.resolve() == readme.resolve()]
    assert [path.is_symlink() and path.readlink().is_absolute() for path in links] == [False]
    found = re.findall(r"^## (.+)$", readme.read_text(), re.MULTILINE)
    assert [each for each in found if each in SECTIONS] == SECTIONS
    assert f"({links[0].name})" in (PAGES / "README.md").read_text()


def test_every_page_is_of_a_core():
    """No link in the folder of pages leads nowhere, or to what is no core's."""
    pages = {path.resolve() for path in PAGES.glob("*.md") if path.name != "README.md"}
    assert pages == {readme.resolve() for readme in CORES.values()}


@each_core
def test_the_formula_counts_the_parameters(name):
    """What the page's formula says is what the core has, for many settings, every parameter's choices among them."""
    formulas = dict(COUNT.findall(CORES[name].read_text()))
    formula = compile(formulas[name], str(CORES[name]), "exec")
    factory, dice = discover().resolve("core", name), random.Random(0)
    counted = 0
    for _ in range(TRIES):
        settings = settings_of(name, dice)
        try:
            core = factory(**settings)
        except ValueError:
            continue
        names = dict(settings)
        exec(formula, {}, names)
        assert names["count"] == sum(each.numel() for each in core.parameters()), settings
        counted += 1
    assert counted >= WANTED


@each_core
def test_the_page_has_every_parameter(name):
    """The first column of the tables of a page names every parameter of the constructor but input_size."""
    cells = re.findall(r"^\|([^|]*`[^|]*)\|", CORES[name].read_text(), re.MULTILINE)
    told = {each for cell in cells for each in re.findall(r"`(\w+)`", cell)}
    assert set(signature(discover().resolve("core", name)).parameters) - told == {"input_size"}


def test_settings_reach_every_choice():
    """The settings that are drawn reach every choice of a core: the test of the formulas is not an easy one."""
    dice = random.Random(1)
    seen = [settings_of("rmc", dice) for _ in range(100)]
    assert {each["gate_style"] for each in seen} == {"unit", "memory", None}
    assert {each["treat_input_as_matrix"] for each in seen} == {True, False}
    assert {each["key_size"] for each in seen} == {1, 2, 3, 5, None}
