"""Shelf: folders that are built whole or not at all, by one process at a time, and found again."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

LOG = logging.getLogger("seqtoolkit").getChild("language")
Report = Callable[[str, float], None]
"""Told what is being done, and which share of it is done, 0 to 1."""
PATIENCE = 10.0
"""Seconds from one line of the log to the next."""
_T = TypeVar("_T")
_DRAFT, _LOCK = ".draft-", ".lock"
_POLL = 0.1
_FULL = (errno.ENOSPC, errno.EDQUOT)


class CacheError(ValueError):
    """A cache that cannot be read or built: one line that says where, and what to do."""


class Logged:
    """A report for what nobody shows: a line of the log each ten seconds, and none of what is done before."""

    def __init__(self) -> None:
        self._due = time.monotonic() + PATIENCE

    def __call__(self, text: str, share: float) -> None:
        """Say how far it is, if that is due."""
        if time.monotonic() >= self._due:
            LOG.warning("%s  %.0f%%", text, 100 * share)
            self._due = time.monotonic() + PATIENCE


def keep(home: Path, key: str, find: Callable[[Path], _T], build: Callable[[Path], None], report: Report) -> _T:
    """What `find` reads from the folder `home/key`; where it cannot, `build` first fills a draft that takes its place.

    Of several processes one builds, and the others wait for it and find what it has built. A build that fails, or is
    interrupted, leaves nothing behind; what a killed one left is removed by the next.

    Raises:
        CacheError: the home cannot be written, or its disk is full.
    """
    folder = home / key
    found = _found(folder, find)
    if found is not None:
        return found
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _hold(home, key, report):
            found = _found(folder, find)  # another process may have built it meanwhile
            if found is None:
                _build(folder, build)
    except OSError as error:
        if error.errno in _FULL:
            raise _full(home) from None
        if error.filename is None or not str(error.filename).startswith(str(home)):
            raise
        raise CacheError(
            f"the cache cannot be written in {home} ({error.strerror}): make it writable, or choose another folder"
        ) from None
    return find(folder) if found is None else found


@contextmanager
def room(home: Path, needed: int, purpose: str) -> Iterator[None]:
    """Work that needs about so many bytes on the disk of `home`.

    Raises:
        CacheError: there are fewer, found before the work begins or while it is done.
    """
    free = shutil.disk_usage(home).free
    if free < needed:
        raise _full(home, needed, purpose, free)
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise _full(home, needed, purpose, free) from None
        raise


def sync(path: Path) -> None:
    """Have the disk take a file now, so that what it has no room for is known before the file is used."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _found(folder: Path, find: Callable[[Path], _T]) -> _T | None:
    if not folder.exists():
        return None
    try:
        return find(folder)
    except (ValueError, OSError) as error:
        LOG.warning("built anew, for what is kept in %s cannot be used: %s", folder, error)
        return None


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    """Fill a draft beside the folder, and put it in its place."""
    home = folder.parent
    _sweep(home, folder.name)
    draft = _beside(folder)
    draft.mkdir()
    try:
        build(draft)
        if folder.exists():  # unfit; a process that still reads it keeps what it has open
            folder.rename(_beside(folder))
        draft.rename(folder)
    finally:
        _sweep(home, folder.name, others=False)


def _beside(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}{_DRAFT}{secrets.token_hex(4)}")


def _sweep(home: Path, key: str, *, others: bool = True) -> None:
    """Remove the drafts under a key, whose lock is held, and those under other keys that nobody holds."""
    for draft in home.glob(f"*{_DRAFT}*"):
        owner = draft.name.partition(_DRAFT)[0]
        if owner == key:
            shutil.rmtree(draft, ignore_errors=True)
        elif others:
            with _lock(home, owner) as free:
                if free:
                    shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def _hold(home: Path, key: str, report: Report) -> Iterator[None]:
    """The lock on a key, waited for."""
    said = 0.0
    while True:
        with _lock(home, key) as free:
            if free:
                yield
                return
        if time.monotonic() - said >= 1.0:
            report(f"waiting for another process that builds {home / key}", 0.0)
            said = time.monotonic()
        time.sleep(_POLL)


@contextmanager
def _lock(home: Path, key: str) -> Iterator[bool]:
    """Whether the lock on a key was free, and is now ours; it ends with this process."""
    descriptor = os.open(home / f"{key}{_LOCK}", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        except OSError as error:
            raise CacheError(f"{home} is on a disk without locks ({error.strerror}): choose another folder") from None
        else:
            yield True
    finally:
        os.close(descriptor)


def _full(home: Path, needed: int = 0, purpose: str = "the cache", free: int | None = None) -> CacheError:
    if free is None:
        with suppress(OSError):
            free = shutil.disk_usage(home).free
    amount = f" about {_size(needed)}" if needed else " more room"
    return CacheError(
        f"the disk of {home} is full: {purpose} needs{amount}, and {_size(free or 0)} were free; "
        "make room, or choose another folder"
    )


def _size(number: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
