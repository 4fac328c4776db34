"""The time loop forward, in one Triton kernel: a program takes some samples from the first step to the last.

Its rows never meet those of another program, so nothing waits for the grid. What one stage of a step stores and the next
reads as an operand of a product goes through global memory, with a barrier between: other threads wrote it.
"""

# ruff: noqa: ANN001, ANN201, N803, N806 - what runs on the device has no Python types; constants are upper case
from __future__ import annotations

import triton
import triton.language as tl

from seqtoolkit_rmc.kernels.triton_tile import (
    fetch,
    headed,
    moments,
    multiply,
    part,
    place,
    product,
    put,
    recall,
    renewed,
    sigmoid,
    tanh,
    weights,
)


@triton.jit
def on_tape(tape, time, at, S: tl.constexpr):
    """Where the program's rows of a step begin on the tape."""
    turn = time if S.kept else time % 2
    return tape + (turn * at[7] + at[0]) * (S.slots * S.tape_width)


@triton.jit
def remember(memory, tape, past, time, steps, at, columns, S: tl.constexpr):
    """Keep columns of a memory as operands of the step `time`: itself and, for gates, its tanh."""
    if time < steps:
        memory = renewed(memory, past, time, at, columns, S)
        line = on_tape(tape, time, at, S)
        put(line, at[1], S.tape_width, columns, at[3], S.size, memory)
        if S.gates > 0:
            put(line + S.tape_squashed, at[1], S.tape_width, columns, at[3], S.size, tanh(memory))


@triton.jit
def project(line, matrix, vectors, at, S: tl.constexpr, ACC: tl.constexpr):
    """The memory's [q k v] before their norm, kept on the tape; mean and 1 / std of each row."""
    zero = tl.full((S.rows,), 0.0, ACC)
    seen, mean, spread = zero, zero, zero
    for start in range(0, S.qkv, S.chunk):
        columns = start + tl.arange(0, S.chunk)
        values = product(line, S.tape_width, at, matrix, 1, S.size, columns, S.qkv, S.size, S, ACC)
        values = (values + part(vectors, columns, S.qkv)[None, :]).to(line.dtype.element_ty)
        put(line + S.tape_raw, at[1], S.tape_width, columns, at[3], S.qkv, values)
        seen, mean, spread = moments(seen, mean, spread, values.to(ACC), columns < S.qkv)
    return mean, 1 / tl.sqrt(spread / S.qkv + S.epsilon)


@triton.jit
def attend(line, work, vectors, arriving, past, time, norm, at, S: tl.constexpr, ACC: tl.constexpr):
    """The memory and what each row reads, summed into `work`; the sum's mean and 1 / std."""
    _, row, _, live, arrival, _, there, _ = at
    raw, zero = line + S.tape_raw, tl.full((S.rows,), 0.0, ACC)
    seen, mean, spread = zero, zero, zero
    for head in range(S.heads):
        begin = head * (2 * S.key + S.read)
        own, other = weights(raw, vectors, arriving, norm, at, begin, S)
        own, other = own.to(line.dtype.element_ty), other.to(line.dtype.element_ty)
        for start in range(0, S.read, S.narrow):
            column = start + tl.arange(0, S.narrow)
            columns, stop = begin + 2 * S.key + column, begin + 2 * S.key + S.read
            value = headed(raw, vectors, norm, at, columns, stop, S)
            read = multiply(own, value, tl.full((S.rows, S.narrow), 0.0, ACC), S)
            read = multiply(other, fetch(arriving, arrival, S.qkv, columns, there, stop), read, S)
            columns = tl.where(column < S.read, head * S.read + column, S.size)
            read += recall(past, time, at, columns, S)
            put(work, row, S.size, columns, live, S.size, read)
            seen, mean, spread = moments(seen, mean, spread, read, columns < S.size)
    return mean, 1 / tl.sqrt(spread / S.size + S.epsilon)


