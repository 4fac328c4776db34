"""Fixtures: throwaway distributions that are really installed on a path, and a registry of light fake parts."""

import contextlib
import importlib
import itertools
import sys
import textwrap
from importlib.metadata import EntryPoint, distributions
from pathlib import Path

import pytest

from seqtoolkit.host.registry import Registry, discover

PARTS = Path(__file__).with_name("parts.py")


class Shelf:
    """A folder on the import path in which distributions are installed as pip leaves them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(self, name: str, text: str, *, version: str = "1.0", entry: str | None = None, files=()) -> str:
        """Install distribution `name`, a package of this text whose entry point is `entry`; return its package."""
        package = name.replace("-", "_")
        folder = self.path / package
        folder.mkdir()
        (folder / "__init__.py").write_text(textwrap.dedent(text))
        for relative, content in dict(files).items():
            (folder / relative).parent.mkdir(parents=True, exist_ok=True)
            (folder / relative).write_text(content)
        info = self.path / f"{package}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[seqtoolkit]\n{entry or package} = {package}\n")
        importlib.invalidate_caches()
        return package

    def points(self) -> list[EntryPoint]:
        """The entry points of what is installed here, as importlib finds them."""
        found = itertools.chain.from_iterable(each.entry_points for each in distributions(path=[str(self.path)]))
        return sorted(found, key=lambda point: (point.name, point.dist.name))

    def discover(self) -> Registry:
        """The registry of what is installed here."""
        return discover(self.points())


@contextlib.contextmanager
def shelf_at(path: Path):
    """A shelf that is on the import path meanwhile; what is imported from it stays until `forget`."""
    sys.path.insert(0, str(path))
    try:
        yield Shelf(path)
    finally:
        sys.path.remove(str(path))


def forget(path: Path) -> None:
    """Forget the modules imported from a folder."""
    for name in [name for name, module in sys.modules.items() if str(path) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


@pytest.fixture
def shelf(tmp_path):
    """An empty place on the import path to install distributions in."""
    with shelf_at(tmp_path) as shelf:
        yield shelf
    forget(tmp_path)


@pytest.fixture(scope="session")
def fakes(tmp_path_factory):
    """A registry of fake parts: no torch, every type that a pipeline can write."""
    path = tmp_path_factory.mktemp("fakes")
    with shelf_at(path) as shelf:
        shelf.install("fake-parts", PARTS.read_text())
        registry = shelf.discover()
    yield registry
    forget(path)
