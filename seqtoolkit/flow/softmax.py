"""Softmax: heads over large vocabularies, whose predictions are the log-likelihoods of the targets."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqtoolkit.flow.batch import IGNORED
from seqtoolkit.flow.encoder import Encoder
from seqtoolkit.flow.head import LikelihoodHead
from seqtoolkit.flow.likelihood import log_likelihood, require_ids
from seqtoolkit.flow.spec import Spec, SpecError, unify


class Softmax(LikelihoodHead):
    """A softmax over all classes, in little memory.

    A table begins as N(0, 1/sqrt(E)), the encoder's too where it is shared: outputs of size 1 then give logits of size
    1 (Vaswani et al. 2017 as published in tensor2tensor; Press and Wolf 2017 share the table).

    Args:
        input_size: The size of the outputs (H).
        target_spec: What is to be predicted.
        encoder: Whose table is shared.
        tied: Whether the table of classes is the encoder's; where its vectors are not as long as the outputs, a linear
            map stands before it.
        dropout: The share of the numbers that reach the softmax that training sets to 0.
        bias: Whether each class has a number of its own, which is added.
        chunk: How many MiB of logits are made at once.
    """

    reads = "f32[U B H]"

    def __init__(
        self,
        input_size: int,
        target_spec: Spec,
        encoder: Encoder | None = None,
        tied: bool = True,  # noqa: FBT001, FBT002  a pipeline's
        dropout: float = 0.0,
        bias: bool = True,  # noqa: FBT001, FBT002  a pipeline's
        chunk: int = 128,
    ) -> None:
        super().__init__()
        self.classes, self.chunk, self.tied = _classes(target_spec), _positive(chunk), tied
        self.map: nn.Module = nn.Identity()
        if tied:
            table = _table(encoder, self.classes)
            if table.shape[1] != input_size:
                self.map = nn.Linear(input_size, table.shape[1], bias=False)
        else:
            self.table = table = nn.Parameter(torch.empty(self.classes, input_size))
        nn.init.normal_(table, std=table.shape[1] ** -0.5)
        self.bias = nn.Parameter(torch.zeros(self.classes)) if bias else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, outputs: Tensor, targets: Tensor | None = None, table: Tensor | None = None) -> Tensor:
        """Outputs [U B H] to the log-likelihoods of targets [U B], or to log-probabilities [U B V] where none are given."""
        table = table if self.tied else self.table
        if table is None:
            raise ValueError("tied: wanted the encoder's table with each call, got none")
        hidden = self.dropout(self.map(outputs))
        if targets is not None:
            require_ids(targets, self.classes)
            return log_likelihood(hidden, table, self.bias, targets, self.chunk)
        logits = F.linear(hidden, table, self.bias)
        return logits.log_softmax(-1, torch.promote_types(logits.dtype, torch.float32))


class AdaptiveSoftmax(LikelihoodHead):
    """A softmax whose rare classes stand in clusters, with shorter vectors the rarer they are (Grave et al. 2017).

    Classes are ordered from frequent to rare. Parameters and meaning are those of torch's AdaptiveLogSoftmaxWithLoss.
    Each cluster looks at the steps that are in it alone, which waits for a GPU once a cluster.

    Args:
        input_size: The size of the outputs (H).
        target_spec: What is to be predicted.
        cutoffs: The first class of each cluster.
        div_value: By how much the vectors of a cluster are shorter than those of the one before it.
        dropout: The share of the numbers that reach the softmax that training sets to 0.
        chunk: How many MiB of logits are made at once.
    """

    reads = "f32[U B H]"

    def __init__(
        self,
        input_size: int,
        target_spec: Spec,
        cutoffs: list[int],
        div_value: float = 4.0,
        dropout: float = 0.0,
        chunk: int = 128,
    ) -> None:
        super().__init__()
        self.classes, self.chunk = _classes(target_spec), _positive(chunk)
        if not cutoffs or sorted({*cutoffs}) != cutoffs or cutoffs[0] < 1 or cutoffs[-1] >= self.classes:
            raise ValueError(f"cutoffs: wanted rising ids from 1 to {self.classes - 1}, got {cutoffs}")
        shortest = int(input_size // div_value ** len(cutoffs)) if div_value > 0 else 0
        if shortest < 1:
            wanted = f"wanted vectors of at least 1 in the last of {len(cutoffs)} clusters"
            raise ValueError(f"div_value: {wanted}, got {div_value} for outputs of {input_size}")
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(input_size, self.classes, cutoffs, div_value)
        self.dropout = nn.Dropout(dropout)

    def forward(self, outputs: Tensor, targets: Tensor | None = None, table: Tensor | None = None) -> Tensor:
        """Outputs [U B H] to the log-likelihoods of targets [U B], or to log-probabilities [U B V] where none are given."""
        hidden = self.dropout(outputs)
        if targets is None:
            return self.softmax.log_prob(hidden.flatten(0, -2)).view(*hidden.shape[:-1], -1)
        require_ids(targets, self.classes)
        ends = self.softmax.cutoffs
        clusters = targets.where(targets < ends[0], ends[0])
        for cluster, begin in enumerate(ends[1:-1], 1):
            clusters = clusters.where(targets < begin, ends[0] + cluster)
        found = log_likelihood(hidden, self.softmax.head.weight, None, clusters, self.chunk)
        flat = hidden.flatten(0, -2)
        for tail, begin, end in zip(self.softmax.tail, ends[:-1], ends[1:], strict=True):
            inside = (targets >= begin) & (targets < end)
            rows, asked = inside.flatten().nonzero()[:, 0], (targets - begin).where(inside, IGNORED)
            short, table = tail.get_submodule("0")(flat[rows]), tail.get_parameter("1.weight")
            found = found + log_likelihood(short, table, None, asked, self.chunk, rows)
        return found


def _classes(target_spec: Spec) -> int:
    classes = unify("i64<V>[U B]", target_spec)["V"]
    if isinstance(classes, str):
        raise SpecError("the number of classes is not known here: the stage before it has to declare it")
    return classes


def _positive(chunk: int) -> int:
    if chunk < 1:
        raise ValueError(f"chunk: wanted at least 1 MiB, got {chunk}")
    return chunk


def _table(encoder: Encoder | None, classes: int) -> nn.Parameter:
    """The table of an encoder that has a vector for each class."""
    weight = getattr(getattr(encoder, "table", None), "weight", None)
    if not isinstance(weight, nn.Parameter) or weight.dim() != 2:
        raise ValueError("tied: wanted an encoder with a table, such as embed, got none; or set tied to false")
    if len(weight) != classes:
        wanted = f"wanted as many vectors in the encoder's table as there are classes, {classes}"
        raise ValueError(f"tied: {wanted}, got {len(weight)}; or set tied to false")
    return weight
