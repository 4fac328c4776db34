"""The controller's layers, one step at a time: forward, and backward by hand."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seqtoolkit_dnc.reference import Affine, Cell, Settings, State, clip


class Layer(NamedTuple):
    """What the backward pass wants of one step of one layer."""

    read: Tensor
    """all it read but the input, [B ...]"""
    hidden: Tensor
    """before clipping"""
    inside: tuple[Tensor, ...]
    """an LSTM's candidate [B H], gates [B 3H], previous cell, cell before clipping, and its tanh"""


class Slope(NamedTuple):
    """What a layer's backward step multiplies by, of all steps, [T B ...]."""

    drive: Tensor
    """an LSTM's candidate, input and forget gate, [T B 3 H]; a feed-forward layer's units, [T B H]"""
    output: Tensor
    """the output gate"""
    cell: Tensor
    """from h to the cell"""
    kept: Tensor
    """from a cell to the one before: the forget gate"""
    clipped: Tensor | None
    """1 where a cell was not clipped, else 0; None where none was"""


def turn(affines: Iterable[Affine], features: int) -> tuple[Tensor, ...]:
    """The layers' weights of all they read but the input, [in out]."""
    return tuple(affine.weight[:, features:].t() for affine in affines)


def drive(affines: Collection[Affine], inputs: Tensor) -> list[Tensor]:
    """What the input [... D] adds to each layer, its bias too: [... G] each, from one product."""
    features = inputs.shape[-1]
    weight = torch.cat([affine.weight[:, :features] for affine in affines])
    bias = torch.cat([affine.bias for affine in affines])
    both = F.linear(inputs, weight, bias)
    return list(both.chunk(len(affines), -1))


def control(
    weights: tuple[Tensor, ...], settings: Settings, drives: Sequence[Tensor], state: State
) -> tuple[Tensor, tuple[Cell, ...], list[Layer]]:
    """All layers: their h side by side [B L*H], their states, and what the backward pass wants."""
    hiddens: list[Tensor] = []
    cells, layers = [], []
    for number, (weight, given) in enumerate(zip(weights, drives, strict=True)):
        before = [state.controller[number].hidden] if settings.lstm else []
        read = torch.cat([state.read_vectors.flatten(1), *before, *hiddens[-1:]], 1)
        driven = torch.addmm(given, read, weight)
        if settings.lstm:
            hidden, cell, inside = _remember(driven, state.controller[number].cell)
            hiddens.append(_clip_hidden(settings, hidden))
            cells.append(Cell(hiddens[-1], clip(settings, cell)))
        else:
            hidden, inside = torch.tanh(driven), ()
            hiddens.append(_clip_hidden(settings, hidden))
        layers.append(Layer(read, hidden, inside))
    return hiddens[0] if len(hiddens) == 1 else torch.cat(hiddens, 1), tuple(cells), layers


def _remember(driven: Tensor, previous: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    size = previous.shape[1]
    candidate, gates = torch.tanh(driven[:, :size]), torch.sigmoid(driven[:, size:])
    entered, forgot, out = gates.chunk(3, 1)
    cell = torch.addcmul(forgot * previous, entered, candidate)
    squashed = torch.tanh(cell)
    return out * squashed, cell, (candidate, gates, previous, cell, squashed)


def _clip_hidden(settings: Settings, hidden: Tensor) -> Tensor:
    """As `clip`; a bound of 1 or more does nothing to what is a tanh, or a part of one."""
    return hidden if settings.clip_value is None or settings.clip_value >= 1 else clip(settings, hidden)


def slopes(settings: Settings, layers: list[Layer]) -> Slope:
    """The slopes of one layer over all steps."""
    bound = settings.clip_value
    hidden = torch.stack([layer.hidden for layer in layers])
    free = (hidden.abs() <= bound).to(hidden.dtype) if bound is not None and bound < 1 else hidden.new_ones(())
    if not settings.lstm:
        none = hidden.new_empty(0)
        return Slope((1 - hidden * hidden) * free, none, none, none, None)
    candidate, gates, previous, cell, squashed = map(torch.stack, zip(*(layer.inside for layer in layers), strict=True))
    entered, forgot, out = gates.chunk(3, -1)
    driven = (
        (1 - candidate * candidate) * entered,
        candidate * entered * (1 - entered),
        previous * forgot * (1 - forgot),
    )
    over = None if bound is None else cell.abs() > bound
    return Slope(
        drive=torch.stack(driven, 2),
        output=hidden * (1 - out) * free,
        cell=out * (1 - squashed * squashed) * free,
        kept=forgot,
        clipped=None if over is None or not bool(over.any()) else (~over).to(cell.dtype),
    )


def recede(
    slope: Slope, time: int, weight: Tensor, grad_hidden: Tensor, grad_cell: Tensor | None, grad_drive: Tensor
) -> tuple[Tensor, Tensor | None]:
    """One step of one layer backward: fills the gradient of its drive, returns those of what it read and of its cell.

    `weight` is that of all the layer read but the input, [out in].
    """
    if grad_cell is None:
        torch.mul(grad_hidden, slope.drive[time], out=grad_drive)
        return grad_drive @ weight, None
    if slope.clipped is not None:
        grad_cell = grad_cell * slope.clipped[time]
    grad_cell = torch.addcmul(grad_cell, grad_hidden, slope.cell[time])
    parts = grad_drive.unflatten(1, (4, -1))
    torch.mul(grad_cell.unsqueeze(1), slope.drive[time], out=parts[:, :3])
    torch.mul(grad_hidden, slope.output[time], out=parts[:, 3])
    return grad_drive @ weight, grad_cell * slope.kept[time]
