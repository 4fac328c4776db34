"""The LSTM of PyTorch as a core, with restarts inside a sequence."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seqtoolkit.sdk import hookimpl

if TYPE_CHECKING:
    from seqtoolkit_lstm.core import LSTM

__all__ = ["LSTM"]


@hookimpl
def cores() -> dict[str, str]:
    """The core that this plugin brings."""
    return {"lstm": "seqtoolkit_lstm.core:LSTM"}


def __getattr__(name: str) -> Any:
    """Import the core on first use, so that naming the plugin costs no import of torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("seqtoolkit_lstm.core"), name)
