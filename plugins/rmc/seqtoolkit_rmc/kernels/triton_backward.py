"""The time loop backward, in one Triton kernel: the tiles of the forward pass, from the last step to the first.

It leaves what every weight's gradient needs in `deltas`, and does none of those products itself.
"""

from __future__ import annotations

import triton
import triton.language as tl

from seqtoolkit_rmc.kernels.triton_tile import (
    arrived,
    headed,
    multiply,
    part,
    place,
    product,
    recall,
    restarted,
    tanh,
    whitened,
    weights as attention,
)


@triton.jit
def ungate(
    line,
    error,
    work,
    carry,
    grads,
    matrix,
    norm,
    sums,
    memories,
    fresh,
    first,
    time,
    batch,
    at,
    S: tl.constexpr,
    ACC: tl.constexpr,
):
    """From the new memory's gradient to the gates', the candidate's (before its norm's gain, into `work`) and a part of
    the old memory's (into `carry`). Sums over each row of what is in `work`, and of that times the normalized candidate.
    """
    rows, sample, live, _, _, _ = at
    level, slope = tl.full((S.rows,), 0.0, ACC), tl.full((S.rows,), 0.0, ACC)
    entered, kept = tl.full((S.rows,), 0.0, ACC), tl.full((S.rows,), 0.0, ACC)
    if S.gates == 2:
        entering = tl.load(line + S.tape_gates, mask=live[:, None], other=0.0).to(ACC)
        keeping = tl.load(line + S.tape_gates + 1, mask=live[:, None], other=0.0).to(ACC)
    for start in range(0, S.size, S.chunk):
        columns = start + tl.arange(0, S.chunk)
        inside = live[:, None] & (columns < S.size)[None, :]
        coming = tl.load(grads + columns[None, :], mask=inside, other=0.0)
        coming += tl.load(carry + columns[None, :], mask=inside, other=0.0)
        white = tl.load(line + S.tape_candidate + columns[None, :], mask=inside, other=0.0).to(ACC)
        gain, shift = part(norm, columns, S.size), part(norm + S.size, columns, S.size)
        past = tl.full((S.rows, S.chunk), 0.0, ACC)
        if S.gates > 0:
            if S.gates > 2:
                gates = line + S.tape_gates + columns[None, :]
                entering = tl.load(gates, mask=inside, other=0.0).to(ACC)
                keeping = tl.load(gates + S.size, mask=inside, other=0.0).to(ACC)
            candidate = tanh(white * gain[None, :] + shift[None, :])
            memory = recall(memories, fresh, first, time, batch, rows, sample, live, columns, S)
            past = coming * keeping
            if S.gates == 2:
                entered += tl.sum(coming * candidate, 1)
                kept += tl.sum(coming * memory, 1)
            else:
                gates = error + S.delta_gates + columns[None, :]
                delta = coming * candidate * entering * (1 - entering)
                tl.store(gates, delta.to(error.dtype.element_ty), mask=inside)
                delta = coming * memory * keeping * (1 - keeping)
                tl.store(gates + S.size, delta.to(error.dtype.element_ty), mask=inside)
            coming = coming * entering * (1 - candidate * candidate)
        tl.store(carry + columns[None, :], past, mask=inside)
        tl.store(sums + columns, tl.sum(coming * white, 0), mask=columns < S.size)
        tl.store(sums + S.size + columns, tl.sum(coming, 0), mask=columns < S.size)
        coming *= gain[None, :]
        tl.store(work + columns[None, :], coming, mask=inside)
        level += tl.sum(coming, 1)
        slope += tl.sum(coming * white, 1)
    if S.gates == 2:
        entered = entered[:, None] * entering * (1 - entering)
        kept = kept[:, None] * keeping * (1 - keeping)
        tl.store(error + S.delta_gates, entered.to(error.dtype.element_ty), mask=live[:, None])
        tl.store(error + S.delta_gates + 1, kept.to(error.dtype.element_ty), mask=live[:, None])
    return level, slope


