"""One plugin: its entry point loaded, its hooks asked, and whatever is wrong with it said in one line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint
from types import MappingProxyType
from typing import Any

import pluggy

from seqtoolkit.host import hooks
from seqtoolkit.host.hooks import API, FOLDERS, KINDS, PROJECT, Folder
from seqtoolkit.host.problem import cause, one_line, show, suggest

_NAME = re.compile(r"[A-Za-z_][\w-]*")
_DOTTED = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
_PLACE = re.compile(rf"{_DOTTED}:{_DOTTED}")
_FOLDER = re.compile(rf"{_DOTTED}:\w[\w./-]*")
_NOTHING: Mapping[Any, Any] = MappingProxyType({})


class _PluginError(ValueError):
    """What is wrong with a plugin."""


@dataclass(frozen=True)
class Plugin:
    """What an entry point of the group `seqtoolkit` brings; `error` says why it brings nothing, where it is broken."""

    name: str
    distribution: str
    version: str
    module: str
    parts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By kind and name: where the part is."""
    folders: Mapping[Folder, str] = field(default_factory=dict)
    """By hook (`pipelines`, `grammars`): the folder that it ships, as `package:folder`."""
    error: str | None = None

    @property
    def brings(self) -> dict[str, list[str]]:
        """The names of its parts, by kind."""
        return {kind: sorted(parts) for kind, parts in self.parts.items()}

    @property
    def origin(self) -> str:
        """Its distribution and version."""
        return f"{self.distribution} {self.version}".strip()

    def broken(self, error: str) -> Plugin:
        """The same plugin, of no use for this reason."""
        return replace(self, parts=_NOTHING, folders=_NOTHING, error=one_line(error))


def new_manager() -> pluggy.PluginManager:
    """A plugin manager that knows the hooks of the toolkit, and no plugin."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hooks)
    return manager


def load(point: EntryPoint) -> tuple[Plugin, Any]:
    """The plugin at an entry point, and its module (None where it cannot be imported). Raises nothing."""
    plugin, module = Plugin(point.name, *_distribution(point), point.value), None
    try:
        module = point.load()
        _require_api(getattr(module, "SEQTOOLKIT_API", API))
        manager = new_manager()
        manager.register(module, point.name)
        _require_known(manager)
        parts = {kind: found for kind, name in KINDS.items() if (found := _parts(manager, name))}
        folders = {name: answer for name in FOLDERS for answer in _folders(manager, name)}
    except _PluginError as error:
        return plugin.broken(str(error)), module
    except (Exception, SystemExit) as error:  # noqa: BLE001  whatever a stranger's module does at import
        return plugin.broken(cause(error)), module
    return replace(plugin, parts=parts, folders=folders), module


def _distribution(point: EntryPoint) -> tuple[str, str]:
    try:
        return str(point.dist.name or "unknown"), str(point.dist.version or "")  # type: ignore[union-attr]
    except Exception:  # noqa: BLE001  metadata may be damaged in any way
        return "unknown", ""


def _require_api(wanted: Any) -> None:
    if type(wanted) is not int:
        raise _PluginError(f"SEQTOOLKIT_API: wanted an integer, got {show(wanted)}")
    if wanted > API:
        raise _PluginError(f"it needs version {wanted} of the hooks, this toolkit has {API}: upgrade seqtoolkit")


def _require_known(manager: pluggy.PluginManager) -> None:
    known = [name for name, hook in vars(manager.hook).items() if hook.has_spec()]
    for name, hook in vars(manager.hook).items():
        impls = hook.get_hookimpls()
        if not hook.has_spec() and not all(each.optionalhook for each in impls):
            raise _PluginError(f"there is no hook {name!r}{suggest(name, known)}")
        if any(each.hookwrapper or each.wrapper for each in impls):
            raise _PluginError(f"hook {name!r}: wrappers are not supported")


def _answers(manager: pluggy.PluginManager, hook: str) -> list[Any]:
    return [each.function() for each in getattr(manager.hook, hook).get_hookimpls()]


def _parts(manager: pluggy.PluginManager, hook: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for answer in _answers(manager, hook):
        if not isinstance(answer, Mapping):
            raise _PluginError(f"hook {hook!r}: wanted a mapping of names to places, got {show(answer)}")
        for name, place in answer.items():
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise _PluginError(f"hook {hook!r}: {show(name)} is no name of letters, digits, _ and -")
            if not isinstance(place, str) or not _PLACE.fullmatch(place):
                raise _PluginError(f"hook {hook!r}: {name}: wanted 'module:attribute', got {show(place)}")
            parts[name] = place
    return parts


def _folders(manager: pluggy.PluginManager, hook: str) -> list[str]:
    answers = _answers(manager, hook)
    for answer in answers:
        if not isinstance(answer, str) or not _FOLDER.fullmatch(answer) or ".." in answer:
            raise _PluginError(f"hook {hook!r}: wanted 'package:folder', got {show(answer)}")
    return answers
