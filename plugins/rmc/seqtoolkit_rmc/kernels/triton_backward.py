"""The time loop backward, in one Triton kernel: the tiles of the forward pass, from the last step to the first.

It leaves what every weight's gradient needs in `deltas`, and does none of those products itself.
"""

# ruff: noqa: ANN001, ANN201, N803, N806 - what runs on the device has no Python types; constants are upper case
from __future__ import annotations

import triton
import triton.language as tl

from seqtoolkit_rmc.kernels.triton_tile import fetch, part, place, product, put, recall, restarted, tanh, whitened
from seqtoolkit_rmc.kernels.triton_unattend import unattend


@triton.jit
def row_gates(line, at, S: tl.constexpr, ACC: tl.constexpr):
    """Input and forget gates of each row, [R 1], from the tape."""
    gates = line + S.tape_gates + at[1] * S.tape_width
    entering = tl.load(gates, mask=at[3], other=0.0).to(ACC)
    return entering[:, None], tl.load(gates + 1, mask=at[3], other=0.0).to(ACC)[:, None]


@triton.jit
def ungate(line, error, carry, past, time, coming, candidate, columns, gates, at, S: tl.constexpr):
    """Some columns of the new memory's gradient to the candidate's; its part for the old memory into `carry`.

    Gradients of unit gates are stored, of row gates added up: `gates` are input, forget, and the two sums.
    """
    row, live = at[1], at[3]
    entering, keeping, entered, kept = gates
    if S.gates > 2:
        entering = fetch(line + S.tape_gates, row, S.tape_width, columns, live, S.size).to(coming.dtype)
        keeping = fetch(line + S.tape_gates + S.size, row, S.tape_width, columns, live, S.size).to(coming.dtype)
    candidate = tanh(candidate)
    memory = recall(past, time, at, columns, S)
    put(carry, row, S.size, columns, live, S.size, coming * keeping)
    if S.gates == 2:
        entered += tl.sum(coming * candidate, 1)
        kept += tl.sum(coming * memory, 1)
    else:
        delta = coming * candidate * entering * (1 - entering)
        put(error + S.delta_gates, row, S.delta_width, columns, live, S.size, delta)
        delta = coming * memory * keeping * (1 - keeping)
        put(error + S.delta_gates + S.size, row, S.delta_width, columns, live, S.size, delta)
    return coming * entering * (1 - candidate * candidate), entered, kept


@triton.jit
def begin_step(line, error, work, carry, grads, gain, sums, past, time, at, S: tl.constexpr, ACC: tl.constexpr):
    """From the new memory's gradient to what comes out of the MLP's norm, times its gain, into `work`.

    Sums over each row of that, and of that times the normalized candidate, [R] each, as the norm needs them.
    """
    row, live = at[1], at[3]
    zero = tl.full((S.rows,), 0.0, ACC)
    level, slope, entered, kept = zero, zero, zero, zero
    entering, keeping = zero[:, None], zero[:, None]
    if S.gates == 2:
        entering, keeping = row_gates(line, at, S, ACC)
    for start in range(0, S.size, S.chunk):
        columns = start + tl.arange(0, S.chunk)
        coming = fetch(grads, row, S.size, columns, live, S.size) + fetch(carry, row, S.size, columns, live, S.size)
        white = fetch(line + S.tape_candidate, row, S.tape_width, columns, live, S.size).to(ACC)
        scale = part(gain, columns, S.size)[None, :]
        if S.gates > 0:
            candidate = white * scale + part(gain + S.size, columns, S.size)[None, :]
            gates = (entering, keeping, entered, kept)
            coming, entered, kept = ungate(line, error, carry, past, time, coming, candidate, columns, gates, at, S)
        else:
            put(carry, row, S.size, columns, live, S.size, tl.full((S.rows, S.chunk), 0.0, ACC))
        tl.store(sums + columns, tl.sum(coming * white, 0), mask=columns < S.size)
        tl.store(sums + S.size + columns, tl.sum(coming, 0), mask=columns < S.size)
        coming *= scale
        put(work, row, S.scratch_width, columns, live, S.size, coming)
        level += tl.sum(coming, 1)
        slope += tl.sum(coming * white, 1)
    if S.gates == 2:
        gates = error + S.delta_gates + row[:, None] * S.delta_width
        entered = entered[:, None] * entering * (1 - entering)
        kept = kept[:, None] * keeping * (1 - keeping)
        tl.store(gates, entered.to(error.dtype.element_ty), mask=live[:, None])
        tl.store(gates + 1, kept.to(error.dtype.element_ty), mask=live[:, None])
    return level, slope


