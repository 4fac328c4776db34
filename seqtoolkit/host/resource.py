"""Resources: the pipelines and grammars that plugins ship, found by name or path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from seqtoolkit.host.hooks import Folder
from seqtoolkit.host.plugin import Plugin
from seqtoolkit.host.problem import ConfigError, suggest
from seqtoolkit.host.registry import Clash, Registry, discover

_SUFFIX: dict[Folder, str] = {"pipelines": ".yaml", "grammars": ".lark"}


def find_pipeline(name: str | os.PathLike[str], registry: Registry | None = None) -> Path:
    """The file of a pipeline: a path, or the name of one that a plugin ships. Raises ConfigError, one line."""
    return _find("pipelines", os.fspath(name), registry)


def find_grammar(name: str | os.PathLike[str], registry: Registry | None = None) -> Path:
    """The file of a grammar: a path, or the name of one that a plugin ships. Raises ConfigError, one line."""
    return _find("grammars", os.fspath(name), registry)


def shipped(what: Folder, registry: Registry | None = None) -> dict[str, tuple[Path, str]]:
    """What plugins ship, by name: each file, and the distribution that it comes from."""
    offers = _offers(what, registry or discover())
    return {name: (owners[0][0], owners[0][1].distribution) for name, owners in sorted(offers.items())}


def _find(what: Folder, name: str, registry: Registry | None) -> Path:
    if os.path.isfile(name):  # noqa: PTH113  it answers for any text, where Path raises for some
        return Path(name)
    suffix, one = _SUFFIX[what], what.removesuffix("s")
    offers = _offers(what, registry or discover())
    owners = offers.get(name) or offers.get(name.removesuffix(suffix)) or []
    if len(owners) == 1:
        return owners[0][0]
    if owners:
        raise ConfigError([str(Clash(one, name, tuple(plugin for _, plugin in owners)))])
    if os.path.isdir(name):  # noqa: PTH112  as above
        raise ConfigError([f"{name}: wanted a {one}, this is a folder"])
    folder = os.path.dirname(name)  # noqa: PTH120  as above
    beside = [os.path.join(folder, each) for each in _listing(folder) if each.endswith(suffix)]  # noqa: PTH118
    hint = suggest(name, [*offers, *beside]) or suggest(Path(name).stem, offers)
    listed = "`seqtoolkit pipelines` lists them" if what == "pipelines" else f"there are {', '.join(sorted(offers))}"
    raise ConfigError([f"no {one} {name!r}: no file, and none that a plugin ships{hint} ({listed})"])


def _listing(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder or "."))  # noqa: PTH208  as above
    except (OSError, ValueError):
        return []


def _offers(what: Folder, registry: Registry) -> dict[str, list[tuple[Path, Plugin]]]:
    """By name: the files of that name, each with the plugin that ships it."""
    offers: dict[str, list[tuple[Path, Plugin]]] = {}
    for plugin in registry.plugins:
        for root in _roots(plugin.folders.get(what)):
            for path in sorted(root.rglob(f"*{_SUFFIX[what]}")):
                owners = offers.setdefault(path.relative_to(root).with_suffix("").as_posix(), [])
                if all(path != other for other, _ in owners):
                    owners.append((path, plugin))
    return offers


def _roots(place: str | None) -> Iterator[Path]:
    """Where the folder `package:folder` is; the package is found without being imported."""
    package, _, folder = (place or "").partition(":")
    try:
        spec = find_spec(package) if package else None
    except (ImportError, ValueError):
        return
    for location in (spec and spec.submodule_search_locations) or ():
        if (root := Path(location).resolve() / folder).is_dir():
            yield root
