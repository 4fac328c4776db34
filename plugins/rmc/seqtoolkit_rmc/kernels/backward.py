"""Backward: back over the steps of a forward pass; the gradients of parameters are made of all steps at once, after it."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seqtoolkit_rmc.kernels.forward import Kept, Loop, Trace, add_read, gather, normalize, split, together
from seqtoolkit_rmc.kernels.hoist import Hoisted
from seqtoolkit_rmc.reference import Affine, Block, Parameters

SUMMED = 256
"""How many rows a product of float32 sums one after the other, in a weight's gradient: longer sums lose digits."""

Sums = Affine
"""The gradients of a weight, or a gain, and of what goes with it, so far."""


def joined(given: list[Tensor]) -> Tensor:
    """What was given at each step, the last first, in the order of the steps, [T ...]."""
    return together(given[::-1])


def _tanh(rows: Tensor) -> Tensor:
    """2 s(2x) - 1: four operations, and on a CPU a third of the time of torch's own."""
    return (rows + rows).sigmoid_().mul_(2).sub_(1)


class Norm:
    """A layer norm of some steps: what it read [T R *], and the gradients of gain and shift, a step each."""

    def __init__(self, affine: Affine, rows: Tensor) -> None:
        self.affine, self.rows = affine, rows
        self.out, self.mean, self.deviation = normalize(affine, rows)
        self.found: list[Sums] = []

    def back(self, time: int, given: Tensor) -> Tensor:
        """The gradient of what a step's norm read; keeps those of gain and shift.

        They are made step by step, in the same pass: of all steps in one it would add row after row, and lose digits.
        """
        rows, mean, deviation = self.rows[time], self.mean[time], self.deviation[time]
        through, gain, shift = torch.ops.aten.native_layer_norm_backward(
            given, rows, rows.shape[-1:], mean, deviation, *self.affine, (True, True, True)
        )
        self.found.append(Sums(gain, shift))
        return through

    def add_to(self, sums: Sums) -> None:
        """Add the gradients of gain and shift."""
        for total, found in zip(sums, zip(*self.found, strict=True), strict=True):
            total.add_(found[0] if len(found) == 1 else torch.stack(found).sum(0))


class Dense:
    """A linear map of some steps: what it read, and the gradient of what it gave, [T R *], in the dtype of the products."""

    def __init__(self, affine: Affine, rows: Tensor) -> None:
        self.affine, self.rows = affine, rows
        self.given: list[Tensor] = []

    def back(self, given: Tensor, rest: Tensor | None = None) -> Tensor:
        """The gradient of what a step's map read, added to `rest`; keeps that of what it gave."""
        self.given.append(given.to(self.rows.dtype))
        weight = self.affine.weight.t()
        if rest is not None and rest.dtype == weight.dtype:
            return torch.addmm(rest, self.given[-1], weight)
        through = torch.mm(self.given[-1], weight)
        return through if rest is None else rest + through

    def add_to(self, sums: Sums, *, bias: bool = True) -> None:
        """Add the gradients of weight, as [out in], and bias."""
        given, rows = joined(self.given).flatten(0, 1), self.rows.flatten(0, 1)
        if bias:
            sums.bias.add_(given.sum(0, dtype=sums.bias.dtype))
        if given.shape[1] == 2:  # BLAS sums a product so narrow number after number
            sums.weight.add_((given.unsqueeze(2) * rows.unsqueeze(1)).sum(0))
            return
        if given.dtype != sums.weight.dtype:
            sums.weight.add_(given.t() @ rows)
            return
        parts = list(zip(given.split(SUMMED), rows.split(SUMMED), strict=True))
        total = parts[0][0].t() @ parts[0][1]  # apart: one sum over all sweeps would lose digits as well
        for one, other in parts[1:]:
            total.addmm_(one.t(), other)
        sums.weight.add_(total)


