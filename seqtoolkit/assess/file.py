"""File: an assessment kept with its run: in the run's folder and, from there, in its tracking store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from seqtoolkit.assess.assessment import Assessment
from seqtoolkit.assess.picture import draw
from seqtoolkit.train.tracking import attach
from seqtoolkit.trained import Trained

FOLDER = "evaluations"
_LONGEST = 80


class Kept(NamedTuple):
    """Where an assessment is kept."""

    paths: list[Path]
    """The numbers (.json), and the picture (.png) where there are one or two axes; the table (.csv) in a folder of one's own."""
    unstored: str | None
    """Why the tracking store of the run does not have it; None where it has."""


def keep(found: Assessment, trained: Trained, to: Path | None = None) -> Kept:
    """Write an assessment into the run's folder, as `evaluations/NAME.json` with its picture, and into its tracking store.

    NAME is of the checkpoint, the split and the settings: the same evaluation again takes the place of the last. With
    `to` all of it, and a .csv, is written into that folder too, which is made where it is not there.

    Raises ValueError where a file cannot be written.
    """
    own = _write(found, trained.place.path / FOLDER)
    reasons = [attach(trained.place.path, path, FOLDER) for path in own]
    paths = own if to is None else _write(found, to, table=True)
    return Kept(paths, next(filter(None, reasons), None))


def _write(found: Assessment, folder: Path, *, table: bool = False) -> list[Path]:
    path = folder / f"{_name(found)}.json"
    paths = [path]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(path, found.json())
        if table:
            paths.append(path.with_suffix(".csv"))
            _replace(paths[-1], found.csv())
        if drawn := draw(found, path.with_suffix(".png")):
            paths.append(drawn)
    except OSError as error:
        raise ValueError(f"{error.filename or path} cannot be written: {error.strerror or error}") from None
    return paths


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _name(found: Assessment) -> str:
    """A file's name for the checkpoint and the settings, short, and another for others."""
    settings = "-".join(each.removeprefix("evaluate.").removeprefix(f"{found.kind}.") for each in found.settings)
    word = re.sub(r"[^\w.,=-]+", "_", settings)[:_LONGEST]
    mark = "" if word == settings else f"-{crc32(settings.encode()):08x}"
    return "-".join(filter(None, (f"step_{found.step:08d}", word or found.split))) + mark
