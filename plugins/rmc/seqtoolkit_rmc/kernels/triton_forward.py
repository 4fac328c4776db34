"""The time loop forward, in one Triton kernel: a program takes some samples from the first step to the last.

Its rows never meet those of another program, so nothing waits for the grid. What one stage of a step stores and the next
reads as an operand of a product goes through global memory, with a barrier between: other threads wrote it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from seqtoolkit_rmc.kernels.triton_tile import (
    headed,
    moments,
    part,
    place,
    arrived,
    product,
    recall,
    restarted,
    multiply,
    sigmoid,
    tanh,
    weights as attention,
)


@triton.jit
def remember(memory, tape, fresh, first, time, steps, batch, rows, sample, live, columns, S: tl.constexpr):
    """Keep columns of a memory as operands of the step `time`: itself and, for gates, its tanh."""
    live = live & (time < steps)
    inside = live[:, None] & (columns < S.size)[None, :]
    if S.restarts:
        again = restarted(first, time, batch, sample, live)
        start = fresh + (rows % S.slots)[:, None] * S.size + columns[None, :]
        memory = tl.where(again[:, None], tl.load(start, mask=inside & again[:, None], other=0.0), memory)
    line = on_tape(tape, time, batch, rows, S)
    tl.store(line + columns[None, :], memory.to(tape.dtype.element_ty), mask=inside)
    if S.gates > 0:
        tl.store(line + S.tape_squashed + columns[None, :], tanh(memory).to(tape.dtype.element_ty), mask=inside)


@triton.jit
def on_tape(tape, time, batch, rows, S: tl.constexpr):
    """Pointers [R 1] to the rows of a step on the tape."""
    at = time if S.kept else time % 2
    return tape + (at * (batch.to(tl.int64) * S.slots) + rows)[:, None] * S.tape_width


@triton.jit
def project(line, matrix, vectors, live, S: tl.constexpr, ACC: tl.constexpr):
    """The memory's [q k v] before their norm, kept on the tape; mean and 1 / std of each row."""
    seen, mean, spread = tl.full((S.rows,), 0.0, ACC), tl.full((S.rows,), 0.0, ACC), tl.full((S.rows,), 0.0, ACC)
    for start in range(0, S.qkv, S.chunk):
        columns = start + tl.arange(0, S.chunk)
        values = product(line, live, matrix, 1, S.size, columns, S.qkv, S.size, S, ACC)
        raw = (values + part(vectors, columns, S.qkv)[None, :]).to(line.dtype.element_ty)
        inside = live[:, None] & (columns < S.qkv)[None, :]
        tl.store(line + S.tape_raw + columns[None, :], raw, mask=inside)
        seen, mean, spread = moments(seen, mean, spread, raw.to(ACC), columns < S.qkv)
    return mean, 1 / tl.sqrt(spread / S.qkv + S.epsilon)


@triton.jit
def attend(
    line,
    work,
    vectors,
    memories,
    fresh,
    arriving,
    first,
    time,
    batch,
    mean,
    scale,
    at,
    S: tl.constexpr,
    ACC: tl.constexpr,
):
    """The memory and what each row reads, summed into `work`; the sum's mean and 1 / std."""
    rows, sample, live, arrivals, origin, there = at
    raw = line + S.tape_raw
    seen, middle, spread = tl.full((S.rows,), 0.0, ACC), tl.full((S.rows,), 0.0, ACC), tl.full((S.rows,), 0.0, ACC)
    for head in range(S.heads):
        begin = head * (2 * S.key + S.read)
        own, other = attention(raw, vectors, arriving, time, batch, begin, mean, scale, at, S)
        own, other = own.to(line.dtype.element_ty), other.to(line.dtype.element_ty)
        for start in range(0, S.read, S.narrow):
            column = start + tl.arange(0, S.narrow)
            columns, stop = begin + 2 * S.key + column, begin + 2 * S.key + S.read
            value = headed(raw, vectors, columns, stop, mean, scale, live, S)
            read = multiply(own, value, tl.full((S.rows, S.narrow), 0.0, ACC), S)
            value = arrived(arriving, time, batch, arrivals, there, columns, stop, S)
            read = multiply(other, value, read, S)
            columns = tl.where(column < S.read, head * S.read + column, S.size)
            total = read + recall(memories, fresh, first, time, batch, rows, sample, live, columns, S)
            tl.store(work + columns[None, :], total, mask=live[:, None] & (columns < S.size)[None, :])
            seen, middle, spread = moments(seen, middle, spread, total, columns < S.size)
    return middle, 1 / tl.sqrt(spread / S.size + S.epsilon)


