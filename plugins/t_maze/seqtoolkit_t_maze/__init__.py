"""The T-maze: a sign, a corridor, and a junction at which the sign has to be remembered."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seqtoolkit.sdk import hookimpl, offer_environments

if TYPE_CHECKING:
    from seqtoolkit_t_maze.environment import TMaze

_HOMES = {"TMaze": "seqtoolkit_t_maze.environment"}

__all__ = ["TMaze"]


def __getattr__(name: str) -> Any:
    """Import a name from its home on first use: naming the plugin costs no import of torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


@hookimpl
def environments() -> dict[str, str]:
    """The maze."""
    return {"t_maze": "seqtoolkit_t_maze.environment:TMaze"}


@hookimpl
def pipelines() -> str:
    """The experiments."""
    return "seqtoolkit_t_maze:pipelines"


offer_environments(environments())
