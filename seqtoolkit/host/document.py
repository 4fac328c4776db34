"""A YAML document: its plain data, and the line of every key; whatever is wrong with it is said with its line."""

from __future__ import annotations

import re
from typing import Any

import yaml

from seqtoolkit.host.problem import ConfigError

Key = tuple[str, ...]
DEEPEST = 50
LONGEST = 1_000_000
"""How deep a pipeline may be nested, and how many characters it may have."""
_LARGEST = 20_000


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as OmegaConf reads it: 1e-3 is a number and a date is text. No tags, no bottomless nesting."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        if getattr(event, "tag", None) is not None:
            raise _error(f"the tag {event.tag} is not allowed: a pipeline is plain data", event)
        self.depth += 1
        if self.depth > DEEPEST:
            raise _error(f"nested more than {DEEPEST} deep", event)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(_[0-9]+)*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse(text: str, name: str) -> tuple[Any, dict[Key, int]]:
    """The data of a YAML text, and the line at which each key stands.

    Raises ConfigError, one line that begins with `name:line:column`, where the text is not YAML, has a tag or a key
    twice, or is larger or nested deeper than any pipeline.
    """
    if len(text) > LONGEST:
        raise ConfigError([f"{name}: too long for a pipeline: {len(text):,} characters"])
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node: Any = loader.get_single_node()
        _weigh(node, {})
        data = None if node is None else loader.construct_document(node)
        lines: dict[Key, int] = {}
        _locate(node, (), lines)
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_told(error, text, name)]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError([f"{name}:{line}: {error.reason} (character {ord(text[error.position]):#x})"]) from None
    except (ValueError, OverflowError) as error:
        line = loader.line + 1 if loader else 1
        raise ConfigError([f"{name}:{line}: not a value that can be read: {error}"]) from None
    return data, lines


def _error(problem: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)


def _told(error: yaml.MarkedYAMLError, text: str, name: str) -> str:
    mark = error.problem_mark or error.context_mark
    problem = error.problem or error.context or "not YAML"
    if mark is None:
        return f"{name}: {problem}"
    if error.context and error.context_mark and error.context_mark.line != mark.line:
        problem += f" ({error.context} that begins in line {error.context_mark.line + 1})"
    line = text.splitlines()[mark.line] if mark.line < len(text.splitlines()) else ""
    hint = '; within { } and [ ] an interpolation is quoted: "${...}"' if "${" in line else ""
    return f"{name}:{mark.line + 1}:{mark.column + 1}: {problem}{hint}"


def _weigh(node: Any, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """How many nodes there are, and how deep, with every alias written out; a short text can stand for billions."""
    if id(node) in known:
        found = known[id(node)]
        if found is None:
            raise _error("an alias inside of what it stands for", node)
        return found
    known[id(node)] = None
    children: list[Any] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise _error(f"the key {key.value!r} is there twice", key)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else "")
            children += [key, value]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    weights = [_weigh(child, known) for child in children]
    size, depth = 1 + sum(size for size, _ in weights), 1 + max((depth for _, depth in weights), default=0)
    if size > _LARGEST or depth > DEEPEST:
        raise _error(f"larger than any pipeline: over {_LARGEST:,} values, or nested more than {DEEPEST} deep", node)
    known[id(node)] = size, depth
    return size, depth


def _locate(node: Any, key: Key, lines: dict[Key, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        places = [(str(name.value), name, value) for name, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        places = [(str(number), value, value) for number, value in enumerate(node.value)]
    else:
        return
    for name, place, value in places:
        lines[*key, name] = place.start_mark.line + 1
        _locate(value, (*key, name), lines)
