"""A trained model for others: exported as an MLflow model that needs no pickle, served, and registered."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqtoolkit.export.package import export
    from seqtoolkit.export.registration import register

_WHERE = {"export": "seqtoolkit.export.package", "register": "seqtoolkit.export.registration"}

__all__ = ["export", "register"]


def __getattr__(name: str) -> Any:
    """Import a name from its home on first use: a server needs nothing of what exports."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
