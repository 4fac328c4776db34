"""Transform: a change to blocks of examples on their way from the source to the batch."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from seqtoolkit.flow.source import Block, Ragged
from seqtoolkit.flow.spec import Record, SpecError


class Transform(ABC):
    """A function from a block of examples to a block of as many."""

    writes: Record

    @abstractmethod
    def __call__(self, block: Block) -> Block:
        """Change a block; the one that is given stays as it is."""


class Reverse(Transform):
    """Turn one ragged field around, so that it is read from its end (Zaremba & Sutskever 2014, section 4.1).

    Args:
        field: The field to turn around.
    """

    def __init__(self, input_spec: Record, field: str = "question") -> None:
        if field not in input_spec:
            raise SpecError(f"reverse: no field {field!r} reaches it, only {', '.join(input_spec)}")
        self.field = field
        self.writes = input_spec

    def __call__(self, block: Block) -> Block:
        """Blocks have the field as Ragged."""
        values, lengths = block[self.field]
        ends = np.cumsum(lengths)
        mirror = np.repeat(2 * ends - lengths - 1, lengths) - np.arange(len(values))
        return {**block, self.field: Ragged(values[mirror], lengths)}