class BlockSweep:
    """One block of attention, backwards: computes anew what is cheap, for all steps in one, and keeps what it is given."""

    def __init__(self, loop: Loop, block: Block, rows: Tensor, arriving: Tensor | None, kept: Kept) -> None:
        self.loop, self.kept, exact = loop, kept, rows.dtype
        self.steps, self.batch, self.through = rows.shape[:3]
        self.entering = kept.before_norm.shape[1] // self.batch
        flat = rows[:, :, : self.entering].flatten(1, 2)
        self.qkv = Dense(block.qkv, flat.to(loop.dtype))
        self.qkv_norm = Norm(block.qkv_norm, kept.before_norm.to(exact))
        new = None if arriving is None else arriving.unflatten(-1, (loop.settings.num_heads, -1)).transpose(2, 3)
        spread = None if new is None else new.flatten(0, 1)
        heads = gather(loop.settings, self.qkv_norm.out.flatten(0, 1), self.steps * self.batch, spread)
        self.heads = heads.unflatten(0, (self.steps, -1)).to(loop.dtype)
        self.out = kept.risen.shape[1] // self.batch
        value = split(loop.settings, self.heads.flatten(0, 1))[2]
        asking = rows[:, :, : self.out].flatten(0, 1)
        read = add_read(loop.settings, asking, kept.weights.flatten(0, 1), value)
        self.attention_norm = Norm(block.attention_norm, read.view(self.steps, -1, rows.shape[-1]))
        layers = zip(loop.mlp, [self.attention_norm.out.to(loop.dtype), *kept.hidden], strict=True)
        self.mlp = [Dense(*each) for each in layers]
        self.mlp_norm = Norm(block.mlp_norm, kept.risen)

    @property
    def rows(self) -> Tensor:
        """What the block put out, [T B Q M]."""
        return self.mlp_norm.out.unflatten(1, (self.batch, -1))

    def back(self, time: int, given: Tensor, arriving: Tensor | None) -> Tensor:
        """The gradient of the rows [B S M] that entered at a step, from that of those put out [B Q M].

        That of the input's heads goes into `arriving` [B n P], where they came from outside.
        """
        risen = self.mlp_norm.back(time, given.flatten(0, 1))
        through = self.mlp[-1].back(risen, None if len(self.mlp) > 1 else risen)
        for number in range(len(self.mlp) - 2, -1, -1):
            through = torch.ops.aten.threshold_backward(through, self.kept.hidden[number][time], 0)
            through = self.mlp[number].back(through, risen if number == 0 else None)
        read = self.attention_norm.back(time, through.to(risen.dtype))
        heads, new = self._attention(time, read)
        if arriving is not None:
            arriving.unflatten(-1, (new.shape[1], -1)).copy_(new.transpose(1, 2))
        entering = heads.transpose(1, 2).reshape(self.batch * self.entering, -1)
        before = self.qkv_norm.back(time, entering.to(read.dtype))
        if self.out == self.entering == self.through:
            return self.qkv.back(before, read).view(self.batch, -1, read.shape[-1])
        rows = read.new_zeros(self.batch, self.through, read.shape[-1])
        rows[:, : self.out] += read.unflatten(0, (self.batch, -1))
        rows[:, : self.entering] += self.qkv.back(before).unflatten(0, (self.batch, -1))
        return rows

    def _attention(self, time: int, read: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of the heads [B heads * 2k+v], of the rows that enter and of the rest, from that of what was read [B*Q M]."""
        settings, weights, heads = self.loop.settings, self.kept.weights[time], self.heads[time]
        query, key, value = split(settings, heads)
        read = read.to(heads.dtype).view(self.batch, self.out, settings.num_heads, -1).transpose(1, 2)
        read = read.reshape(-1, self.out, settings.head_size)
        to_value = torch.bmm(weights.mT, read)
        scores = torch.ops.aten._softmax_backward_data(torch.bmm(read, value.mT), weights, -1, weights.dtype)  # noqa: SLF001  in one
        to_query, to_key = torch.bmm(scores, key), torch.bmm(scores.mT, query[:, : self.out])
        if self.out < to_key.shape[1]:
            to_query = F.pad(to_query, (0, 0, 0, to_key.shape[1] - self.out))
        sides = (slice(self.entering), slice(self.entering, None))
        given = [torch.cat([to_query[:, side], to_key[:, side], to_value[:, side]], -1) for side in sides]
        entering, rest = (each.unflatten(0, (self.batch, -1)) for each in given)
        return entering, rest

    def add_to(self, sums: Block, mlp: tuple[Sums, ...]) -> None:
        """Add the gradients of the block's own parameters, and of the MLP's."""
        self.qkv.add_to(sums.qkv)
        self.qkv_norm.add_to(sums.qkv_norm)
        self.attention_norm.add_to(sums.attention_norm)
        self.mlp_norm.add_to(sums.mlp_norm)
        for layer, of_layer in zip(self.mlp, mlp, strict=True):
            layer.add_to(of_layer)


class Driven(NamedTuple):
    """Gradients of what depends on the inputs alone, [T B ...]."""

    arriving: Tensor
    drive: Tensor | None
    projected: Tensor | None
    """Of the input's rows, where they go through a block themselves."""


class Sweep:
    """A pass back over some steps of some rows of the batch, from `before` [T B N M], the memory that each step read."""

    def __init__(self, loop: Loop, hoisted: Hoisted, before: Tensor, trace: Trace, steps: slice) -> None:
        self.loop, self.before = loop, before
        self.passed = None if trace.gates is None else trace.gates[steps]
        rows = before if len(loop.blocks) == 1 else torch.cat([before, hoisted.projected], 2)
        self.blocks: list[BlockSweep] = []
        for number, block in enumerate(loop.blocks):
            arriving = hoisted.arriving if number == 0 else None
            self.blocks.append(BlockSweep(loop, block, rows, arriving, trace.block(number, steps)))
            rows = self.blocks[-1].rows
        if loop.gates is not None:
            self.candidate, self.bounded = _tanh(rows), _tanh(before)
            self.gates = Dense(Affine(loop.gates, loop.gates), self.bounded.flatten(1, 2).to(loop.dtype))

    def __call__(
        self, given: Tensor, following: Tensor | None, restarts: list[Tensor | None], driven: Driven
    ) -> Tensor:
        """From the gradient of the memories [T B N M], and of the last of them by what came after, to that of the first memory.

        Fills `driven` in; `restarts` has the rows [B] that begin anew at a step.
        """
        slots, memory = given.shape[2], following
        for time in range(len(given) - 1, -1, -1):
            now = given[time] if memory is None else given[time] + memory
            rows, kept = (now, None) if self.passed is None else self._gate(time, now)
            for number in range(len(self.blocks) - 1, -1, -1):
                rows = self.blocks[number].back(time, rows, driven.arriving[time] if number == 0 else None)
            if driven.projected is not None:
                driven.projected[time] = rows[:, slots:]
                rows = rows[:, :slots]
            memory = rows if kept is None else kept.add_(rows)
            if (begins := restarts[time]) is not None:
                memory = memory.masked_fill(begins[:, None, None], 0)
        if driven.drive is not None:
            torch.sum(joined(self.gates.given).unflatten(1, (-1, slots)), 2, out=driven.drive, dtype=given.dtype)
        assert memory is not None
        return memory

    def _gate(self, time: int, now: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 7 backwards: from the gradient of a memory to that of its candidate, and of the memory before it by the gates."""
        assert self.passed is not None
        gates, before, candidate = self.passed[time], self.before[time], self.candidate[time]
        input_gate, forget_gate = gates.chunk(2, -1)
        given = torch.empty_like(gates)
        for into, factor in zip(given.chunk(2, -1), (candidate, before), strict=True):
            if gates.shape[-1] == now.shape[-1] * 2:
                torch.mul(now, factor, out=into)
            else:
                torch.sum(now * factor, -1, keepdim=True, out=into)
        bounded = self.gates.back(torch.ops.aten.sigmoid_backward(given, gates).flatten(0, 1)).view_as(now)
        kept = torch.ops.aten.tanh_backward(bounded.to(now.dtype), self.bounded[time]).addcmul_(now, forget_gate)
        return torch.ops.aten.tanh_backward(now * input_gate, candidate), kept

    def add_to(self, sums: Parameters) -> None:
        """Add the gradients of all parameters of the loop; those of the gates are of the one that reads the memory."""
        for block, of_block in zip(self.blocks, sums.blocks, strict=True):
            block.add_to(of_block, sums.mlp)
        if sums.gates is not None:
            self.gates.add_to(sums.gates[1], bias=False)
