"""The differentiable neural computer (Graves et al. 2016), published as deepmind/dnc."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seqtoolkit.sdk import hookimpl

if TYPE_CHECKING:
    from seqtoolkit_dnc.core import DNC
    from seqtoolkit_dnc.deepmind import from_deepmind

__all__ = ["DNC", "from_deepmind"]
_HOMES = {"DNC": "seqtoolkit_dnc.core", "from_deepmind": "seqtoolkit_dnc.deepmind"}


@hookimpl
def cores() -> dict[str, str]:
    """The core that this plugin brings."""
    return {"dnc": "seqtoolkit_dnc.core:DNC"}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that naming the plugin costs no import of torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
