"""Tile: what the Triton kernels know at compile time, and the device functions that both passes use."""

# ruff: noqa: ANN001, ANN201, N803 - what runs on the device has no Python types; constants are upper case
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
def place(batch, S: tl.constexpr):
    """Where this program works: its first sample; rows, their samples, which exist; the same for its input rows; B.

    All but the first sample and B count from the program's own begin, in 32 bits: half the registers of pointers.
    """
    begin = tl.program_id(0).to(tl.int64) * S.samples
    left = (batch - begin).to(tl.int32)
    row, arrival = tl.arange(0, S.rows), tl.arange(0, S.inputs)
    sample, origin = row // S.slots, arrival // S.arrivals
    live = (row < S.samples * S.slots) & (sample < left)
    there = (arrival < S.samples * S.arrivals) & (origin < left)
    return begin, row, sample, live, arrival, origin, there, batch.to(tl.int64)


@triton.jit
def fetch(start, row, width, columns, live, stop):
    """Some columns [R C] of the rows of a matrix that begins at `start`; zeros from `stop` on."""
    inside = live[:, None] & (columns < stop)[None, :]
    return tl.load(start + (row[:, None] * width + columns[None, :]), mask=inside, other=0.0)


@triton.jit
def put(start, row, width, columns, live, stop, values):
    """Store what `fetch` would load."""
    inside = live[:, None] & (columns < stop)[None, :]
    tl.store(start + (row[:, None] * width + columns[None, :]), values.to(start.dtype.element_ty), mask=inside)


@triton.jit
def part(vectors, columns, stop):
    """A piece of a vector of parameters."""
    return tl.load(vectors + columns, mask=columns < stop, other=0.0)


@triton.jit
def multiply(one, other, total, S: tl.constexpr):
    """The product of two operands, added to `total`."""
    if S.widened:
        one, other = one.to(total.dtype), other.to(total.dtype)
    return tl.dot(one, other, total, input_precision=S.precision, out_dtype=total.dtype)


@triton.jit
def product(
    left, width, at, right, along, across, columns, stop, DEPTH: tl.constexpr, S: tl.constexpr, ACC: tl.constexpr
):
    """Some columns [R C] of left [R DEPTH] @ right [DEPTH stop]; `along` and `across` are the strides of `right`."""
    row, live = at[1], at[3]
    total = tl.full((S.rows, S.chunk), 0.0, ACC)
    for start in range(0, DEPTH, S.depth):
        k = start + tl.arange(0, S.depth)
        one = fetch(left, row, width, k, live, DEPTH)
        inside = (k < DEPTH)[:, None] & (columns < stop)[None, :]
        other = tl.load(right + (k[:, None] * along + columns[None, :] * across), mask=inside, other=0.0)
        total = multiply(one, other, total, S)
    return total


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
    """1 / (1 + exp(-x))."""
    return 1 / (1 + tl.exp(-values))


@triton.jit
def tanh(values):
    """1 - 2 / (1 + exp(2x)): without overflow where x is large."""
    return 1 - 2 / (1 + tl.exp(2 * values))


@triton.jit
def restarted(past, time, at):
    """Which rows begin anew at a step."""
    return tl.load(past[2] + time * at[7] + at[0] + at[2], mask=at[3], other=0) != 0


@triton.jit
def renewed(memory, past, time, at, columns, S: tl.constexpr):
    """Columns of a memory, [R C], with fresh ones in the rows that begin anew."""
    if S.restarts:
        again = restarted(past, time, at)
        memory = tl.where(again[:, None], fetch(past[1], at[1] % S.slots, S.size, columns, again, S.size), memory)
    return memory


@triton.jit
def recall(past, time, at, columns, S: tl.constexpr):
    """Columns of the memory that a step starts from, [R C]. `past` is memories, fresh, first."""
    memory = fetch(past[0] + (time * at[7] + at[0]) * (S.slots * S.size), at[1], S.size, columns, at[3], S.size)
    return renewed(memory, past, time, at, columns, S)


@triton.jit
def whitened(raw, norm, at, columns, stop, S: tl.constexpr):
    """Normalized columns of the projection to [q k v], before gain and shift; `norm` is mean and 1 / std of each row."""
    values = fetch(raw, at[1], S.tape_width, columns, at[3], stop).to(norm[0].dtype)
    inside = at[3][:, None] & (columns < stop)[None, :]
    return tl.where(inside, (values - norm[0][:, None]) * norm[1][:, None], 0.0)


@triton.jit
def headed(raw, vectors, norm, at, columns, stop, S: tl.constexpr):
    """Normalized columns of [q k v] as the attention reads them, in the dtype of the operands."""
    gain, shift = part(vectors + S.qkv, columns, stop), part(vectors + 2 * S.qkv, columns, stop)
    values = whitened(raw, norm, at, columns, stop, S) * gain[None, :] + shift[None, :]
    return values.to(raw.dtype.element_ty)


@triton.jit
def weights(raw, vectors, arriving, norm, at, head, S: tl.constexpr):
    """A head's attention over the memory's rows [R R] and the input's [R X], each within its sample."""
    _, _, sample, _, arrival, origin, there, _ = at
    scores = tl.full((S.rows, S.rows), 0.0, norm[0].dtype)
    others = tl.full((S.rows, S.inputs), 0.0, norm[0].dtype)
    for start in range(0, S.key, S.narrow):
        column = start + tl.arange(0, S.narrow)
        keys, stop = head + S.key, head + 2 * S.key
        query = headed(raw, vectors, norm, at, head + column, keys, S)
        key = headed(raw, vectors, norm, at, keys + column, stop, S)
        scores = multiply(query, tl.trans(key), scores, S)
        key = fetch(arriving, arrival, S.qkv, keys + column, there, stop)
        others = multiply(query, tl.trans(key), others, S)
    scores = tl.where(sample[:, None] == sample[None, :], scores, float("-inf"))
    others = tl.where((sample[:, None] == origin[None, :]) & there[None, :], others, float("-inf"))
    top = tl.maximum(tl.max(scores, 1), tl.max(others, 1))
    scores, others = tl.exp(scores - top[:, None]), tl.exp(others - top[:, None])
    total = tl.sum(scores, 1) + tl.sum(others, 1)
    return scores / total[:, None], others / total[:, None]
