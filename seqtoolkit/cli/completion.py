"""Completion: what the words of a command may become when a person presses TAB. None of it imports torch in haste."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import wraps
from pathlib import Path
from typing import Any

import typer

from seqtoolkit.host.document import parse
from seqtoolkit.host.override import override
from seqtoolkit.host.registry import discover
from seqtoolkit.host.resource import find_pipeline, shipped

INSTRUCTION = "_SEQTOOLKIT_COMPLETE"
"""The variable in which a shell says that it wants words, as `complete_bash`."""
_CONFIG = "config.yaml"
_MOST, _WIDEST = 200, 80
"""Files that are offered at most, and letters of what is said of a word."""

Offers = list[tuple[str, str]]
"""What can stand in the place of an incomplete word, each with what it is."""
Complete = Callable[[typer.Context, str], Offers]


def _silent(complete: Complete) -> Complete:
    """Whatever is wrong while a word is incomplete, nothing is offered, and nobody is told."""

    @wraps(complete)
    def tried(ctx: typer.Context, incomplete: str) -> Offers:
        try:
            return [(word, _brief(doc)) for word, doc in complete(ctx, incomplete)]
        except Exception:  # noqa: BLE001  what is half written may be anything, and so may be a plugin
            return []

    return tried


def _brief(doc: str) -> str:
    """A line beside a word; typer reads brackets as markup."""
    doc = " ".join(doc.split()).translate(str.maketrans("[]", "()"))
    return doc if len(doc) <= _WIDEST else f"{doc[: _WIDEST - 3]}..."


@_silent
def pipelines(ctx: typer.Context, incomplete: str) -> Offers:
    """Pipelines: those that are shipped, and YAML files here and in the folders here; changes, where a run is resumed."""
    if ctx.params.get("resume"):
        return overrides(ctx, incomplete)
    named = [(name, f"from {owner}") for name, (_, owner) in shipped("pipelines").items()]
    typed = incomplete[: incomplete.rfind("/") + 1]
    folder = Path(typed).expanduser()
    paths = (path for pattern in ("*.y*ml", "*/*.y*ml") for path in sorted(folder.glob(pattern)))
    files = [(f"{typed}{path.relative_to(folder)}", "a file") for path in paths if path.suffix in (".yaml", ".yml")]
    return [each for each in [*named, *files[:_MOST]] if each[0].startswith(incomplete)]


@_silent
def runs(ctx: typer.Context, incomplete: str) -> Offers:
    """Runs: the folders of those that are kept in `--folder`, the latest first."""
    kept = Path(ctx.params.get("folder") or "runs")
    names = sorted((path.parent.name for path in kept.glob(f"*/{_CONFIG}")), reverse=True)
    return [(name, f"in {kept}") for name in names if name.startswith(incomplete)]


@_silent
def overrides(ctx: typer.Context, incomplete: str) -> Offers:
    """Changes `key=value` of the command's pipeline, or of its run's; commas part values where a command takes several."""
    from seqtoolkit.cli.key import Memory, offers

    several = ctx.info_name == "sweep"
    return offers(Memory(discover()), _tree(ctx.params), incomplete, several=several)


@_silent
def settings(ctx: typer.Context, incomplete: str) -> Offers:
    """Changes of the `evaluate:` block of a command's run, as `source.length=7`, several values with commas."""
    from seqtoolkit.cli.key import Memory, offers

    block = "evaluate."
    found = offers(Memory(discover()), _tree(ctx.params), f"{block}{incomplete}", several=True)
    return [(word.removeprefix(block), doc) for word, doc in found]


@_silent
def keys(ctx: typer.Context, incomplete: str) -> Offers:
    """Keys alone, as `model.core`."""
    from seqtoolkit.cli.key import Memory, offers

    found = offers(Memory(discover()), _tree(ctx.params), incomplete)
    return [(key.removesuffix("="), doc) for key, doc in found if key.endswith(("=", "."))]


@_silent
def parts(ctx: typer.Context, incomplete: str) -> Offers:  # noqa: ARG001  all take the same
    """Parts of all kinds, as `kind:name` where the name alone would not do."""
    registry = discover()
    kinds: dict[str, list[str]] = {}
    for kind in registry.kinds:
        for name in registry.names(kind):
            kinds.setdefault(name, []).append(kind)
    plain = [(name, kind[0]) for name, kind in sorted(kinds.items()) if not kind[1:]]
    full = [(f"{kind}:{name}", kind) for name, found in sorted(kinds.items()) for kind in found]
    return plain + (full if ":" in incomplete else [each for each in full if kinds[each[0].partition(":")[2]][1:]])


@_silent
def cores(ctx: typer.Context, incomplete: str) -> Offers:  # noqa: ARG001  all take the same
    """Cores by name."""
    return [(name, "core") for name in discover().names("core")]


def _tree(params: Mapping[str, Any]) -> dict[str, Any]:
    """The pipeline of a command with the changes that are there already, as it is written; empty where it names none."""
    run, folder = params.get("resume") or params.get("run"), Path(params.get("folder") or "runs")
    pipeline = params.get("pipeline")
    changes = [each for each in (pipeline, *(params.get("overrides") or ())) if each and "=" in each]
    if run:
        path = next(path for path in (Path(run) / _CONFIG, folder / run / _CONFIG) if path.is_file())
    elif pipeline:
        path = find_pipeline(pipeline)
    else:
        return {}
    tree, _ = parse(path.read_text(encoding="utf-8-sig"), str(path))
    override(tree, changes, {})
    return tree


@contextmanager
def answering() -> Iterator[None]:
    """Inside, a shell that asks for words gets them, and no warning or traceback, even if something is broken."""
    asked = os.environ.get(INSTRUCTION, "")
    if not asked.startswith("complete_"):
        yield
        return
    joined = _join() if asked == "complete_bash" else ""
    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(io.StringIO()):
            yield
    finally:
        sys.stdout.write("".join(line.removeprefix(joined) for line in said.getvalue().splitlines(keepends=True)))


def _join() -> str:
    """Join what bash has cut at `=` and `:`; return what it holds to be done of the last word, and wants no more of."""
    try:
        words = os.environ["COMP_WORDS"].split("\n")[: int(os.environ["COMP_CWORD"]) + 1]
    except (KeyError, ValueError):
        return ""
    whole: list[str] = []
    joined, cut = "", False
    for word in words:
        separates = re.fullmatch("[=:]+", word) is not None
        if whole and (separates or (cut and word)):
            joined = whole[-1] + word if separates else whole[-1]
            whole[-1] += word
        else:
            joined = ""
            whole.append(word)
        cut = separates
    os.environ |= {"COMP_WORDS": "\n".join(whole), "COMP_CWORD": str(len(whole) - 1)}
    return joined
