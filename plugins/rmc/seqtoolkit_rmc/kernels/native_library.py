"""The C++ kernel as Python sees it: what it is called with, where its library comes from, and the BLAS that it uses."""

from __future__ import annotations

import contextlib
import ctypes
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from seqtoolkit_rmc.kernels.build import BuildError, load

SOURCES = Path(__file__).with_name("native_cpp")
NAMES = {torch.float32: ("float", "sgemm_"), torch.float64: ("double", "dgemm_")}
"""The kernel's name of a dtype, and the BLAS routine."""
VECTORS = ("qkv_bias", "qkv_gain", "qkv_shift", "attention_gain", "attention_shift", "mlp_gain", "mlp_shift")
SIZES = ("T", "B", "N", "n", "heads", "K", "V", "G", "layers", "threads", "keeps", "wants_memory", "wants_weights")
POINTERS = (
    *("gemm", "blas_threads", "qkv_weight", "gate_weight", "mlp_weight", *VECTORS, "mlp_bias"),
    *("arriving", "drive", "memory", "fresh", "first", "memories", "kept", "scratch"),
    *("d_memories", "d_arriving", "d_drive", "d_memory", "d_weights"),
)


class Call(ctypes.Structure):
    """What the kernel is called with; native_cpp/call.h says what each field means."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in SIZES),
        ("d_strides", ctypes.c_int64 * 4),
        *((name, ctypes.c_void_p) for name in POINTERS),
    )


class Room(NamedTuple):
    """How many numbers a call needs."""

    kept: int
    """By backward, of each step."""
    forward: int
    """To work in, for each thread."""
    backward: int
    weights: int
    """For the gradients of all weights, for each thread."""


class Library:
    """The compiled kernel, and the BLAS it is to use. Raises BuildError if there is no such thing."""

    def __init__(self) -> None:
        built = load(SOURCES, "native.cpp")
        if isinstance(built, BuildError):
            raise built
        self._built = built
        torch_library = ctypes.CDLL(torch._C.__file__)  # noqa: SLF001  the way to whatever torch is linked with
        try:
            self.gemm = {dtype: _pointer(torch_library, gemm) for dtype, (_, gemm) in NAMES.items()}
        except AttributeError:
            raise BuildError("wants a BLAS in torch's libraries, found none") from None
        with contextlib.suppress(AttributeError):
            self.blas_threads = _pointer(torch_library, "MKL_Set_Num_Threads_Local")

    blas_threads: int | None = None

    def run(self, way: str, call: Call, dtype: torch.dtype) -> None:
        """One pass, 'forward' or 'backward'; other Python threads run meanwhile."""
        getattr(self._built, f"rmc_{way}_{NAMES[dtype][0]}")(ctypes.byref(call))

    def room(self, call: Call, dtype: torch.dtype) -> Room:
        """What a call needs."""
        sizes = (ctypes.c_int64 * len(Room._fields))()
        getattr(self._built, f"rmc_measure_{NAMES[dtype][0]}")(ctypes.byref(call), sizes)
        return Room(*sizes)


@cache
def library() -> Library:
    """The one of this process."""
    return Library()


def _pointer(library: ctypes.CDLL, name: str) -> int:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
