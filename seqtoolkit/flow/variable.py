"""Variables of published implementations, by name: what a core reads when it takes over somebody else's weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np


def read_variables(arrays: Mapping[str, Any], names: str, example: str) -> dict[str, np.ndarray]:
    """The arrays of one core by their names inside its scope: `dnc/lstm/w_gates:0` as `lstm/w_gates`.

    Args:
        arrays: variables by name, under any one scope or none and with or without `:0`.
        names: a regular expression of the core's names.
        example: one of them, for people.

    Raises:
        ValueError: a name that is not the core's or comes twice, several scopes, or what is no array of floats.
    """
    variable = re.compile(rf"(?:(?P<scope>.+?)/)??(?P<name>{names})(?::0)?")
    found: dict[str, np.ndarray] = {}
    scopes: dict[str, str] = {}
    for full, value in arrays.items():
        match = variable.fullmatch(str(full))
        if match is None:
            raise ValueError(f"{full!r} is no variable of the published core; wanted names like {example!r}")
        name, scope = match["name"], match["scope"] or ""
        if name in found:
            raise ValueError(f"{full!r} is given twice: wanted the variables of one core")
        found[name] = _floats(full, value)
        scopes[scope] = full
    if len(scopes) > 1:
        raise ValueError(f"wanted the variables of one core, got several scopes: {', '.join(scopes.values())}")
    return found


def require_shapes(found: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError for the first variable that has another shape than is wanted of it."""
    for name, shape in wanted.items():
        if found[name].shape != shape:
            raise ValueError(f"{name}: wanted the shape {shape}, got {found[name].shape}")


def _floats(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name!r}: wanted an array of floats: {error}") from None
    if array.dtype.kind != "f" or not array.size:
        raise ValueError(f"{name!r}: wanted an array of floats, got {array.dtype} of the shape {array.shape}")
    return array
