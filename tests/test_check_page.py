"""The page on testing names every law, in order, with its sentence."""

import os
import re
import subprocess
import sys
from pathlib import Path

from seqtoolkit import testing
from seqtoolkit.testing import core, environment, kernel, source, task

PAGE = Path(__file__).parents[1] / "docs" / "testing.md"
TABLE = re.compile(r"(?<=<!-- laws: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)
LAWS = {
    "core": core._LAWS,
    "source": source._LAWS,
    "environment": environment._LAWS,
    "task": task._LAWS,
    "kernel": kernel._LAWS,
}


def table(laws):
    """A Markdown table of laws."""
    rows = [f"| `{name}` | {law.__doc__.splitlines()[0]} |\n" for name, law in laws.items()]
    return "".join(["| law | what it says |\n| --- | --- |\n", *rows])


def test_tables_are_up_to_date():
    """Each table of the page has each law of its kind with its sentence; REGENERATE=1 writes them."""
    text = PAGE.read_text()
    wanted = TABLE.sub(lambda match: f"{match[1]}{match[2]}\n{table(LAWS[match[1]])}\n", text)
    if os.environ.get("REGENERATE"):
        PAGE.write_text(wanted)
    assert PAGE.read_text() == wanted, "REGENERATE=1 pytest tests/test_check_page.py writes the tables anew"
    assert [name for name, _ in TABLE.findall(text)] == list(LAWS)


def test_exports():
    """The package gives the five checks, the names of their laws, what is raised, and how an error is judged."""
    names = {f"check_{kind}" for kind in LAWS} | {f"{kind.upper()}_LAWS" for kind in LAWS} | {"LawBroken", "within"}
    assert set(testing.__all__) == names
    assert all(getattr(testing, f"{kind.upper()}_LAWS") == tuple(LAWS[kind]) for kind in LAWS)


def test_needs_no_test_runner():
    """The package can be imported where there is no pytest, and imports no tracking store."""
    script = (
        "import sys; sys.modules |= {'pytest': None, 'hypothesis': None, 'mlflow': None}; import seqtoolkit.testing"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
