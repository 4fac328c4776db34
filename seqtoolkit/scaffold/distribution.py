"""A new plugin: the distribution that a person begins from, written from the templates beside this file."""

from __future__ import annotations

import builtins
import re
import shutil
import tomllib
from importlib.metadata import metadata
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path
from string import Template

import yaml

from seqtoolkit.host.hooks import KINDS
from seqtoolkit.host.problem import one_line, show, suggest
from seqtoolkit.host.registry import Registry
from seqtoolkit.host.resource import shipped

_HOME = Path(__file__).parent
_SUFFIX = ".template"
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_SHORTEST, _LONGEST = 2, 28


FORMS = tuple(sorted(path.parent.name for path in _HOME.glob("*/form.toml")))
"""The kinds of distributions that can be written."""


class ScaffoldError(ValueError):
    """A distribution cannot be written; the message says why, in one line."""


def write(form: str, name: str, folder: Path, registry: Registry) -> Path:
    """Write the distribution of a new core, environment or task to `folder`/`name`, whole or not at all.

    Args:
        form: One of `FORMS`.
        name: The part's name in pipelines; the distribution is `seqtoolkit-NAME`.
        folder: Where to, a folder that is there.
        registry: The plugins that are installed, whose names are taken.

    Returns:
        The new folder.

    Raises:
        ScaffoldError: the form is unknown, the name will not do or is taken, or the folder cannot be written.
    """
    if form not in FORMS:
        raise ScaffoldError(
            "KIND: wanted core (a memory core), task (a source of examples) or environment (worlds to act in), "
            f"got {show(form)}{suggest(form, FORMS)}"
        )
    kind = tomllib.loads((_HOME / form / "form.toml").read_text(encoding="utf-8"))
    _require_name(name)
    _require_free(kind["part"], name, registry)
    files = _files(form, _values(name, kind))
    target = folder / name
    try:
        target.mkdir()
    except FileExistsError:
        raise ScaffoldError(f"{target} is there already; nothing is written over") from None
    except (OSError, ValueError) as error:
        raise ScaffoldError(f"{one_line(target)}: {getattr(error, 'strerror', None) or error}") from None
    try:
        for path, text in files.items():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_text(text, encoding="utf-8")
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return target


def _require_name(name: str) -> None:
    if not _good(name):
        hint = suggest(name, [near]) if _good(near := _snake(name)) else ""
        raise ScaffoldError(
            f"NAME: wanted {_SHORTEST} to {_LONGEST} lower-case letters, digits and single _, "
            f"a letter first, such as my_core, got {show(name)}{hint}"
        )
    if iskeyword(name) or yaml.safe_load(name) != name:
        raise ScaffoldError(f"NAME: {name!r} is a word of Python or YAML; choose another name")
    title = _class(name)
    imported = (line for path in _HOME.rglob(f"*.py{_SUFFIX}") for line in path.read_text().splitlines())
    taken = {word for line in imported if " import " in line for word in re.findall(r"\w+", line)}
    if hasattr(builtins, title) or title in taken:
        raise ScaffoldError(f"NAME: the class of {name!r} would be {title}, which is taken; choose another name")


def _good(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and _SHORTEST <= len(name) <= _LONGEST


def _snake(name: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return re.sub(r"[^a-z0-9]+", "_", words).strip("_")


def _require_free(kind: str, name: str, registry: Registry) -> None:
    if owners := registry.owned(kind).get(name):
        raise ScaffoldError(f"NAME: {kind} {name!r} is brought by {owners[0].origin} already; choose another name")
    if name in (pipelines := shipped("pipelines", registry)):
        raise ScaffoldError(f"NAME: pipeline {name!r} is shipped by {pipelines[name][1]} already; choose another name")
    if find_spec(_package(name)):
        raise ScaffoldError(f"NAME: a package {_package(name)} is installed already; choose another name")


def _package(name: str) -> str:
    return f"seqtoolkit_{name}"


def _class(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def _values(name: str, kind: dict[str, str]) -> dict[str, str]:
    """What stands for each `$word` of the templates; the ranges are those of this toolkit."""
    host = metadata("seqtoolkit")
    major, minor = map(int, host["Version"].split(".")[:2])
    above = f"{major}.{minor + 1}" if major == 0 else str(major + 1)
    ranges = {re.split(r"[^\w-]", each)[0]: each for each in host.get_all("Requires-Dist", ())}
    return {
        "name": name,
        "distribution": f"seqtoolkit-{name.replace('_', '-')}",
        "package": _package(name),
        "title": f"{name}, {kind['what']}",
        "part": kind["part"],
        "part_class": _class(name),
        "hook": KINDS[kind["part"]],
        "library": ranges[kind["library"]],
        "partner": kind["partner"],
        "small": kind["small"],
        "toolkit": f">={major}.{minor},<{above}",
        "python": host["Requires-Python"],
    }


def _files(form: str, values: dict[str, str]) -> dict[Path, str]:
    """The files of a distribution: path and text."""
    files = {}
    for home in (_HOME / "both", _HOME / form):
        for path in sorted(home.rglob(f"*{_SUFFIX}")):
            parts = path.relative_to(home).with_suffix("").parts
            place = [values["package"] if part == "package" else part.replace("NAME", values["name"]) for part in parts]
            files[Path(*place)] = Template(path.read_text(encoding="utf-8")).substitute(values)
    return files
