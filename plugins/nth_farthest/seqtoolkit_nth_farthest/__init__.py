"""Nth farthest: which of a sequence of vectors is the n-th farthest from one of them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seqtoolkit.sdk import hookimpl

if TYPE_CHECKING:
    from seqtoolkit_nth_farthest.source import NthFarthest

_HOMES = {"NthFarthest": "seqtoolkit_nth_farthest.source"}

__all__ = ["NthFarthest"]


def __getattr__(name: str) -> Any:
    """Import a name from its home on first use: naming the plugin costs no import of torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


@hookimpl
def sources() -> dict[str, str]:
    """The stream of vectors and questions."""
    return {"nth_farthest": "seqtoolkit_nth_farthest.source:NthFarthest"}


@hookimpl
def pipelines() -> str:
    """The experiments."""
    return "seqtoolkit_nth_farthest:pipelines"
