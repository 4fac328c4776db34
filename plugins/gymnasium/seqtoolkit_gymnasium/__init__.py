"""Gymnasium: any of its environments as a task, by its id."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seqtoolkit.sdk import hookimpl

if TYPE_CHECKING:
    from seqtoolkit_gymnasium.environment import GymnasiumWorlds

_HOMES = {"GymnasiumWorlds": "seqtoolkit_gymnasium.environment"}

__all__ = ["GymnasiumWorlds"]


def __getattr__(name: str) -> Any:
    """Import a name from its home on first use: naming the plugin imports neither torch nor gymnasium."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


@hookimpl
def environments() -> dict[str, str]:
    """Worlds of any environment of Gymnasium."""
    return {"gymnasium": "seqtoolkit_gymnasium.environment:GymnasiumWorlds"}


@hookimpl
def pipelines() -> str:
    """The experiments."""
    return "seqtoolkit_gymnasium:pipelines"