@triton.jit
def unwhiten(work, white, target, level, slope, scale, at, S: tl.constexpr, ACC: tl.constexpr):
    """Through a norm of M numbers: what is in `work` to the gradient before the norm, there and in `target`."""
    for start in range(0, S.size, S.chunk):
        columns = start + tl.arange(0, S.chunk)
        value = fetch(white, at[1], S.tape_width, columns, at[3], S.size).to(ACC)
        delta = fetch(work, at[1], S.scratch_width, columns, at[3], S.size)
        delta = scale[:, None] * (delta - (level[:, None] + value * slope[:, None]) / S.size)
        put(work, at[1], S.scratch_width, columns, at[3], S.size, delta)
        if target is not None:
            put(target, at[1], S.delta_width, columns, at[3], S.size, delta)


@triton.jit
def unperceive(line, error, work, matrix, gain, sums, at, S: tl.constexpr, ACC: tl.constexpr):
    """Through the MLP, and past it: the gradient before the gain of the attention's norm into `work`, its two sums."""
    row, live = at[1], at[3]
    level, slope = tl.full((S.rows,), 0.0, ACC), tl.full((S.rows,), 0.0, ACC)
    for step in range(S.layers - 1):
        below = (S.layers - 2 - step) * S.size
        source, right = error + S.delta_mlp + below + S.size, matrix + (below + S.size) * S.size
        for start in range(0, S.size, S.chunk):
            columns = start + tl.arange(0, S.chunk)
            delta = product(source, S.delta_width, at, right, S.size, 1, columns, S.size, S.size, S, ACC)
            hidden = fetch(line + S.tape_hidden + below, row, S.tape_width, columns, live, S.size).to(ACC)
            delta = tl.where(hidden > 0, delta, 0.0)
            put(error + S.delta_mlp + below, row, S.delta_width, columns, live, S.size, delta)
        tl.debug_barrier()
    for start in range(0, S.size, S.chunk):
        columns = start + tl.arange(0, S.chunk)
        delta = product(error + S.delta_mlp, S.delta_width, at, matrix, S.size, 1, columns, S.size, S.size, S, ACC)
        white = fetch(line + S.tape_attended, row, S.tape_width, columns, live, S.size).to(ACC)
        around = fetch(work, row, S.scratch_width, columns, live, S.size)
        tl.store(sums + columns, tl.sum(around * white, 0), mask=columns < S.size)
        delta += around * part(gain, columns, S.size)[None, :]
        put(work, row, S.scratch_width, columns, live, S.size, delta)
        level += tl.sum(delta, 1)
        slope += tl.sum(delta * white, 1)
    return level, slope


@triton.jit
def unwhiten_qkv(work, raw, target, level, slope, norm, at, S: tl.constexpr):
    """Through the norm of [q k v]: to the gradient of the projection, in `target`."""
    for start in range(0, S.qkv, S.chunk):
        columns = start + tl.arange(0, S.chunk)
        white = whitened(raw, norm, at, columns, S.qkv, S)
        delta = fetch(work, at[1], S.scratch_width, columns, at[3], S.qkv)
        delta = norm[1][:, None] * (delta - (level[:, None] + white * slope[:, None]) / S.qkv)
        put(target, at[1], S.delta_width, columns, at[3], S.qkv, delta)


