"""Counter: random bits that are a pure function of where they are wanted, on any device."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

Split = Literal["train", "valid", "test"]
SPLITS: tuple[str, ...] = ("train", "valid", "test")
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def counter_bits(seed: int, split: str, indexes: np.ndarray, words: int, stream: int = 0) -> np.ndarray:
    """Random bits that depend on nothing but (seed, split, index, stream): uint64 [len(indexes), words].

    The numbers of SplitMix64 (Steele, Lea & Flood 2014) at each example's own place in a sequence keyed by the rest.
    """
    start = _mix(_key(seed, split, stream) ^ _mix(indexes.astype(np.uint64) * _GOLDEN + _GOLDEN))
    return _mix(start[:, None] + np.arange(1, words + 1, dtype=np.uint64) * _GOLDEN)


def counter_tensor(
    seed: int,
    split: str,
    indexes: np.ndarray | Tensor,
    words: int,
    stream: int = 0,
    device: torch.device | str = "cpu",
    room: Tensor | None = None,
) -> Tensor:
    """The bits of `counter_bits` as a tensor made on `device`: int64 [len(indexes), words].

    Nothing is copied to the device where the indexes follow one another, as those of a stream do, or are there already. `room`, int64
    [2, len(indexes), words], is memory to work in, of which the bits are the first half: on a CPU fresh memory for each block
    can cost more than what is computed in it.
    """
    if isinstance(indexes, Tensor):
        counters = indexes.to(device, torch.int64) + 1
    elif len(indexes) and (np.diff(indexes) == 1).all():
        counters = torch.arange(int(indexes[0]) + 1, int(indexes[-1]) + 2, device=device)
    else:
        counters = torch.from_numpy(indexes.astype(np.int64) + 1).to(device)
    golden, key = _signed(_GOLDEN), _signed(_key(seed, split, stream)[0])
    room_for_start = torch.empty_like(counters)
    start = _mix_tensor(_mix_tensor(counters * golden, room_for_start) ^ key, room_for_start)
    if room is None:
        room = torch.empty(2, len(indexes), words, dtype=torch.int64, device=device)
    torch.add(start[:, None], torch.arange(1, words + 1, device=device) * golden, out=room[0])
    return _mix_tensor(room[0], room[1])


def _key(seed: int, split: str, stream: int) -> np.ndarray:
    key = np.zeros(1, np.uint64)
    for part in (seed, SPLITS.index(split), stream):
        key = _mix(key + np.uint64(part % 2**64) + _GOLDEN)
    return key


def _mix(bits: np.ndarray) -> np.ndarray:
    for shift, factor in zip((30, 27), _FACTORS, strict=True):
        bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
    return bits ^ (bits >> np.uint64(31))


def _mix_tensor(bits: Tensor, shifted: Tensor) -> Tensor:
    """`_mix` in place, in int64: torch cannot shift uint64, so the signs that a shift brings in are cut off."""
    for shift, factor in zip((30, 27, 31), (*_FACTORS, 1), strict=True):
        torch.bitwise_right_shift(bits, shift, out=shifted)
        bits.bitwise_xor_(shifted.bitwise_and_(2 ** (64 - shift) - 1))
        if factor != 1:
            bits.mul_(_signed(factor))
    return bits


def _signed(bits: int | np.uint64) -> int:
    return int(np.uint64(bits).astype(np.int64))
