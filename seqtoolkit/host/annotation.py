"""Annotations: which of them a pipeline can write, what each means, and how it is spelled for people."""

from __future__ import annotations

import collections.abc
import inspect
from dataclasses import MISSING
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from seqtoolkit.flow.kind import Kind

ANYTHING = (Any, object, inspect.Parameter.empty)
SCALARS = (bool, int, float, str, Path, NoneType)
LISTS = (list, collections.abc.Sequence)
MAPPINGS = (dict, collections.abc.Mapping)
_NAMES = {NoneType: "null", Path: "path", collections.abc.Sequence: "list", collections.abc.Mapping: "dict"}


def origin(annotation: Any) -> Any:
    """What an annotation is at its top: list for both list and list[int], Union for both spellings, Kind for a part."""
    if part(annotation):
        return Kind
    bare = get_origin(annotation) or annotation
    return Union if bare is UnionType else bare


def unwrap(annotation: Any) -> Any:
    """Without the metadata that means nothing here, and without the name of a `type` alias."""
    while True:
        if get_origin(annotation) is Annotated and part(annotation) is None:
            annotation = get_args(annotation)[0]
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return annotation


def part(annotation: Any) -> str | None:
    """The kind of part that `Annotated[..., Kind("core")]` asks for."""
    marks = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return next((mark.name for mark in marks if isinstance(mark, Kind)), None)


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union that a pipeline can write; the annotation alone where it is none."""
    annotation = unwrap(annotation)
    if origin(annotation) is not Union:
        return (annotation,)
    members = (each for member in get_args(annotation) for each in alternatives(member))
    return tuple(member for member in members if writable(member))


def writable(annotation: Any) -> bool:
    """Whether a pipeline can write a value of this annotation."""
    annotation = unwrap(annotation)
    kind = origin(annotation)
    if kind in (Kind, Literal) or annotation in ANYTHING or annotation in SCALARS:
        return True
    if kind is Union:
        return any(member is not NoneType for member in alternatives(annotation))
    if kind in MAPPINGS and get_args(annotation) and not _names(unwrap(get_args(annotation)[0])):
        return False
    if kind in (*LISTS, *MAPPINGS, tuple):
        return all(writable(argument) for argument in get_args(annotation) if argument is not ...)
    return False


def _names(annotation: Any) -> bool:
    """Whether the keys of a pipeline, which are text, can be of this annotation."""
    if origin(annotation) is Literal:
        return all(isinstance(each, str) for each in get_args(annotation))
    return annotation is str or annotation in ANYTHING


def choices(annotation: Any) -> tuple[Any, ...]:
    """The values that an annotation made of Literals (and None) allows; none where it allows others too."""
    found: list[Any] = []
    for member in alternatives(annotation):
        if origin(member) is Literal:
            found += get_args(member)
        elif member is NoneType:
            found.append(None)
        else:
            return ()
    return tuple(found)


def spell(annotation: Any) -> str:
    """An annotation as people write it in Python, choices as they write them in a pipeline."""
    annotation = unwrap(annotation)
    kind, arguments = origin(annotation), get_args(annotation)
    if kind is Kind:
        return str(part(annotation))
    if kind is Union:
        return " | ".join(dict.fromkeys(map(spell, alternatives(annotation))))
    if kind is Literal:
        return " | ".join("null" if each is None else str(each) for each in arguments)
    if annotation in ANYTHING:
        return "anything"
    inner = ", ".join("..." if each is ... else spell(each) for each in arguments)
    return _NAMES.get(kind, getattr(kind, "__name__", str(kind))) + (f"[{inner}]" if inner else "")


def scalar(annotation: Any, value: Any) -> Any:
    """The value as a scalar type or one of the choices; MISSING where it is none.

    True is no number; a whole float is an integer, and any integer a float.
    """
    if origin(annotation) is Literal:
        return next((each for each in get_args(annotation) if each == value and type(each) is type(value)), MISSING)
    if isinstance(value, bool):
        return value if annotation is bool else MISSING
    if annotation is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if annotation is float and isinstance(value, int) and value.bit_length() < 1000:
        return float(value)
    if annotation is Path and isinstance(value, str):
        return Path(value)
    return value if isinstance(value, annotation) else MISSING
