"""Finds the files of a corpus: files, folders, globs, `package:` and `datasets:` places."""

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from seqtoolkit_language import dataset
from seqtoolkit_language.reading import CorpusError, File
from seqtoolkit_language.stream import plain_name

PACKAGE = "package:"


def find(places: str | Sequence[str]) -> list[File]:
    """Find the files at one place or several, sorted by path and without doubles.

    A place is a file; a folder (all that is in it, hidden files and folders left out); a glob (`**` too);
    `package:NAME`, the .txt and .md files that an installed distribution carries; or a `datasets:` place.

    Raises:
        CorpusError: if a place gives no file, or one that cannot be read.
    """
    listed = [places] if isinstance(places, str) else list(places)
    if not listed or not all(listed):
        raise CorpusError("no place of a corpus is given; name files, folders, globs or package:NAME")
    found: dict[str, File] = {}
    for place in listed:
        if place.startswith(dataset.PREFIX):
            found.setdefault(place, dataset.find(place))
        else:
            for path in _package(place) if place.startswith(PACKAGE) else _paths(place):
                found.setdefault(os.path.realpath(path), _file(path))
    return sorted(found.values(), key=lambda file: file.path)


def _file(path: str) -> File:
    try:
        status = Path(path).stat()
    except OSError as error:
        raise CorpusError(f"{path}: the file cannot be read: {error.strerror or error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise CorpusError(f"{path}: this is neither a file nor a folder")
    return File(path, status.st_size, status.st_mtime_ns)


def _paths(place: str) -> Iterator[str]:
    path = os.path.expanduser(place)  # noqa: PTH111  a Path would drop the "/" at the end of a pattern
    if os.path.lexists(path):
        yield from _below(path, place)
        return
    if not glob.has_magic(path):
        raise CorpusError(f"{place}: there is no such file or folder")
    matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207  Path.glob takes no absolute patterns
    files = [match for match in matches if Path(match).is_file()]
    if not files:
        what = "only folders match" if matches else "no file matches"
        raise CorpusError(f"{place}: {what} this pattern")
    yield from files


def _below(path: str, place: str) -> Iterator[str]:
    if not Path(path).is_dir():
        yield path
        return
    empty = True
    for folder, folders, names in os.walk(path, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            whole = Path(folder, name)
            if not name.startswith(".") and whole.is_file():
                empty = False
                yield str(whole)
    if empty:
        raise CorpusError(f"{place}: there is no file in this folder")


def _refuse(error: OSError) -> None:
    raise CorpusError(f"{error.filename}: the folder cannot be read: {error.strerror or error}") from error


def _package(place: str) -> Iterator[str]:
    name = place.removeprefix(PACKAGE)
    try:
        carried = metadata.distribution(name).files or []
    except (metadata.PackageNotFoundError, ValueError):
        raise CorpusError(f"{place}: the package {name!r} is not installed; pip install {name or 'it'}") from None
    paths = [
        str(file.locate())
        for file in carried
        if plain_name(file.name).endswith((".txt", ".md")) and not file.parts[0].endswith(".dist-info")
    ]
    if not paths:
        raise CorpusError(f"{place}: the package {name!r} carries no .txt or .md file")
    yield from paths