@triton.jit
def color(work, white, target, level, slope, scale, live, S: tl.constexpr, ACC: tl.constexpr):
    """Through a norm: what is in `work`, to the gradient before the norm, there and in `target`."""
    for start in range(0, S.size, S.chunk):
        columns = start + tl.arange(0, S.chunk)
        inside = live[:, None] & (columns < S.size)[None, :]
        value = tl.load(white + columns[None, :], mask=inside, other=0.0).to(ACC)
        delta = tl.load(work + columns[None, :], mask=inside, other=0.0)
        delta = scale[:, None] * (delta - (level[:, None] + value * slope[:, None]) / S.size)
        tl.store(work + columns[None, :], delta, mask=inside)
        tl.store(target + columns[None, :], delta.to(target.dtype.element_ty), mask=inside)


@triton.jit
def unperceive(line, error, work, matrix, gain, sums, live, S: tl.constexpr, ACC: tl.constexpr):
    """Through the MLP, and past it: the gradient before the gain of the attention's norm into `work`, its two sums."""
    level, slope = tl.full((S.rows,), 0.0, ACC), tl.full((S.rows,), 0.0, ACC)
    for step in range(S.layers - 1):
        layer = S.layers - 1 - step
        source = error + S.delta_mlp + layer * S.size
        hidden = line + S.tape_hidden + (layer - 1) * S.size
        for start in range(0, S.size, S.chunk):
            columns = start + tl.arange(0, S.chunk)
            inside = live[:, None] & (columns < S.size)[None, :]
            right = matrix + layer * S.size * S.size
            delta = product(source, live, right, S.size, 1, columns, S.size, S.size, S, ACC)
            active = tl.load(hidden + columns[None, :], mask=inside, other=0.0).to(ACC) > 0
            delta = tl.where(active, delta, 0.0).to(error.dtype.element_ty)
            tl.store(source - S.size + columns[None, :], delta, mask=inside)
        tl.debug_barrier()
    for start in range(0, S.size, S.chunk):
        columns = start + tl.arange(0, S.chunk)
        inside = live[:, None] & (columns < S.size)[None, :]
        delta = product(error + S.delta_mlp, live, matrix, S.size, 1, columns, S.size, S.size, S, ACC)
        white = tl.load(line + S.tape_attended + columns[None, :], mask=inside, other=0.0).to(ACC)
        around = tl.load(work + columns[None, :], mask=inside, other=0.0)
        tl.store(sums + columns, tl.sum(around * white, 0), mask=columns < S.size)
        delta += around * part(gain, columns, S.size)[None, :]
        tl.store(work + columns[None, :], delta, mask=inside)
        level += tl.sum(delta, 1)
        slope += tl.sum(delta * white, 1)
    return level, slope


@triton.jit
def shade(raw, delta, target, vectors, sums, columns, stop, mean, scale, live, level, slope, S: tl.constexpr):
    """Some columns of the gradient after the norm of [q k v]: their sums, and times the gain into `target`."""
    white = whitened(raw, columns, stop, mean, scale, live)
    tl.store(sums + columns, tl.sum(delta * white, 0), mask=columns < stop)
    tl.store(sums + S.qkv + columns, tl.sum(delta, 0), mask=columns < stop)
    delta *= part(vectors + S.qkv, columns, stop)[None, :]
    tl.store(target + columns[None, :], delta, mask=live[:, None] & (columns < stop)[None, :])
    return level + tl.sum(delta, 1), slope + tl.sum(delta * white, 1)


@triton.jit
def reach(arriving_grads, delta, time, batch, arrivals, there, columns, stop, S: tl.constexpr):
    """Store some columns of the gradient of the input rows' [q k v]."""
    row = time * (batch.to(tl.int64) * S.arrivals) + arrivals
    inside = there[:, None] & (columns < stop)[None, :]
    tl.store(arriving_grads + row[:, None] * S.qkv + columns[None, :], delta, mask=inside)


