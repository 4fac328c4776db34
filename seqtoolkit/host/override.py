"""Overrides: `key=value` and `~key`, as they are given on a command line, laid over a pipeline."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from seqtoolkit.host.document import Key, parse
from seqtoolkit.host.problem import ConfigError, Problem, one_line, show, suggest

_PATH = re.compile(r"[^\s.=\[\]~+]+(\.[^\s.=\[\]~]+|\[\d+\])*")
_HOW = "wanted key=value, or ~key to remove a key"


@dataclass(frozen=True)
class Override:
    """One override: a value for a key, or its removal."""

    text: str
    key: Key
    value: Any = None
    removes: bool = False

    @classmethod
    def parse(cls, text: str) -> Override:
        """Read one. Raises ConfigError, one line, where it is not written as one."""
        removes = text.startswith("~")
        path, equals, value = text.removeprefix("~").partition("=")
        path = path.strip()
        if removes == bool(equals) or not _PATH.fullmatch(path):
            hint = "; a new key needs no +" if text.startswith("+") else ""
            raise ConfigError([_HOW + hint])
        key = tuple(re.findall(r"[^.\[\]]+", path))
        if removes:
            return cls(text, key, removes=True)
        data, _ = parse(value, "value")
        if data is None and value.strip().lower() not in ("null", "~"):
            raise ConfigError([f"no value; write {path}=null for none, {path}='\"\"' for no text"])
        return cls(text, key, data)

    @property
    def depth(self) -> int:
        """How far inside the pipeline it reaches; `use` stands for the whole block."""
        return len(self.key) - (self.key[-1] == "use")


def override(tree: dict[str, Any], overrides: Iterable[str], origins: dict[Key, str]) -> list[Problem]:
    """Lay overrides over `tree`, those of a block before those of what is inside it; return what is wrong with them.

    A value takes the place of what was there; another `use` does away with the parameters of the block that it was.
    """
    problems: list[Problem] = []
    found: list[Override] = []
    for text in overrides:
        try:
            found.append(Override.parse(text))
        except ConfigError as error:
            problems += [(_named(text), each) for each in error.problems]
    for each in sorted(found, key=lambda each: each.depth):
        try:
            _remove(tree, each.key) if each.removes else _assign(tree, each.key, each.value)
        except LookupError as error:
            problems.append((_named(each.text), error.args[0]))
        else:
            for key in [key for key in origins if key[: len(each.key)] == each.key]:
                del origins[key]
            if not each.removes:
                origins[each.key] = f"override {one_line(each.text)}"
    return problems


def _named(text: str) -> Key:
    return (f"override {text!r}",)


def _assign(tree: dict[str, Any], key: Key, value: Any) -> None:
    node: Any = tree
    for step, following in pairwise(key):
        node = _enter(node, step, following)
    last = key[-1]
    if isinstance(node, list):
        place = _place(node, last, more=1)
        node[place : place + 1] = [value]
        return
    if last == "use" and node.get("use") != value:
        node.clear()
    node[last] = value


def _enter(node: Any, step: str, following: str) -> Any:
    """What is inside `node` at `step`, ready to hold `following`: a bare name as a block, nothing as what it needs."""
    if isinstance(node, list):
        place = _place(node, step, more=1)
        node[place:] = node[place:] or [None]
        inside = node[place]
    else:
        place, inside = step, node.get(step)  # type: ignore[assignment]  # a dict's place is its key
    if inside is None:
        inside = [] if following.isdecimal() else {}
    elif isinstance(inside, str):
        inside = {"use": inside}
    if isinstance(inside, dict) and following.isdecimal() and "use" in inside:
        inside = [inside]
    if not isinstance(inside, dict | list):
        raise LookupError(f"{step} is {show(inside)}, which has nothing inside")
    node[place] = inside
    return inside


def _remove(tree: dict[str, Any], key: Key) -> None:
    node: Any = tree
    for depth, step in enumerate(key, 1):
        if isinstance(node, list):
            place: Any = _place(node, step, more=0)
        elif isinstance(node, dict) and step in node:
            place = step
        else:
            names = node if isinstance(node, dict) else ()
            raise LookupError(f"there is no {'.'.join(key[:depth])} to remove{suggest(step, names)}")
        if depth == len(key):
            del node[place]
        else:
            node = node[place]


def _place(items: list[Any], step: str, more: int) -> int:
    if not step.isdecimal():
        raise LookupError(f"{step!r} inside a list: wanted the number of one of its {len(items)} items")
    if len(step) > 9 or int(step) >= len(items) + more:
        raise LookupError(f"item {step[:9]} of a list of {len(items)}")
    return int(step)
