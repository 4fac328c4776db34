"""Clock: runs timed side by side, in turn, warm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter, process_time
from typing import Any

import torch

Run = Callable[[], Any]
WARM = 2
"""Rounds that are not counted: a first one faults pages in, builds kernels and plans."""


def interleaved(runs: Sequence[Run], repeats: int) -> list[list[float]]:
    """Seconds of each run at each repeat; the runs take turns, so that what disturbs the machine disturbs all alike.

    On one thread of a CPU it is the time that the process itself computed; with more threads, or a GPU, which is
    waited for, the time that passed.
    """
    waits = torch.cuda.is_available() and torch.cuda.is_initialized()
    clock = perf_counter if waits or torch.get_num_threads() > 1 else process_time
    times: list[list[float]] = [[] for _ in runs]
    for repeat in range(WARM + repeats):
        for run, kept in zip(runs, times, strict=True):
            if waits:
                torch.cuda.synchronize()
            begun = clock()
            run()
            if waits:
                torch.cuda.synchronize()
            if repeat >= WARM:
                kept.append(clock() - begun)
    return times