@triton.jit
def unattend(
    line,
    work,
    target,
    vectors,
    sums,
    arriving,
    arriving_grads,
    time,
    batch,
    mean,
    scale,
    at,
    S: tl.constexpr,
    ACC: tl.constexpr,
):
    """Through the attention: from what was read, in `work`, to [q k v] after their norm; times its gain in `target`."""
    _, _, live, arrivals, _, there = at
    NARROW: tl.constexpr = line.dtype.element_ty
    raw = line + S.tape_raw
    level, slope = tl.full((S.rows,), 0.0, ACC), tl.full((S.rows,), 0.0, ACC)
    for head in range(S.heads):
        begin = head * (2 * S.key + S.read)
        keys, values, end = begin + S.key, begin + 2 * S.key, begin + 2 * S.key + S.read
        own, other = attention(raw, vectors, arriving, time, batch, begin, mean, scale, at, S)
        errors, others = tl.full((S.rows, S.rows), 0.0, ACC), tl.full((S.rows, S.inputs), 0.0, ACC)
        for start in range(0, S.read, S.narrow):
            column = start + tl.arange(0, S.narrow)
            inside = live[:, None] & (column < S.read)[None, :]
            read = tl.load(work + head * S.read + column[None, :], mask=inside, other=0.0).to(NARROW)
            value = headed(raw, vectors, values + column, end, mean, scale, live, S)
            errors = multiply(read, tl.trans(value), errors, S)
            value = arrived(arriving, time, batch, arrivals, there, values + column, end, S)
            others = multiply(read, tl.trans(value), others, S)
            delta = multiply(tl.trans(own.to(NARROW)), read, tl.full((S.rows, S.narrow), 0.0, ACC), S)
            level, slope = shade(
                raw, delta, target, vectors, sums, values + column, end, mean, scale, live, level, slope, S
            )
            delta = multiply(tl.trans(other.to(NARROW)), read, tl.full((S.inputs, S.narrow), 0.0, ACC), S)
            reach(arriving_grads, delta, time, batch, arrivals, there, values + column, end, S)
        both = tl.sum(errors * own, 1) + tl.sum(others * other, 1)
        errors, others = (own * (errors - both[:, None])).to(NARROW), (other * (others - both[:, None])).to(NARROW)
        for start in range(0, S.key, S.narrow):
            column = start + tl.arange(0, S.narrow)
            key = headed(raw, vectors, keys + column, values, mean, scale, live, S)
            delta = multiply(errors, key, tl.full((S.rows, S.narrow), 0.0, ACC), S)
            key = arrived(arriving, time, batch, arrivals, there, keys + column, values, S)
            delta = multiply(others, key, delta, S)
            level, slope = shade(
                raw, delta, target, vectors, sums, begin + column, keys, mean, scale, live, level, slope, S
            )
            query = headed(raw, vectors, begin + column, keys, mean, scale, live, S)
            delta = multiply(tl.trans(errors), query, tl.full((S.rows, S.narrow), 0.0, ACC), S)
            level, slope = shade(
                raw, delta, target, vectors, sums, keys + column, values, mean, scale, live, level, slope, S
            )
            delta = multiply(tl.trans(others), query, tl.full((S.inputs, S.narrow), 0.0, ACC), S)
            reach(arriving_grads, delta, time, batch, arrivals, there, keys + column, values, S)
    return level, slope


@triton.jit
def color_qkv(source, raw, target, level, slope, mean, scale, live, S: tl.constexpr):
    """Through the norm of [q k v]: to the gradient of the projection, in `target`."""
    for start in range(0, S.qkv, S.chunk):
        columns = start + tl.arange(0, S.chunk)
        inside = live[:, None] & (columns < S.qkv)[None, :]
        white = whitened(raw, columns, S.qkv, mean, scale, live)
        delta = tl.load(source + columns[None, :], mask=inside, other=0.0)
        delta = scale[:, None] * (delta - (level[:, None] + white * slope[:, None]) / S.qkv)
        tl.store(target + columns[None, :], delta.to(target.dtype.element_ty), mask=inside)