@triton.jit
def whiten(work, target, mean, scale, live, S: tl.constexpr):
    """Normalize what `work` holds, without gain and shift."""
    for start in range(0, S.size, S.chunk):
        columns = start + tl.arange(0, S.chunk)
        inside = live[:, None] & (columns < S.size)[None, :]
        values = tl.load(work + columns[None, :], mask=inside, other=0.0)
        values = (values - mean[:, None]) * scale[:, None]
        tl.store(target + columns[None, :], values.to(target.dtype.element_ty), mask=inside)


@triton.jit
def perceive(line, work, matrix, vectors, live, S: tl.constexpr, ACC: tl.constexpr):
    """The MLP and what it is added to, into `work`; the sum's mean and 1 / std. `vectors` begin with the MLP's biases."""
    norm = vectors + S.layers * S.size
    for layer in range(S.layers - 1):
        source, target = line + S.tape_attended + layer * S.size, line + S.tape_hidden + layer * S.size
        for start in range(0, S.size, S.chunk):
            columns = start + tl.arange(0, S.chunk)
            right = matrix + (layer * S.size) * S.size
            values = product(source, live, right, 1, S.size, columns, S.size, S.size, S, ACC)
            values += part(vectors + layer * S.size, columns, S.size)[None, :]
            inside = live[:, None] & (columns < S.size)[None, :]
            tl.store(target + columns[None, :], tl.maximum(values, 0.0).to(line.dtype.element_ty), mask=inside)
        tl.debug_barrier()
    seen, mean, spread = tl.full((S.rows,), 0.0, ACC), tl.full((S.rows,), 0.0, ACC), tl.full((S.rows,), 0.0, ACC)
    LAST: tl.constexpr = S.layers - 1
    source, right = line + S.tape_attended + LAST * S.size, matrix + (LAST * S.size) * S.size
    for start in range(0, S.size, S.chunk):
        columns = start + tl.arange(0, S.chunk)
        inside = live[:, None] & (columns < S.size)[None, :]
        values = product(source, live, right, 1, S.size, columns, S.size, S.size, S, ACC)
        attended = tl.load(line + S.tape_attended + columns[None, :], mask=inside, other=0.0).to(ACC)
        attended = attended * part(norm, columns, S.size)[None, :] + part(norm + S.size, columns, S.size)[None, :]
        values += attended + part(vectors + LAST * S.size, columns, S.size)[None, :]
        tl.store(work + columns[None, :], values, mask=inside)
        seen, mean, spread = moments(seen, mean, spread, values, columns < S.size)
    return mean, 1 / tl.sqrt(spread / S.size + S.epsilon)


@triton.jit
def row_gates(line, matrix, drive, live, S: tl.constexpr, ACC: tl.constexpr):
    """One gate for each row, kept on the tape: input and forget [R]."""
    entering, keeping = tl.full((S.rows,), 0.0, ACC), tl.full((S.rows,), 0.0, ACC)
    for start in range(0, S.size, S.chunk):
        columns = start + tl.arange(0, S.chunk)
        inside = live[:, None] & (columns < S.size)[None, :]
        squashed = tl.load(line + S.tape_squashed + columns[None, :], mask=inside, other=0.0).to(ACC)
        entering += tl.sum(squashed * part(matrix, columns, S.size).to(ACC)[None, :], 1)
        keeping += tl.sum(squashed * part(matrix + S.size, columns, S.size).to(ACC)[None, :], 1)
    entering = sigmoid(entering + tl.load(drive, mask=live, other=0.0).to(ACC))
    keeping = sigmoid(keeping + tl.load(drive + 1, mask=live, other=0.0).to(ACC))
    return entering, keeping


