"""RelationalMemory: parameters, state, and which path computes what."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from seqtoolkit.sdk import Core, where_first
from seqtoolkit_rmc import backend as backends
from seqtoolkit_rmc import reference
from seqtoolkit_rmc.backend import Backend
from seqtoolkit_rmc.reference import Affine, GateStyle, Parameters, Settings


class AttentionBlock(nn.Module):
    """The parameters of one block: the projection to [q k v] of all heads, and three layer norms."""

    def __init__(self, mem_size: int, qkv_size: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(mem_size, qkv_size)
        self.qkv_norm = nn.LayerNorm(qkv_size)
        self.attention_norm = nn.LayerNorm(mem_size)
        self.mlp_norm = nn.LayerNorm(mem_size)


class RelationalMemory(Core):
    """The relational memory core: memory slots that attend over one another and over the input at each step.

    Santoro et al. 2018, "Relational recurrent neural networks" (arXiv 1806.01822), as published in Sonnet 1.36. The
    state is the memory, [B N M] with N = mem_slots and M = num_heads * head_size; the output is the new memory,
    flattened, H = N * M.

    Args:
        input_size: features of an input (D); with `treat_input_as_matrix` its rows and features, (n, D).
        mem_slots: memory slots (N).
        head_size: size of what one head reads.
        num_heads: heads of the attention.
        num_blocks: rounds of attention in a step.
        forget_bias: constant added before the forget gate's sigmoid.
        input_bias: constant added before the input gate's sigmoid.
        gate_style: gates for every unit ('unit'), one for each slot ('memory'), or none (None).
        attention_mlp_layers: layers of the MLP that follows each attention, shared by all blocks.
        key_size: size of a head's queries and keys; head_size where None.
        treat_input_as_matrix: read inputs [T B n D], each of whose n rows is attended to.
        backend: what unrolls: auto (the fastest there is for the inputs at hand), reference (the equations, step by step),
            fused (one function in plain PyTorch), native (C++, on a CPU), triton (one kernel a pass, on a CUDA GPU).

    Raises:
        ValueError: an option is out of its range.
    """

    width = "head_size"

    def __init__(
        self,
        input_size: int | tuple[int, int],
        mem_slots: int = 4,
        head_size: int = 32,
        num_heads: int = 4,
        num_blocks: int = 1,
        forget_bias: float = 1.0,
        input_bias: float = 0.0,
        gate_style: GateStyle = "unit",
        attention_mlp_layers: int = 2,
        key_size: int | None = None,
        treat_input_as_matrix: bool = False,  # noqa: FBT001, FBT002 - the published name and meaning
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        backends.check(backend)
        self.backend = backend
        if gate_style not in ("unit", "memory", None):
            raise ValueError(f"gate_style: wanted 'unit', 'memory' or None, got {gate_style!r}")
        self.input_rows, features = _input_shape(input_size, matrix=treat_input_as_matrix)
        key_size = head_size if key_size is None else key_size
        counts = {
            "mem_slots": mem_slots,
            "head_size": head_size,
            "num_heads": num_heads,
            "num_blocks": num_blocks,
            "attention_mlp_layers": attention_mlp_layers,
            "key_size": key_size,
        }
        for name, value in counts.items():
            _at_least_one(name, value)
        self.mem_slots, self.mem_size = mem_slots, num_heads * head_size
        self.input_size, self.output_size = features, mem_slots * self.mem_size
        self.treat_input_as_matrix = treat_input_as_matrix
        if treat_input_as_matrix:
            self.reads = f"f32[T B {self.input_rows} D]"
        self.settings = Settings(num_heads, head_size, key_size, forget_bias, input_bias)
        qkv_size = num_heads * (2 * key_size + head_size)
        self.input_projection = nn.Linear(features, self.mem_size)
        self.blocks = nn.ModuleList(AttentionBlock(self.mem_size, qkv_size) for _ in range(num_blocks))
        self.mlp = nn.ModuleList(nn.Linear(self.mem_size, self.mem_size) for _ in range(attention_mlp_layers))
        self.gate_style = gate_style
        if gate_style is not None:
            gates = 2 * (self.mem_size if gate_style == "unit" else 1)
            self.gates_from_input = nn.Linear(self.input_rows * self.mem_size, gates)
            self.gates_from_memory = nn.Linear(self.mem_size, gates)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as published: a normal of std 1/sqrt(fan in) cut at two std, biases 0, norms 1 and 0."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                std = 1 / math.sqrt(module.in_features)
                nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()

    def demand(self) -> None:
        """Raise ValueError where the backend asked for cannot compute with the parameters as they are and where they are."""
        if self.backend != "auto":
            rows = self.input_projection.weight.new_empty(1, 1, self.input_rows, self.input_size)
            backends.choose(self.backend, self.parameters_of(), self.settings, rows)

    def initial_state(self, batch_size: int) -> Tensor:
        """The identity, padded with zeros or cut to M columns: slots that differ from the start, [B N M]."""
        weight = self.input_projection.weight
        identity = torch.eye(self.mem_slots, self.mem_size, dtype=weight.dtype, device=weight.device)
        return identity.expand(batch_size, -1, -1).clone()

    def step(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step by the reference: inputs [B D] (or [B n D]) and a memory [B N M] to [B N*M] and the next memory."""
        rows = self._rows(inputs, 1)
        self._check_state(state, len(rows))
        memory = reference.step(self.parameters_of(), self.settings, rows, state).memory
        return memory.flatten(1), memory

    def unroll(self, inputs: Tensor, state: Tensor, first: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """All steps: inputs [T B D] (or [T B n D]) to [T B N*M] and the last memory.

        Raises:
            ValueError: a shape does not fit, there is no step, or the backend asked for cannot compute these inputs.
        """
        rows, fresh, parameters = self._rows(inputs, 2), self.initial_state(1), self.parameters_of()
        self._check_state(state, rows.shape[1])
        _check_steps(rows, first)
        unroll = backends.choose(self.backend, parameters, self.settings, rows)
        memories = unroll(parameters, self.settings, rows, state, fresh, first)
        return memories.flatten(2), memories[-1]

    @torch.no_grad()
    def attention(self, inputs: Tensor, state: Tensor | None = None, first: Tensor | None = None) -> Tensor:
        """Who attends to whom (Figure 3 of the paper): inputs [T B D] to [T B num_blocks num_heads S S], without gradient.

        Queries by keys, S = N + 1 (or N + n), the input last. Computed anew, by the reference.
        """
        parameters, fresh = self.parameters_of(), self.initial_state(1)
        rows, weights = self._rows(inputs, 2), []
        memory = self.initial_state(rows.shape[1]) if state is None else state
        self._check_state(memory, rows.shape[1])
        _check_steps(rows, first)
        for time, now in enumerate(rows):
            if first is not None:
                memory = where_first(first[time], fresh, memory)
            step = reference.step(parameters, self.settings, now, memory)
            memory = step.memory
            weights.append(torch.stack(step.attention, 1))
        return torch.stack(weights)

    def parameters_of(self) -> Parameters:
        """The parameters in the reference's form."""
        gates = None
        if self.gate_style is not None:
            gates = (_affine(self.gates_from_input), _affine(self.gates_from_memory))
        return Parameters(
            projection=_affine(self.input_projection),
            blocks=tuple(reference.Block(*map(_affine, block.children())) for block in self.blocks),
            mlp=tuple(map(_affine, self.mlp)),
            gates=gates,
        )

    def _rows(self, inputs: Tensor, batch_axes: int) -> Tensor:
        """Inputs with an axis of rows; as published, further axes of an input are flattened."""
        wanted = self.input_rows * self.input_size
        if inputs.dim() <= batch_axes or inputs.shape[batch_axes:].numel() != wanted:
            shape = f"[{self.input_rows} {self.input_size}]" if self.treat_input_as_matrix else f"[{wanted}]"
            leading = "[T B]" if batch_axes == 2 else "[B]"
            raise ValueError(f"inputs: wanted {leading} and then {shape}, got {list(inputs.shape)}")
        return inputs.reshape(*inputs.shape[:batch_axes], self.input_rows, self.input_size)

    def _check_state(self, state: Tensor, batch_size: int) -> None:
        wanted = (batch_size, self.mem_slots, self.mem_size)
        if state.shape != wanted:
            raise ValueError(f"state: wanted a memory of the shape {list(wanted)}, got {list(state.shape)}")


def _check_steps(rows: Tensor, first: Tensor | None) -> None:
    """Raise ValueError unless rows [T B n D] have a step, and `first` is bool [T B]: a kernel reads its bytes unasked."""
    if not len(rows):
        raise ValueError(f"inputs: wanted at least one step, got {list(rows.shape[:2])} for [T B]")
    if first is not None and (first.dtype, first.shape, first.device) != (torch.bool, rows.shape[:2], rows.device):
        wanted, got = f"bool {list(rows.shape[:2])} on {rows.device}", f"{str(first.dtype)[6:]} {list(first.shape)}"
        raise ValueError(f"first: wanted {wanted}, got {got} on {first.device}")


def _affine(module: nn.Module) -> Affine:
    weight, bias = module.parameters()
    return Affine(weight, bias)


def _input_shape(input_size: int | tuple[int, int], *, matrix: bool) -> tuple[int, int]:
    """Rows and features of an input."""
    wanted = "(rows, features)" if matrix else "the number of features"
    shape = (1, input_size) if isinstance(input_size, int) and not matrix else input_size
    if not isinstance(shape, tuple | list) or len(shape) != 2 or (not matrix and shape is input_size):
        raise ValueError(f"input_size: wanted {wanted}, got {input_size!r}")
    for size in shape:
        _at_least_one("input_size", size)
    return shape[0], shape[1]


def _at_least_one(name: str, value: int) -> None:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}: wanted a whole number of at least 1, got {value!r}")
