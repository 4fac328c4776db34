"""Offer: environments under ids of Gymnasium, as soon as somebody uses Gymnasium."""

from __future__ import annotations

import sys
from collections.abc import Iterable


def offer_environments(names: Iterable[str]) -> None:
    """Register environments with Gymnasium by the names of their parts, where a program has imported it; else do nothing.

    `mini_pacman` becomes `seqtoolkit/MiniPacman-v0`, for gymnasium.make and gymnasium.make_vec. A plugin calls it at the end of
    its package with what its hook `environments` returns, so that after `import gymnasium` importing the package is
    enough; `import seqtoolkit.gymnasium` does it for all that is installed. What is registered already stays as it is.
    """
    gymnasium = sys.modules.get("gymnasium")
    if gymnasium is None:
        return
    for name in names:
        known = f"seqtoolkit/{camel(name)}-v0"
        again = name == gymnasium.__name__  # the part that wraps Gymnasium's own
        if not again and known not in gymnasium.registry:
            places = {"entry_point": "seqtoolkit.gymnasium:World", "vector_entry_point": "seqtoolkit.gymnasium:Worlds"}
            gymnasium.register(known, **places, kwargs={"use": name})


def camel(name: str) -> str:
    """The name of a part as Gymnasium's ids spell it: `mini_pacman` is MiniPacman."""
    return "".join(word[:1].upper() + word[1:] for word in name.replace("-", "_").split("_"))
