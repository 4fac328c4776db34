"""The relational memory core (Santoro et al. 2018), published as Sonnet 1.36's RelationalMemory."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seqtoolkit.sdk import hookimpl

if TYPE_CHECKING:
    from seqtoolkit_rmc.core import RelationalMemory
    from seqtoolkit_rmc.sonnet import from_sonnet

__all__ = ["RelationalMemory", "from_sonnet"]
_HOMES = {"RelationalMemory": "seqtoolkit_rmc.core", "from_sonnet": "seqtoolkit_rmc.sonnet"}


@hookimpl
def cores() -> dict[str, str]:
    """The core that this plugin brings."""
    return {"rmc": "seqtoolkit_rmc.core:RelationalMemory"}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that naming the plugin costs no import of torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
