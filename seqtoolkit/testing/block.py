"""A block of a source, example by example, and held against its specs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from seqtoolkit.flow.batch import IGNORED
from seqtoolkit.flow.source import Block, Ragged
from seqtoolkit.flow.spec import Record, Spec
from seqtoolkit.testing.law import demand

DTYPES = {
    "float16": "f16",
    "bfloat16": "bf16",
    "float32": "f32",
    "float64": "f64",
    "int64": "i64",
    "int32": "i32",
    "uint8": "u8",
    "bool": "bool",
}
Examples = dict[str, list[Any]]
"""A block as examples, by field."""


def examples(block: Block) -> Examples:
    """A block, example by example."""
    return {name: [each.copy() for each in _rows(field)] for name, field in block.items()}


def same_examples(what: str, got: Examples, wanted: Examples) -> None:
    """Demand the same fields of the same examples, to the bit."""
    demand(got.keys() == wanted.keys(), f"{what}: wanted the fields {', '.join(wanted)}, got {', '.join(got)}")
    for name, rows in wanted.items():
        demand(len(got[name]) == len(rows), f"{what}: wanted {len(rows)} examples of {name}, got {len(got[name])}")
        differ = [
            index for index, (one, other) in enumerate(zip(got[name], rows, strict=True)) if not equal(one, other)
        ]
        demand(not differ, f"{what}: {len(differ)} of {len(rows)} examples differ in {name}, first at {differ[:1]}")


def equal(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays are the same to the bit."""
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def check_field(name: str, spec: Spec, field: Any, count: int, sizes: dict[Any, Any]) -> None:
    """Hold one field against its spec; `sizes` holds what each named axis is, for all fields together.

    Where nothing is wanted, `targets` are IGNORED.
    """
    if isinstance(field, Ragged):
        lengths = np.asarray(field.lengths)
        total = (int(lengths.sum()), len(field.values))
        demand(total[0] == total[1], f"{name}: its lengths add up to {total[0]}, its values are {total[1]}")
        shape, values = [len(lengths), tuple(lengths.tolist()), *field.values.shape[1:]], field.values
    else:
        values = _array(field)
        shape = list(values.shape)
    demand(len(shape) == len(spec.axes), f"{name}: wanted {spec}, got {len(shape)} axes")
    demand(shape[0] == count, f"{name}: wanted {count} examples, got {shape[0]}")
    got = DTYPES.get(str(values.dtype), str(values.dtype))
    demand(got == spec.dtype, f"{name}: wanted {spec}, got {got}")
    for axis, size in zip(spec.axes, shape, strict=True):
        wanted = sizes.setdefault(axis, size) if isinstance(axis, str) else axis
        demand(size == wanted, f"{name}: wanted {spec}, got {size} on the axis {axis}, not {wanted}")
    if name == "targets" and values.dtype.kind == "i":
        values = values[values != IGNORED]
    if isinstance(spec.bound, int) and values.size:
        low, high = int(values.min()), int(values.max())
        demand(low >= 0 and high < spec.bound, f"{name}: wanted ids below {spec.bound}, got {low} to {high}")


def example_of(asks: str) -> str:
    """The example in what a source says of its questions."""
    _, tick, rest = asks.partition("`")
    example, end, _ = rest.rpartition("`")
    demand(tick and end and example, f"asks: wanted an example between backticks, got {asks!r}")
    return example


def check_asked(writes: Record, block: Block) -> None:
    """Hold what `ask` returns against what a source writes; where nothing is wanted, targets are IGNORED."""
    wanted, got = ", ".join(sorted(writes)), ", ".join(sorted(block))
    demand(got == wanted, f"a question has the fields {got}, wanted {wanted}")
    sizes: dict[Any, Any] = {}
    for name, spec in writes.items():
        field = block[name]
        values = field.values if isinstance(field, Ragged) else _array(field)
        if values.dtype.kind == "i":
            values = np.where(values == IGNORED, 0, values)
        field = Ragged(values, field.lengths) if isinstance(field, Ragged) else values
        check_field(f"a question's {name}", spec, field, 1, sizes)


def _rows(field: Any) -> list[np.ndarray]:
    return field.rows() if isinstance(field, Ragged) else list(_array(field))


def _array(field: Any) -> np.ndarray:
    return field.numpy() if isinstance(field, torch.Tensor) else np.asarray(field)
