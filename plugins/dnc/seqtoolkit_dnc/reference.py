"""The equations of the differentiable neural computer in plain PyTorch: the truth that every faster path answers to.

Graves et al. 2016, Methods, in the form of the code its authors published, deepmind/dnc. Axes: B batch, D input,
N memory slots, W word size, R read heads, K write heads (1 in the paper), L layers and H units of the controller.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-6
"""Keeps norms, cosines and usage away from zero, as published."""
RANK, RANK_OF_DOUBLES = 32, 256
"""How much freer, in units of rounding, a slot must be than one a place before it to be taken first."""
RANKS = 0.01
"""What that may come to over all places, where a dtype is so coarse."""


class Settings(NamedTuple):
    """What the equations need besides the parameters."""

    num_reads: int
    num_writes: int
    word_size: int
    clip_value: float | None
    lstm: bool
    """the controller: an LSTM, or feed-forward"""
    paper: bool
    """the paper's text where the published code differs"""

    @property
    def sections(self) -> tuple[int, int, int, int, int]:
        """Sizes of the parts of the interface: keys, strengths, write vectors, gates, read modes."""
        reads, writes, word = self.num_reads, self.num_writes, self.word_size
        heads = reads + writes
        return heads * word, heads, writes * word, writes * word + reads + 2 * writes, reads * (2 * writes + 1)


class Affine(NamedTuple):
    """A weight [out in] with its bias [out]."""

    weight: Tensor
    bias: Tensor


class Parameters(NamedTuple):
    """All parameters: an affine map for each layer of the controller, the interface's, the output's."""

    controller: tuple[Affine, ...]
    interface: Affine
    output: Affine


class Cell(NamedTuple):
    """The state of one layer of an LSTM controller."""

    hidden: Tensor
    """h, [B H]"""
    cell: Tensor
    """s, [B H]"""


class State(NamedTuple):
    """What a step hands to the next; all of it is zero before the first."""

    read_vectors: Tensor
    """r, [B R W]: read by the controller at the next step"""
    memory: Tensor
    """M, [B N W]"""
    read_weights: Tensor
    """w^r, [B R N]"""
    write_weights: Tensor
    """w^w, [B K N]"""
    link: Tensor
    """L, [B K N N]: L[i, j] is how much i was written right after j"""
    precedence: Tensor
    """p, [B K N]"""
    usage: Tensor
    """u, [B N]"""
    controller: tuple[Cell, ...]
    """of each layer of an LSTM; empty for a feed-forward controller"""


class Interface(NamedTuple):
    """What the controller tells the memory."""

    read_keys: Tensor
    """k^r, [B R W]"""
    read_strengths: Tensor
    """beta^r, [B R]"""
    write_keys: Tensor
    """k^w, [B K W]"""
    write_strengths: Tensor
    """beta^w, [B K]"""
    write_vectors: Tensor
    """v, [B K W]"""
    erase_vectors: Tensor
    """e, [B K W]"""
    free_gates: Tensor
    """f, [B R]"""
    allocation_gates: Tensor
    """g^a, [B K]"""
    write_gates: Tensor
    """g^w, [B K]"""
    read_modes: Tensor
    """pi, [B R 2K+1]: backward along the links of each write head, forward along each, by content"""


def clip(settings: Settings, tensor: Tensor) -> Tensor:
    """Between -clip_value and clip_value, where there is one."""
    bound = settings.clip_value
    return tensor if bound is None else tensor.clamp(-bound, bound)


