"""Array: the tokens of a corpus, one after another, in a file that is mapped, and checked as it is read."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from seqtoolkit_language.shelf import CacheError, sync

FORMAT = 1
BLOCK = 1 << 20
"""Bytes that share a checksum."""
TOKENS, DOCUMENTS, CHECKSUMS, META = "tokens.bin", "documents.bin", "checksums.bin", "meta.json"
_OFFSET, _CHECKSUM = np.dtype("<i8"), np.dtype("<u4")


class Tokens:
    """The token ids of a corpus, as `encode` has kept them in a folder: a read-only array that stays on disk.

    Attributes:
        documents: int64 [documents], where each begins; each ends with the id of <eos>.
        digest: of the tokens and where documents begin, wherever, and by however many processes, they were encoded.
    """

    def __init__(self, folder: Path, meta: dict[str, Any], documents: np.ndarray, checksums: np.ndarray) -> None:
        self.folder, self.documents, self.digest = folder, documents, str(meta["digest"])
        self._ids = _mapped(folder / TOKENS, np.dtype(meta["dtype"]))
        self._checksums = checksums
        self._checked = np.zeros(len(checksums), dtype=bool)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The tokens in a folder; it takes as long for many as for few.

        Raises:
            CacheError: they are of another version, cut short, or damaged, or there are none.
        """
        try:
            meta = json.loads((folder / META).read_bytes())
            if meta["format"] != FORMAT:
                raise _unfit(folder, f"it is of format {meta['format']}, and this toolkit reads format {FORMAT}")
            if meta["digest"] != _digest(meta):
                raise _unfit(folder, f"{META} differs from its checksum")
            size, wanted = (folder / TOKENS).stat().st_size, meta["tokens"] * np.dtype(meta["dtype"]).itemsize
            if size != wanted:
                raise _unfit(folder, f"{TOKENS} has {size} bytes, and had {wanted}")
            documents = _small(folder, DOCUMENTS, _OFFSET, meta)
            return cls(folder, meta, documents, _small(folder, CHECKSUMS, _CHECKSUM, meta))
        except OSError as error:
            raise _unfit(folder, f"{Path(error.filename or TOKENS).name}: {error.strerror}") from None
        except CacheError:
            raise
        except (ValueError, LookupError, TypeError):
            raise _unfit(folder, f"{META} cannot be read") from None

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, where: slice) -> np.ndarray:
        """Ids [T], read-only and still on disk; each block is compared with its checksum the first time.

        Raises:
            CacheError: a block differs from its checksum.
        """
        found = self._ids[where]
        if len(found):
            ends = range(len(self._ids))[where]
            width = self._ids.itemsize
            first, last = (end * width // BLOCK for end in sorted((ends[0], ends[-1])))
            if not self._checked[first : last + 1].all():
                self._check(first, last)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).open, (self.folder,)

    def _check(self, first: int, last: int) -> None:
        data = self._ids.view(np.uint8).data
        for block in range(first, last + 1):
            if not self._checked[block]:
                if zlib.crc32(data[block * BLOCK : (block + 1) * BLOCK]) != self._checksums[block]:
                    raise _unfit(self.folder, f"block {block} of {TOKENS} differs from its checksum")
                self._checked[block] = True


class Writer:
    """Fills a folder with tokens, part after part; only `finish` makes it one that can be opened."""

    def __init__(self, folder: Path, tokenizer: str, dtype: np.dtype, eos: int) -> None:
        self.folder, self.tokenizer, self.eos = folder, tokenizer, eos
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self._tokens = (folder / TOKENS).open("wb")
        self._documents = (folder / DOCUMENTS).open("wb")
        self._checksums: list[int] = []
        self._crc = self._filled = 0
        self._last, self._begin = eos, -1
        self._size = self._count = 0

    def add(self, ids: np.ndarray, begins: np.ndarray) -> None:
        """Append ids [T]; documents begin before those at the places `begins`, which never fall and may be T."""
        begins = np.unique(begins)
        before = np.concatenate((np.array([self._last], ids.dtype), ids))[begins]
        ends = begins[before != self.eos]
        starts = self._size + begins + np.searchsorted(ends, begins, side="right")
        self._write(np.insert(ids, ends, self.eos) if len(ends) else ids)
        starts = starts[starts > self._begin]  # where another begins, that one had no ids
        if len(starts):
            self._begin = int(starts[-1])
            self._count += len(starts)
            self._documents.write(starts.astype(_OFFSET).tobytes())

    def finish(self) -> None:
        """End the last document, and describe what has been written."""
        if self._last != self.eos:
            self._write(np.array([self.eos], self.dtype))
        if self._filled:
            self._seal()
        if self._begin == self._size:  # a document without ids is none
            self._count -= 1
            self._documents.truncate(self._count * _OFFSET.itemsize)
        self._close()
        (self.folder / CHECKSUMS).write_bytes(np.array(self._checksums, _CHECKSUM).tobytes())
        meta: dict[str, Any] = {
            "format": FORMAT,
            "tokenizer": self.tokenizer,
            "dtype": self.dtype.str,
            "tokens": self._size,
            "documents": self._count,
            "checksums": {
                name: zlib.crc32(_mapped(self.folder / name, np.dtype(np.uint8)).data)
                for name in (DOCUMENTS, CHECKSUMS)
            },
        }
        (self.folder / META).write_text(json.dumps({**meta, "digest": _digest(meta)}, indent=1))
        for name in (TOKENS, DOCUMENTS, CHECKSUMS, META):
            sync(self.folder / name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._tokens.close()
        self._documents.close()

    def _write(self, ids: np.ndarray) -> None:
        if not len(ids):
            return
        data = np.ascontiguousarray(ids, self.dtype).view(np.uint8).data
        self._tokens.write(data)
        self._size += len(ids)
        self._last = int(ids[-1])
        while data:
            part, data = data[: BLOCK - self._filled], data[BLOCK - self._filled :]
            self._crc = zlib.crc32(part, self._crc)
            self._filled += len(part)
            if self._filled == BLOCK:
                self._seal()

    def _seal(self) -> None:
        self._checksums.append(self._crc)
        self._crc = self._filled = 0


def _mapped(path: Path, dtype: np.dtype) -> np.ndarray:
    """A file as an array that stays on disk."""
    if path.stat().st_size == 0:  # which cannot be mapped
        return np.empty(0, dtype)
    return np.memmap(path, dtype, "r").view(np.ndarray)


def _small(folder: Path, name: str, dtype: np.dtype, meta: dict[str, Any]) -> np.ndarray:
    data = _mapped(folder / name, np.dtype(np.uint8))
    if zlib.crc32(data.data) != meta["checksums"][name]:
        raise _unfit(folder, f"{name} differs from its checksum")
    return data.view(dtype)


def _digest(meta: dict[str, Any]) -> str:
    """Of all the rest of the description, which holds the checksums of all tokens and documents."""
    rest = {name: value for name, value in meta.items() if name != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _unfit(folder: Path, reason: str) -> CacheError:
    return CacheError(f"the tokens kept in {folder} cannot be used ({reason}): remove that folder, and run again")
