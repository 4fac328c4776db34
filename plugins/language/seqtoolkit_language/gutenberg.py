"""Project Gutenberg: a file is a book; its header and licence are left out, in the layouts of old and new."""

import re
from collections.abc import Iterable, Iterator

from seqtoolkit_language.reading import Piece, Text

HEAD = 1 << 16  # the longest header, in bytes, that is looked for
_HEADER_ENDS = re.compile(
    rb"^[ \t]*(?:"
    rb"\*{3} ?START OF (?:THE |THIS )?PROJECT GUTENBERG(?:(?:[^*\n]|\*(?!\*\*)|\n(?!\s*\n)){0,400}\*{3})?[^\n]*"
    rb"|\*END[ *]*THE SMALL PRINT[^\n]*"
    rb")(?:\n|\Z)",
    re.IGNORECASE | re.MULTILINE,
)
_NAMES = (b"Project Gutenberg", b"PROJECT GUTENBERG")
_LICENCE_BEGINS = re.compile(
    rb"[ \t]*(?:\*{3} ?END OF (?:THE |THIS )?PROJECT GUTENBERG"
    rb"|\** ?END OF (?:THE |THIS )?PROJECT GUTENBERG(?:'S|,| (?:EBOOK|ETEXT|E-TEXT)))",
    re.IGNORECASE,
)


def recognizes(_name: str, head: bytes) -> bool:
    """Say whether a file is a book of Project Gutenberg, by the mark that ends its header."""
    return bool(_HEADER_ENDS.search(head[:HEAD]))


def documents(blocks: Iterable[bytes], _piece: Piece) -> Iterator[Text]:
    """Give a book: what lies between the last mark that ends a header and the first line that begins the licence.

    A book without marks is taken whole.
    """
    begins, first = True, True
    for block in blocks:
        body = _without_header(block) if first else block
        first = False
        end = _licence(body)
        if body[:end]:
            yield Text(begins, body[:end])
            begins = False
        if end is not None:
            for _ in blocks:  # the rest is checked as any text is, and left out
                pass
            return


def _without_header(block: bytes) -> bytes:
    marks = list(_HEADER_ENDS.finditer(block[: _licence(block)], 0, HEAD))
    return block[marks[-1].end() :] if marks else block


def _licence(block: bytes) -> int | None:
    """Find the line that begins the licence; None where there is none."""
    found = []
    for name in _NAMES:
        at = block.find(name)
        while at >= 0:
            line = block.rfind(b"\n", 0, at) + 1
            if _LICENCE_BEGINS.match(block, line):
                found.append(line)
                break
            at = block.find(name, at + 1)
    return min(found, default=None)
