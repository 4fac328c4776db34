"""Watcher: who follows a computation operation by operation, and so cannot follow a function that is one."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad


def watched() -> str | None:
    """Why a backend with a backward pass of its own cannot be used right now, as a clause; None if it can."""
    watchers = {
        "torch.compile": torch.compiler.is_compiling,
        "torch.jit.trace": torch.jit.is_tracing,
        "torch.func": lambda: torch._C._functorch.peek_interpreter_stack() is not None,  # noqa: SLF001  nothing public says so
        "forward-mode differentiation": lambda: forward_ad._current_level >= 0,  # noqa: SLF001  nor this
    }
    return next((f"cannot be used under {name}" for name, watches in watchers.items() if watches()), None)
