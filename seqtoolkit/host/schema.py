"""schema(): a factory's signature, as the schema of its config block."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass
from functools import cached_property, partial
from pathlib import PurePath
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

from seqtoolkit.host import annotation as notes

GIVEN = frozenset(
    "input_size input_spec target_spec encoder parameters step steps graph device precision".split()  # noqa: SIM905  a line
)
"""The parameters that a part gets from what surrounds it, and never from a pipeline."""


class SchemaError(ValueError):
    """A factory's signature cannot be the schema of a block."""


@dataclass(frozen=True)
class Field:
    """One parameter of a part."""

    name: str
    annotation: Any
    default: Any = MISSING
    """As a pipeline writes it, or as it is where a pipeline cannot write it; MISSING where there is none."""
    doc: str = ""

    @property
    def required(self) -> bool:
        """Whether a pipeline has to give it."""
        return self.default is MISSING

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values that it may have; none where they are not counted up."""
        return notes.choices(self.annotation)

    @cached_property
    def kind(self) -> str | None:
        """The kind of part that it takes, or takes a list of."""
        for member in notes.alternatives(self.annotation):
            for each in (member, *(get_args(member) if notes.origin(member) in (*notes.LISTS, tuple) else ())):
                if found := notes.part(notes.unwrap(each)):
                    return found
        return None

    @property
    def type(self) -> str:
        """Its type, for people."""
        return notes.spell(self.annotation)


@dataclass(frozen=True)
class Schema:
    """The parameters that a pipeline may give a part, by name, and what the part says of itself."""

    fields: Mapping[str, Field]
    doc: str = ""


def schema(factory: Callable[..., Any], given: Collection[str] = GIVEN) -> Schema:
    """The schema of the block that `factory` is made of.

    Its parameters are the signature's without those that are `given`; what a parameter is for is read from the docstring's
    `Args:`. A parameter that only Python can write (a callable, a tensor) is left out where it has a default.
    Raises SchemaError for `*args`, `**kwargs` and positional-only parameters, for an annotation that cannot be
    resolved, and for a parameter without a default that a pipeline cannot write.
    """
    text = inspect.getdoc(factory) or ""
    docs = _arguments(text) or _arguments(inspect.getdoc(getattr(factory, "__init__", None)) or "")
    found = (_field(factory, parameter, docs) for parameter in _parameters(factory, given))
    return Schema({field.name: field for field in found if field}, _summary(text))


def plain(value: Any) -> Any:
    """A default as a pipeline writes it: tuples as lists, paths as text. MISSING for what a pipeline cannot write."""
    if isinstance(value, list | tuple | Mapping):
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        items = {key: plain(each) for key, each in pairs}
        if MISSING in items.values():
            return MISSING
        return items if isinstance(value, Mapping) else list(items.values())
    if isinstance(value, PurePath):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else MISSING


def _parameters(factory: Callable[..., Any], given: Collection[str]) -> list[inspect.Parameter]:
    name = _name(factory)
    if _takes_nothing(factory):
        return []
    try:
        parameters = list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError) as error:
        raise SchemaError(f"{name} has no signature to read: {error}") from None
    for each in parameters:
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            raise SchemaError(f"{name} takes {str(each).partition(':')[0]}: a part names each of its parameters")
        if each.kind is each.POSITIONAL_ONLY:
            raise SchemaError(f"{name} takes {each.name} by position only: a part takes its parameters by name")
    return [each for each in parameters if each.name not in given]


def _takes_nothing(factory: Any) -> bool:
    # A torch module without a constructor inherits one that takes *args and **kwargs, and refuses them all.
    torch = sys.modules.get("torch")
    return torch is not None and getattr(factory, "__init__", None) is torch.nn.Module.__init__


def _field(factory: Callable[..., Any], parameter: inspect.Parameter, docs: Mapping[str, str]) -> Field | None:
    annotation = notes.unwrap(_resolve(factory, parameter))
    default = MISSING if parameter.default is parameter.empty else _default(factory, parameter)
    if notes.writable(annotation):
        written = plain(default)
        return Field(
            parameter.name, annotation, default if written is MISSING else written, docs.get(parameter.name, "")
        )
    if default is not MISSING:
        return None
    raise SchemaError(f"{_name(factory)}: a pipeline cannot write {parameter.name}, of type {parameter.annotation!r}")


def _default(factory: Any, parameter: inspect.Parameter) -> Any:
    if dataclasses.is_dataclass(factory):
        for field in dataclasses.fields(factory):
            if field.name == parameter.name and field.default_factory is not MISSING:
                return field.default_factory()
    return parameter.default


def _resolve(factory: Any, parameter: inspect.Parameter) -> Any:
    """The annotation with its strings evaluated; each alone, so that one that nobody asks for does not matter."""
    while isinstance(factory, partial):
        factory = factory.func
    function = inspect.unwrap(factory.__init__ if inspect.isclass(factory) else factory)
    function = getattr(function, "__func__", function)
    scope = getattr(function, "__globals__", None) or vars(sys.modules.get(factory.__module__, SimpleNamespace()))
    holder = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        return get_type_hints(holder, globalns=scope, include_extras=True)[parameter.name]
    except Exception as error:  # noqa: BLE001  an annotation is an expression and may raise anything
        place = f"{_name(factory)}: the annotation of {parameter.name}, {parameter.annotation!r}"
        raise SchemaError(f"{place}, cannot be resolved: {error}") from None


def _name(factory: Any) -> str:
    return getattr(factory, "__qualname__", type(factory).__name__)


def _arguments(text: str) -> dict[str, str]:
    """The `Args:` of a Google-style docstring, each in one line."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", text, re.MULTILINE)
    if section is None:
        return {}
    items = re.split(r"^(?=\S)", textwrap.dedent(section[1]), flags=re.MULTILINE)
    pairs = (re.match(r"\*{0,2}(\w+)(?:\s*\([^)]*\))?:\s*(.*)", item, re.DOTALL) for item in items)
    return {pair[1]: " ".join(pair[2].split()) for pair in pairs if pair}


def _summary(text: str) -> str:
    """The docstring without its `Args:`."""
    return re.sub(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", "", text, flags=re.MULTILINE).strip()
