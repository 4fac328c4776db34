"""Layered: layers of one recurrence, what each of them reads, and restarts; what LSTM and GRU share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from seqtoolkit.sdk import Core, State
from seqtoolkit_lstm.restart import Plan

Parts = list[Tensor]
"""A state as a list: h and c, or h alone."""

PLAIN: dict[str, Any] = {
    "has_biases": True,
    "dropout": 0.0,
    "train": True,
    "bidirectional": False,
    "batch_first": False,
}
"""What torch.lstm and torch.gru want to be told besides; `train` tells cuDNN to keep what a backward pass needs."""


class Weights(nn.RNNBase):
    """The parameters of nn.LSTM or nn.GRU, under their names; with skips every later layer reads the inputs as well.

    nn.LSTM itself will not do: TorchDynamo refuses to touch one, even for its parameters.
    """

    skips = False

    def __init__(self, mode: Literal["LSTM", "GRU"], sizes: tuple[int, int, int], *, skips: bool) -> None:
        super().__init__(mode, *sizes)
        self.skips = skips
        for layer in range(1, self.num_layers if skips else 1):
            _, recurrent, *_ = self.all_weights[layer]
            wide = recurrent.new_empty(len(recurrent), self.input_size + self.hidden_size)
            bound = self.hidden_size**-0.5
            setattr(self, f"weight_ih_l{layer}", nn.Parameter(wide.uniform_(-bound, bound)))

    def flatten_parameters(self) -> None:
        """Put the parameters where cuDNN wants them, if they have the shapes that it knows."""
        if not self.skips:
            super().flatten_parameters()


class Layered(Core):
    """What the two cores share: layers, what each of them reads, and restarts."""

    width = "hidden_size"
    names: tuple[str, ...]
    """Of the tensors of a state, each [B num_layers H]."""
    recurrence: Callable[..., tuple[Tensor, ...]]
    """torch.lstm or torch.gru."""
    obedient: Callable[[Sequence[Tensor]], list[Tensor]]
    """Gives a layer's weights the columns that a plan's signal speaks to."""

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int, *, skip_connections: bool, concatenate_outputs: bool
    ) -> None:
        super().__init__()
        for name, value in {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}.items():
            if type(value) is not int or value < 1:
                raise ValueError(f"{name}: wanted a whole number of at least 1, got {value!r}")
        flags = {"skip_connections": skip_connections, "concatenate_outputs": concatenate_outputs}
        for name, flag in flags.items():
            if not isinstance(flag, bool):
                raise ValueError(f"{name}: wanted true or false, got {flag!r}")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.skip_connections, self.concatenate_outputs = skip_connections, concatenate_outputs
        self.output_size = hidden_size * (num_layers if concatenate_outputs else 1)

    @property
    @abstractmethod
    def weights(self) -> Weights:
        """The module that holds the parameters."""

    @abstractmethod
    def _step(self, inputs: Tensor, parts: Parts, weights: Sequence[Tensor]) -> Parts:
        """One step of one layer: inputs [B D], a state of parts [B H]."""

    def _parts(self, state: State) -> Parts:
        return list(state)

    def _state(self, parts: Parts) -> State:
        return tuple(parts)

    def _run(self, inputs: Tensor, parts: Parts, weights: Sequence[Tensor]) -> tuple[Tensor, Parts]:
        """All steps of as many layers as there are weights for: inputs [T B D], a state of parts [layers B H]."""
        layers = len(weights) // 4
        outputs, *ends = self.recurrence(inputs, self._state(parts), weights, num_layers=layers, **PLAIN)
        return outputs, ends

    def initial_state(self, batch_size: int) -> State:
        """Zeros."""
        like = self.weights.all_weights[0][0]
        return self._state([like.new_zeros(batch_size, self.num_layers, self.hidden_size) for _ in self.names])

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """One step: inputs [B D] to outputs [B H], by the equations of `reference`."""
        parts = self._check(inputs, state, "[B {}]")
        layers: list[Parts] = []
        for layer, weights in enumerate(self.weights.all_weights):
            read = self._read(inputs, [hidden for hidden, *_ in layers])
            layers.append(self._step(read, [part[:, layer] for part in parts], weights))
        outputs = self._output([hidden for hidden, *_ in layers])
        return outputs, self._state([torch.stack(part, 1) for part in zip(*layers, strict=True)])

    def unroll(self, inputs: Tensor, state: State, first: Tensor | None = None) -> tuple[Tensor, State]:
        """All steps in one call, or in one a layer where the layers' outputs are wanted or a row begins anew later on."""
        parts = self._check(inputs, state, "[T B {}]")
        if first is not None and (first.shape != inputs.shape[:2] or first.dtype != torch.bool):
            raise ValueError(f"first: wanted bool {list(inputs.shape[:2])}, got {first.dtype} {list(first.shape)}")
        if first is None or not first.any():
            plan = None
        else:
            parts = [part.masked_fill(first[0][:, None, None], 0.0) for part in parts]
            plan = Plan.of(first, inputs) if first[1:].any() else None
        parts = [part.transpose(0, 1).contiguous() for part in parts]  # cuDNN takes no other layout
        if plan is None and not self.skip_connections and not self.concatenate_outputs:
            outputs, parts = self._run(inputs, parts, [each for layer in self.weights.all_weights for each in layer])
        else:
            outputs, parts = self._unroll_layers(inputs, parts, plan)
        if plan is not None and not outputs.sum(dtype=torch.float32).isfinite():  # what no shut gate stops
            return super().unroll(inputs, state, first)
        return outputs, self._state([part.transpose(0, 1) for part in parts])

    def _unroll_layers(self, inputs: Tensor, parts: Parts, plan: Plan | None) -> tuple[Tensor, Parts]:
        base = inputs if plan is None else plan.spread(inputs)
        outputs: list[Tensor] = []
        ends: list[Parts] = []
        for layer, weights in enumerate(self.weights.all_weights):
            start = [part[layer, None] for part in parts]
            if plan is None:
                output, end = self._run(self._read(base, outputs), start, weights)
            else:
                read = torch.cat([self._read(base, outputs), plan.signal], -1)
                output, (_, *end) = self._run(read, start, self.obedient(weights))
                end = [plan.last(output)[None], *end]
            outputs.append(output)
            ends.append(end)
        output = self._output(outputs)
        return output if plan is None else plan.gather(output), [torch.cat(part) for part in zip(*ends, strict=True)]

    def _read(self, inputs: Tensor, below: list[Tensor]) -> Tensor:
        """What a layer reads: the inputs of the core and the outputs of the layers below it, the last of which is next."""
        if not below:
            return inputs
        return torch.cat([inputs, below[-1]], -1) if self.skip_connections else below[-1]

    def _output(self, hiddens: list[Tensor]) -> Tensor:
        return torch.cat(hiddens, -1) if self.concatenate_outputs else hiddens[-1]

    def _check(self, inputs: Tensor, state: State, shape: str) -> Parts:
        """The parts of a state. Raises ValueError where inputs or state are of another shape."""
        if inputs.dim() != len(shape.split()) or inputs.shape[-1] != self.input_size:
            raise ValueError(f"inputs: wanted {shape.format(self.input_size)}, got {list(inputs.shape)}")
        parts, wanted = self._parts(state), (inputs.shape[-2], self.num_layers, self.hidden_size)
        if len(parts) != len(self.names) or not all(isinstance(part, Tensor) for part in parts):
            raise ValueError(f"state: wanted {' and '.join(self.names)}, got {type(state).__name__} of {len(state)}")
        for name, part in zip(self.names, parts, strict=True):
            if part.shape != wanted:
                raise ValueError(f"state: wanted {name} of the shape {list(wanted)}, got {list(part.shape)}")
        return parts
