"""The LSTM and the GRU of PyTorch as cores, with restarts inside a sequence."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seqtoolkit.sdk import hookimpl

if TYPE_CHECKING:
    from seqtoolkit_lstm.core import GRU, LSTM

__all__ = ["GRU", "LSTM"]


@hookimpl
def cores() -> dict[str, str]:
    """The cores that this plugin brings."""
    return {"gru": "seqtoolkit_lstm.core:GRU", "lstm": "seqtoolkit_lstm.core:LSTM"}


def __getattr__(name: str) -> Any:
    """Import the core on first use, so that naming the plugin costs no import of torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("seqtoolkit_lstm.core"), name)