def control(
    parameters: Parameters, settings: Settings, inputs: Tensor, state: State
) -> tuple[list[Tensor], tuple[Cell, ...]]:
    """The controller: layer l reads [x_t; r_{t-1}; h^l_{t-1}; h^{l-1}_t]. Returns the layers' h and their states."""
    hiddens: list[Tensor] = []
    cells = []
    for layer, affine in enumerate(parameters.controller):
        before = [state.controller[layer].hidden] if settings.lstm else []
        read = torch.cat([inputs, state.read_vectors.flatten(1), *before, *hiddens[-1:]], 1)
        drive = F.linear(read, affine.weight, affine.bias)
        if settings.lstm:
            candidate, input_gate, forget_gate, output_gate = drive.chunk(4, 1)
            cell = torch.sigmoid(forget_gate) * state.controller[layer].cell
            cell = cell + torch.sigmoid(input_gate) * torch.tanh(candidate)
            hiddens.append(clip(settings, torch.sigmoid(output_gate) * torch.tanh(cell)))
            cells.append(Cell(hiddens[-1], clip(settings, cell)))
        else:
            hiddens.append(clip(settings, torch.tanh(drive)))
    return hiddens, tuple(cells)


def interpret(settings: Settings, vector: Tensor) -> Interface:
    """The interface vector xi [B ...] as keys, strengths, vectors, gates and modes, each in its range."""
    reads, writes, word = settings.num_reads, settings.num_writes, settings.word_size
    keys, strengths, vectors, gates, modes = vector.split(settings.sections, 1)
    keys = keys.unflatten(1, (-1, word))
    strengths = F.softplus(strengths)
    if settings.paper:
        strengths = 1 + strengths
    erase, free, allocation, write = torch.sigmoid(gates).split([writes * word, reads, writes, writes], 1)
    return Interface(
        read_keys=keys[:, :reads],
        read_strengths=strengths[:, :reads],
        write_keys=keys[:, reads:],
        write_strengths=strengths[:, reads:],
        write_vectors=vectors.unflatten(1, (-1, word)),
        erase_vectors=erase.unflatten(1, (-1, word)),
        free_gates=free,
        allocation_gates=allocation,
        write_gates=write,
        read_modes=torch.softmax(modes.unflatten(1, (reads, -1)), -1),
    )


def content(memory: Tensor, keys: Tensor, strengths: Tensor) -> Tensor:
    """C(M, k, beta) [B heads N]: softmax over the slots of beta times the cosine between key and slot."""
    key_norms = torch.sqrt((keys * keys).sum(-1, keepdim=True) + EPSILON)
    norms = torch.sqrt((memory * memory).sum(-1, keepdim=True) + EPSILON)
    cosine = keys @ memory.mT / (key_norms @ norms.mT + EPSILON)
    return torch.softmax(strengths.unsqueeze(-1) * cosine, -1)


def use(settings: Settings, free_gates: Tensor, state: State) -> Tensor:
    """u_t = (u_{t-1} + w^w_{t-1} - u_{t-1} o w^w_{t-1}) o psi_t, psi_t = prod_i (1 - f^i_t w^{r,i}_{t-1}).

    Of several write heads, w^w is what all of them together wrote. The published code passes no gradient to w^w here.
    """
    written = state.write_weights if settings.paper else state.write_weights.detach()
    together = 1 - torch.prod(1 - written, 1)
    retention = torch.prod(1 - free_gates.unsqueeze(-1) * state.read_weights, 1)
    return (state.usage + together - state.usage * together) * retention


def ranks(like: Tensor, slots: int) -> Tensor:
    """What a slot's place costs it in the order of allocation, [N]: more than rounding, less than a use.

    Slots of equal usage are taken by their place. In a memory that was empty all but a few slots are equal, and remain
    so up to rounding: without this, rounding would say which one is written.
    """
    units = RANK_OF_DOUBLES if like.dtype == torch.float64 else RANK
    each = min(units * torch.finfo(like.dtype).eps, RANKS / slots)
    return torch.arange(slots, dtype=like.dtype, device=like.device) * each