@triton.jit(do_not_specialize=["steps", "batch"])
def forward(
    matrix, vectors, arriving, drive, memories, fresh, first, tape, scratch, stats, steps, batch, S: tl.constexpr
):
    """All steps of a tile. Pointers to contiguous tensors, sections as `Tile` says.

    matrix [P+LM+G M], vectors [3P+LM+4M], arriving [T B n P], drive [T B G], memories [T+1 B N M] of which the first is
    given, fresh [N M], first [T B] of bytes, tape [T B N tape_width], scratch [B N M], stats [T 4 B N].
    """
    ACC: tl.constexpr = memories.dtype.element_ty
    at = place(batch, S)
    rows, sample, live, _, _, _ = at
    count = batch.to(tl.int64) * S.slots
    work = scratch + rows[:, None] * S.size
    for start in range(0, S.size, S.chunk):
        columns = start + tl.arange(0, S.chunk)
        inside = live[:, None] & (columns < S.size)[None, :]
        memory = tl.load(memories + rows[:, None] * S.size + columns[None, :], mask=inside, other=0.0)
        remember(memory, tape, fresh, first, 0, steps, batch, rows, sample, live, columns, S)
    time = 0
    while time < steps:
        tl.debug_barrier()
        line = on_tape(tape, time, batch, rows, S)
        mean, scale = project(line, matrix, vectors, live, S, ACC)
        tl.debug_barrier()
        middle, factor = attend(
            line, work, vectors, memories, fresh, arriving, first, time, batch, mean, scale, at, S, ACC
        )
        tl.debug_barrier()
        whiten(work, line + S.tape_attended, middle, factor, live, S)
        tl.debug_barrier()
        mlp, inner = matrix + S.qkv * S.size, vectors + 3 * S.qkv
        center, last = perceive(line, work, mlp, inner, live, S, ACC)
        tl.debug_barrier()
        gate(
            line,
            work,
            mlp + S.layers * S.size * S.size,
            inner + (S.layers + 2) * S.size,
            drive,
            memories,
            fresh,
            first,
            tape,
            time,
            steps,
            batch,
            center,
            last,
            at,
            S,
            ACC,
        )
        if S.kept:
            note = stats + time * 4 * count + rows
            tl.store(note, mean, mask=live)
            tl.store(note + count, scale, mask=live)
            tl.store(note + 2 * count, factor, mask=live)
            tl.store(note + 3 * count, last, mask=live)
        time += 1


@triton.jit
def gate(
    line,
    work,
    matrix,
    norm,
    drive,
    memories,
    fresh,
    first,
    tape,
    time,
    steps,
    batch,
    mean,
    scale,
    at,
    S: tl.constexpr,
    ACC: tl.constexpr,
):
    """Normalize the candidate, gate it, and leave the new memory to the next step. `norm` points at gain and shift."""
    rows, sample, live, _, _, _ = at
    drive += (time * batch.to(tl.int64) + sample) * S.gates
    if S.gates == 2:
        entering, keeping = row_gates(line, matrix, drive, live, S, ACC)
        tl.store(line + S.tape_gates, entering[:, None].to(tape.dtype.element_ty), mask=live[:, None])
        tl.store(line + S.tape_gates + 1, keeping[:, None].to(tape.dtype.element_ty), mask=live[:, None])
    for start in range(0, S.size, S.chunk):
        columns = start + tl.arange(0, S.chunk)
        inside = live[:, None] & (columns < S.size)[None, :]
        values = (tl.load(work + columns[None, :], mask=inside, other=0.0) - mean[:, None]) * scale[:, None]
        tl.store(line + S.tape_candidate + columns[None, :], values.to(tape.dtype.element_ty), mask=inside)
        memory = values * part(norm, columns, S.size)[None, :] + part(norm + S.size, columns, S.size)[None, :]
        if S.gates > 0:
            memory = tanh(memory)
            past = recall(memories, fresh, first, time, batch, rows, sample, live, columns, S)
            if S.gates == 2:
                memory = entering[:, None] * memory + keeping[:, None] * past
            else:
                ahead = drive[:, None] + columns[None, :]
                squashed = line + S.tape_squashed
                entering = product(squashed, live, matrix, 1, S.size, columns, S.size, S.size, S, ACC)
                entering = sigmoid(entering + tl.load(ahead, mask=inside, other=0.0).to(ACC))
                right = matrix + S.size * S.size
                keeping = product(squashed, live, right, 1, S.size, columns, S.size, S.size, S, ACC)
                keeping = sigmoid(keeping + tl.load(ahead + S.size, mask=inside, other=0.0).to(ACC))
                gates = line + S.tape_gates + columns[None, :]
                tl.store(gates, entering.to(tape.dtype.element_ty), mask=inside)
                tl.store(gates + S.size, keeping.to(tape.dtype.element_ty), mask=inside)
                memory = entering * memory + keeping * past
        following = memories + ((time + 1) * (batch.to(tl.int64) * S.slots) + rows)[:, None] * S.size
        tl.store(following + columns[None, :], memory, mask=inside)
        remember(memory, tape, fresh, first, time + 1, steps, batch, rows, sample, live, columns, S)
