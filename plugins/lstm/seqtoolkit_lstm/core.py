"""LSTM and GRU: PyTorch's recurrences as cores; restarts cost a few more steps of one call, not a loop."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor

from seqtoolkit.sdk import State
from seqtoolkit_lstm import reference
from seqtoolkit_lstm.layered import Layered, Parts, Weights
from seqtoolkit_lstm.restart import obedient_gru, obedient_lstm


class LSTM(Layered):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; forget gates: Gers et al. 2000), torch.lstm beneath.

    The state is (h, c), each [B num_layers H] with H = hidden_size. The output is the last layer's h, or all layers'.

    Args:
        input_size: features of an input (D).
        hidden_size: units of a layer (H).
        num_layers: layers, each reading the outputs of the one below.
        forget_bias: added to the forget gate's bias at the start (Jozefowicz et al. 2015 advise 1); 0 is nn.LSTM's start.
        skip_connections: every layer above the first reads the inputs too (Graves 2013).
        concatenate_outputs: the output is the h of all layers side by side, the first layer's first.

    Raises:
        ValueError: a size below 1, a bias that is no finite number, or a choice that is neither true nor false.
    """

    names = ("h", "c")
    recurrence = staticmethod(torch.lstm)
    obedient = staticmethod(obedient_lstm)

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 256,
        num_layers: int = 1,
        forget_bias: float = 0.0,
        *,
        skip_connections: bool = False,
        concatenate_outputs: bool = False,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            skip_connections=skip_connections,
            concatenate_outputs=concatenate_outputs,
        )
        if isinstance(forget_bias, bool) or not isinstance(forget_bias, int | float) or not isfinite(forget_bias):
            raise ValueError(f"forget_bias: wanted a finite number, got {forget_bias!r}")
        self.lstm = Weights("LSTM", (input_size, hidden_size, num_layers), skips=skip_connections)
        with torch.no_grad():
            for _, _, bias, _ in self.lstm.all_weights:
                bias[hidden_size : 2 * hidden_size] += forget_bias

    @property
    def weights(self) -> Weights:
        """The module that holds the parameters."""
        return self.lstm

    def _step(self, inputs: Tensor, parts: Parts, weights: Sequence[Tensor]) -> Parts:
        hidden, cell = parts
        return list(reference.lstm(inputs, hidden, cell, weights))


class GRU(Layered):
    """Gated recurrent units (Cho et al. 2014, in cuDNN's form), torch.gru beneath.

    The state is h, [B num_layers H] with H = hidden_size. The output is the last layer's h, or all layers'.

    Args:
        input_size: features of an input (D).
        hidden_size: units of a layer (H).
        num_layers: layers, each reading the outputs of the one below.
        skip_connections: every layer above the first reads the inputs too (Graves 2013).
        concatenate_outputs: the output is the h of all layers side by side, the first layer's first.

    Raises:
        ValueError: a size below 1, or a choice that is neither true nor false.
    """

    names = ("h",)
    recurrence = staticmethod(torch.gru)
    obedient = staticmethod(obedient_gru)

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 256,
        num_layers: int = 1,
        *,
        skip_connections: bool = False,
        concatenate_outputs: bool = False,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            skip_connections=skip_connections,
            concatenate_outputs=concatenate_outputs,
        )
        self.gru = Weights("GRU", (input_size, hidden_size, num_layers), skips=skip_connections)

    @property
    def weights(self) -> Weights:
        """The module that holds the parameters."""
        return self.gru

    def _step(self, inputs: Tensor, parts: Parts, weights: Sequence[Tensor]) -> Parts:
        return [reference.gru(inputs, parts[0], weights)]

    def _parts(self, state: State) -> Parts:
        return [state]

    def _state(self, parts: Parts) -> State:
        return parts[0]
