"""Plain text: a file is a document, or each of its lines is one."""

from collections.abc import Iterable, Iterator

from seqtoolkit_language.reading import Piece, Text


def whole(blocks: Iterable[bytes], piece: Piece) -> Iterator[Text]:
    """Give the blocks of a file that is one document; only the first piece of the file begins it."""
    begins = piece.start == 0
    for data in blocks:
        yield Text(begins, data)
        begins = False


def lines(blocks: Iterable[bytes], _piece: Piece) -> Iterator[Text]:
    """Give each line that is not blank as a document, without its line break."""
    under_way = False
    for block in blocks:
        *ended, rest = block.split(b"\n")
        for line in ended:
            if under_way:
                under_way = False
                if line:
                    yield Text(begins=False, data=line)
            elif line and not line.isspace():
                yield Text(begins=True, data=line)
        if rest and (under_way or not rest.isspace()):
            yield Text(not under_way, rest)
            under_way = True
