"""One step of the memory, forward: the reference's numbers from fewer operations, none of which sorts."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seqtoolkit_dnc.reference import EPSILON, Affine, Cell, Settings, State, ranks

ROOT = EPSILON**0.5


class Plan(NamedTuple):
    """What all steps share."""

    interface: Affine
    """turned: its weight is [in out]"""
    rank: Tensor
    """what puts the slots of equal usage in order, [N]"""
    tie: Tensor
    """[N N]: below zero where j < i, above it elsewhere, and next to nothing"""
    epsilon: Tensor

    @classmethod
    def of(cls, interface: Affine, slots: int) -> Plan:
        """For a memory of `slots`."""
        weight = interface.weight
        tie = weight.new_full((slots, slots), torch.finfo(weight.dtype).tiny).triu()
        rank, tie = ranks(weight, slots), tie - tie.mT.tril(-1)
        return cls(Affine(weight.t(), interface.bias), rank, tie, weight.new_full((), EPSILON))


class Lookup(NamedTuple):
    """Addressing by content."""

    weights: Tensor
    """c, [B heads N]"""
    logits: Tensor
    scale: Tensor
    """|k| |M| + epsilon"""


class Allocation(NamedTuple):
    """Addressing by usage, of one write head."""

    weights: Tensor
    """a, [B N]"""
    usage: Tensor
    """as this head sees it, at least epsilon"""
    share: Tensor
    """a over what is free of each slot: the product of the usage of those before it"""
    before: Tensor
    """[B N N]: 1 where slot j comes before slot i"""


class Interface(NamedTuple):
    """The interface vector's parts, the read heads before the write heads."""

    keys: Tensor
    """[B R+K W]"""
    key_norms: Tensor
    """[B R+K 1]"""
    drives: Tensor
    """[B R+K]: strengths before softplus"""
    strengths: Tensor
    """[B R+K 1]"""
    sharp: Tensor
    """keys by their strengths, [B R+K W]"""
    vectors: Tensor
    """[B K W]"""
    gates: Tensor
    """[B K*W+R+2K]: erase, free, allocation, write"""
    modes: Tensor
    """[B R 2K+1]"""


class Kept(NamedTuple):
    """What the backward pass wants of one step."""

    features: Tensor
    interface: Interface
    before: State
    norms: Tensor
    """of the memory before, [B 1 N]"""
    grown: Tensor
    """usage after the last write, [B N]"""
    retained: Tensor
    """1 - f w^r of each read head, [B R N]"""
    write: Lookup
    allocations: list[Allocation]
    erased: Tensor
    """1 - w e^T of each write head, [B K N W]"""
    directions: Tensor
    """what the read modes mix, [B R 2K+1 N]"""
    read: Lookup
    after: State
    norms_after: Tensor


def norm(memory: Tensor) -> Tensor:
    """sqrt(sum of squares + epsilon) over the last axis, which stays, of size 1."""
    length = torch.linalg.vector_norm(memory, dim=-1, keepdim=True)
    return torch.hypot(length, length.new_full((), ROOT))


def parse(settings: Settings, vector: Tensor) -> Interface:
    """The interface vector [B ...] in parts."""
    keys, drives, vectors, gates, modes = vector.split(settings.sections, 1)
    keys = keys.unflatten(1, (-1, settings.word_size))
    strengths = F.softplus(drives).unsqueeze(2)
    if settings.paper:
        strengths = strengths + 1
    vectors = vectors.unflatten(1, (-1, settings.word_size))
    modes = torch.softmax(modes.unflatten(1, (settings.num_reads, -1)), -1)
    return Interface(keys, norm(keys), drives, strengths, keys * strengths, vectors, torch.sigmoid(gates), modes)