@triton.jit
def whiten(work, target, norm, at, S: tl.constexpr):
    """Normalize what `work` holds, without gain and shift."""
    for start in range(0, S.size, S.chunk):
        columns = start + tl.arange(0, S.chunk)
        values = fetch(work, at[1], S.size, columns, at[3], S.size)
        values = (values - norm[0][:, None]) * norm[1][:, None]
        put(target, at[1], S.tape_width, columns, at[3], S.size, values)


@triton.jit
def perceive(line, work, matrix, vectors, at, S: tl.constexpr, ACC: tl.constexpr):
    """The MLP and what it is added to, into `work`; the sum's mean and 1 / std. `vectors` begin with the MLP's biases."""
    norm, attended = vectors + S.layers * S.size, line + S.tape_attended
    for layer in range(S.layers - 1):
        done = layer * S.size
        for start in range(0, S.size, S.chunk):
            columns = start + tl.arange(0, S.chunk)
            right = matrix + done * S.size
            values = product(attended + done, S.tape_width, at, right, 1, S.size, columns, S.size, S.size, S, ACC)
            values = tl.maximum(values + part(vectors + done, columns, S.size)[None, :], 0.0)
            put(line + S.tape_hidden + done, at[1], S.tape_width, columns, at[3], S.size, values)
        tl.debug_barrier()
    LAST: tl.constexpr = (S.layers - 1) * S.size
    zero = tl.full((S.rows,), 0.0, ACC)
    seen, mean, spread = zero, zero, zero
    for start in range(0, S.size, S.chunk):
        columns = start + tl.arange(0, S.chunk)
        right = matrix + LAST * S.size
        values = product(attended + LAST, S.tape_width, at, right, 1, S.size, columns, S.size, S.size, S, ACC)
        around = fetch(attended, at[1], S.tape_width, columns, at[3], S.size).to(ACC)
        values += around * part(norm, columns, S.size)[None, :] + part(norm + S.size, columns, S.size)[None, :]
        values += part(vectors + LAST, columns, S.size)[None, :]
        put(work, at[1], S.size, columns, at[3], S.size, values)
        seen, mean, spread = moments(seen, mean, spread, values, columns < S.size)
    return mean, 1 / tl.sqrt(spread / S.size + S.epsilon)


@triton.jit
def row_gates(line, matrix, drive, at, S: tl.constexpr, ACC: tl.constexpr):
    """One gate for each row, kept on the tape: input and forget [R]."""
    entering, keeping = tl.full((S.rows,), 0.0, ACC), tl.full((S.rows,), 0.0, ACC)
    for start in range(0, S.size, S.chunk):
        columns = start + tl.arange(0, S.chunk)
        squashed = fetch(line + S.tape_squashed, at[1], S.tape_width, columns, at[3], S.size).to(ACC)
        entering += tl.sum(squashed * part(matrix, columns, S.size).to(ACC)[None, :], 1)
        keeping += tl.sum(squashed * part(matrix + S.size, columns, S.size).to(ACC)[None, :], 1)
    drive += at[2] * 2
    entering = sigmoid(entering + tl.load(drive, mask=at[3], other=0.0).to(ACC))
    keeping = sigmoid(keeping + tl.load(drive + 1, mask=at[3], other=0.0).to(ACC))
    gates = line + S.tape_gates + at[1] * S.tape_width
    tl.store(gates, entering.to(line.dtype.element_ty), mask=at[3])
    tl.store(gates + 1, keeping.to(line.dtype.element_ty), mask=at[3])
    return entering, keeping


@triton.jit
def unit_gate(line, matrix, drive, at, columns, SECOND: tl.constexpr, S: tl.constexpr, ACC: tl.constexpr):
    """Some columns of the input gates, or of the forget gates, kept on the tape."""
    squashed, right = line + S.tape_squashed, matrix + SECOND * S.size
    gate = product(squashed, S.tape_width, at, right, 1, S.size, columns, S.size, S.size, S, ACC)
    gate = sigmoid(gate + fetch(drive + SECOND, at[2], S.gates, columns, at[3], S.size).to(ACC))
    put(line + S.tape_gates + SECOND, at[1], S.tape_width, columns, at[3], S.size, gate)
    return gate


