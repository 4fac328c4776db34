"""One step of the memory, backward by hand; what does not recur is computed for all steps at once, before the loop."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from seqtoolkit_dnc.access import Allocation, Kept, Lookup, gates_of, per_writer
from seqtoolkit_dnc.reference import EPSILON, Settings


class Slope(NamedTuple):
    """What a backward step multiplies by, of all steps, [T B ...]."""

    drives: Tensor
    """from strengths to what is before softplus"""
    gates: Tensor
    """from gates to what is before sigmoid"""
    free: Tensor
    """from usage to the free gates, [T B R N]"""
    read: Tensor
    """from usage to the read weights before, [T B R N]"""
    usage: Tensor
    """from usage to the usage before, [T B N]"""
    written: Tensor | None
    """from usage to the write weights before, [T B K N]; None where no gradient goes there"""


class Grad(NamedTuple):
    """The gradients of a state's memory part, and of the memory's norms."""

    memory: Tensor
    read_weights: Tensor
    write_weights: Tensor
    link: Tensor
    precedence: Tensor
    usage: Tensor
    norms: Tensor


def others(factors: Tensor, axis: int) -> Tensor:
    """For each factor along an axis the product of the others; no division, so zeros are right."""
    parts = factors.unbind(axis)
    left, right = [torch.ones_like(parts[0])], [torch.ones_like(parts[0])]
    for part in parts[:-1]:
        left.append(left[-1] * part)
    for part in parts[:0:-1]:
        right.append(right[-1] * part)
    return torch.stack([one * other for one, other in zip(left, reversed(right), strict=True)], axis)


def slopes(settings: Settings, steps: list[Kept]) -> Slope:
    """The slopes of all steps."""
    gates = torch.stack([step.interface.gates for step in steps])
    drives = torch.stack([step.interface.drives for step in steps])
    retained = torch.stack([step.retained for step in steps])
    usage = torch.stack([step.before.usage for step in steps])
    read_weights = torch.stack([step.before.read_weights for step in steps])
    unwritten = 1 - torch.stack([step.before.write_weights for step in steps])
    _, free, _, _ = gates_of(settings, gates)
    down = torch.stack([step.grown for step in steps]).unsqueeze(2) * -others(retained, 2)
    psi = retained.prod(2)
    written = (psi * (1 - usage)).unsqueeze(2) * others(unwritten, 2) if settings.paper else None
    return Slope(
        drives=torch.sigmoid(drives),
        gates=gates * (1 - gates),
        free=down * read_weights,
        read=down * free.unsqueeze(3),
        usage=psi * unwritten.prod(2),
        written=written,
    )


def look_up(
    lookup: Lookup, grad: Tensor, sharp: Tensor, key_norms: Tensor, memory: Tensor, norms: Tensor, grad_memory: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Content: adds to the memory's gradient; returns those of sharp keys, and less those of their norms and memory's."""
    pull = grad * lookup.weights
    dot = torch.addcmul(pull, pull.sum(2, keepdim=True), lookup.weights, value=-1) / lookup.scale
    shrink = dot * lookup.logits
    grad_memory.baddbmm_(dot.mT, sharp)
    return torch.bmm(dot, memory), torch.bmm(shrink, norms.mT), torch.bmm(key_norms.mT, shrink)


def allocate(allocation: Allocation, grad: Tensor) -> Tensor:
    """From an allocation's gradient [B N] to that of the usage."""
    through = torch.bmm((grad * allocation.weights).unsqueeze(1), allocation.before).squeeze(1)
    return (1 - EPSILON) * (through / allocation.usage - grad * allocation.share)


