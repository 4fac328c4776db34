"""Chunks of text whose ids are known by heart: text repeats itself, so most of it is looked up and not cut again."""

from collections.abc import Callable

LIMIT = 1 << 18
LONGEST = 64


class Memory(dict[str, tuple[int, ...]]):
    """A dict that works out what it lacks; it forgets all when it is full, and never keeps a long chunk.

    Args:
        ids: gives the ids of a chunk, whatever else it has seen.
    """

    def __init__(self, ids: Callable[[str], tuple[int, ...]]) -> None:
        super().__init__()
        self.ids = ids

    def __missing__(self, chunk: str) -> tuple[int, ...]:
        found = self.ids(chunk)
        if len(chunk) <= LONGEST:
            if len(self) >= LIMIT:
                self.clear()
            self[chunk] = found
        return found
