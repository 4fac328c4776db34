"""Backend: which of the ways to unroll computes a sequence. All have the signature of `reference.unroll`, and its numbers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Literal, get_args

import torch
from torch import Tensor

from seqtoolkit_rmc import reference
from seqtoolkit_rmc.reference import Parameters, Settings

Backend = Literal["auto", "reference", "fused", "native", "triton"]
Unroll = Callable[[Parameters, Settings, Tensor, Tensor, Tensor, Tensor | None], Tensor]
FASTEST = {"cuda": ("triton", "fused"), "cpu": ("native", "fused"), "meta": ()}
"""What `auto` tries on a device, in this order; the reference in the end, and at once under autocast on a CPU.

There the products are so fast that autograd's own steps are the faster ones; `fused` keeps half as much.
"""

log = logging.getLogger("seqtoolkit").getChild("rmc")


def check(backend: str) -> None:
    """Raise ValueError where there is no backend of that name."""
    if backend not in get_args(Backend):
        raise ValueError(f"backend: wanted one of {', '.join(get_args(Backend))}, got {backend!r}")


def choose(backend: str, parameters: Parameters, settings: Settings, inputs: Tensor) -> Unroll:
    """What unrolls these inputs. `auto` logs its choice, once for each reason.

    Raises:
        ValueError: the backend asked for cannot compute them, and why.
    """
    if backend == "reference" or (backend == "auto" and torch.compiler.is_compiling()):
        return reference.unroll  # a compiler sees operations only; the search and the log would break its graph
    if backend != "auto":
        reason = missing(backend, parameters, settings, inputs)
        if reason is not None:
            raise ValueError(f"backend: {backend} {reason}; take backend: auto")
        return _unroll(backend)
    device, reasons = inputs.device.type, list[str]()
    if device == "cpu" and torch.is_autocast_enabled(device):
        _tell("reference", device, "the fastest under autocast")
        return reference.unroll
    for name in FASTEST.get(device, ("fused",)):
        reason = missing(name, parameters, settings, inputs)
        if reason is None:
            _tell(name, device, "; ".join(reasons))
            return _unroll(name)
        reasons.append(f"{name} {reason}")
    _tell("reference", device, "; ".join(reasons))
    return reference.unroll


def missing(name: str, parameters: Parameters, settings: Settings, inputs: Tensor) -> str | None:
    """Why a backend cannot compute these, as a clause; None where it can."""
    return import_module(f"seqtoolkit_rmc.kernels.{name}").missing(parameters, settings, inputs)


def _unroll(name: str) -> Unroll:
    return import_module(f"seqtoolkit_rmc.kernels.{name}").unroll


@cache
def _tell(name: str, device: str, reasons: str) -> None:
    log.info("rmc on %s: backend %s%s", device, name, f" ({reasons})" if reasons else "")
