"""The documentation does what it says: every command and program in it is run, every table and link is checked.

A fenced block is run in order, in one folder for each document; a comment before it says more:
`<!-- test: run.steps=5 -->` adds overrides to what the block runs, `<!-- fails: 2 -->` wants this exit code,
`<!-- file: core.py -->` writes the block to a file, `<!-- no test: why -->` leaves it alone, and one after
`<!-- parameter count: core -->` is run by test_core_pages. A block of `text` is part of
what the block before it printed. `<!-- generated: name -->` to `<!-- end -->` is written by REGENERATE=1.
"""

import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import MISSING, dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from seqtoolkit.cli import app
from seqtoolkit.experiment import SECTIONS
from seqtoolkit.host import hooks
from seqtoolkit.host.freezer import ACTING, KEYS, SLOTS, Slot
from seqtoolkit.host.registry import discover
from seqtoolkit.host.schema import Field, schema

ROOT = Path(__file__).parents[1]
GUIDES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("docs/cores/*.md"))]
PAGES = [*GUIDES, *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md")), *sorted(ROOT.glob("plugins/*/*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- *(?P<mark>[a-z ]+): *(?P<note>[^\n]*?) *-->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
GENERATED = re.compile(r"(?<=<!-- generated: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)

MARKS = ("", "test", "fails", "no test", "file", "parameter count")

each_guide = pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
LONG = ("acting", "compare", "sweeps")
"""Guides whose examples train so much that `make docs` and `make slow` run them, and `make test` does not."""
each_example = pytest.mark.parametrize(
    "guide",
    [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem in LONG else []) for path in GUIDES],
)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: f"{path.parent.name}/{path.name}")


@dataclass(frozen=True)
class Block:
    """A fenced block with the comment before it."""

    line: int
    language: str
    text: str
    mark: str
    note: str


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page."""
    for match in BLOCK.finditer(page):
        line = page.count("\n", 0, match.start("text"))
        yield Block(line, match["language"], match["text"], match["mark"] or "", match["note"] or "")


class Desk:
    """A folder with an environment on top of this one, where a reader follows a document."""

    def __init__(self, folder: Path, database: Path) -> None:
        self.work = folder / "work"
        self.work.mkdir()
        shutil.copy(database, self.work / "mlflow.db")  # making one takes seconds
        for name in ("pipelines", "grammars"):
            (self.work / name).symlink_to(ROOT / name)
        home = folder / "venv"
        venv.create(home)
        (site,) = home.glob("lib/python*/site-packages")
        below = "; ".join(f"site.addsitedir({path!r})" for path in sys.path if path.endswith("site-packages"))
        (site / "below.pth").write_text(f"import site; {below}\n")
        for name in ("seqtoolkit", "pip", "pytest", "mlflow"):
            script = home / "bin" / name
            script.write_text(f'#!/bin/sh\nexec "{home}/bin/python" -m {name} "$@"\n')
            script.chmod(0o755)
        offline = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_QUIET": "1"}
        path = f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, **offline, "PATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
        self.printed = ""

    def follow(self, block: Block) -> None:
        """Do what a block says; fail with what it printed."""
        if block.mark == "no test":
            assert block.note, "say why"
        elif block.mark == "parameter count":
            pass
        elif block.mark == "file":
            path = self.work / block.note
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif block.language == "text":
            assert block.text in self.printed, f"is not in what was printed:\n{self.printed}"
        elif block.language in ("sh", "python"):
            fails, overrides = (int(block.note), "") if block.mark == "fails" else (0, block.note)
            sh = ("bash", "-euo", "pipefail", "-c", _smaller(block.text, overrides))
            self._run(fails, *sh if block.language == "sh" else ("python", "-c", _patched(block.text, overrides)))

    def _run(self, code: int, *command: str) -> None:
        done = subprocess.run(
            command, cwd=self.work, env=self.environment, capture_output=True, text=True, check=False, timeout=500
        )
        self.printed = f"{done.stdout}{done.stderr}"
        assert done.returncode == code, f"{command[-1]}\nexit code {done.returncode}\n{self.printed}"


def _smaller(script: str, overrides: str) -> str:
    """The script with overrides behind each `seqtoolkit run`, `check` and `sweep`."""
    return re.sub(
        r"^(seqtoolkit (?:run|check|sweep)\b[^#\n]*)",
        lambda match: f"{match[1].rstrip()} {overrides} ",
        script,
        flags=re.MULTILINE,
    )


def _patched(program: str, overrides: str) -> str:
    """The program with overrides behind those of each pipeline that it loads."""
    if not overrides:
        return program
    change = f"_run.load = lambda source, given=(), _load=_run.load: _load(source, [*given, *{shlex.split(overrides)}])"
    return f"import seqtoolkit.run as _run\n{change}\n{program}"


@pytest.mark.timeout(600)
@each_example
def test_examples_run(guide, tmp_path, database):
    """Every command and program of a document works, in the order in which they stand."""
    desk = Desk(tmp_path, database)
    for block in blocks(guide.read_text()):
        try:
            desk.follow(block)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            pytest.fail(f"{guide.relative_to(ROOT)}:{block.line}: {error}", pytrace=False)


@each_page
def test_blocks_are_of_a_known_kind(page):
    """Each fenced block names its language, so that none is skipped by a slip of the pen."""
    odd = [block for block in blocks(page.read_text()) if block.mark not in MARKS]
    assert not odd
    known = {"sh", "python", "toml", "yaml", "text", "mermaid", "lark"}
    assert not [block for block in blocks(page.read_text()) if block.language not in known]
    assert len(re.findall(r"^```", page.read_text(), re.MULTILINE)) == 2 * len(list(blocks(page.read_text())))


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return BLOCK.sub("", page.read_text())


@each_page
def test_links_lead_somewhere(page):
    """Each relative link and picture leads to a file that is there, and to a heading that it has."""
    lost = []
    for target in re.findall(r"\]\(([^()\s]+)\)", prose(page)):
        if re.match(r"https?://|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name) if name else page
        headings = map(slug, re.findall(r"^#+ (.*)", prose(path), re.MULTILINE)) if anchor and path.is_file() else ()
        if not path.exists() or (anchor and anchor not in headings):
            lost.append(target)
    assert not lost


@each_guide
def test_files_named_are_there(guide):
    """Each file of the toolkit that a document names is there."""
    named = re.findall(r"`((?:seqtoolkit|plugins|tests|docs|pipelines|grammars)/[\w/.]*)`", prose(guide))
    assert not [name for name in named if not (ROOT / name).exists()]


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _default(field: Field) -> str:
    if field.default is MISSING:
        return "required"
    words = {None: "null", True: "true", False: "false"}
    value = field.default
    shown = words.get(value, value) if isinstance(value, bool | None) else getattr(value, "__name__", value)
    return f"`{shown}`" if shown != "" else "empty"


def keys() -> str:
    """The keys of a pipeline."""
    rows = []
    for key in KEYS:
        rows += [_slot_row(slot) for slot in SLOTS if slot.key[0] == key]
        fields = schema(SECTIONS[key], given=()).fields.values() if key in SECTIONS else ()
        rows += [(f"`{key}.{field.name}`", field.type, _default(field), field.doc) for field in fields]
    return table(("key", "what stands there", "default", "what it is"), rows)


def _slot_row(slot: Slot) -> tuple[str, ...]:
    listed = isinstance(slot.default, list)
    default = ", ".join(slot.default or []) if listed else slot.default
    wanted = {"environment": "required, or a source", "source": "required, or an environment"}
    shown = f"`{default}`" if default else "none" if listed else wanted.get(slot.key[0], "required")
    shown += f"; with an environment `{ACTING[slot.key]}`" if slot.key in ACTING else ""
    sentence = inspect.getdoc(getattr(hooks, hooks.KINDS[slot.kind])).partition(": subclasses")[0].rstrip(".") + "."
    return f"`{'.'.join(slot.key)}`", slot.kind + " (or a list)" * listed, shown, sentence


def parts() -> str:
    """The parts that the host brings itself, with their parameters."""
    registry, found = discover(), []
    for kind in registry.kinds:
        for name in registry.names(kind):
            if registry.owner(kind, name).distribution != "seqtoolkit":
                continue
            described = schema(registry.resolve(kind, name))
            rows = [(f"`{f.name}`", f.type, _default(f), f.doc) for f in described.fields.values()]
            found.append(f"#### {kind} `{name}`\n\n{described.doc}\n")
            found += [f"\n{table(('parameter', 'type', 'default', 'meaning'), rows)}"] if rows else []
            found.append("\n")
    return "".join(found).rstrip("\n") + "\n"


def hook_table() -> str:
    """The hooks, with what each returns or hears."""
    rows = []
    for value in vars(hooks).values():
        if hasattr(value, f"{hooks.PROJECT}_spec"):
            arguments = ", ".join(inspect.signature(value).parameters)
            rows.append((f"`{value.__name__}({arguments})`", inspect.getdoc(value)))
    return table(("hook", "what it brings, or hears"), rows)


TABLES = {"keys": keys, "parts": parts, "hooks": hook_table}


def test_generated_parts_are_up_to_date():
    """The tables in the documents say what the code says."""
    seen = set()
    for guide in GUIDES:
        text = guide.read_text()
        seen |= {name for name, _ in GENERATED.findall(text)}
        wanted = GENERATED.sub(lambda match: f"{match[1]}{match[2]}\n{TABLES[match[1]]()}\n", text)
        if os.environ.get("REGENERATE"):
            guide.write_text(wanted)
        assert guide.read_text() == wanted, f"`make docs` writes the tables of {guide.name} anew"
    assert seen == TABLES.keys()


def test_picture_is_up_to_date(tmp_path):
    """The picture in the README is what `seqtoolkit check --graph` draws of the default pipeline."""
    drawn = tmp_path / "graph.svg"
    assert CliRunner().invoke(app, ["check", "program_eval", "--graph", str(drawn)]).exit_code == 0
    kept = ROOT / "docs" / "graph.svg"
    if os.environ.get("REGENERATE"):
        kept.write_text(drawn.read_text())
    assert kept.read_text() == drawn.read_text(), "`make docs` draws it anew"
