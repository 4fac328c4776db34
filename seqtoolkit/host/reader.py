"""Reader: the values of a pipeline read as what the signatures of its parts want; every problem is noted, none stops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING
from typing import Annotated, Any, Literal, Union, get_args

from seqtoolkit.flow.kind import Kind
from seqtoolkit.host import annotation as notes
from seqtoolkit.host.document import Key
from seqtoolkit.host.interpolation import UNKNOWN, interpolated
from seqtoolkit.host.plan import Block
from seqtoolkit.host.problem import Problem, one, show, suggest
from seqtoolkit.host.registry import Registry
from seqtoolkit.host.schema import GIVEN, Field, Schema, plain


class Reader:
    """Reads raw values by annotations, and blocks by the schemas of their parts.

    What cannot be read is noted in `problems` and returned as it was given. With `raw`, interpolations are not resolved
    yet and pass as they are, so that a first reading can fill in the defaults to which they may refer.
    """

    def __init__(self, registry: Registry, *, raw: bool = False) -> None:
        self.registry, self.raw = registry, raw
        self.problems: list[Problem] = []

    def note(self, key: Key, message: str) -> None:
        """Note a problem with the value at `key`."""
        self.problems.append((key, message))

    def trial(self) -> Reader:
        """A reader with problems of its own."""
        return Reader(self.registry, raw=self.raw)

    def passes(self, value: Any) -> bool:
        """Whether a value cannot be read yet."""
        return value is UNKNOWN or (self.raw and isinstance(value, str) and interpolated(value))

    def block(self, kind: str, value: Any, key: Key, default: Any = None) -> Any:
        """A part with its parameters, as a Block; a bare name stands for one, and `use` is the default's if left out."""
        if self.passes(value):
            return value
        given = complete(value, default)
        if not isinstance(given, dict):
            self.note(key, f"wanted {one(kind)}, by its name or as {{use: name, ...}}; got {show(value)}")
            return value
        use = given.get("use", MISSING)
        if self.passes(use):
            return value
        if not isinstance(use, str) or use == "???":
            names = ", ".join(self.registry.names(kind)) or "none is installed"
            got = "" if use in (MISSING, "???") else f", got {show(use)}"
            self.note((*key, "use"), f"wanted the name of {one(kind)} ({names}){got}")
            return value
        try:
            fields = self.registry.schema(kind, use)
            factory = self.registry.resolve(kind, use)
        except ValueError as error:
            self.note(key if isinstance(value, str) else (*key, "use"), str(error))
            return value
        rest = {name: each for name, each in given.items() if name != "use"}
        return Block(kind, use, ".".join(key), self.parameters(fields, rest, key, f"{kind} {use}"), factory)

    def blocks(self, kind: str, value: Any, key: Key) -> Any:
        """A tuple of parts; one alone is a tuple of one."""
        return self.value(tuple[Annotated[Any, Kind(kind)], ...], value, key)

    def parameters(
        self, fields: Schema, given: Mapping[str, Any], key: Key, owner: str, also: Iterable[str] = ()
    ) -> dict[str, Any]:
        """What a part or section is to be called with: everything that is given, and the defaults of the rest.

        `also` are the names that it takes besides.
        """
        names = [*also, *fields.fields]
        found = {}
        for name, value in given.items():
            if name in fields.fields:
                continue
            hint = suggest(name, names) or f"; it takes {', '.join(names) or 'none'}"
            if name in GIVEN:
                hint = "; it comes from what surrounds the part"
            self.note((*key, name), f"{owner} has no such parameter{hint}")
            if self.raw:
                found[name] = value
        for name, field in fields.fields.items():
            value = self._parameter(field, given, (*key, name))
            if value is not MISSING:
                found[name] = value
        return found

    def value(self, annotation: Any, value: Any, key: Key) -> Any:
        """A value as its annotation wants it: a list as a tuple, a whole float as an integer, a name as a Block."""
        annotation = notes.unwrap(annotation)
        if self.passes(value) or annotation in notes.ANYTHING:
            return value
        if value == "???":
            self.note(key, f"missing; wanted {notes.spell(annotation)}")
            return value
        readers = {Kind: self._part, Union: self._union, tuple: self._list}
        readers |= dict.fromkeys(notes.LISTS, self._list) | dict.fromkeys(notes.MAPPINGS, self._mapping)
        return readers.get(notes.origin(annotation), self._scalar)(annotation, value, key)

    def _part(self, annotation: Any, value: Any, key: Key) -> Any:
        return self.block(str(notes.part(annotation)), value, key)

    def _scalar(self, annotation: Any, value: Any, key: Key) -> Any:
        found = notes.scalar(annotation, value)
        return self._wrong(annotation, value, key) if found is MISSING else found

    def _parameter(self, field: Field, given: Mapping[str, Any], key: Key) -> Any:
        default = plain(field.default)
        if field.kind and callable(field.default):
            default = self.registry.name_of(field.kind, field.default) or MISSING
        value = given.get(field.name, default)
        if value is MISSING:
            if field.required:
                self.note(key, f"missing; wanted {field.type}")
            return MISSING
        if field.kind and default is not MISSING:
            value = complete(value, default) if isinstance(value, dict) else value
        trial = self.trial()
        found = trial.value(field.annotation, value, key)
        accepted = type(value) is type(default) and value == default and (value is None or not field.kind)
        if trial.problems and accepted:
            return default  # signatures say `size: int = None`
        self.problems += trial.problems
        return found

    def _union(self, annotation: Any, value: Any, key: Key) -> Any:
        """By the first member that takes the value as it is, else by the first that takes it."""
        members = notes.alternatives(annotation)
        trials = [(self.trial(), member) for member in members]
        found = [(trial, trial.value(member, value, key), member) for trial, member in trials]
        fits = [each for trial, each, _ in found if not trial.problems]
        if fits:
            return next((each for each in fits if type(each) is type(value)), fits[0])
        inside = [trial for trial, _, member in found if notes.origin(member) not in (Literal, *notes.SCALARS)]
        if len(inside) != 1 or value is None:
            return self._wrong(annotation, value, key)
        self.problems += inside[0].problems
        return value

    def _list(self, annotation: Any, value: Any, key: Key) -> Any:
        kind, arguments = notes.origin(annotation), get_args(annotation) or (Any,)
        if isinstance(value, str | dict) and notes.part(notes.unwrap(arguments[0])):
            value = [value]
        if not isinstance(value, list):
            return self._wrong(annotation, value, key)
        fixed = kind is tuple and arguments[-1] is not ... and get_args(annotation)
        if fixed and len(value) != len(arguments):
            self.note(key, f"wanted {len(arguments)} values ({notes.spell(annotation)}), got {len(value)}")
            return value
        wanted = arguments if fixed else arguments[:1] * len(value)
        items = [
            self.value(each, item, (*key, str(n))) for n, (each, item) in enumerate(zip(wanted, value, strict=True))
        ]
        return items if kind is list else tuple(items)

    def _mapping(self, annotation: Any, value: Any, key: Key) -> Any:
        if not isinstance(value, dict):
            return self._wrong(annotation, value, key)
        names, values = get_args(annotation) or (Any, Any)
        items = [(name, each, (*key, name)) for name, each in value.items()]
        return {self.value(names, name, here): self.value(values, each, here) for name, each, here in items}

    def _wrong(self, annotation: Any, value: Any, key: Key) -> Any:
        choices = notes.choices(annotation)
        wanted = f"{'one of ' if choices[1:] else ''}{notes.spell(annotation)}"
        hint = suggest(value, [each for each in choices if isinstance(each, str)]) if isinstance(value, str) else ""
        if str in notes.alternatives(annotation) and not isinstance(value, dict | list):
            hint = "; quote it to make it text"
        self.note(key, f"wanted {wanted}, got {show(value)}{hint}")
        return value


def complete(value: Any, default: Any = None) -> Any:
    """A block in full: a bare name as its `use`, and one without `use` on top of the default."""
    if isinstance(value, str):
        return {"use": value}
    if isinstance(value, dict) and "use" not in value and default is not None:
        return {**complete(default), **value}
    return value
