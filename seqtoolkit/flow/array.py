"""Arrays: numpy, or torch on a device, under one set of names, so that rules are written once and computed by either."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from seqtoolkit.flow.counter import counter_bits, counter_tensor

Array = Any
"""A numpy array or a torch tensor; both take operators, slices, masks, index arrays, and `sum`, `any`, `all`, `reshape`."""


class Arrays:
    """What makes and changes arrays: numpy where `device` is None, else torch there. Both give the same numbers.

    `space` is the module itself, for what both spell alike: where, minimum, abs, sign, cumsum(x, axis=1), argmax(x, axis=1),
    concatenate, stack.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device
        self.space: Any = np if device is None else torch

    def array(self, values: Any, dtype: str | None = None) -> Array:
        """Values as an array here: a copy. dtype by its name: bool, uint8, int16, int32, int64, float32."""
        if self.device is None:
            values = values.cpu().numpy() if isinstance(values, torch.Tensor) else values
            return np.array(values, None if dtype is None else np.dtype(dtype))
        made = torch.as_tensor(np.array(values) if not isinstance(values, torch.Tensor) else values)
        return made.to(self.device, None if dtype is None else getattr(torch, dtype), copy=True)

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Zeros, or False."""
        return self.full(shape, 0, dtype)

    def full(self, shape: tuple[int, ...], value: float, dtype: str) -> Array:
        """One value everywhere."""
        if self.device is None:
            return np.full(shape, value, np.dtype(dtype))
        return torch.full(shape, value, dtype=getattr(torch, dtype), device=self.device)

    def arange(self, stop: int, dtype: str = "int64") -> Array:
        """0 to stop - 1."""
        if self.device is None:
            return np.arange(stop, dtype=np.dtype(dtype))
        return torch.arange(stop, dtype=getattr(torch, dtype), device=self.device)

    def cast(self, array: Array, dtype: str) -> Array:
        """The same values in another dtype."""
        return array.astype(np.dtype(dtype)) if self.device is None else array.to(getattr(torch, dtype))

    def gather(self, array: Array, indexes: Array, axis: int) -> Array:
        """np.take_along_axis; indexes int64."""
        if self.device is None:
            return np.take_along_axis(array, indexes, axis)
        return torch.take_along_dim(array, indexes, axis)

    def rows(self, mask: Array) -> Array:
        """Where a mask [n] is true: int64 indexes, in order. A GPU is waited for."""
        return np.flatnonzero(mask) if self.device is None else mask.nonzero().squeeze(1)

    def bits(self, seed: int, split: str, indexes: Array, words: int, stream: int = 0) -> Array:
        """Random numbers that depend on nothing but (seed, split, index, stream): int64 [n words], 0 to 2^62 - 1.

        `indexes` [n], int64, of an array here.
        """
        if self.device is None:
            return (counter_bits(seed, split, indexes, words, stream) >> np.uint64(2)).astype(np.int64)
        return (counter_tensor(seed, split, indexes, words, stream, self.device) >> 2) & (2**62 - 1)

    def tensor(self, array: Array) -> torch.Tensor:
        """An array as a tensor, of the same memory where that can be."""
        return torch.from_numpy(np.ascontiguousarray(array)) if self.device is None else array

    def numpy(self, array: Array) -> np.ndarray:
        """An array as numpy has it."""
        return array if self.device is None else array.cpu().numpy()
