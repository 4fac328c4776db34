"""Backward: back over the steps of a forward pass; the gradients of parameters are made of all steps at once, after it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from seqtoolkit_rmc.kernels.forward import Loop, Trace, add_read, gather, normalize, split
from seqtoolkit_rmc.kernels.hoist import Hoisted
from seqtoolkit_rmc.reference import Affine, Block


class Norm:
    """A layer norm of all steps: what it read, and the gradient of what it gave, [T R *]."""

    def __init__(self, affine: Affine, rows: Tensor) -> None:
        self.affine, self.rows = affine, rows
        self.out, self.mean, self.deviation = normalize(affine, rows)
        self.given = torch.empty_like(rows)

    def back(self, time: int, given: Tensor) -> Tensor:
        """The gradient of what a step's norm read; keeps that of what it gave."""
        self.given[time] = given
        return self._backward(given, time, (True, False, False))[0]

    def parameters(self) -> list[Tensor]:
        """Gradients of gain and shift."""
        return self._backward(self.given, slice(None), (False, True, True))[1:]

    def _backward(self, given: Tensor, time: int | slice, wanted: tuple[bool, bool, bool]) -> list[Tensor]:
        rows, mean, deviation = self.rows[time], self.mean[time], self.deviation[time]
        return torch.ops.aten.native_layer_norm_backward(
            given, rows, rows.shape[-1:], mean, deviation, *self.affine, wanted
        )


class Dense:
    """A linear map of all steps: what it read, and the gradient of what it gave, [T R *], in the dtype of the products."""

    def __init__(self, affine: Affine, rows: Tensor) -> None:
        self.affine, self.rows = affine, rows
        self.given = rows.new_empty(*rows.shape[:-1], affine.weight.shape[1])

    def back(self, time: int, given: Tensor, rest: Tensor | None = None) -> Tensor:
        """The gradient of what a step's map read, added to `rest`; keeps that of what it gave."""
        self.given[time] = given
        weight = self.affine.weight.t()
        if rest is not None and rest.dtype == self.given.dtype:
            return torch.addmm(rest, self.given[time], weight)
        through = torch.mm(self.given[time], weight)
        return through if rest is None else rest + through

    def parameters(self) -> list[Tensor]:
        """Gradients of weight, as [out in], and bias."""
        given = self.given.flatten(0, 1)
        return [given.t() @ self.rows.flatten(0, 1), given.sum(0)]


class BlockSweep:
    """One block of attention, backwards: computes anew what is cheap, for all steps in one, and keeps what it is given."""

    def __init__(self, loop: Loop, block: Block, rows: Tensor, arriving: Tensor | None, trace: Trace, number: int) -> None:
        kept, exact = trace.blocks[number], rows.dtype
        self.loop, self.kept = loop, kept
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
        through = self.mlp[-1].back(time, risen, None if len(self.mlp) > 1 else risen)
        for number in range(len(self.mlp) - 2, -1, -1):
            through = torch.ops.aten.threshold_backward(through, self.kept.hidden[number][time], 0)
            through = self.mlp[number].back(time, through, risen if number == 0 else None)
        read = self.attention_norm.back(time, through.to(risen.dtype))
        heads = self._attention(time, read)
        entering = heads[:, :, : self.entering].transpose(1, 2).reshape(self.batch * self.entering, -1)
        if arriving is not None:
            arriving.unflatten(-1, (heads.shape[1], -1)).copy_(heads[:, :, self.entering :].transpose(1, 2))
        before = self.qkv_norm.back(time, entering.to(read.dtype))
        if self.out == self.entering == self.through:
            return self.qkv.back(time, before, read).view(self.batch, -1, read.shape[-1])
        rows = read.new_zeros(self.batch, self.through, read.shape[-1])
        rows[:, : self.out] += read.unflatten(0, (self.batch, -1))
        rows[:, : self.entering] += self.qkv.back(time, before).unflatten(0, (self.batch, -1))
        return rows

    def _attention(self, time: int, read: Tensor) -> Tensor:
        """The gradient of the heads [B heads S 2k+v] from that of what was read [B*Q M]."""
        settings, weights, heads = self.loop.settings, self.kept.weights[time], self.heads[time]
        query, key, value = split(settings, heads)
        read = read.to(heads.dtype).view(self.batch, self.out, settings.num_heads, -1).transpose(1, 2)
        read = read.reshape(-1, self.out, settings.head_size)
        given = torch.empty_like(heads)
        to_query, to_key, to_value = split(settings, given)
        torch.bmm(weights.mT, read, out=to_value)
        scores = torch.ops.aten._softmax_backward_data(torch.bmm(read, value.mT), weights, -1, weights.dtype)  # noqa: SLF001  in one
        torch.bmm(scores, key, out=to_query[:, : self.out])
        to_query[:, self.out :] = 0
        torch.bmm(scores.mT, query[:, : self.out], out=to_key)
        return given.unflatten(0, (self.batch, -1))

    def parameters(self) -> list[Tensor]:
        """Gradients of the block's own parameters, in its order."""
        return [each for part in (self.qkv, self.qkv_norm, self.attention_norm, self.mlp_norm) for each in part.parameters()]