def weigh_write(settings: Settings, step: Kept, grad: Tensor, grad_usage: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From write weights' gradient [B K N] to those of usage [B N], content weights, and gates [B 2K]."""
    _, _, allocation_gates, write_gates = gates_of(settings, step.interface.gates)
    looked_up = step.write.weights
    apart = torch.stack([each.weights for each in step.allocations], 1) - looked_up
    mixed = torch.addcmul(looked_up, apart, allocation_gates.unsqueeze(2))
    grad_mixed = grad * write_gates.unsqueeze(2)
    grad_write_gates = (grad * mixed).sum(2)
    grad_gates = (grad_mixed * apart).sum(2)
    grad_allocated = grad_mixed * allocation_gates.unsqueeze(2)
    grad_looked_up = grad_mixed - grad_allocated
    usage_after = torch.zeros_like(grad_usage)
    for head in range(len(step.allocations) - 1, -1, -1):
        given, allocation = grad_allocated[:, head], step.allocations[head]
        if head < len(step.allocations) - 1:
            gate, write = allocation_gates[:, head, None], write_gates[:, head, None]
            free = 1 - (allocation.usage - EPSILON) / (1 - EPSILON)
            filled = (usage_after * free * allocation.weights).sum(1)
            grad_gates[:, head] += filled * write[:, 0]
            grad_write_gates[:, head] += filled * gate[:, 0]
            given = given + usage_after * free * gate * write
            usage_after = usage_after * (1 - gate * write * allocation.weights)
        usage_after = usage_after + allocate(allocation, given)
    return grad_usage + usage_after, grad_looked_up, torch.cat([grad_gates, grad_write_gates], 1)


def write(settings: Settings, step: Kept, grad: Grad) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The memory's update: to gradients of the memory before, write weights, write vectors, erase vectors."""
    erase, *_ = gates_of(settings, step.interface.gates)
    weights, vectors = step.after.write_weights, step.interface.vectors
    grad_vectors = torch.bmm(weights, grad.memory)
    grad_weights = torch.baddbmm(grad.write_weights, vectors, grad.memory.mT)
    kept = grad.memory * step.before.memory
    if len(step.allocations) == 1:
        grad_weights.baddbmm_(erase, kept.mT, alpha=-1)
        return grad.memory * step.erased[:, 0], grad_weights, grad_vectors, -torch.bmm(weights, kept)
    lost = kept.unsqueeze(1) * others(step.erased, 1)
    grad_weights -= (lost * erase.unsqueeze(2)).sum(3)
    grad_erase = -(lost * weights.unsqueeze(3)).sum(2)
    return grad.memory * step.erased.prod(1), grad_weights, grad_vectors, grad_erase


def link_writes(step: Kept, grad: Grad, grad_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Links and precedence: adds to the write weights' gradient [B K N]; returns those of links and precedence before."""
    weights, links, precedence = step.after.write_weights, step.before.link, step.before.precedence
    grad.link.diagonal(dim1=2, dim2=3).zero_()
    moved = grad.link * links
    here, there = weights.unsqueeze(3), weights.unsqueeze(2)
    grad_weights += torch.matmul(precedence.unsqueeze(2), grad.link.mT).squeeze(2)
    grad_weights -= moved.sum(3)
    grad_weights -= moved.sum(2)
    grad_weights += grad.precedence - (grad.precedence * precedence).sum(2, keepdim=True)
    grad_precedence = torch.matmul(there, grad.link).squeeze(2)
    grad_precedence.addcmul_(grad.precedence, 1 - weights.sum(2, keepdim=True))
    return grad.link * ((1 - here) - there), grad_precedence


def read(settings: Settings, step: Kept, grad: Grad, grad_vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Reading: adds to memory's and links' gradients; returns those of content weights, modes, read weights before."""
    writes = settings.num_writes
    weights, modes = step.before.read_weights, step.interface.modes
    grad.memory.baddbmm_(step.after.read_weights.mT, grad_vectors)
    given = torch.baddbmm(grad.read_weights, grad_vectors, step.after.memory.mT)
    grad_modes = torch.matmul(step.directions, given.unsqueeze(3)).squeeze(3)
    directed = modes.unsqueeze(3) * given.unsqueeze(2)
    backward = directed[:, :, :writes].transpose(1, 2).flatten(0, 1)
    forward = directed[:, :, writes:-1].transpose(1, 2).flatten(0, 1)
    links, mine = step.after.link.flatten(0, 1), per_writer(weights, writes)
    grad_links = grad.link.flatten(0, 1)
    grad_links.baddbmm_(mine.mT, backward)
    grad_links.baddbmm_(forward.mT, mine)
    grad_weights = torch.baddbmm(torch.bmm(backward, links.mT), forward, links)
    grad_weights = grad_weights.unflatten(0, (-1, writes)).sum(1) if writes > 1 else grad_weights
    bent = modes * grad_modes
    return directed[:, :, -1], bent - modes * bent.sum(2, keepdim=True), grad_weights


def access(
    settings: Settings, slope: Slope, time: int, step: Kept, grad: Grad, grad_vectors: Tensor
) -> tuple[Grad, Tensor]:
    """The memory's step: from the gradients after it to those before it, and to the interface vector's [B ...].

    `grad`, the memory's and the links' parts of it, is used up.
    """
    reads, interface = settings.num_reads, step.interface
    sharp, key_norms = interface.sharp, interface.key_norms
    grad_read, grad_modes, grad_weights = read(settings, step, grad, grad_vectors)
    found = look_up(
        step.read, grad_read, sharp[:, :reads], key_norms[:, :reads], step.after.memory, step.norms_after, grad.memory
    )
    norms = (grad.norms - found[2]) / step.norms_after
    grad.memory.addcmul_(step.after.memory, norms.mT)
    grad_memory, grad_write, grad_values, grad_erase = write(settings, step, grad)
    grad_link, grad_precedence = link_writes(step, grad, grad_write)
    grad_usage, grad_looked_up, grad_gates = weigh_write(settings, step, grad_write, grad.usage)
    sought = look_up(
        step.write, grad_looked_up, sharp[:, reads:], key_norms[:, reads:], step.before.memory, step.norms, grad_memory
    )
    grad_sharp, shrink = (torch.cat(pair, 1) for pair in zip(found[:2], sought[:2], strict=True))
    grad_strengths = (grad_sharp * interface.keys).sum(2) * slope.drives[time]
    grad_keys = grad_sharp * interface.strengths
    grad_keys.addcmul_(interface.keys, shrink / key_norms, value=-1)
    spread = grad_usage.unsqueeze(1)
    grad_free = torch.matmul(slope.free[time], grad_usage.unsqueeze(2)).squeeze(2)
    gates = torch.cat([grad_erase.flatten(1), grad_free, grad_gates], 1) * slope.gates[time]
    parts = [grad_keys.flatten(1), grad_strengths, grad_values.flatten(1), gates, grad_modes.flatten(1)]
    before = Grad(
        memory=grad_memory,
        read_weights=torch.addcmul(grad_weights, slope.read[time], spread),
        write_weights=spread * slope.written[time] if slope.written is not None else torch.zeros_like(grad_write),
        link=grad_link,
        precedence=grad_precedence,
        usage=grad_usage * slope.usage[time],
        norms=-sought[2],
    )
    return before, torch.cat(parts, 1)
