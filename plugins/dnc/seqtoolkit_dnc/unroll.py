"""Steps and sequences: one step by autograd, a whole sequence by one function that is differentiated by hand.

What depends on the input alone is one product before the loop, the outputs are one after it; so are, in the backward
pass, the weights' gradients.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqtoolkit.sdk import map_state
from seqtoolkit_dnc import controller
from seqtoolkit_dnc.access import Plan, access, norm
from seqtoolkit_dnc.backward import Backward, Moment
from seqtoolkit_dnc.reference import Affine, Cell, Parameters, Settings, State, clip


def step(parameters: Parameters, settings: Settings, inputs: Tensor, state: State) -> tuple[Tensor, State]:
    """One step: inputs [B D] to outputs [B H] and the next state."""
    plan = Plan.of(parameters.interface, state.usage.shape[1])
    weights, drives = (
        controller.turn(parameters.controller, inputs.shape[1]),
        controller.drive(parameters.controller, inputs),
    )
    features, cells, _ = controller.control(weights, settings, drives, state)
    after, _ = access(plan, settings, features, cells, state, norm(state.memory).mT)
    return put_out(parameters, settings, torch.cat([features, after.read_vectors.flatten(1)], 1)), after


def unroll(
    parameters: Parameters, settings: Settings, inputs: Tensor, state: State, first: Tensor | None
) -> tuple[Tensor, State]:
    """All steps: inputs [T B D] to outputs [T B H] and the last state; zeros in the rows that `first` [T B] marks."""
    weights = [each for affine in (*parameters.controller, parameters.interface) for each in affine]
    features, *last = Sequence.apply(settings, first, inputs, *flatten(state), *weights)
    return put_out(parameters, settings, features), gather(last)


def put_out(parameters: Parameters, settings: Settings, features: Tensor) -> Tensor:
    """The outputs, of [h^1..h^L; r^1..r^R]."""
    return clip(settings, F.linear(features, *parameters.output))


def flatten(state: State) -> list[Tensor]:
    """The tensors of a state."""
    return [*state[:7], *(each for cell in state.controller for each in cell)]


def gather(tensors: list[Tensor]) -> State:
    """The state of the tensors."""
    return State._make([*tensors[:7], tuple(map(Cell, tensors[7::2], tensors[8::2]))])


class Restarts:
    """The steps at which rows begin anew, from zeros; reads the marks [T B] once."""

    def __init__(self, first: Tensor | None, steps: int) -> None:
        self.first = first
        self.some = [False] * steps if first is None else first.any(1).tolist()

    def clear(self, time: int, nest: Any) -> Any:
        """The nest, with zeros in the rows that begin anew at a step."""
        if self.first is None or not self.some[time]:
            return nest
        marks = self.first[time]
        return map_state(lambda each: each.masked_fill(marks.view(-1, *[1] * (each.dim() - 1)), 0), nest)


class Sequence(torch.autograd.Function):
    """A sequence: inputs, a state and the weights, to [h; r] of all steps [T B L*H+R*W] and the last state.

    The weights are those of the controller's layers and of the interface, each with its bias.
    """

    @staticmethod
    def forward(ctx: Any, settings: Settings, first: Tensor | None, inputs: Tensor, *tensors: Tensor) -> Any:
        """The loop."""
        layers = (len(tensors) - 9) // (4 if settings.lstm else 2)
        split = len(tensors) - 2 * layers - 2
        state, weights = gather([each.contiguous() for each in tensors[:split]]), tensors[split:]
        affines = tuple(map(Affine, weights[::2], weights[1::2]))
        ctx.settings, ctx.restarts = settings, Restarts(first, len(inputs))
        ctx.moments = [] if any(ctx.needs_input_grad) else None
        outputs, state = _loop(settings, affines, inputs, state, ctx.restarts, ctx.moments)
        ctx.save_for_backward(inputs, *weights)
        return outputs, *(each.clone() for each in flatten(state))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor, *grad_last: Tensor) -> Any:
        """The loop backward, then the weights' gradients in one product each."""
        inputs, *weights = ctx.saved_tensors
        affines = tuple(map(Affine, weights[::2], weights[1::2]))
        back = Backward(ctx.settings, affines, inputs, ctx.moments)
        last = gather([each.clone(memory_format=torch.contiguous_format) for each in grad_last])
        before = back.run(grad_outputs, last, ctx.restarts.clear)
        return None, None, back.inputs_gradient(), *flatten(before), *back.weight_gradients()


def _loop(
    settings: Settings,
    affines: tuple[Affine, ...],
    inputs: Tensor,
    state: State,
    restarts: Restarts,
    moments: list[Moment] | None,
) -> tuple[Tensor, State]:
    *layers, interface = affines
    plan, norms = Plan.of(interface, state.usage.shape[1]), norm(state.memory).mT
    weights = tuple(each.contiguous() for each in controller.turn(layers, inputs.shape[2]))
    outputs = []
    for time, drives in enumerate(zip(*(each.unbind() for each in controller.drive(layers, inputs)), strict=True)):
        state = restarts.clear(time, state)  # norms of a memory that was cleared do not matter: it is like no key
        features, cells, kept = controller.control(weights, settings, drives, state)
        state, memory = access(plan, settings, features, cells, state, norms)
        norms = memory.norms_after
        outputs.append(torch.cat([features, state.read_vectors.flatten(1)], 1))
        if moments is not None:
            moments.append(Moment(kept, memory))
    return torch.stack(outputs), state