@triton.jit
def gate(
    line, work, matrix, gain, drive, past, tape, time, steps, norm, at, S: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """Normalize the candidate, gate it, and leave the new memory to the next step. `gain` points at gain and shift."""
    begin, row, _, live, _, _, _, batch = at
    drive += (time * batch + begin) * S.gates
    if S.gates == 2:
        entering, keeping = row_gates(line, matrix, drive, at, S, ACC)
        entering, keeping = entering[:, None], keeping[:, None]
    for start in range(0, S.size, S.chunk):
        columns = start + tl.arange(0, S.chunk)
        values = (fetch(work, row, S.size, columns, live, S.size) - norm[0][:, None]) * norm[1][:, None]
        put(line + S.tape_candidate, row, S.tape_width, columns, live, S.size, values)
        memory = values * part(gain, columns, S.size)[None, :] + part(gain + S.size, columns, S.size)[None, :]
        if S.gates > 0:
            if S.gates == 2:
                enter, keep = entering, keeping
            else:
                enter = unit_gate(line, matrix, drive, at, columns, 0, S, ACC)
                keep = unit_gate(line, matrix, drive, at, columns, S.size, S, ACC)
            memory = enter * tanh(memory) + keep * recall(past, time, at, columns, S)
        following = past[0] + ((time + 1) * batch + begin) * (S.slots * S.size)
        put(following, row, S.size, columns, live, S.size, memory)
        remember(memory, tape, past, time + 1, steps, at, columns, S)


@triton.jit(do_not_specialize=["steps", "batch"])
def forward(
    matrix, vectors, arriving, drive, memories, fresh, first, tape, scratch, stats, steps, batch, S: tl.constexpr
):  # fmt: skip
    """All steps of a tile. Pointers to contiguous tensors, sections as `Tile` says.

    matrix [P+LM+G M], vectors [3P+LM+4M], arriving [T B n P], drive [T B G], memories [T+1 B N M] of which the first is
    given, fresh [N M], first [T B] of bytes, tape [T B N tape_width], scratch [B N M], stats [T 4 B N].
    """
    ACC: tl.constexpr = memories.dtype.element_ty
    at, past = place(batch, S), (memories, fresh, first)
    begin, row, _, live, _, _, _, count = at
    work = scratch + begin * (S.slots * S.size)
    mlp, inner = matrix + S.qkv * S.size, vectors + 3 * S.qkv
    for start in range(0, S.size, S.chunk):
        columns = start + tl.arange(0, S.chunk)
        memory = fetch(memories + begin * (S.slots * S.size), row, S.size, columns, live, S.size)
        remember(memory, tape, past, 0, steps, at, columns, S)
    time = 0
    while time < steps:
        tl.debug_barrier()
        line = on_tape(tape, time, at, S)
        norm = project(line, matrix, vectors, at, S, ACC)
        tl.debug_barrier()
        come = arriving + (time * count + begin) * (S.arrivals * S.qkv)
        middle = attend(line, work, vectors, come, past, time, norm, at, S, ACC)
        tl.debug_barrier()
        whiten(work, line + S.tape_attended, middle, at, S)
        tl.debug_barrier()
        last = perceive(line, work, mlp, inner, at, S, ACC)
        tl.debug_barrier()
        gates, gain = mlp + S.layers * S.size * S.size, inner + (S.layers + 2) * S.size
        gate(line, work, gates, gain, drive, past, tape, time, steps, last, at, S, ACC)
        if S.kept:
            note = stats + (time * 4 * count + begin) * S.slots
            tl.store(note + row, norm[0], mask=live)
            tl.store(note + count * S.slots + row, norm[1], mask=live)
            tl.store(note + 2 * count * S.slots + row, middle[1], mask=live)
            tl.store(note + 3 * count * S.slots + row, last[1], mask=live)
        time += 1
