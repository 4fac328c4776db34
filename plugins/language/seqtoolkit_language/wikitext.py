"""WikiText (Merity et al. 2017, arXiv:1609.07843), tokens files and raw ones: documents begin at ` = Title = `."""

import re
from collections.abc import Iterable, Iterator

from seqtoolkit_language.block import clean
from seqtoolkit_language.reading import Piece, Text

BEGINNING = b" = "
_TITLE = re.compile(rb" = (?![= ])[^\n]{1,1000}(?<![= ]) = ?(?=\n|\Z)")
_NAME = re.compile(r"wiki\.[a-z]+\.(tokens|raw)")


def recognizes(name: str, head: bytes) -> bool:
    """Say whether a file is WikiText, by its name or by its first line that is not blank."""
    return bool(_NAME.fullmatch(name) or _TITLE.match(b" " + head.lstrip()))


def begins(line: bytes) -> bool:
    """Say whether a line as it stands in a file, without its line break, is a title of the first level."""
    return bool(_TITLE.fullmatch(clean(line + b"\n", "", 1, "replace")[:-1]))


def documents(blocks: Iterable[bytes], _piece: Piece) -> Iterator[Text]:
    """Give the articles. What is before the first title of a file belongs to its article; no line break is changed.

    A piece begins at its file's beginning or at a title.
    """
    passed, fresh, at_line = False, True, True
    for block in blocks:
        last = 0
        for title in _titles(block, at_line=at_line):
            if not passed:
                passed = True
                continue
            if title > last:
                yield Text(fresh, block[last:title])
            last, fresh = title, True
        yield Text(fresh, block[last:])
        fresh, at_line = False, block.endswith(b"\n")


def _titles(block: bytes, *, at_line: bool) -> Iterator[int]:
    if at_line and _TITLE.match(block):
        yield 0
    at = block.find(b"\n = ")
    while at >= 0:
        if _TITLE.match(block, at + 1):
            yield at + 1
        at = block.find(b"\n = ", at + 1)
