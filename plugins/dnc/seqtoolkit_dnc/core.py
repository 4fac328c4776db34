"""DNC: parameters, state, and which path computes what."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from seqtoolkit.sdk import Core
from seqtoolkit_dnc import reference, unroll
from seqtoolkit_dnc.reference import Affine, Cell, Parameters, Settings, State


class DNC(Core):
    """The differentiable neural computer: a controller with a memory that it writes to and reads from.

    Graves et al. 2016, "Hybrid computing using a neural network with dynamic external memory" (Nature 538), in the
    form its authors published as deepmind/dnc. The state is `seqtoolkit_dnc.reference.State`, zeros at the start.

    Args:
        input_size: features of an input (D).
        hidden_size: units of each layer of the controller.
        memory_size: slots of the memory (N).
        word_size: size of a slot (W).
        num_reads: read heads (R).
        num_writes: write heads; the paper has one.
        output_size: features of an output (H); hidden_size where None.
        controller: LSTM layers ('lstm'), or tanh layers without a state of their own ('feed_forward').
        num_layers: layers of the controller.
        clip_value: bound on the size of the controller's outputs and cells and of the core's outputs; none where None.
        dialect: the published code's way where it differs from the paper ('published'), or the paper's text ('paper').

    Raises:
        ValueError: an option is out of its range.
    """

    width = "hidden_size"

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 64,
        memory_size: int = 16,
        word_size: int = 16,
        num_reads: int = 4,
        num_writes: int = 1,
        output_size: int | None = None,
        controller: Literal["lstm", "feed_forward"] = "lstm",
        num_layers: int = 1,
        clip_value: float | None = 20.0,
        dialect: Literal["published", "paper"] = "published",
    ) -> None:
        super().__init__()
        output_size = hidden_size if output_size is None else output_size
        counts = {"input_size": input_size, "hidden_size": hidden_size, "memory_size": memory_size}
        counts |= {"word_size": word_size, "num_reads": num_reads, "num_writes": num_writes}
        counts |= {"output_size": output_size, "num_layers": num_layers}
        for name, value in counts.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: wanted a whole number of at least 1, got {value!r}")
        _one_of("controller", controller, ("lstm", "feed_forward"))
        _one_of("dialect", dialect, ("published", "paper"))
        _check_clip(clip_value)
        self.input_size, self.output_size = input_size, output_size
        self.hidden_size, self.memory_size = hidden_size, memory_size
        lstm = controller == "lstm"
        self.settings = Settings(num_reads, num_writes, word_size, clip_value, lstm, dialect == "paper")
        read = input_size + num_reads * word_size + (hidden_size if lstm else 0)
        widths = [read + (hidden_size if layer else 0) for layer in range(num_layers)]
        self.controller = nn.ModuleList(nn.Linear(width, (4 if lstm else 1) * hidden_size) for width in widths)
        features = num_layers * hidden_size
        self.interface = nn.Linear(features, sum(self.settings.sections))
        self.output = nn.Linear(features + num_reads * word_size, output_size)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weights from a normal of std 1/sqrt(fan in) cut at two std; biases 0, an LSTM's forget gates' 1."""
        for module in (*self.controller, self.interface, self.output):
            weight, bias = _affine(module)
            std = 1 / math.sqrt(weight.shape[1])
            nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
            nn.init.zeros_(bias)
        if self.settings.lstm:
            for layer in self.controller:
                _affine(layer).bias[2 * self.hidden_size : 3 * self.hidden_size] = 1

    def initial_state(self, batch_size: int) -> State:
        """Zeros: an empty memory, of which nothing is in use."""
        weight = self.interface.weight
        zeros = [weight.new_zeros(batch_size, *shape) for shape in self._shapes()]
        return State._make([*zeros[:7], tuple(map(Cell, zeros[7::2], zeros[8::2]))])

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """One step: inputs [B D] and a state to outputs [B H] and the next state."""
        self._check(inputs, state, "[B")
        with torch.autocast(inputs.device.type, enabled=False):
            return unroll.step(self.parameters_of(), self.settings, inputs.to(self.output.weight.dtype), state)

    def reference_step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """One step by the equations as they stand in `reference`, allocation by a sort and all."""
        self._check(inputs, state, "[B")
        return reference.step(self.parameters_of(), self.settings, inputs, state)

    def unroll(self, inputs: Tensor, state: State, first: Tensor | None = None) -> tuple[Tensor, State]:
        """All steps: inputs [T B D] to outputs [T B H] and the last state; differentiable once."""
        self._check(inputs, state, "[T B")
        if not len(inputs):
            raise ValueError(f"inputs: wanted [T B {self.input_size}] of at least one step, got {list(inputs.shape)}")
        if first is not None and first.shape != inputs.shape[:2]:
            raise ValueError(f"first: wanted {list(inputs.shape[:2])}, got {list(first.shape)}")
        with torch.autocast(inputs.device.type, enabled=False):
            return unroll.unroll(self.parameters_of(), self.settings, inputs.to(self.output.weight.dtype), state, first)

    def parameters_of(self) -> Parameters:
        """The parameters in the reference's form."""
        layers = tuple(map(_affine, self.controller))
        return Parameters(layers, _affine(self.interface), _affine(self.output))

    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of a row of each tensor of a state."""
        reads, writes, word = self.settings.num_reads, self.settings.num_writes, self.settings.word_size
        slots, cells = self.memory_size, 2 * len(self.controller) if self.settings.lstm else 0
        memory = ((reads, word), (slots, word), (reads, slots), (writes, slots), (writes, slots, slots))
        return (*memory, (writes, slots), (slots,), *[(self.hidden_size,)] * cells)

    def _check(self, inputs: Tensor, state: State, leading: str) -> None:
        axes = leading.count(" ") + 1
        if inputs.dim() != axes + 1 or inputs.shape[-1] != self.input_size:
            raise ValueError(f"inputs: wanted {leading} {self.input_size}], got {list(inputs.shape)}")
        tensors = [*state[:7], *(each for cell in state[7] for each in cell)]
        got = tuple(tuple(each.shape) for each in tensors)
        wanted = tuple((inputs.shape[axes - 1], *shape) for shape in self._shapes())
        if got != wanted:
            raise ValueError(f"state: wanted tensors of the shapes {list(wanted)}, got {list(got)}")


def _affine(module: nn.Module) -> Affine:
    weight, bias = module.parameters()
    return Affine(weight, bias)


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: wanted {' or '.join(map(repr, choices))}, got {value!r}")


def _check_clip(value: float | None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"clip_value: wanted a number above 0, or None, got {value!r}")
