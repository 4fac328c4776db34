"""BoxWorld: keys open locks, a key in one box opens the next, and one holds the gem."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seqtoolkit.sdk import hookimpl, offer_environments

if TYPE_CHECKING:
    from seqtoolkit_box_world.environment import BoxWorld

_HOMES = {"BoxWorld": "seqtoolkit_box_world.environment"}

__all__ = ["BoxWorld"]


def __getattr__(name: str) -> Any:
    """Import a name from its home on first use: naming the plugin costs no import of torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


@hookimpl
def environments() -> dict[str, str]:
    """The worlds of keys and boxes."""
    return {"box_world": "seqtoolkit_box_world.environment:BoxWorld"}


@hookimpl
def pipelines() -> str:
    """The experiments."""
    return "seqtoolkit_box_world:pipelines"


offer_environments(environments())
