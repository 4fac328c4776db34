"""Mini Pacman: a maze of food, pills and ghosts, seen whole or through a window."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seqtoolkit.sdk import hookimpl, offer_environments

if TYPE_CHECKING:
    from seqtoolkit_mini_pacman.environment import MiniPacman

_HOMES = {"MiniPacman": "seqtoolkit_mini_pacman.environment"}

__all__ = ["MiniPacman"]


def __getattr__(name: str) -> Any:
    """Import a name from its home on first use: naming the plugin costs no import of numpy."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


@hookimpl
def environments() -> dict[str, str]:
    """The mazes."""
    return {"mini_pacman": "seqtoolkit_mini_pacman.environment:MiniPacman"}


@hookimpl
def pipelines() -> str:
    """The experiments."""
    return "seqtoolkit_mini_pacman:pipelines"


offer_environments(environments())
