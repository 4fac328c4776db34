"""The walls: who may import whom, what a plugin's folder holds, how long a module may grow."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOST = ROOT / "seqtoolkit"
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
PACKAGES = sorted(ROOT.glob("plugins/*/seqtoolkit_*/"))
SHIPPED = {"pipelines": "*.yaml", "grammars": "*.lark"}
COMMENT = {".yaml": "# ", ".lark": "// "}
PLACE = re.compile(r"(seqtoolkit(?:_\w+)?(?:\.\w+)*)(?::[\w.]+)?")
MODULE_LINES, FUNCTION_LINES = 280, 60

each_plugin = pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)


def modules(*folders: Path) -> list[Path]:
    """The Python files inside folders."""
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def package(plugin: Path) -> str:
    """The name of a plugin's package."""
    return f"seqtoolkit_{plugin.name}"


def names(text: str) -> Iterator[tuple[int, str]]:
    """Each module that a source imports, or names in a string as `module` or `module:attribute`, with its line."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, each.name) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: an import names its module in full"
            inside = node.module == "seqtoolkit"
            yield from ((node.lineno, f"seqtoolkit.{each.name}" if inside else str(node.module)) for each in node.names)
        elif isinstance(node, ast.Constant) and (match := PLACE.fullmatch(str(node.value))):
            yield node.lineno, match[1]


def foreign(text: str, allowed: re.Pattern[str]) -> list[str]:
    """What a source names of the host and of plugins beyond what it is allowed."""
    found = ((line, name) for line, name in names(text) if re.match(r"seqtoolkit(_\w+)?(\.|$)", name))
    return [f"line {line}: {name}" for line, name in found if not allowed.fullmatch(name)]


def prose(tree: ast.Module) -> set[ast.Constant]:
    """The strings that only people read: docstrings, and sentences."""
    strings = {node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    bare = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return {node for node in strings if node in bare or " " in node.value.strip()}


def named(text: str, plugins: list[str]) -> list[str]:
    """Where a source names one of `plugins`, in code or in a string that is no prose."""
    tree = ast.parse(text)
    skipped = prose(tree)
    word = re.compile(rf"\b(seqtoolkit_\w+|{'|'.join(map(re.escape, plugins))})\b")
    found = []
    for node in ast.walk(tree):
        value = getattr(node, "value", None) if isinstance(node, ast.Constant) and node not in skipped else None
        texts = (value, *(getattr(node, field, None) for field in ("id", "attr", "arg", "module")))
        texts = (*texts, getattr(node, "name", None))
        found += [f"line {node.lineno}: {each}" for each in texts if isinstance(each, str) and word.search(each)]
    return found


def forbid(paths: list[Path], faults) -> None:
    """Fail with the faults of each file, a line each."""
    found = "\n".join(f"{path.relative_to(ROOT)} {fault}" for path in paths for fault in faults(path))
    assert not found, f"\n{found}"


@each_plugin
def test_plugin_knows_the_sdk_alone(plugin):
    """A plugin's package imports the host through `seqtoolkit.sdk` alone, and no other plugin."""
    allowed = re.compile(rf"seqtoolkit|seqtoolkit\.sdk|{package(plugin)}(\.\w+)*")
    forbid(modules(plugin / package(plugin)), lambda path: foreign(path.read_text(), allowed))


@each_plugin
def test_plugin_is_tested_alone(plugin):
    """A plugin's tests and benchmarks stand on the host's public modules and on no other plugin: it can be cut out."""
    allowed = re.compile(rf"seqtoolkit(\.sdk|\.testing|\.bench|\.[A-Z]\w+|\.load_model)?|{package(plugin)}(\.\w+)*")
    inside = set(modules(plugin / package(plugin)))
    rest = [path for path in modules(plugin) if path not in inside]
    forbid(rest, lambda path: foreign(path.read_text(), allowed))