def gates_of(settings: Settings, gates: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Erase vectors [... K W], free gates [... R], allocation and write gates [... K]."""
    reads, writes, word = settings.num_reads, settings.num_writes, settings.word_size
    erase, free, allocation, write = gates.split([writes * word, reads, writes, writes], -1)
    return erase.unflatten(-1, (-1, word)), free, allocation, write


def look_up(plan: Plan, memory: Tensor, norms: Tensor, sharp: Tensor, key_norms: Tensor) -> Lookup:
    """By content: sharp keys [B heads W], in a memory [B N W] of the norms [B 1 N]."""
    scale = torch.addcmul(plan.epsilon, key_norms, norms)
    logits = torch.bmm(sharp, memory.mT) / scale
    return Lookup(torch.softmax(logits, -1), logits, scale)


def allocate(plan: Plan, usage: Tensor) -> Allocation:
    """The reference's allocation without its sort: of each slot, those before it are those ahead of it in order."""
    usage = EPSILON + (1 - EPSILON) * usage
    free = 1 - usage
    order = (free - plan.rank).detach()
    before = order.new_empty(*order.shape, order.shape[1])
    torch.gt(order.unsqueeze(1) - order.unsqueeze(2), plan.tie, out=before)
    share = torch.bmm(torch.log(usage).unsqueeze(1), before.mT).squeeze(1).exp()
    return Allocation(free * share, usage, share, before)


def product(factors: Tensor) -> Tensor:
    """The product over axis 1."""
    first, *others = factors.unbind(1)
    for other in others:
        first = first * other
    return first


def use(settings: Settings, free: Tensor, state: State) -> tuple[Tensor, Tensor, Tensor]:
    """The usage, what it was before anything was freed, and what each read head retains."""
    written = state.write_weights if settings.paper else state.write_weights.detach()
    unwritten = product(1 - written)
    grown = 1 - (1 - state.usage) * unwritten
    retained = 1 - free.unsqueeze(2) * state.read_weights
    return grown * product(retained), grown, retained


def weigh_write(
    plan: Plan, usage: Tensor, looked_up: Tensor, allocation: Tensor, write: Tensor
) -> tuple[Tensor, list[Allocation]]:
    """The write weights [B K N], of the content's [B K N] and the gates [B K]."""
    allocations = [allocate(plan, usage)]
    for head in range(1, looked_up.shape[1]):
        gate = (allocation[:, head - 1] * write[:, head - 1]).unsqueeze(1)
        usage = usage + (1 - usage) * gate * allocations[-1].weights
        allocations.append(allocate(plan, usage))
    allocated = torch.stack([each.weights for each in allocations], 1)
    return torch.lerp(looked_up, allocated, allocation.unsqueeze(2)) * write.unsqueeze(2), allocations


def link_writes(weights: Tensor, link: Tensor, precedence: Tensor) -> tuple[Tensor, Tensor]:
    """The next links and precedence."""
    here, there = weights.unsqueeze(3), weights.unsqueeze(2)
    link = torch.addcmul(here * precedence.unsqueeze(2), link, (1 - here) - there)
    link.diagonal(dim1=2, dim2=3).zero_()
    return link, torch.addcmul(precedence + weights, weights.sum(2, keepdim=True), precedence, value=-1)


def per_writer(read_weights: Tensor, writes: int) -> Tensor:
    """Read weights [B R N] for each write head's links: [B*K R N], a view where there is one."""
    return read_weights.unsqueeze(1).expand(-1, writes, -1, -1).flatten(0, 1)


def follow(link: Tensor, read_weights: Tensor, looked_up: Tensor) -> Tensor:
    """Where the heads would read [B R 2K+1 N]: backward and forward along each head's links, and by content."""
    writes = link.shape[1]
    links, weights = link.flatten(0, 1), per_writer(read_weights, writes)
    backward = torch.bmm(weights, links).unflatten(0, (-1, writes)).transpose(1, 2)
    forward = torch.bmm(weights, links.mT).unflatten(0, (-1, writes)).transpose(1, 2)
    return torch.cat([backward, forward, looked_up.unsqueeze(2)], 2)


def access(
    plan: Plan, settings: Settings, features: Tensor, cells: tuple[Cell, ...], state: State, norms: Tensor
) -> tuple[State, Kept]:
    """The memory's step: the controller's h [B L*H] and a state, of whose memory the norms are [B 1 N]."""
    interface = parse(settings, torch.addmm(plan.interface.bias, features, plan.interface.weight))
    erase, free, allocation, write_gate = gates_of(settings, interface.gates)
    reads = settings.num_reads
    sharp, key_norms = interface.sharp, interface.key_norms
    usage, grown, retained = use(settings, free, state)
    write = look_up(plan, state.memory, norms, sharp[:, reads:], key_norms[:, reads:])
    write_weights, allocations = weigh_write(plan, usage, write.weights, allocation, write_gate)
    erased = 1 - write_weights.unsqueeze(3) * erase.unsqueeze(2)
    memory = torch.baddbmm(state.memory * product(erased), write_weights.mT, interface.vectors)
    norms_after = norm(memory).mT
    link, precedence = link_writes(write_weights, state.link, state.precedence)
    read = look_up(plan, memory, norms_after, sharp[:, :reads], key_norms[:, :reads])
    directions = follow(link, state.read_weights, read.weights)
    read_weights = (interface.modes.unsqueeze(3) * directions).sum(2)
    vectors = torch.bmm(read_weights, memory)
    after = State(vectors, memory, read_weights, write_weights, link, precedence, usage, cells)
    kept = Kept(
        features, interface, state, norms, grown, retained, write, allocations, erased, directions, read, after,
        norms_after,
    )  # fmt: skip
    return after, kept