class Gradients(NamedTuple):
    """What a pass back comes to."""

    memory: Tensor
    projected: Tensor | None
    arriving: Tensor
    drive: Tensor | None
    blocks: list[list[Tensor]]
    mlp: list[Tensor]
    gates: Tensor | None
    """Of the weight that reads the memory."""


class Sweep:
    """A pass back over all steps of some rows of the batch."""

    def __init__(self, loop: Loop, hoisted: Hoisted, memory: Tensor, memories: Tensor, trace: Trace) -> None:
        self.loop, self.hoisted, self.trace = loop, hoisted, trace
        before = torch.cat([memory.unsqueeze(0), memories[:-1]])
        if loop.first is not None:
            before = torch.where(loop.first[:, :, None, None], loop.fresh, before)
        rows = before if len(loop.blocks) == 1 else torch.cat([before, hoisted.projected], 2)
        self.before, self.blocks = before, list[BlockSweep]()
        for number, block in enumerate(loop.blocks):
            arriving = hoisted.arriving if number == 0 else None
            self.blocks.append(BlockSweep(loop, block, rows, arriving, trace, number))
            rows = self.blocks[-1].rows
        if trace.gates is not None and loop.gates is not None:
            self.candidate, self.bounded = torch.tanh(rows), torch.tanh(before)
            flat = self.bounded.flatten(1, 2).to(loop.dtype)
            self.gates = Dense(Affine(loop.gates, loop.gates), flat)

    def __call__(self, given: Tensor) -> Gradients:
        """From the gradient of the memories [T B N M]."""
        loop, hoisted = self.loop, self.hoisted
        arriving = torch.empty_like(hoisted.arriving)
        projected = torch.empty_like(hoisted.projected) if len(loop.blocks) > 1 else None
        slots, following = given.shape[2], None
        for time in range(len(given) - 1, -1, -1):
            now = given[time] if following is None else given[time] + following
            rows, kept = (now, None) if self.trace.gates is None else self._gate(time, now)
            for number in range(len(self.blocks) - 1, -1, -1):
                rows = self.blocks[number].back(time, rows, arriving[time] if number == 0 else None)
            if projected is not None:
                projected[time] = rows[:, slots:]
                rows = rows[:, :slots]
            following = rows if kept is None else kept.add_(rows)
            if loop.first is not None and loop.restarts[time]:
                following = following.masked_fill(loop.first[time, :, None, None], 0)
        assert following is not None
        return Gradients(following, projected, arriving, *self._parameters(given.dtype))

    def _gate(self, time: int, now: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 7 backwards: from the gradient of a memory to that of its candidate, and of the memory before it by the gates."""
        assert self.trace.gates is not None
        gates, before, candidate = self.trace.gates[time], self.before[time], self.candidate[time]
        input_gate, forget_gate = gates.chunk(2, -1)
        given = gates.new_empty(gates.shape)
        for into, factor in zip(given.chunk(2, -1), (candidate, before), strict=True):
            if gates.shape[-1] == 2:
                torch.sum(now * factor, -1, keepdim=True, out=into)
            else:
                torch.mul(now, factor, out=into)
        driven = torch.ops.aten.sigmoid_backward(given, gates)
        bounded = self.gates.back(time, driven.flatten(0, 1)).view_as(now)
        kept = torch.ops.aten.tanh_backward(bounded.to(now.dtype), self.bounded[time]).addcmul_(now, forget_gate)
        return torch.ops.aten.tanh_backward(now * input_gate, candidate), kept

    def _parameters(self, exact: torch.dtype) -> tuple[Tensor | None, list[list[Tensor]], list[Tensor], Tensor | None]:
        drive = gates = None
        if self.trace.gates is not None:
            drive = self.gates.given.to(exact).unflatten(1, (len(self.before[0]), -1)).sum(2)
            gates = self.gates.parameters()[0]
        blocks = [block.parameters() for block in self.blocks]
        mlp = [sum(each[1:], each[0]) for each in zip(*([g for layer in b.mlp for g in layer.parameters()] for b in self.blocks), strict=True)]
        return drive, blocks, mlp, gates
