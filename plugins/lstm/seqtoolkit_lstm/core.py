"""LSTM: nn.LSTM as a core; restarts cost a few more steps of one call, not a loop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from seqtoolkit.sdk import Core, where_first
from seqtoolkit_lstm.restart import Plan, obedient

State = tuple[Tensor, Tensor]


ONE_LAYER: dict[str, Any] = {
    "has_biases": True,
    "num_layers": 1,
    "dropout": 0.0,
    "train": True,
    "bidirectional": False,
    "batch_first": False,
}
"""What torch.lstm wants to be told besides its tensors; `train` tells cuDNN to keep what a backward pass needs."""


class LSTM(Core):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; forget gates: Gers et al. 2000), nn.LSTM beneath.

    The state is (h, c), each [B num_layers H] with H = hidden_size; the output is the last layer's h.

    Args:
        input_size: features of an input (D).
        hidden_size: units of a layer (H).
        num_layers: layers, each reading the outputs of the one below.
        forget_bias: added to the forget gate's bias at the start (Jozefowicz et al. 2015 advise 1); 0 is nn.LSTM's start.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, input_size: int, hidden_size: int = 256, num_layers: int = 1, forget_bias: float = 0.0) -> None:
        super().__init__()
        for name, value in {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: wanted a whole number of at least 1, got {value!r}")
        self.input_size, self.output_size = input_size, hidden_size
        self.lstm = nn.LSTM(input_size, hidden_size, num_layers)
        with torch.no_grad():
            for layer in range(num_layers):
                getattr(self.lstm, f"bias_ih_l{layer}")[hidden_size : 2 * hidden_size] += forget_bias

    def initial_state(self, batch_size: int) -> State:
        """Zeros."""
        zeros = self.lstm.all_weights[0][0].new_zeros(batch_size, self.lstm.num_layers, self.output_size)
        return zeros, zeros.clone()

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """One step: inputs [B D] to outputs [B H]."""
        if inputs.dim() != 2:
            raise ValueError(f"inputs: wanted [B {self.input_size}], got {list(inputs.shape)}")
        outputs, state = self.unroll(inputs[None], state)
        return outputs[0], state

    def unroll(self, inputs: Tensor, state: State, first: Tensor | None = None) -> tuple[Tensor, State]:
        """All steps in one call of nn.LSTM, or in one call a layer where a row begins anew after the first step."""
        if inputs.dim() != 3 or inputs.shape[-1] != self.input_size:
            raise ValueError(f"inputs: wanted [T B {self.input_size}], got {list(inputs.shape)}")
        self._check_state(state, inputs.shape[1])
        if first is not None:
            state = where_first(first[0], self.initial_state(inputs.shape[1]), state)
            most = int(first[1:].sum(0).max()) if len(first) > 1 else 0
            if most > 0:
                return self._unroll_restarts(inputs, state, Plan.of(first, most))
        hidden, cell = (each.transpose(0, 1).contiguous() for each in state)  # cuDNN takes no other layout
        outputs, (hidden, cell) = self.lstm(inputs, (hidden, cell))
        return outputs, (hidden.transpose(0, 1), cell.transpose(0, 1))

    def _check_state(self, state: State, batch_size: int) -> None:
        wanted = (batch_size, self.lstm.num_layers, self.output_size)
        for name, each in zip(("h", "c"), state, strict=True):
            if each.shape != wanted:
                raise ValueError(f"state: wanted {name} of the shape {list(wanted)}, got {list(each.shape)}")

    def _unroll_restarts(self, inputs: Tensor, state: State, plan: Plan) -> tuple[Tensor, State]:
        hiddens, cells = [], []
        outputs, signal = plan.spread(inputs), plan.signal.to(inputs.dtype)
        for layer, (weight, *rest) in enumerate(self.lstm.all_weights):
            start = [each[None, :, layer].contiguous() for each in state]
            read = torch.cat([outputs, signal], -1)
            outputs, _, cell = torch.lstm(read, start, [obedient(weight), *rest], **ONE_LAYER)
            hiddens.append(plan.last(outputs))
            cells.append(cell[0])
        return plan.gather(outputs), (torch.stack(hiddens, 1), torch.stack(cells, 1))
