"""Head: what turns a core's outputs into predictions."""

from __future__ import annotations

from abc import ABC

from torch import Tensor, nn

from seqtoolkit.flow.spec import Spec, at_least, known, unify


class Head(nn.Module, ABC):
    """What turns a core's outputs [U B H] into predictions [U B C]."""

    reads: str
    writes: str


class LikelihoodHead(Head):
    """A head whose predictions are the log-likelihoods of the targets, so that [U B V] need never be in memory.

    `forward(outputs [U B H], targets [U B] | None, table [V E] | None)`: with targets their log-likelihoods [U B], at
    least float32, exactly 0 and without gradient where a target is IGNORED; without, the log-probabilities [U B V] of
    what comes next. `table` is the encoder's, which the model hands to a head that is `tied`, at each call.
    """

    writes = "f32[U B]"
    classes: int
    """How many ids a target is one of (V)."""
    tied: bool = False


class MLP(Head):
    """Hidden layers with ReLU after each, then a linear map to the classes (Santoro et al. 2018, A.1 and A.2).

    Args:
        sizes: The sizes of the hidden layers; none makes the head linear.
        dropout: The share of each hidden layer's numbers that training sets to 0.
    """

    reads = "f32[U B H]"

    def __init__(
        self,
        input_size: int,
        target_spec: Spec,
        sizes: list[int] = [256, 256],  # noqa: B006  never changed; a pipeline shows it as the default
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        classes = known(unify("i64<C>[U B]", target_spec)["C"], "the number of classes")
        layers: list[nn.Module] = []
        for size in sizes:
            at_least("sizes", size, 1)
            layers += [nn.Linear(input_size, size), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
            input_size = size
        self.layers = nn.Sequential(*layers, nn.Linear(input_size, classes))
        self.writes = f"f32[U B {classes}]"

    def forward(self, outputs: Tensor) -> Tensor:
        """Outputs [U B H] to logits [U B C]."""
        return self.layers(outputs)
