"""Tile: what the Triton kernels know at compile time, and the device functions that both passes use."""

from __future__ import annotations

import dataclasses

import triton
import triton.language as tl


@dataclasses.dataclass(frozen=True)
class Tile:
    """Sizes, and where the sections of the packed buffers begin. All plain fields: Triton caches kernels by their repr.

    A program owns `samples` samples for all T; their N slots are `rows` rows of a matrix product, their n input rows
    `inputs` rows. Every wide thing is done in pieces of `chunk` columns, products in pieces of `depth`. The rows of
    `weights` are those of the projection to [q k v], of the MLP's layers and of the gates, all reading M numbers.
    """

    slots: int
    arrivals: int
    size: int
    heads: int
    key: int
    read: int
    """Size of what a head reads: head_size (a field named value would hide behind that of tl.constexpr)"""
    qkv: int
    layers: int
    gates: int
    """0, 2 or 2M"""
    restarts: bool
    kept: bool
    """Whether the tape is kept for a backward pass; otherwise it holds two steps, used in turn."""
    epsilon: float
    precision: str
    widened: bool
    """Whether operands are made float32 before a product: the interpreter multiplies the bits of bfloat16 as integers."""
    samples: int
    rows: int
    inputs: int
    chunk: int
    depth: int
    narrow: int
    """The chunk within a head"""
    tape_squashed: int
    tape_raw: int
    tape_attended: int
    tape_hidden: int
    tape_candidate: int
    tape_gates: int
    tape_width: int
    delta_mlp: int
    delta_gates: int
    delta_width: int
    scratch_width: int
    sums_width: int
    """Sums over a tile's rows for gains and shifts: of [q k v] the gain P and the shift P, of the last norm the same, and
    the gain of the attention's norm."""


@triton.jit
def product(left, live, right, along, across, columns, width, DEPTH: tl.constexpr, S: tl.constexpr, ACC: tl.constexpr):
    """left [R DEPTH] @ right [DEPTH columns]: `left` points at the first number of each row [R 1]."""
    total = tl.full((S.rows, S.chunk), 0.0, ACC)
    for start in range(0, DEPTH, S.depth):
        k = start + tl.arange(0, S.depth)
        one = tl.load(left + k[None, :], mask=live[:, None] & (k < DEPTH)[None, :], other=0.0)
        inside = (k < DEPTH)[:, None] & (columns < width)[None, :]
        other = tl.load(right + k[:, None] * along + columns[None, :] * across, mask=inside, other=0.0)
        total = multiply(one, other, total, S)
    return total


@triton.jit
def multiply(one, other, total, S: tl.constexpr):
    """one @ other + total."""
    if S.widened:
        one, other = one.to(total.dtype), other.to(total.dtype)
    return tl.dot(one, other, total, input_precision=S.precision, out_dtype=total.dtype)


@triton.jit
def moments(seen, mean, spread, values, inside):
    """Count, mean and sum of squares about the mean of each row, with one more chunk of columns (Chan et al. 1979)."""
    values = tl.where(inside[None, :], values, 0.0)
    here = tl.sum(inside.to(values.dtype), 0)
    average = tl.sum(values, 1) / here
    off = tl.where(inside[None, :], values - average[:, None], 0.0)
    change = average - mean
    total = seen + here
    spread += tl.sum(off * off, 1) + change * change * (seen * here / total)
    return total, mean + change * (here / total), spread


@triton.jit
def sigmoid(values):
    """1 / (1 + exp(-x))"""
    return 1 / (1 + tl.exp(-values))


@triton.jit
def tanh(values):
    """1 - 2 / (1 + exp(2x)): without overflow where x is large"""
    return 1 - 2 / (1 + tl.exp(2 * values))


@triton.jit
def place(batch, S: tl.constexpr):
    """Of this program: rows of [B*N], samples and which of them exist; the same for its input rows, rows of [B*n]."""
    begin = tl.program_id(0).to(tl.int64) * S.samples
    row = tl.arange(0, S.rows)
    sample = begin + row // S.slots
    live = (row < S.samples * S.slots) & (sample < batch)
    arrival = tl.arange(0, S.inputs)
    origin = begin + arrival // S.arrivals
    there = (arrival < S.samples * S.arrivals) & (origin < batch)
    return begin * S.slots + row, sample, live, begin * S.arrivals + arrival, origin, there


