"""Plain data of a corpus: how it is read, the files that it is in, the pieces that workers read, and the text they give."""

from dataclasses import dataclass
from typing import NamedTuple

FORMATS = ("auto", "plain", "lines", "wikitext", "gutenberg", "gigaword", "jsonl")
SPLITS = ("", "train", "valid", "test")


class CorpusError(ValueError):
    """A corpus that cannot be read as asked; one line with the file and, where there is one, its line or byte."""


@dataclass(frozen=True)
class Reading:
    """How files become documents.

    Attributes:
        format: the layout of the files; `auto` looks at their names and first bytes.
        field: the text of a JSON line, or of a row of a `datasets:` place.
        errors: what invalid UTF-8 and NUL bytes come to: `strict` is an error, `replace` writes U+FFFD and drops NUL.
        split: which documents: "" all of them; else train, valid or test, by a hash of each document's beginning.
        held_out: the share of the documents in valid, and the share in test.

    Raises:
        CorpusError: if a value is none of these.
    """

    format: str = "auto"
    field: str = "text"
    errors: str = "strict"
    split: str = ""
    held_out: float = 0.0

    def __post_init__(self) -> None:
        choices = {"format": FORMATS, "errors": ("strict", "replace"), "split": SPLITS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                wanted = ", ".join(repr(choice) for choice in allowed)
                raise CorpusError(f"{name}: got {getattr(self, name)!r}, wanted one of {wanted}")
        if not 0 <= self.held_out < 0.5:
            raise CorpusError(
                f"held_out: got {self.held_out}, wanted a share from 0 to below 0.5 (for valid and test each)"
            )


@dataclass(frozen=True)
class File:
    """A file of a corpus, of any kind (.gz, .zst and .xz too), with its size in bytes and its time when it was found."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Piece:
    """What one worker reads: the bytes of a file from `start` up to `stop` (None: to its end), or rows of a data set.

    `size` and `mtime_ns` are those of the file when it was found; a size of -1 leaves them unchecked.
    """

    path: str
    start: int = 0
    stop: int | None = None
    size: int = -1
    mtime_ns: int = -1


class Text(NamedTuple):
    """A block of a document: whether the document begins here, and valid UTF-8 of at most 1 MiB, never empty."""

    begins: bool
    data: bytes