@triton.jit
def leave(
    error, work, carry, matrix, memories, fresh, fresh_grads, first, time, batch, at, S: tl.constexpr, ACC: tl.constexpr
):
    """Gather the gradient of the memory that the step started from: into `carry`, or where rows began anew `fresh_grads`."""
    rows, sample, live, _, _, _ = at
    right = matrix + (S.qkv + S.layers * S.size) * S.size
    if S.gates == 2:
        entered = tl.load(error + S.delta_gates, mask=live[:, None], other=0.0).to(ACC)
        kept = tl.load(error + S.delta_gates + 1, mask=live[:, None], other=0.0).to(ACC)
    for start in range(0, S.size, S.chunk):
        columns = start + tl.arange(0, S.chunk)
        inside = live[:, None] & (columns < S.size)[None, :]
        delta = product(error, live, matrix, S.size, 1, columns, S.size, S.qkv, S, ACC)
        delta += tl.load(carry + columns[None, :], mask=inside, other=0.0)
        delta += tl.load(work + columns[None, :], mask=inside, other=0.0)
        if S.gates > 0:
            squashed = tanh(recall(memories, fresh, first, time, batch, rows, sample, live, columns, S))
            if S.gates == 2:
                through = entered * part(right, columns, S.size).to(ACC)[None, :]
                through += kept * part(right + S.size, columns, S.size).to(ACC)[None, :]
            else:
                through = product(error + S.delta_gates, live, right, S.size, 1, columns, S.size, S.gates, S, ACC)
            delta += through * (1 - squashed * squashed)
        if S.restarts:
            again = restarted(first, time, batch, sample, live)[:, None]
            begun = fresh_grads + rows[:, None] * S.size + columns[None, :]
            before = tl.load(begun, mask=inside & again, other=0.0)
            tl.store(begun, before + delta, mask=inside & again)
            delta = tl.where(again, 0.0, delta)
        tl.store(carry + columns[None, :], delta, mask=inside)


@triton.jit(do_not_specialize=["steps", "batch"])
def backward(
    matrix,
    vectors,
    arriving,
    memories,
    fresh,
    first,
    tape,
    stats,
    grads,
    memory_grads,
    fresh_grads,
    arriving_grads,
    deltas,
    scratch,
    sums,
    steps,
    batch,
    S: tl.constexpr,
):
    """All steps of a tile, the last first; what it does not name as the forward kernel.

    grads [T B N M] of the memories; to be written: memory_grads [B N M] and fresh_grads [B N M], zeros at first,
    arriving_grads [T B n P], deltas [T B N delta_width], scratch [B N scratch_width], sums [T programs sums_width].
    """
    ACC: tl.constexpr = memories.dtype.element_ty
    at = place(batch, S)
    rows, _, live, _, _, _ = at
    count = batch.to(tl.int64) * S.slots
    carry = memory_grads + rows[:, None] * S.size
    work = scratch + rows[:, None] * S.scratch_width
    norm, mlp = vectors + 3 * S.qkv + S.layers * S.size, matrix + S.qkv * S.size
    time = steps - 1
    while time >= 0:
        tl.debug_barrier()
        line = tape + (time * count + rows)[:, None] * S.tape_width
        error = deltas + (time * count + rows)[:, None] * S.delta_width
        total = sums + (time * tl.num_programs(0).to(tl.int64) + tl.program_id(0)) * S.sums_width
        note = stats + time * 4 * count + rows
        level, slope = ungate(
            line,
            error,
            work,
            carry,
            grads + (time * count + rows)[:, None] * S.size,
            matrix,
            norm + 2 * S.size,
            total + 2 * S.qkv,
            memories,
            fresh,
            first,
            time,
            batch,
            at,
            S,
            ACC,
        )
        tl.debug_barrier()
        factor = tl.load(note + 3 * count, mask=live, other=0.0)
        last = error + S.delta_mlp + (S.layers - 1) * S.size
        color(work, line + S.tape_candidate, last, level, slope, factor, live, S, ACC)
        tl.debug_barrier()
        level, slope = unperceive(line, error, work, mlp, norm, total + 2 * (S.qkv + S.size), live, S, ACC)
        tl.debug_barrier()
        factor = tl.load(note + 2 * count, mask=live, other=0.0)
        color(work, line + S.tape_attended, work + S.size, level, slope, factor, live, S, ACC)
        tl.debug_barrier()
        mean, scale = tl.load(note, mask=live, other=0.0), tl.load(note + count, mask=live, other=0.0)
        level, slope = unattend(
            line,
            work,
            work + 2 * S.size,
            vectors,
            total,
            arriving,
            arriving_grads,
            time,
            batch,
            mean,
            scale,
            at,
            S,
            ACC,
        )
        tl.debug_barrier()
        color_qkv(work + 2 * S.size, line + S.tape_raw, error, level, slope, mean, scale, live, S)
        tl.debug_barrier()
        leave(error, work, carry, matrix, memories, fresh, fresh_grads, first, time, batch, at, S, ACC)
        time -= 1
