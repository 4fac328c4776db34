"""Keys: what can be written into a pipeline, for shells that complete it. What parts take is remembered on the disk."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from seqtoolkit.cli.completion import Offers
from seqtoolkit.host.annotation import alternatives
from seqtoolkit.host.freezer import ACTING, EXAMPLES, KEYS, SLOTS, Slot
from seqtoolkit.host.reader import complete
from seqtoolkit.host.registry import Registry
from seqtoolkit.host.schema import Field, Schema, plain, schema
from seqtoolkit.train.search import BARE


class Entry(NamedTuple):
    """A parameter, as far as a shell needs it."""

    name: str
    kind: str | None
    """Which part it takes, None where it takes a value."""
    default: str
    """Empty where there is none that fits on a command line."""
    values: list[str]
    doc: str


@dataclass(frozen=True)
class Node:
    """A place in a pipeline: the values that it takes, and the places inside of it."""

    values: tuple[str, ...] | None = None
    """None where nothing can be given to it as a whole."""
    inside: Callable[[], dict[str, Node]] | None = None
    doc: str = ""


class Memory:
    """What parts take. To find out imports them, and torch, so that it is kept until their module changes."""

    def __init__(self, registry: Registry, path: Path | None = None) -> None:
        self.registry, self.path = registry, path or _place()
        self._kept: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            kept = json.loads(self.path.read_text())
            self._kept = kept if isinstance(kept, dict) else {}

    def part(self, kind: str, use: str) -> list[Entry]:
        """The parameters of a part. Raises PartError and SchemaError."""
        where = self.registry.owner(kind, use).parts[kind][use]
        return self._entries(
            f"{kind} {where}", lambda: self.registry.resolve(kind, use), self.registry.schema, kind, use
        )

    def settings(self, name: str) -> list[Entry]:
        """The settings, which are no parts, at a key of a pipeline."""
        return self._entries(f"settings {name}", partial(_section, name), lambda: schema(_section(name), given=()))

    def _entries(self, key: str, find: Callable[[], Any], read: Callable[..., Schema], *arguments: str) -> list[Entry]:
        kept: Any = self._kept.get(key)
        with suppress(OSError, KeyError, TypeError):
            if kept["stamp"] == Path(kept["file"]).stat().st_mtime_ns:
                return [Entry(*each) for each in kept["entries"]]
        entries = [self._entry(field) for field in read(*arguments).fields.values()]
        with suppress(OSError, TypeError):
            file = Path(inspect.getfile(inspect.unwrap(find())))
            self._kept[key] = {"file": str(file), "stamp": file.stat().st_mtime_ns, "entries": entries}
            self._keep()
        return entries

    def _entry(self, field: Field) -> Entry:
        default = field.default
        if field.kind and callable(default):
            default = self.registry.name_of(field.kind, default)
        booleans = ["true", "false"] if bool in alternatives(field.annotation) else []
        values = [each for each in map(_word, field.choices) if each] or booleans
        return Entry(field.name, field.kind, _word(plain(default)), values, field.doc)

    def _keep(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(self._kept))
        draft.replace(self.path)


def offers(memory: Memory, tree: Mapping[str, Any], word: str, *, several: bool = False) -> Offers:
    """What `word`, the beginning of `key=value`, may become, for a pipeline as it is written in `tree`.

    Keys are offered a level at a time, as files are; a key beside its values, so that a shell adds no space to a key.
    With `several`, values stand in a list with commas.
    """
    path, equals, value = word.partition("=")
    parents, dot, last = path.rpartition(".")
    inside: dict[str, Node] = _root(memory, tree)
    if several and not dot:
        sweep = _settings(memory, tree, "sweep")
        inside |= {name: sweep[name] for name in BARE}
    for name in parents.split(".") if dot else ():
        inside = _open(inside.get(name))
    if equals:
        before, comma, begun = value.rpartition(",") if several else ("", "", value)
        node = inside.get(last, Node())
        return [(f"{path}={before}{comma}{each}", node.doc) for each in node.values or () if each.startswith(begun)]
    return _listed(f"{parents}{dot}", {name: node for name, node in inside.items() if name.startswith(last)})


def _listed(before: str, found: Mapping[str, Node]) -> Offers:
    said: Offers = []
    for name, node in found.items():
        said += [(f"{before}{name}=", node.doc)] * (node.values is not None)
        said += [(f"{before}{name}.", node.doc)] * (node.inside is not None)
    if len(said) == 1:
        ((name, node),) = found.items()
        if node.values is None:
            return _listed(f"{before}{name}.", _open(node))
        said += [(f"{before}{name}={value}", node.doc) for value in node.values]
    return said


def _open(node: Node | None) -> dict[str, Node]:
    return {} if node is None or node.inside is None else node.inside()


def _root(memory: Memory, tree: Mapping[str, Any]) -> dict[str, Node]:
    slots = {slot.key[0]: slot for slot in _slots(tree) if len(slot.key) == 1}
    left = {slot.key[0] for slot in SLOTS if len(slot.key) == 1} - slots.keys()
    return {
        key: _slot(memory, slots[key], tree.get(key))
        if key in slots
        else Node(inside=partial(_settings, memory, tree, key))
        for key in KEYS
        if key not in left
    }


def _slots(tree: Mapping[str, Any]) -> list[Slot]:
    """Those of a pipeline with an environment, of one with a source, or all where there is neither yet."""
    acting = tree.get("environment") is not None
    left = EXAMPLES if acting else ("environment",) if tree.get("source") is not None else ()
    found = [slot for slot in SLOTS if slot.key[0] not in left]
    return [replace(slot, default=ACTING.get(slot.key, slot.default)) for slot in found] if acting else found


def _settings(memory: Memory, tree: Mapping[str, Any], name: str) -> dict[str, Node]:
    given = tree.get(name)
    given = given if isinstance(given, Mapping) else {}
    nodes = {
        slot.key[1]: _slot(memory, slot, given.get(slot.key[1]))
        for slot in _slots(tree)
        if slot.key[0] == name and len(slot.key) == 2
    }
    if name == "evaluate":
        kind = "source" if tree.get("environment") is None else "environment"
        changes = given.get(kind)
        origin = {**(complete(tree.get(kind)) or {}), **(changes if isinstance(changes, Mapping) else {})}
        nodes[kind] = Node(inside=partial(_parameters, memory, kind, origin), doc=f"changes to the {kind}")
    nodes |= _nodes(memory, memory.settings(name), given)
    if name == "sweep":
        nodes["match_parameters"] = replace(nodes["match_parameters"], values=tuple(memory.registry.names("core")))
    return nodes


def _slot(memory: Memory, slot: Slot, value: Any) -> Node:
    if not isinstance(slot.default, list):
        return _block(memory, slot.kind, slot.default if value is None else value, slot.default)
    value = slot.default if value is None else value
    items = value if isinstance(value, list) else [value]
    nodes = {str(place): _block(memory, slot.kind, each) for place, each in enumerate(items)}
    return Node(tuple(memory.registry.names(slot.kind)), (lambda: nodes) if nodes else None, slot.kind)


def _block(memory: Memory, kind: str, value: Any, default: Any = None, doc: str = "") -> Node:
    block = complete(value, default)
    named = isinstance(block, Mapping) and isinstance(block.get("use"), str)
    inside = partial(_parameters, memory, kind, block) if named else None
    return Node(tuple(memory.registry.names(kind)), inside, doc or kind)


def _parameters(memory: Memory, kind: str, block: Mapping[str, Any]) -> dict[str, Node]:
    return _nodes(memory, memory.part(kind, str(block.get("use"))), block)


def _nodes(memory: Memory, entries: list[Entry], given: Mapping[str, Any]) -> dict[str, Node]:
    return {
        each.name: _block(memory, each.kind, given.get(each.name, each.default or None), each.default or None, each.doc)
        if each.kind
        else Node(tuple(dict.fromkeys([*each.values, *([each.default] if each.default else [])])), doc=each.doc)
        for each in entries
    }


def _section(name: str) -> type:
    from seqtoolkit.experiment import SECTIONS

    return SECTIONS[name]


def _word(value: Any) -> str:
    """A value as a shell and a pipeline write it alike; empty where they do not."""
    if value is MISSING or isinstance(value, list | dict):
        return ""
    word = {None: "null", True: "true", False: "false"}.get(value) if value is None or isinstance(value, bool) else None
    word = str(value) if word is None else word
    return word if word and all(each.isalnum() or each in "._+-" for each in word) else ""


def _place() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "seqtoolkit" / f"keys-{crc32(sys.prefix.encode()):08x}.json"
