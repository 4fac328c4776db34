"""The convolutional LSTM as a core: a memory of maps that reads maps."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seqtoolkit.sdk import hookimpl

if TYPE_CHECKING:
    from seqtoolkit_conv_lstm.core import ConvLSTM

__all__ = ["ConvLSTM"]


@hookimpl
def cores() -> dict[str, str]:
    """The core that this plugin brings."""
    return {"conv_lstm": "seqtoolkit_conv_lstm.core:ConvLSTM"}


def __getattr__(name: str) -> Any:
    """Import the core on first use, so that naming the plugin costs no import of torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("seqtoolkit_conv_lstm.core"), name)
