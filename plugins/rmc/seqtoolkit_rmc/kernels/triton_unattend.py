"""The attention backward, a stage of the backward kernel."""

# ruff: noqa: ANN001, ANN201, N803, N806 - what runs on the device has no Python types; constants are upper case
from __future__ import annotations

import triton
import triton.language as tl

from seqtoolkit_rmc.kernels.triton_tile import fetch, headed, multiply, part, put, weights, whitened


@triton.jit
def shade(raw, delta, target, vectors, sums, columns, stop, norm, level, slope, at, S: tl.constexpr):
    """Some columns of the gradient after the norm of [q k v]: their sums, and times the gain into `target`."""
    white = whitened(raw, norm, at, columns, stop, S)
    tl.store(sums + columns, tl.sum(delta * white, 0), mask=columns < stop)
    tl.store(sums + S.qkv + columns, tl.sum(delta, 0), mask=columns < stop)
    delta *= part(vectors + S.qkv, columns, stop)[None, :]
    put(target, at[1], S.scratch_width, columns, at[3], stop, delta)
    return level + tl.sum(delta, 1), slope + tl.sum(delta * white, 1)


@triton.jit
def unattend(line, work, vectors, sums, arriving, arriving_grads, norm, at, S: tl.constexpr, ACC: tl.constexpr):
    """From what was read, in `work`, to [q k v] after their norm; times its gain in `work` from M on, its two sums."""
    _, row, _, live, arrival, _, there, _ = at
    NARROW: tl.constexpr = line.dtype.element_ty
    raw, target = line + S.tape_raw, work + S.size
    level, slope = tl.full((S.rows,), 0.0, ACC), tl.full((S.rows,), 0.0, ACC)
    for head in range(S.heads):
        begin = head * (2 * S.key + S.read)
        keys, reads, end = begin + S.key, begin + 2 * S.key, begin + 2 * S.key + S.read
        own, other = weights(raw, vectors, arriving, norm, at, begin, S)
        errors, others = tl.full((S.rows, S.rows), 0.0, ACC), tl.full((S.rows, S.inputs), 0.0, ACC)
        for start in range(0, S.read, S.narrow):
            column = start + tl.arange(0, S.narrow)
            columns = reads + column
            read = fetch(work + head * S.read, row, S.scratch_width, column, live, S.read).to(NARROW)
            value = headed(raw, vectors, norm, at, columns, end, S)
            errors = multiply(read, tl.trans(value), errors, S)
            value = fetch(arriving, arrival, S.qkv, columns, there, end)
            others = multiply(read, tl.trans(value), others, S)
            delta = multiply(tl.trans(own.to(NARROW)), read, tl.full((S.rows, S.narrow), 0.0, ACC), S)
            level, slope = shade(raw, delta, target, vectors, sums, columns, end, norm, level, slope, at, S)
            delta = multiply(tl.trans(other.to(NARROW)), read, tl.full((S.inputs, S.narrow), 0.0, ACC), S)
            put(arriving_grads, arrival, S.qkv, columns, there, end, delta)
        both = (tl.sum(errors * own, 1) + tl.sum(others * other, 1))[:, None]
        errors, others = (own * (errors - both)).to(NARROW), (other * (others - both)).to(NARROW)
        for start in range(0, S.key, S.narrow):
            column = start + tl.arange(0, S.narrow)
            key = headed(raw, vectors, norm, at, keys + column, reads, S)
            delta = multiply(errors, key, tl.full((S.rows, S.narrow), 0.0, ACC), S)
            key = fetch(arriving, arrival, S.qkv, keys + column, there, reads)
            delta = multiply(others, key, delta, S)
            level, slope = shade(raw, delta, target, vectors, sums, begin + column, keys, norm, level, slope, at, S)
            query = headed(raw, vectors, norm, at, begin + column, keys, S)
            delta = multiply(tl.trans(errors), query, tl.full((S.rows, S.narrow), 0.0, ACC), S)
            level, slope = shade(raw, delta, target, vectors, sums, keys + column, reads, norm, level, slope, at, S)
            delta = multiply(tl.trans(others), query, tl.full((S.inputs, S.narrow), 0.0, ACC), S)
            put(arriving_grads, arrival, S.qkv, keys + column, there, reads, delta)
    return level, slope
