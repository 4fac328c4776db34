"""Freezer: the keys of a pipeline, each read as the parts or the settings that stand there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from seqtoolkit.host.document import Key
from seqtoolkit.host.plan import Block
from seqtoolkit.host.problem import one, show, suggest
from seqtoolkit.host.reader import Reader, complete
from seqtoolkit.host.schema import Schema, schema


@dataclass(frozen=True)
class Slot:
    """A key of a pipeline at which parts of one kind stand."""

    key: Key
    kind: str
    default: Any = None
    """The part where the pipeline names none; None where it has to, a list where several may stand."""


SLOTS = (
    Slot(("environment",), "environment"),
    Slot(("source",), "source"),
    Slot(("transform",), "transform", []),
    Slot(("batch",), "batch", "pad"),
    Slot(("model", "encoder"), "encoder", "embed"),
    Slot(("model", "core"), "core"),
    Slot(("model", "head"), "head", "mlp"),
    Slot(("loss",), "loss", "cross_entropy"),
    Slot(("metric",), "metric", ["accuracy"]),
    Slot(("learner",), "learner", "supervised"),
    Slot(("track",), "tracker", "mlflow"),
)
KEYS = (
    "environment",
    "source",
    "transform",
    "batch",
    "model",
    "loss",
    "metric",
    "learner",
    "evaluate",
    "run",
    "track",
    "sweep",
)
"""The keys of a pipeline in the order in which they are written."""
EXAMPLES = ("source", "transform", "batch", "loss", "metric")
"""Those that say what examples are and how they are answered: a pipeline has them, or an environment."""
ACTING = {("model", "encoder"): "linear", ("model", "head"): "actor_critic", ("learner",): "actor_critic"}
"""The parts where a pipeline with an environment names none."""
AROUND = ("sweep",)
"""Those that say what goes on around a run, and are no part of what a run resolves to."""


class Freezer:
    """Reads a whole pipeline with a Reader, in whose `problems` everything wrong is noted."""

    def __init__(self, reader: Reader, sections: Mapping[str, type]) -> None:
        self.reader = reader
        self.sections = {name: schema(section, given=()) for name, section in sections.items()}
        self.classes = sections

    def read(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """The pipeline with its blocks as Blocks, in the order of KEYS."""
        found: dict[str, Any] = {}
        acting = tree.get("environment") is not None
        left = EXAMPLES if acting else ("environment",)
        for key in left:
            if tree.get(key) is not None:
                self.reader.note((key,), "a pipeline has an environment, or source, batch, loss and metric: remove one")
        for key in dict.fromkeys((*KEYS, *self.sections, *tree)):
            if key in left:
                continue
            slots = [_acting(slot) if acting else slot for slot in SLOTS if slot.key[0] == key]
            if slots and slots[0].key == (key,):
                found[key] = self._slot(slots[0], tree.get(key))
            elif key in (*KEYS, *self.sections):
                origin = "environment" if acting else "source"
                found[key] = self._section(key, tree.get(key), slots, (origin, tree.get(origin)))
            else:
                found[key] = tree[key]
                hint = suggest(key, [*KEYS, *(".".join(slot.key) for slot in SLOTS)])
                self.reader.note((key,), f"no such key{hint or '; wanted one of ' + ', '.join(KEYS)}")
        return found

    def settings(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """The sections as instances of their classes, but for those with a problem."""
        made = {}
        wrong = {key[0] for key, _ in self.reader.problems}
        for name in self.sections.keys() - wrong:
            fields = self.sections[name].fields
            try:
                made[name] = self.classes[name](**{key: found[name][key] for key in fields if key in found[name]})
            except ValueError as error:
                field, _, rest = str(error).partition(": ")
                self.reader.note(*(((name, field), rest) if field in fields else ((name,), str(error))))
        return made

    def _slot(self, slot: Slot, value: Any) -> Any:
        if value is None and slot.default is None:
            names = ", ".join(self.reader.registry.names(slot.kind)) or "but none is installed"
            other = ", or an environment" if slot.kind == "source" else ""
            self.reader.note(slot.key, f"missing; wanted {one(slot.kind)}: {names}{other}")
            return None
        value = slot.default if value is None else value
        if isinstance(slot.default, list):
            return self.reader.blocks(slot.kind, value, slot.key)
        return self.reader.block(slot.kind, value, slot.key, slot.default)

    def _section(self, name: str, value: Any, slots: list[Slot], origin: tuple[str, Any]) -> Any:
        value = {} if value is None else value
        if self.reader.passes(value):
            return value
        if not isinstance(value, dict):
            self.reader.note((name,), f"wanted a mapping, got {show(value)}")
            return value
        found = {slot.key[1]: self._slot(slot, value.get(slot.key[1])) for slot in slots}
        inside = [*found, origin[0]] if name == "evaluate" else found
        settings = {key: each for key, each in value.items() if key not in inside}
        fields = self.sections.get(name, Schema({}))
        found |= self.reader.parameters(fields, settings, (name,), name, also=inside)
        if name == "evaluate":
            found[origin[0]] = self._evaluated(origin[0], complete(origin[1]), value.get(origin[0]))
        return found

    def _evaluated(self, kind: str, origin: Any, value: Any) -> Any:
        """The source or environment of evaluation: the main one with these changes, of the test split where they name none."""
        key = ("evaluate", kind)
        given = complete({} if value is None else value)
        if self.reader.passes(given):
            return given
        if not isinstance(given, dict):
            self.reader.note(key, f"wanted a mapping of what differs from {kind}, got {show(given)}")
            return value
        alone = not isinstance(origin, dict) or given.get("use", origin.get("use")) != origin.get("use")
        merged = given if alone else {**origin, **given}
        trial = self.reader.trial()
        block = trial.block(kind, merged, key)
        if isinstance(block, Block) and "split" in block.params and "split" not in given:
            trial = self.reader.trial()
            block = trial.block(kind, {**merged, "split": "test"}, key)
        fine = not any(at[0] == kind for at, _ in self.reader.problems)
        self.reader.problems += [each for each in trial.problems if fine or set(each[0][2:3]) & given.keys()]
        return block if isinstance(block, Block) else value


def _acting(slot: Slot) -> Slot:
    return replace(slot, default=ACTING.get(slot.key, slot.default))
