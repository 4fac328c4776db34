"""View: the observations of a space of Gymnasium as arrays of one shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from seqtoolkit.sdk import Spec

UNREAL = "wanted finite numbers as observation, got NaN or infinity"


class MisfitError(ValueError):
    """What an environment has given is not what its spaces promise; the message says both."""


@dataclass(frozen=True)
class View:
    """How observations are seen: `spec` of all worlds, and `read`, which makes an array of one, or raises MisfitError."""

    spec: Spec
    shape: tuple[int, ...]
    dtype: type[np.generic]
    read: Callable[[Any], Any]


def view(space: Space[Any]) -> View:
    """Numbers of rank 1 as f32, uint8 pictures as u8 [Y X C] (channels last; of rank 2 they have one), Discrete as an id.

    All else that Gymnasium can flatten is flattened to f32. Raises ValueError where it cannot.
    """
    if isinstance(space, spaces.Discrete):
        count, start = int(space.n), int(space.start)
        return View(Spec.parse(f"i64<{count}>[B]"), (), np.int64, lambda given: _id(given, start, count))
    if isinstance(space, spaces.Box):
        shape = space.shape
        if space.dtype == np.uint8 and len(shape) in (2, 3):
            seen = shape if len(shape) == 3 else (*shape, 1)
            axes = " ".join(map(str, seen))
            return View(Spec.parse(f"u8[B {axes}]"), seen, np.uint8, lambda given: _picture(given, shape, seen))
        count = int(np.prod(shape))
        return View(Spec.parse(f"f32[B {count}]"), (count,), np.float32, lambda given: _numbers(given, shape))
    if not space.is_np_flattenable or isinstance(space, spaces.Text):
        raise ValueError(f"observations: wanted a space that can be flattened to numbers, got {space}")
    count = spaces.flatdim(space)
    return View(Spec.parse(f"f32[B {count}]"), (count,), np.float32, lambda given: _flat(given, space, count))


def _id(given: Any, start: int, count: int) -> int:
    if np.ndim(given) or not (isinstance(given, int | np.integer) or np.asarray(given).dtype.kind in "iu"):
        raise MisfitError(f"wanted an integer as observation, got {_shown(given)}")
    if not start <= given < start + count:
        raise MisfitError(f"wanted an observation from {start} to {start + count - 1}, got {given}")
    return int(given) - start


def _picture(given: Any, shape: tuple[int, ...], seen: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(given)
    if array.shape != shape or array.dtype != np.uint8:
        raise MisfitError(f"wanted an observation of uint8 and shape {shape}, got {_shown(given)}")
    return array.reshape(seen)


def _numbers(given: Any, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.asarray(given, np.float32)
    except (TypeError, ValueError):
        raise MisfitError(f"wanted an observation of numbers, got {_shown(given)}") from None
    if array.shape != shape:
        raise MisfitError(f"wanted an observation of shape {shape}, got {_shown(given)}")
    return array if len(shape) == 1 else array.reshape(-1)


def _flat(given: Any, space: Space[Any], count: int) -> np.ndarray:
    try:
        array = np.asarray(spaces.flatten(space, given), np.float32)
    except Exception as error:
        raise MisfitError(f"wanted an observation of {space}, got {_shown(given)}") from error
    if array.shape != (count,):
        raise MisfitError(f"wanted an observation of {count} numbers, got {_shown(given)}")
    return array


def _shown(given: Any) -> str:
    if isinstance(given, np.ndarray):
        return f"{given.dtype} of shape {given.shape}"
    text = " ".join(repr(given).split())
    return f"{type(given).__name__} {text if len(text) <= 80 else f'{text[:80]}...'}"
