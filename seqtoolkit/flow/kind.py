"""Kind: marks a constructor's parameter as a part of its own, named by `use:` in a pipeline."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """`Annotated[Callable[..., Optimizer], Kind("optimizer")]`: what arrives is the part's factory, its parameters bound.

    The receiver calls it with what only it knows (an optimizer's parameters, a source's seed and split).
    """

    name: str
