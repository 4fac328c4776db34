"""Feedforward: a core without memory, with which memories are compared."""

from __future__ import annotations

from torch import Tensor, nn

from seqtoolkit.flow.core import Core, State


class Feedforward(Core):
    """Layers with ReLU at each step, which remember nothing: what a memory is worth is seen against them.

    The state is the empty tuple.

    Args:
        input_size: features of an input (D).
        hidden_size: units of a layer (H).
        num_layers: layers.

    Raises:
        ValueError: a size below 1.
    """

    width = "hidden_size"

    def __init__(self, input_size: int, hidden_size: int = 128, num_layers: int = 1) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if type(size) is not int or size < 1:
                raise ValueError(f"{name}: wanted a whole number of at least 1, got {size!r}")
        self.input_size, self.output_size = input_size, hidden_size
        layers: list[nn.Module] = []
        for size in (input_size, *[hidden_size] * (num_layers - 1)):
            layers += [nn.Linear(size, hidden_size), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def initial_state(self, batch_size: int) -> State:  # noqa: ARG002  whatever the number of rows
        """Nothing."""
        return ()

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Inputs [B D] to outputs [B H]."""
        return self.layers(inputs), state

    def unroll(self, inputs: Tensor, state: State, first: Tensor | None = None) -> tuple[Tensor, State]:  # noqa: ARG002  nothing begins anew
        """All steps at once: inputs [T B D] to outputs [T B H]."""
        return self.layers(inputs), state