@pytest.mark.parametrize(
    "line",
    [
        "import seqtoolkit.flow.core",
        "from seqtoolkit.flow.core import Core",
        "from seqtoolkit import run",
        "from seqtoolkit import sdk, testing",
        "import torch, seqtoolkit_b",
        "from seqtoolkit_b.core import B",
        "def late():\n    import seqtoolkit_b.core",
        "parts = {'b': 'seqtoolkit_b.core:B'}",
        "home = import_module('seqtoolkit.flow.core')",
    ],
)
def test_wall_sees_every_way_through(line):
    """The wall around a plugin has no hole: each way to name a module behind it is seen."""
    allowed = re.compile(r"seqtoolkit|seqtoolkit\.sdk|seqtoolkit_a(\.\w+)*")
    assert foreign(line, allowed)
    assert not foreign("from seqtoolkit.sdk import Core\nfrom seqtoolkit import sdk\nimport seqtoolkit_a.x", allowed)


def test_host_names_no_plugin():
    """The host's code knows no plugin by name, nor the package of one that is called as a library; sentences may take one."""
    plugins = [plugin.name for plugin in PLUGINS if find_spec(plugin.name) is None]
    forbid(modules(HOST), lambda path: named(path.read_text(), plugins))


@pytest.mark.parametrize(
    "line", ["import seqtoolkit_a", "x = 'a'", "x = {'core': 'a/b'}", "f(a=1)", "m.a", "def a(): ..."]
)
def test_wall_sees_a_plugin_named(line):
    """Naming a plugin in the host's code is seen, naming it in a sentence is not."""
    assert named(line, ["a"])
    assert not named("'''About a.'''\nhelp = 'such as a, or b'", ["a"])


@each_plugin
def test_plugin_is_found_and_light(plugin):
    """A plugin names its package as an entry point of `seqtoolkit`; naming what it brings imports neither torch nor mlflow."""
    points = tomllib.loads((plugin / "pyproject.toml").read_text())["project"]["entry-points"]["seqtoolkit"]
    assert points == {plugin.name: package(plugin)}
    heavy = f"import sys, {package(plugin)}; print(*{{'torch', 'mlflow'}} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", heavy], capture_output=True, text=True, check=True, cwd=plugin, timeout=60
    )
    assert not done.stdout.split()


@pytest.mark.parametrize("folder", SHIPPED)
def test_shipped_files_lie_in_plugins(folder):
    """Each file of pipelines/ and grammars/ is a relative link into the plugin that ships it, and each shipped file has one."""
    links = {path.relative_to(ROOT / folder): path for path in (ROOT / folder).rglob(SHIPPED[folder])}
    shipped = {
        path.relative_to(home / folder): path for home in PACKAGES for path in (home / folder).rglob(SHIPPED[folder])
    }
    assert shipped, f"no plugin ships {folder}"
    dangling = [str(link.relative_to(ROOT)) for name, link in links.items() if name not in shipped]
    assert not dangling, "no plugin ships these"
    for name, path in shipped.items():
        link = ROOT / folder / name
        wanted = Path(os.path.relpath(path, link.parent))
        made = link.readlink() if link.is_symlink() else None
        assert made == wanted, f"make it with: ln -sf {wanted} {link.relative_to(ROOT)}"


def test_first_line_says_what_a_file_is_for():
    """Every module begins with a docstring, every pipeline and grammar with a comment."""
    scripts = modules(HOST, ROOT / "plugins", ROOT / "tests", ROOT / "bench")
    mute = [path for path in scripts if not re.match(r'"""\S', path.read_text())]
    mute += [path for home in PACKAGES for path in home.rglob("*") if path.suffix in COMMENT and not _comments(path)]
    assert not [str(path.relative_to(ROOT)) for path in mute]


def _comments(path: Path) -> bool:
    return path.read_text().startswith(COMMENT[path.suffix])


def test_modules_and_functions_stay_short():
    """No module grows past 280 lines, no function past 60: there is a second noun in it."""
    forbid(modules(HOST, *PACKAGES), lambda path: _long(path.read_text()))
    assert _long("def f():\n" + "    x\n" * 60)
    assert _long("x\n" * 281)
    assert not _long("def f():\n" + "    x\n" * 59 + "x\n" * 220)


def _long(text: str) -> list[str]:
    lines = len(text.splitlines())
    found = [f"has {lines} lines"] if lines > MODULE_LINES else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            found += [f"line {node.lineno}: {node.name} has {length} lines"] if length > FUNCTION_LINES else []
    return found