@triton.jit
def restarted(first, time, batch, sample, live):
    """Which rows begin anew at a step."""
    return tl.load(first + time * batch + sample, mask=live, other=0) != 0


@triton.jit
def recall(memories, fresh, first, time, batch, rows, sample, live, columns, S: tl.constexpr):
    """Columns of the memory that a step starts from, [R C]: what the step before left, or a fresh one."""
    inside = live[:, None] & (columns < S.size)[None, :]
    count = batch.to(tl.int64) * S.slots
    memory = tl.load(memories + (time * count + rows)[:, None] * S.size + columns[None, :], mask=inside, other=0.0)
    if S.restarts:
        again = restarted(first, time, batch, sample, live)
        start = fresh + (rows % S.slots)[:, None] * S.size + columns[None, :]
        memory = tl.where(again[:, None], tl.load(start, mask=inside & again[:, None], other=0.0), memory)
    return memory


@triton.jit
def part(vectors, columns, width):
    """A piece of a vector of parameters."""
    return tl.load(vectors + columns, mask=columns < width, other=0.0)


@triton.jit
def whitened(raw, columns, stop, mean, scale, live):
    """Normalized columns of the projection to [q k v], before gain and shift, [R C]; zeros from `stop` on."""
    inside = live[:, None] & (columns < stop)[None, :]
    values = tl.load(raw + columns[None, :], mask=inside, other=0.0).to(mean.dtype)
    return tl.where(inside, (values - mean[:, None]) * scale[:, None], 0.0)


@triton.jit
def headed(raw, vectors, columns, stop, mean, scale, live, S: tl.constexpr):
    """Normalized columns of [q k v] as the attention reads them, in the dtype of the operands."""
    gain, shift = part(vectors + S.qkv, columns, stop), part(vectors + 2 * S.qkv, columns, stop)
    values = whitened(raw, columns, stop, mean, scale, live) * gain[None, :] + shift[None, :]
    return values.to(raw.dtype.element_ty)


@triton.jit
def arrived(arriving, time, batch, arrivals, there, columns, stop, S: tl.constexpr):
    """Columns of the input rows' [q k v], zeros from `stop` on."""
    inside = there[:, None] & (columns < stop)[None, :]
    row = time * (batch.to(tl.int64) * S.arrivals) + arrivals
    return tl.load(arriving + row[:, None] * S.qkv + columns[None, :], mask=inside, other=0.0)


@triton.jit
def weights(raw, vectors, arriving, time, batch, head, mean, scale, at, S: tl.constexpr):
    """A head's attention over the memory's rows [R R] and the input's [R X], each within its sample."""
    _, sample, live, arrivals, origin, there = at
    scores = tl.full((S.rows, S.rows), 0.0, mean.dtype)
    others = tl.full((S.rows, S.inputs), 0.0, mean.dtype)
    for start in range(0, S.key, S.narrow):
        column = start + tl.arange(0, S.narrow)
        first, middle = head + S.key, head + 2 * S.key
        query = headed(raw, vectors, head + column, first, mean, scale, live, S)
        key = headed(raw, vectors, first + column, middle, mean, scale, live, S)
        scores = multiply(query, tl.trans(key), scores, S)
        key = arrived(arriving, time, batch, arrivals, there, first + column, middle, S)
        others = multiply(query, tl.trans(key), others, S)
    scores = tl.where(sample[:, None] == sample[None, :], scores, float("-inf"))
    others = tl.where((sample[:, None] == origin[None, :]) & there[None, :], others, float("-inf"))
    top = tl.maximum(tl.max(scores, 1), tl.max(others, 1))
    scores, others = tl.exp(scores - top[:, None]), tl.exp(others - top[:, None])
    total = tl.sum(scores, 1) + tl.sum(others, 1)
    return scores / total[:, None], others / total[:, None]
