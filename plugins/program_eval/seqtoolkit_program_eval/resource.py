"""Resource: where a grammar's file is."""

from importlib.resources import files
from pathlib import Path

from seqtoolkit_program_eval.mark import GrammarError


def find(name: str) -> Path:
    """The file of a grammar of this name, or at this path. Raises GrammarError with what there is."""
    folder = Path(str(files("seqtoolkit_program_eval"))) / "grammars"
    known = sorted(each.stem for each in folder.glob("*.lark"))
    path = folder / f"{name}.lark" if name in known else Path(name)
    if not path.is_file():
        raise GrammarError(f"grammar: no grammar is called {name!r} and no file is there; known are {', '.join(known)}")
    return path
