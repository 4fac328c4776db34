"""ConvLSTM: an LSTM whose units are the places of maps, as a core."""

from __future__ import annotations

from math import isfinite

import torch
from torch import Tensor, nn

from seqtoolkit.sdk import Core, State
from seqtoolkit_conv_lstm import reference
from seqtoolkit_conv_lstm.reference import Weights
from seqtoolkit_conv_lstm.unroll import unroll


class ConvLSTM(Core):
    """The convolutional LSTM (Shi et al. 2015, "Convolutional LSTM network", arXiv 1506.04214), without peepholes.

    Reads maps [T B C Y X]; the state is (h, c), each [B H Y X] with H = channels; the output is h, flattened to H * Y * X.
    Where `input_size` is one number, inputs are [T B D], maps of D channels of one place: an LSTM of H units.

    Args:
        input_size: channels and size of the maps that are read, (C, Y, X), or features (D).
        channels: maps in h and in c (H).
        kernel_size: rows and columns of the kernels (K); maps keep their size, an even kernel looks one further down
            and to the right.
        forget_bias: where the forget gates' biases start (Jozefowicz et al. 2015 advise 1); they are learned.

    Raises:
        ValueError: a size below 1, or a bias that is no finite number.
    """

    width = "channels"

    def __init__(
        self,
        input_size: int | tuple[int, int, int],
        channels: int = 64,
        kernel_size: int = 2,
        forget_bias: float = 1.0,
    ) -> None:
        super().__init__()
        self.input_shape, self.map_shape = _shapes(input_size)
        for name, value in {"channels": channels, "kernel_size": kernel_size}.items():
            if type(value) is not int or value < 1:
                raise ValueError(f"{name}: wanted a whole number of at least 1, got {value!r}")
        if isinstance(forget_bias, bool) or not isinstance(forget_bias, int | float) or not isfinite(forget_bias):
            raise ValueError(f"forget_bias: wanted a finite number, got {forget_bias!r}")
        self.channels, self.forget_bias = channels, float(forget_bias)
        _, rows, columns = self.map_shape
        self.input_size, self.output_size = self.map_shape[0], channels * rows * columns
        if len(self.input_shape) > 1:
            self.reads = f"f32[T B {' '.join(map(str, self.input_shape))}]"
        self.from_input = nn.Parameter(torch.empty(4 * channels, self.input_size, kernel_size, kernel_size))
        self.from_hidden = nn.Parameter(torch.empty(4 * channels, channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(4 * channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw kernels as nn.Conv2d does, uniform within 1 / sqrt(fan in); biases 0, the forget gates' `forget_bias`."""
        for kernel in (self.from_input, self.from_hidden):
            bound = kernel[0].numel() ** -0.5
            nn.init.uniform_(kernel, -bound, bound)
        nn.init.zeros_(self.bias)
        with torch.no_grad():
            self.bias[self.channels : 2 * self.channels] = self.forget_bias

    def initial_state(self, batch_size: int) -> State:
        """Zeros."""
        shape = (batch_size, self.channels, *self.map_shape[1:])
        return self.bias.new_zeros(shape), self.bias.new_zeros(shape)

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """One step by the equations of `reference`: inputs [B C Y X] (or [B D]) to outputs [B H*Y*X]."""
        hidden, cell = self._check(inputs, state, "B")
        hidden, cell = reference.step(self._weights(), inputs.reshape(-1, *self.map_shape), hidden, cell)
        return hidden.flatten(1), (hidden, cell)

    def unroll(self, inputs: Tensor, state: State, first: Tensor | None = None) -> tuple[Tensor, State]:
        """All steps: inputs [T B C Y X] (or [T B D]) to outputs [T B H*Y*X] and the last state.

        Raises:
            ValueError: a shape does not fit, or there is no step.
        """
        hidden, cell = self._check(inputs, state, "T B")
        if not len(inputs):
            raise ValueError("inputs: wanted at least one step, got none")
        if first is not None and (first.shape != inputs.shape[:2] or first.dtype != torch.bool):
            raise ValueError(f"first: wanted bool {list(inputs.shape[:2])}, got {first.dtype} {list(first.shape)}")
        maps = inputs.reshape(*inputs.shape[:2], *self.map_shape)
        hiddens, hidden, cell = unroll(self._weights(), maps, hidden, cell, first)
        return hiddens.flatten(2), (hidden, cell)

    def _weights(self) -> Weights:
        return Weights(self.from_input, self.from_hidden, self.bias)

    def _check(self, inputs: Tensor, state: State, axes: str) -> tuple[Tensor, Tensor]:
        """Both parts of a state. Raises ValueError where inputs or state are of another shape."""
        leading = len(axes.split())
        if inputs.dim() != leading + len(self.input_shape) or inputs.shape[leading:] != self.input_shape:
            shape = " ".join(map(str, self.input_shape))
            raise ValueError(f"inputs: wanted [{axes} {shape}], got {list(inputs.shape)}")
        parts = list(state) if isinstance(state, tuple | list) else []
        if len(parts) != 2 or not all(isinstance(part, Tensor) for part in parts):
            raise ValueError(f"state: wanted h and c, got {type(state).__name__}")
        wanted = (inputs.shape[leading - 1], self.channels, *self.map_shape[1:])
        for name, part in zip("hc", parts, strict=True):
            if part.shape != wanted:
                raise ValueError(f"state: wanted {name} of the shape {list(wanted)}, got {list(part.shape)}")
        hidden, cell = parts
        return hidden, cell


def _shapes(input_size: int | tuple[int, int, int]) -> tuple[tuple[int, ...], tuple[int, int, int]]:
    """The shape of what a row reads at one step, and that of the map that it is."""
    given = (input_size, 1, 1) if isinstance(input_size, int) else tuple(input_size)
    if len(given) != 3 or any(type(size) is not int or size < 1 for size in given):
        wanted = "channels, rows and columns of maps, (C, Y, X), or a number of features, each at least 1"
        raise ValueError(f"input_size: wanted {wanted}; got {input_size!r}")
    channels, rows, columns = given
    return ((channels,) if isinstance(input_size, int) else given), (channels, rows, columns)