@triton.jit
def end_step(error, work, carry, matrix, past, time, at, S: tl.constexpr, ACC: tl.constexpr):
    """Gather in `carry` the gradient of the memory that the step started from, none where a row began anew."""
    row, live = at[1], at[3]
    right = matrix + (S.qkv + S.layers * S.size) * S.size
    gates = error + S.delta_gates
    for start in range(0, S.size, S.chunk):
        columns = start + tl.arange(0, S.chunk)
        delta = product(error, S.delta_width, at, matrix, S.size, 1, columns, S.size, S.qkv, S, ACC)
        delta += fetch(carry, row, S.size, columns, live, S.size)
        delta += fetch(work, row, S.scratch_width, columns, live, S.size)
        if S.gates > 0:
            if S.gates == 2:
                entered = tl.load(gates + row * S.delta_width, mask=live, other=0.0).to(ACC)
                kept = tl.load(gates + row * S.delta_width + 1, mask=live, other=0.0).to(ACC)
                through = entered[:, None] * part(right, columns, S.size).to(ACC)[None, :]
                through += kept[:, None] * part(right + S.size, columns, S.size).to(ACC)[None, :]
            else:
                through = product(gates, S.delta_width, at, right, S.size, 1, columns, S.size, S.gates, S, ACC)
            squashed = tanh(recall(past, time, at, columns, S))
            delta += through * (1 - squashed * squashed)
        if S.restarts:
            delta = tl.where(restarted(past, time, at)[:, None], 0.0, delta)
        put(carry, row, S.size, columns, live, S.size, delta)


@triton.jit(do_not_specialize=["steps", "batch"])
def backward(
    matrix, vectors, arriving, memories, fresh, first, tape, stats, grads, memory_grads, arriving_grads, deltas,
    scratch, sums, steps, batch, S: tl.constexpr
):  # fmt: skip
    """All steps of a tile, the last first; what it does not name as the forward kernel.

    grads [T B N M] of the memories; to be written: memory_grads [B N M], zeros at first, arriving_grads
    [T B n P], deltas [T B N delta_width], scratch [B N scratch_width], sums [T programs sums_width].
    """
    ACC: tl.constexpr = memories.dtype.element_ty
    at, past = place(batch, S), (memories, fresh, first)
    begin, row, _, live, _, _, _, count = at
    begun = begin * S.slots
    carry, work = memory_grads + begun * S.size, scratch + begun * S.scratch_width
    mlp = matrix + S.qkv * S.size
    gain = vectors + 3 * S.qkv + S.layers * S.size
    time = steps - 1
    while time >= 0:
        tl.debug_barrier()
        line = tape + (time * count * S.slots + begun) * S.tape_width
        error = deltas + (time * count * S.slots + begun) * S.delta_width
        total = sums + (time * tl.num_programs(0).to(tl.int64) + tl.program_id(0)) * S.sums_width
        note = stats + time * 4 * count * S.slots + begun
        incoming = grads + (time * count * S.slots + begun) * S.size
        level, slope = begin_step(
            line, error, work, carry, incoming, gain + 2 * S.size, total + 2 * S.qkv, past, time, at, S, ACC
        )
        tl.debug_barrier()
        scale = tl.load(note + 3 * count * S.slots + row, mask=live, other=0.0)
        last = error + S.delta_mlp + (S.layers - 1) * S.size
        unwhiten(work, line + S.tape_candidate, last, level, slope, scale, at, S, ACC)
        tl.debug_barrier()
        level, slope = unperceive(line, error, work, mlp, gain, total + 2 * (S.qkv + S.size), at, S, ACC)
        tl.debug_barrier()
        scale = tl.load(note + 2 * count * S.slots + row, mask=live, other=0.0)
        unwhiten(work, line + S.tape_attended, None, level, slope, scale, at, S, ACC)
        tl.debug_barrier()
        mean = tl.load(note + row, mask=live, other=0.0)
        norm = (mean, tl.load(note + count * S.slots + row, mask=live, other=0.0))
        come = (time * count + begin) * (S.arrivals * S.qkv)
        level, slope = unattend(line, work, vectors, total, arriving + come, arriving_grads + come, norm, at, S, ACC)
        tl.debug_barrier()
        unwhiten_qkv(work + S.size, line + S.tape_raw, error, level, slope, norm, at, S)
        tl.debug_barrier()
        end_step(error, work, carry, matrix, past, time, at, S, ACC)
        time -= 1
