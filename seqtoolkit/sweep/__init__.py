"""A sweep: many runs of one pipeline, over a grid of settings or by a search of Optuna's."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqtoolkit.sweep.row import Row
    from seqtoolkit.sweep.sweep import Sweep

_WHERE = {"Row": "seqtoolkit.sweep.row", "Sweep": "seqtoolkit.sweep.sweep"}

__all__ = ["Row", "Sweep"]


def __getattr__(name: str) -> Any:
    """Import a name from its home on first use: a trial's process needs no sweep."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
