"""The backward pass over a sequence: the loop, and after it the gradients that are one product over all steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqtoolkit_dnc import controller, gradient
from seqtoolkit_dnc.access import Kept
from seqtoolkit_dnc.gradient import Grad
from seqtoolkit_dnc.reference import Affine, Cell, Settings, State


class Moment(NamedTuple):
    """What the backward pass wants of one step."""

    layers: list[controller.Layer]
    access: Kept


class Backward:
    """The backward pass over one sequence."""

    def __init__(self, settings: Settings, affines: tuple[Affine, ...], inputs: Tensor, moments: list[Moment]) -> None:
        self.settings, self.inputs, self.moments = settings, inputs, moments
        *self.layers, self.interface = affines
        self.recurrent = [layer.weight[:, inputs.shape[2] :].contiguous() for layer in self.layers]
        self.access = [moment.access for moment in moments]
        self.slope = gradient.slopes(settings, self.access)
        self.slopes = [
            controller.slopes(settings, list(layer))
            for layer in zip(*(moment.layers for moment in moments), strict=True)
        ]
        self.grad_drives = [inputs.new_empty(*inputs.shape[:2], len(layer.bias)) for layer in self.layers]
        self.grad_interface = inputs.new_empty(*inputs.shape[:2], len(self.interface.bias))

    def run(self, grad_outputs: Tensor, last: State, clear: Callable[[int, Any], Any]) -> State:
        """From the gradients of all outputs and of the last state to that of the first; `clear` is for restarts."""
        grad = Grad(*last[1:7], norms=torch.zeros_like(self.access[-1].norms))
        vectors, cells = last.read_vectors, last.controller
        features = self.interface.weight.shape[1]
        for time in range(len(self.moments) - 1, -1, -1):
            of_hidden, of_read = grad_outputs[time, :, :features], grad_outputs[time, :, features:]
            vectors = vectors + of_read.unflatten(1, (self.settings.num_reads, -1))
            step = self.access[time]
            grad, of_interface = gradient.access(self.settings, self.slope, time, step, grad, vectors)
            self.grad_interface[time] = of_interface
            of_hidden = torch.addmm(of_hidden, of_interface, self.interface.weight)
            vectors, cells = self._control(time, of_hidden, cells)
            grad, vectors, cells = clear(time, (grad, vectors, cells))
        first = self.access[0]
        memory = torch.addcmul(grad.memory, first.before.memory, (grad.norms / first.norms).mT)
        return State(vectors, memory, *grad[1:6], controller=cells)

    def _control(self, time: int, grad: Tensor, cells: tuple[Cell, ...]) -> tuple[Tensor, tuple[Cell, ...]]:
        """The controller's step: from the gradients of all h and of the cells to those of r and of the cells before."""
        word = self.settings.num_reads * self.settings.word_size
        size = grad.shape[1] // len(self.layers)
        vectors, above = grad.new_zeros(len(grad), word), grad.new_zeros(())
        before: list[Cell] = []
        for number in range(len(self.layers) - 1, -1, -1):
            hidden, cell = grad[:, size * number : size * (number + 1)] + above, None
            if self.settings.lstm:
                hidden, cell = hidden + cells[number].hidden, cells[number].cell
            read, cell = controller.recede(
                self.slopes[number], time, self.recurrent[number], hidden, cell, self.grad_drives[number][time]
            )
            vectors = vectors + read[:, :word]
            if cell is not None:
                before.insert(0, Cell(read[:, word : word + size], cell))
            above = read[:, -size:]
        return vectors.unflatten(1, (self.settings.num_reads, -1)), tuple(before)

    def inputs_gradient(self) -> Tensor:
        """Of the inputs, [T B D]."""
        features = self.inputs.shape[2]
        pairs = zip(self.grad_drives, self.layers, strict=True)
        return torch.stack([grad @ layer.weight[:, :features] for grad, layer in pairs]).sum(0)

    def weight_gradients(self) -> list[Tensor]:
        """Of the weight and the bias of each layer, then of the interface's."""
        found = []
        for number, grad in enumerate(self.grad_drives):
            read = torch.stack([moment.layers[number].read for moment in self.moments])
            turned = grad.flatten(0, 1).t()
            found += [torch.cat([turned @ self.inputs.flatten(0, 1), turned @ read.flatten(0, 1)], 1), grad.sum((0, 1))]
        features = torch.stack([step.features for step in self.access])
        return [
            *found,
            self.grad_interface.flatten(0, 1).t() @ features.flatten(0, 1),
            self.grad_interface.sum((0, 1)),
        ]
