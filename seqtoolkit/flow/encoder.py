"""Encoder: what turns inputs into the vectors that a core reads."""

from __future__ import annotations

from abc import ABC

from torch import Tensor, nn

from seqtoolkit.flow.spec import Spec, SpecError, at_least, known, unify


class Encoder(nn.Module, ABC):
    """What turns a batch's inputs [T B ...] into the vectors [T B D] that a core reads."""

    reads: str
    writes: str


class Embed(Encoder):
    """A learned vector for each id.

    Args:
        size: The length of the vectors.
        dropout: The share of each vector's numbers that training sets to 0.
    """

    reads = "i64<V>[T B]"

    def __init__(self, input_spec: Spec, size: int = 64, dropout: float = 0.0) -> None:
        super().__init__()
        _no_picture(input_spec)
        vocabulary = unify(self.reads, input_spec)["V"]
        at_least("size", size, 1)
        self.table = nn.Embedding(known(vocabulary, "the number of input ids"), size)
        self.dropout = nn.Dropout(dropout)
        self.writes = f"f32[T B {size}]"

    def forward(self, inputs: Tensor) -> Tensor:
        """Ids [T B] to vectors [T B D]."""
        return self.dropout(self.table(inputs))


class Project(Encoder):
    """A linear map of each input vector; of each row, where the inputs are matrices [T B n D].

    Args:
        size: The length of the vectors that come out; 0 hands the inputs on as they are.
    """

    reads = "f32[T B D]"

    def __init__(self, input_spec: Spec, size: int = 0) -> None:
        super().__init__()
        _no_picture(input_spec)
        before = " ".join(map(str, ("T", "B", *input_spec.axes[2:-1])))
        self.reads = f"f32[{before} D]"
        width = known(unify(self.reads, input_spec)["D"], "the size of the inputs")
        at_least("size", size, 0)
        self.map = nn.Linear(width, size) if size else nn.Identity()
        self.writes = f"f32[{before} {size or width}]"

    def forward(self, inputs: Tensor) -> Tensor:
        """Vectors [T B D] to vectors [T B size], matrices [T B n D] to matrices [T B n size]."""
        return self.map(inputs)


def _no_picture(spec: Spec) -> None:
    if spec.dtype == "u8":
        raise SpecError(f"gets pictures, {spec}: use the encoder conv")