def allocate(usage: Tensor) -> Tensor:
    """a_t[phi_j] = (1 - u_t[phi_j]) prod_{i<j} u_t[phi_i], phi the slots by increasing usage, ties by index."""
    usage = EPSILON + (1 - EPSILON) * usage
    phi = torch.sort(1 - usage - ranks(usage, usage.shape[1]), dim=1, descending=True, stable=True).indices
    ordered = usage.gather(1, phi)
    through = torch.cumprod(ordered, 1)
    before = torch.cat([torch.ones_like(through[:, :1]), through[:, :-1]], 1)
    return torch.empty_like(usage).scatter(1, phi, (1 - ordered) * before)


def weigh_write(memory: Tensor, usage: Tensor, interface: Interface) -> Tensor:
    """w^w_t = g^w (g^a a_t + (1 - g^a) c^w_t) of each write head; a head's writing adds to the usage the next one sees."""
    looked_up = content(memory, interface.write_keys, interface.write_strengths)
    weights = []
    for head in range(looked_up.shape[1]):
        allocation_gate = interface.allocation_gates[:, head, None]
        write_gate = interface.write_gates[:, head, None]
        allocated = allocate(usage)
        usage = usage + (1 - usage) * allocation_gate * write_gate * allocated
        weights.append(write_gate * (allocation_gate * allocated + (1 - allocation_gate) * looked_up[:, head]))
    return torch.stack(weights, 1)


def write(memory: Tensor, weights: Tensor, interface: Interface) -> Tensor:
    """M_t = M_{t-1} o prod_k (1 - w^k e^k^T) + sum_k w^k v^k^T."""
    erased = weights.unsqueeze(-1) * interface.erase_vectors.unsqueeze(2)
    return memory * torch.prod(1 - erased, 1) + weights.mT @ interface.write_vectors


def link_writes(weights: Tensor, link: Tensor, precedence: Tensor) -> tuple[Tensor, Tensor]:
    """L_t[i, j] = (1 - w[i] - w[j]) L_{t-1}[i, j] + w[i] p_{t-1}[j], L[i, i] = 0; p_t = (1 - sum w) p_{t-1} + w."""
    here, there = weights.unsqueeze(-1), weights.unsqueeze(-2)
    link = (1 - here - there) * link + here * precedence.unsqueeze(-2)
    link = link * (1 - torch.eye(link.shape[-1], dtype=link.dtype, device=link.device))
    return link, (1 - weights.sum(-1, keepdim=True)) * precedence + weights


def weigh_read(memory: Tensor, link: Tensor, read_weights: Tensor, interface: Interface) -> Tensor:
    """w^r_t = pi_1 b_t + pi_2 c^r_t + pi_3 f_t, b_t = L^T w^r_{t-1}, f_t = L w^r_{t-1}, along each write head's links."""
    forward = torch.einsum("bkij,brj->brki", link, read_weights)
    backward = torch.einsum("bkij,bri->brkj", link, read_weights)
    looked_up = content(memory, interface.read_keys, interface.read_strengths).unsqueeze(2)
    return torch.einsum("brm,brmn->brn", interface.read_modes, torch.cat([backward, forward, looked_up], 2))


def step(parameters: Parameters, settings: Settings, inputs: Tensor, state: State) -> tuple[Tensor, State]:
    """One step: inputs [B D] and a state to outputs y = W_y [h^1..h^L] + W_r [r^1..r^R] + b, and the next state."""
    hiddens, cells = control(parameters, settings, inputs, state)
    interface = interpret(settings, F.linear(torch.cat(hiddens, 1), *parameters.interface))
    usage = use(settings, interface.free_gates, state)
    write_weights = weigh_write(state.memory, usage, interface)
    memory = write(state.memory, write_weights, interface)
    link, precedence = link_writes(write_weights, state.link, state.precedence)
    read_weights = weigh_read(memory, link, state.read_weights, interface)
    read_vectors = read_weights @ memory
    output = clip(settings, F.linear(torch.cat([*hiddens, read_vectors.flatten(1)], 1), *parameters.output))
    return output, State(read_vectors, memory, read_weights, write_weights, link, precedence, usage, cells)
