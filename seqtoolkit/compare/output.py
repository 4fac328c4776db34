"""Output: the files of a comparison, and their way into the tracking store."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from seqtoolkit.compare.comparison import Comparison
from seqtoolkit.compare.page import page
from seqtoolkit.compare.picture import draw
from seqtoolkit.compare.selection import Selection
from seqtoolkit.compare.table import comma, curves, dumps, markdown
from seqtoolkit.train.tracking import attach
from seqtoolkit.train.tracking.library import LibraryError

PAGE, ARTIFACTS = "comparison.html", "compare"


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write all files of a comparison, the page first. Raises ValueError where they cannot be written."""
    texts = {
        PAGE: page(comparison),
        "comparison.md": markdown(comparison),
        "comparison.csv": comma(comparison),
        "comparison.json": dumps(comparison),
        "curves.csv": curves(comparison),
    }
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            paths.append(folder / name)
            paths[-1].write_text(text, encoding="utf-8")
        for metric in comparison.metrics:
            if metric.curves:
                paths.append(folder / f"{plain_name(metric.name)}.png")
                draw(comparison, metric, paths[-1])
    except OSError as error:
        raise ValueError(f"{error.filename or folder} cannot be written: {error.strerror or error}") from None
    return paths


def plain_name(name: str) -> str:
    """A name that a file can have."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "all"


def publish(selection: Selection, paths: Sequence[Path]) -> str | None:
    """Log files among the artifacts of the parent run; why the store does not have them, or None where it has."""
    library, parent, place = selection.library, selection.parent, selection.place
    with TemporaryDirectory() as draft:
        whole = Path(draft) / ARTIFACTS
        whole.mkdir()
        for path in paths:
            shutil.copy(path, whole)
        if place is not None and selection.own:
            return attach(place, whole)
        if library is None or parent is None:
            return "the runs have no parent run in a tracking store"
        try:
            library.log_artifact(parent, whole)
        except LibraryError as error:
            return str(error)
    return None
