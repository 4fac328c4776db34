"""discover(): the installed plugins and their parts; broken and clashing ones are named, not fatal."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from seqtoolkit.host.hooks import KINDS, PROJECT
from seqtoolkit.host.plugin import Plugin, load, new_manager
from seqtoolkit.host.problem import cause, one, suggest
from seqtoolkit.host.schema import Schema, schema

_log = logging.getLogger(__name__)


class PartError(ValueError):
    """A part that is asked for cannot be had; the message says why, in one line."""


@dataclass(frozen=True)
class Clash:
    """One name of a kind, or of a shipped file, that several plugins bring."""

    kind: str
    name: str
    plugins: tuple[Plugin, ...]

    def __str__(self) -> str:
        owners = " and ".join(plugin.origin for plugin in self.plugins)
        return f"{self.kind} {self.name!r} is brought by {owners}; uninstall one of them"


@dataclass(frozen=True)
class Registry:
    """The plugins that are installed, and the parts that they bring by kind and name."""

    plugins: tuple[Plugin, ...]
    manager: pluggy.PluginManager
    modules: Mapping[str, Plugin] = field(default_factory=dict)
    """The plugins that work, by their names in `manager`."""
    schemas: dict[tuple[str, str], Schema] = field(default_factory=dict)
    """Those that have been asked for."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Every kind of part."""
        return tuple(KINDS)

    @property
    def broken(self) -> tuple[Plugin, ...]:
        """The plugins that cannot be used; the `error` of each says why."""
        return tuple(plugin for plugin in self.plugins if plugin.error)

    @property
    def excuse(self) -> str:
        """Why a part may be unknown that should be there: the broken plugins with their causes, in brackets."""
        causes = "; ".join(f"{plugin.name} of {plugin.origin}: {plugin.error}" for plugin in self.broken)
        return f" (broken plugins: {causes})" if causes else ""

    @property
    def hook(self) -> Any:
        """Pluggy's relay: `registry.hook.run_started(run=run)`; `notify` is the one that survives failing plugins."""
        return self.manager.hook

    @property
    def clashes(self) -> tuple[Clash, ...]:
        """The names that more than one plugin brings."""
        found = (Clash(kind, name, owners) for kind in KINDS for name, owners in self.owned(kind).items() if owners[1:])
        return tuple(found)

    def owned(self, kind: str) -> dict[str, tuple[Plugin, ...]]:
        """The plugins that bring each name of a kind. Raises PartError for an unknown kind."""
        if kind not in KINDS:
            raise PartError(f"no kind of parts {kind!r}{suggest(kind, KINDS)}; wanted one of {', '.join(KINDS)}")
        owners: dict[str, tuple[Plugin, ...]] = {}
        for plugin in self.plugins:
            for name in plugin.parts.get(kind, ()):
                owners[name] = (*owners.get(name, ()), plugin)
        return owners

    def names(self, kind: str) -> list[str]:
        """The names of the parts of a kind that can be asked for, in order. Raises PartError for an unknown kind."""
        return sorted(name for name, owners in self.owned(kind).items() if not owners[1:])

    def owner(self, kind: str, name: str) -> Plugin:
        """The plugin that brings a part. Raises PartError where none does, or several do."""
        owners = self.owned(kind).get(name, ())
        if len(owners) == 1:
            return owners[0]
        if owners:
            raise PartError(str(Clash(kind, name, owners)))
        names = self.names(kind)
        hint = suggest(name, names) or f"; wanted one of {', '.join(names) or 'none: no plugin brings any'}"
        raise PartError(f"no {kind} {name!r}{hint}{self.excuse}")

    def name_of(self, kind: str, part: Any) -> str | None:
        """The name under which a class or function is registered; None where it is not."""
        place = f"{getattr(part, '__module__', '')}:{getattr(part, '__qualname__', '')}"
        return next((name for name in self.names(kind) if self.owner(kind, name).parts[kind][name] == place), None)

    def resolve(self, kind: str, name: str) -> Any:
        """The part itself, imported on first use. Raises PartError with the cause where it cannot be had."""
        plugin = self.owner(kind, name)
        where = plugin.parts[kind][name]
        module, _, attribute = where.partition(":")
        try:
            part = import_module(module)
            for step in attribute.split("."):
                part = getattr(part, step)
        except (Exception, SystemExit) as error:
            raise PartError(f"{kind} {name!r} of {plugin.origin}: cannot import {where}: {cause(error)}") from error
        if not callable(part):
            raise PartError(
                f"{kind} {name!r} of {plugin.origin}: {where} is {one(type(part).__name__)}, which is not callable"
            )
        return part

    def schema(self, kind: str, name: str) -> Schema:
        """The schema of a part's block. Raises PartError as `resolve` does, SchemaError where it can have none."""
        if (kind, name) not in self.schemas:
            self.schemas[kind, name] = schema(self.resolve(kind, name))
        return self.schemas[kind, name]

    def joined(self, observers: Mapping[str, Any]) -> Registry:
        """The same plugins, and objects with hookimpls of the life cycle, by their names, that hear of one run."""
        manager = new_manager()
        for name, observer in observers.items():
            manager.register(observer, name)
        for key in self.modules:
            manager.register(self.manager.get_plugin(key), key)
        return replace(self, manager=manager)

    def notify(self, name: str, **arguments: Any) -> None:
        """Call a life-cycle hook in every plugin; one that fails is logged by its name and stops nobody."""
        found = getattr(self.hook, name).get_hookimpls()
        for each in sorted(found, key=lambda each: each.trylast - each.tryfirst):
            try:
                each.function(*(arguments[argument] for argument in each.argnames))
            except Exception as error:  # noqa: BLE001  whatever a plugin does, the run goes on
                plugin = self.modules.get(each.plugin_name)
                who = plugin.origin if plugin else each.plugin_name
                _log.warning("plugin %s: %s failed: %s", who, name, cause(error))
                _log.debug("plugin %s: %s", who, name, exc_info=True)


def discover(points: Iterable[EntryPoint] | None = None) -> Registry:
    """The registry of the installed plugins, found once; or of the entry points given."""
    return _installed() if points is None else _register(points)


@cache
def _installed() -> Registry:
    return _register(entry_points(group=PROJECT))


def _register(points: Iterable[EntryPoint]) -> Registry:
    manager, plugins = new_manager(), []
    modules: dict[str, Plugin] = {}
    for point in points:
        plugin, module = load(point)
        key = f"{plugin.distribution}:{plugin.name}"
        if not plugin.error:
            if owner := next((modules[other] for other, each in manager.list_name_plugin() if each is module), None):
                plugin = plugin.broken(f"its module is already loaded as plugin {owner.name} of {owner.origin}")
            elif key in modules:
                plugin = plugin.broken("its distribution has another entry point of this name")
            else:
                manager.register(module, key)
                modules[key] = plugin
        plugins.append(plugin)
    order = sorted(plugins, key=lambda plugin: (plugin.name, plugin.distribution))
    return Registry(tuple(order), manager, modules)
