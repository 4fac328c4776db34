"""Program evaluation: small programs of two languages, their answers, and curricula over them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seqtoolkit.sdk import hookimpl

if TYPE_CHECKING:
    from seqtoolkit_program_eval.grammar import Grammar, GrammarError, ProgramError
    from seqtoolkit_program_eval.interpreter import evaluate
    from seqtoolkit_program_eval.source import ProgramEval

_HOMES = {
    "Grammar": "seqtoolkit_program_eval.grammar",
    "GrammarError": "seqtoolkit_program_eval.grammar",
    "ProgramError": "seqtoolkit_program_eval.grammar",
    "evaluate": "seqtoolkit_program_eval.interpreter",
    "ProgramEval": "seqtoolkit_program_eval.source",
}

__all__ = ["Grammar", "GrammarError", "ProgramError", "ProgramEval", "evaluate"]


def __getattr__(name: str) -> Any:
    """Import a name from its home on first use: naming the plugin costs no import of torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


@hookimpl
def sources() -> dict[str, str]:
    """The stream of programs."""
    return {"program_eval": "seqtoolkit_program_eval.source:ProgramEval"}


@hookimpl
def grammars() -> str:
    """The two languages."""
    return "seqtoolkit_program_eval:grammars"


@hookimpl
def pipelines() -> str:
    """The experiments."""
    return "seqtoolkit_program_eval:pipelines"
