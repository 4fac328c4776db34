"""Banks of memory cells: that of Santoro et al. 2018, and the recurrent entity network (Henaff et al. 2017)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seqtoolkit.sdk import hookimpl

if TYPE_CHECKING:
    from seqtoolkit_entnet.core import EntNet

__all__ = ["EntNet"]


@hookimpl
def cores() -> dict[str, str]:
    """The core that this plugin brings."""
    return {"entnet": "seqtoolkit_entnet.core:EntNet"}


def __getattr__(name: str) -> Any:
    """Import the core on first use, so that naming the plugin costs no import of torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("seqtoolkit_entnet.core"), name)
