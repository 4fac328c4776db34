"""Locks between processes: held by an open file, so that they end with the process that holds them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self


class Lock:
    """The lock on the file at `path`, which is open as `descriptor` until it is released."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.descriptor = path, descriptor

    def release(self) -> None:
        """Unlock and close; for processes forked meanwhile as well."""
        import fcntl

        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        except OSError:
            pass
        finally:
            os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def hold(path: Path, wait: float = 0.0) -> Lock | None:
    """Lock the file at `path`, made where it is not. None if it is not free within `wait` seconds.

    Where the file system knows no locks, it is as if the file were free. Raises OSError where it cannot be opened.
    """
    until = time.monotonic() + wait
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if _locked(descriptor) and _still(path, descriptor):
            return Lock(path, descriptor)
        os.close(descriptor)
        if time.monotonic() >= until:
            return None
        time.sleep(0.05)


def held(path: Path) -> bool:
    """Whether a process, this one or another, holds the lock on the file at `path` now; changes nothing."""
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _locked(descriptor: int) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _still(path: Path, descriptor: int) -> bool:
    """Whether the path still names the file that was opened; its last holder may have removed it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
