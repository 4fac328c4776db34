"""Config: a pipeline file, loaded, overridden, validated and frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path, PurePath
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from seqtoolkit.host.document import DEEPEST, LONGEST, Key, parse
from seqtoolkit.host.freezer import AROUND, SLOTS, Freezer
from seqtoolkit.host.interpolation import UNKNOWN, escape, interpolated, resolve
from seqtoolkit.host.override import override
from seqtoolkit.host.plan import Block, Plan, written
from seqtoolkit.host.problem import ConfigError, Problem, show
from seqtoolkit.host.reader import Reader
from seqtoolkit.host.registry import Registry
from seqtoolkit.host.resource import find_pipeline

__all__ = ["Block", "Config", "ConfigError", "Plan", "freeze", "load"]


@dataclass(frozen=True)
class Config:
    """A pipeline as it is written, with its overrides: plain data, nothing validated."""

    name: str
    tree: dict[str, Any]
    origins: Mapping[Key, str] = field(default_factory=dict)
    """Where keys come from: a line of the file, or an override."""
    problems: tuple[Problem, ...] = ()
    """What is wrong already."""
    changes: tuple[str, ...] = ()
    """The overrides, as they were given."""

    def located(self, key: Key) -> str:
        """Where a key, or what it is inside of, comes from; empty where that is not known."""
        known = (self.origins.get(key[:length]) for length in range(len(key), 0, -1))
        origin = next((each for each in known if each), None)
        return f" ({origin})" if origin else ""


def load(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Config:
    """A pipeline from a file, from the name of a shipped one, or from a mapping, with `key=value` overrides on top.

    Raises ConfigError, one line, where there is no such file or it holds no mapping. What is wrong inside, and with
    the overrides, is told by `freeze` together with all the rest.
    """
    if isinstance(source, Mapping):
        name, data, origins = "pipeline", source, {}
    else:
        path = find_pipeline(source)
        name = path.stem if path == Path(source) else str(source).removesuffix(path.suffix)
        data, lines = parse(_read(path), str(path))
        origins = {key: f"{path}:{line}" for key, line in lines.items()}
        if not isinstance(data, Mapping):
            what = "it is empty" if data is None else f"it is {show(data)}"
            raise ConfigError([f"{path}: wanted keys such as source and model, but {what}"])
    problems: list[Problem] = []
    tree = _plain(data, (), problems)
    for slot in SLOTS:
        if isinstance(slot.default, list) and "environment" not in tree:
            tree.setdefault(slot.key[0], list(slot.default))
    problems += override(tree, overrides, origins)
    return Config(name, tree, origins, tuple(problems), tuple(overrides))


def freeze(config: Config, registry: Registry, sections: Mapping[str, type]) -> Plan:
    """The plan of a pipeline: every part found, every value checked, every default filled in.

    `sections` are the dataclasses of the keys that are no parts: `run`, `evaluate`; a section may share its key with
    parts (`model`). Raises ConfigError that names all problems, one line each.
    """
    tree, freezer = config.tree, Freezer(Reader(registry), sections)
    freezer.reader.problems += config.problems
    if interpolated(tree):
        tree = written(Freezer(Reader(registry, raw=True), sections).read(tree))
        tree = resolve(tree, freezer.reader.note)
    found = freezer.read(tree)
    settings = freezer.settings(found)
    problems = [each for each in freezer.reader.problems if (each[0][1:], each[1]) not in freezer.reader.problems]
    lines = [f"{'.'.join(key)}: {text}{config.located(key)}" for key, text in problems]
    if lines:
        raise ConfigError(dict.fromkeys(lines))
    parts: dict[str, Any] = {slot.key[-1]: found.get(slot.key[0]) for slot in SLOTS if len(slot.key) == 1}
    parts |= {slot.key[1]: found["model"][slot.key[1]] for slot in SLOTS if len(slot.key) > 1}
    environment, source = parts.pop("environment"), parts.pop("source")
    kind = "environment" if environment else "source"
    for name in ("transform", "metric"):
        parts[name] = parts[name] or ()
    return Plan(
        **parts,
        origin=environment or source,
        evaluate_origin=found["evaluate"][kind],
        sections=settings,
        resolved=escape(written({key: each for key, each in found.items() if key not in AROUND})),
        name=config.name,
    )


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(LONGEST + 1).decode("utf-8-sig")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror or error}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not a text file: byte {error.start} is no UTF-8"]) from None


def _plain(value: Any, key: Key, problems: list[Problem]) -> Any:
    """A value as plain data of Python, copied; UNKNOWN where it is none, after a note."""
    if isinstance(value, DictConfig | ListConfig):
        value = OmegaConf.to_container(value, resolve=False)
    if len(key) > DEEPEST:
        problems.append((key[:3], f"nested more than {DEEPEST} deep"))
    elif isinstance(value, Mapping):
        odd = [name for name in value if not isinstance(name, str)]
        problems += [((*key, show(name)), f"a key is text; quote it: '{show(name)}'") for name in odd]
        return {str(k): _plain(each, (*key, k), problems) for k, each in value.items() if isinstance(k, str)}
    elif isinstance(value, list | tuple):
        return [_plain(each, (*key, str(place)), problems) for place, each in enumerate(value)]
    elif value is None or isinstance(value, bool | str):
        return value
    elif isinstance(value, Integral | Real):
        return int(value) if isinstance(value, Integral) else float(value)
    elif isinstance(value, PurePath):
        return str(value)
    else:
        problems.append((key, f"wanted plain data, got {show(value)}"))
    return UNKNOWN
