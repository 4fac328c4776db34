"""Language modelling: any text as one contiguous stream of tokens."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seqtoolkit.sdk import hookimpl

if TYPE_CHECKING:
    from seqtoolkit_language.metric import BitsPerCharacter, FrequencyPerplexity
    from seqtoolkit_language.ngram import Trigram
    from seqtoolkit_language.source import Text

_HOMES = {
    "BitsPerCharacter": "seqtoolkit_language.metric",
    "FrequencyPerplexity": "seqtoolkit_language.metric",
    "Text": "seqtoolkit_language.source",
    "Trigram": "seqtoolkit_language.ngram",
}

__all__ = ["BitsPerCharacter", "FrequencyPerplexity", "Text", "Trigram"]


def __getattr__(name: str) -> Any:
    """Import a name from its home on first use: naming the plugin costs no import of torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


@hookimpl
def sources() -> dict[str, str]:
    """The stream of text."""
    return {"text": "seqtoolkit_language.source:Text"}


@hookimpl
def metrics() -> dict[str, str]:
    """What is known of text."""
    return {
        "bits_per_character": "seqtoolkit_language.metric:BitsPerCharacter",
        "frequency_perplexity": "seqtoolkit_language.metric:FrequencyPerplexity",
    }


@hookimpl
def pipelines() -> str:
    """The experiments."""
    return "seqtoolkit_language:pipelines"
