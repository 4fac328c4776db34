"""Core: a recurrent memory. What every memory core offers, and what it may make faster."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol, TypeGuard

import torch
from torch import Tensor, nn

State = Any
"""Any nest of tuples, lists and dicts of tensors whose first axis is the batch."""


def map_state(function: Callable[..., Tensor], *states: State) -> State:
    """Apply `function` to the corresponding tensors of nests of one shape; return a nest of that shape."""
    head = states[0]
    if isinstance(head, dict):
        return type(head)((key, map_state(function, *(state[key] for state in states))) for key in head)
    if isinstance(head, tuple | list):
        parts = [map_state(function, *each) for each in zip(*states, strict=True)]
        return type(head)(*parts) if hasattr(head, "_fields") else type(head)(parts)
    return function(*states)


def leaves(state: State) -> list[Tensor]:
    """The tensors of a nest, in order."""
    found: list[Tensor] = []

    def take(each: Tensor) -> Tensor:
        found.append(each)
        return each

    map_state(take, state)
    return found


def refill(state: State, saved: Sequence[Tensor]) -> State:
    """A nest like `state` of the tensors that `leaves` gave, on its devices. Raises ValueError where they are of another shape."""
    wanted, given = ([tuple(each.shape) for each in some] for some in (leaves(state), saved))
    if wanted != given:
        raise ValueError(f"the state that is carried over is of another core: wanted {wanted}, got {given}")
    rest = iter(saved)
    return map_state(lambda each: next(rest).to(each.device, each.dtype, copy=True), state)


def where_first(first: Tensor, fresh: State, state: State) -> State:
    """`fresh` in the rows where `first` [B] is true, `state` elsewhere."""

    def choose(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(first.reshape(-1, *[1] * (old.dim() - 1)), new, old)

    return map_state(choose, fresh, state)


class Core(nn.Module, ABC):
    """A memory core: `step` says what it computes, `unroll` runs it over time and may be made faster, never different.

    Sequences are time-major, `[T B ...]`. A core sets `input_size` (D) and `output_size` (H).
    """

    width: ClassVar[str] = ""
    """The parameter of the constructor that is the core's size: the more, the more weights. Sweeps that compare cores on
    equal terms (`match_parameters`) choose it; a core without one cannot be matched."""
    reads = "f32[T B D]"
    input_size: int
    output_size: int

    @property
    def writes(self) -> str:
        """The spec of the outputs."""
        return f"f32[T B {self.output_size}]"

    def demand(self) -> None:
        """Raise ValueError where a core cannot compute on the device of its parameters; asked before a run begins."""

    @abstractmethod
    def initial_state(self, batch_size: int) -> State:
        """The state before the first step, on the device and in the dtype of the parameters."""

    @abstractmethod
    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """One step: inputs [B D] and a state to outputs [B H] and the next state."""

    def reference_step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """One step by the plainest equations, to which all that is faster answers: `step`, unless that is fast itself."""
        return self.step(inputs, state)

    def unroll(self, inputs: Tensor, state: State, first: Tensor | None = None) -> tuple[Tensor, State]:
        """All steps: inputs [T B D] to outputs [T B H] and the last state.

        `first` [T B], bool, marks the steps at which a row begins anew, from `initial_state`.
        """
        fresh = None if first is None else self.initial_state(inputs.shape[1])
        outputs = []
        for time, now in enumerate(inputs):
            if first is not None:
                state = where_first(first[time], fresh, state)
            output, state = self.step(now, state)
            outputs.append(output)
        return torch.stack(outputs), state

    def forward(self, inputs: Tensor, state: State | None = None, first: Tensor | None = None) -> tuple[Tensor, State]:
        """`unroll`, from `initial_state` where no state is given: a drop-in for nn.LSTM."""
        if state is None:
            state = self.initial_state(inputs.shape[1])
        return self.unroll(inputs, state, first)


class Attentive(Protocol):
    """What a core may have besides, if it can show who attends to whom. A submodule named `attention` is none."""

    def attention(self, inputs: Tensor, state: State | None = None, first: Tensor | None = None) -> Tensor:
        """The weights at each step of `core(inputs, state, first)`: [T B blocks heads queries keys], without gradient.

        With n the rows of an input (1 for inputs [T B D], n for [T B n D]), the last n keys are the input's, those before
        them the core's own slots. Queries are slots, at most as many as the keys; where they are as many, the input
        asks too, and its rows are the last n.
        """


def attends(core: object) -> TypeGuard[Attentive]:
    """Whether a core, or a class of cores, has an `attention` to show."""
    return callable(getattr(core if isinstance(core, type) else type(core), "attention", None))
