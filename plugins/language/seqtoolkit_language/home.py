"""Home: the folder in which caches are kept: next to the data where that can be written, else the user's own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from seqtoolkit_language.corpus import File

NAME = ".seqtoolkit"


def home(files: Sequence[File], cache: str | None) -> Path:
    """The folder `cache` where that is given; else `.seqtoolkit` beside the first file, unless that belongs to a package."""
    if cache is not None:
        return Path(cache).expanduser()
    first = Path(files[0].path)
    folder = first.parent
    if first.is_file() and "site-packages" not in first.parts and os.access(folder, os.W_OK):
        return folder / NAME
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "seqtoolkit" / "language"
