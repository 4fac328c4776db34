"""seqtoolkit: sequence-modelling experiments with pluggable memory cores and tasks, described as a flow of data."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqtoolkit.experiment import Result
    from seqtoolkit.host.config import ConfigError
    from seqtoolkit.run import Pipeline
    from seqtoolkit.sdk import Core, Source, hookimpl
    from seqtoolkit.trained import Trained, load_model

_WHERE = {
    "ConfigError": "seqtoolkit.host.config",
    "Core": "seqtoolkit.sdk",
    "Pipeline": "seqtoolkit.run",
    "Result": "seqtoolkit.experiment",
    "Source": "seqtoolkit.sdk",
    "Trained": "seqtoolkit.trained",
    "hookimpl": "seqtoolkit.sdk",
    "load_model": "seqtoolkit.trained",
}

__all__ = ["ConfigError", "Core", "Pipeline", "Result", "Source", "Trained", "hookimpl", "load_model"]


def __getattr__(name: str) -> Any:
    """Import a name from its home on first use: importing the package costs milliseconds."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
