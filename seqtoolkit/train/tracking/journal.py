"""Journal: a file of JSON lines, fed from memory by a thread, so that writing costs its caller a microsecond."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqtoolkit.train.tracking.lock import hold

logger = logging.getLogger(__name__)
_encode = json.JSONEncoder(default=float).encode  # numpy and torch scalars are floats to us


class Journal:
    """Appends lines to a file; what was put more than `every` seconds ago survives the death of the process.

    The file stays locked while the journal is open, which tells others that its writer lives. While it cannot be written
    (a full disk), lines wait in memory, the newest `limit` of them.
    """

    def __init__(self, path: Path, every: float = 0.5, limit: int = 100_000) -> None:
        """Raises OSError where the file cannot be opened, BlockingIOError where another process writes it."""
        self.path = path
        self.dropped = 0
        self._queue: deque[Mapping[str, Any]] = deque(maxlen=limit)
        self._held: list[Mapping[str, Any]] = []
        self._writing = threading.Lock()
        lock = hold(path, wait=20.0)
        if lock is None:
            raise BlockingIOError(f"{path}: another process is writing it")
        self._lock = lock
        self.size = self._mend()
        self._failing = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(every,), name=f"journal {path.name}", daemon=True)
        self._thread.start()

    def put(self, line: Mapping[str, Any]) -> None:
        """Queue one line; the mapping must not change any more."""
        if self._closed.is_set():
            return
        self.dropped += len(self._queue) == self._queue.maxlen
        self._queue.append(line)

    def flush(self) -> None:
        """Write what is queued. Raises OSError where that fails; nothing is lost then."""
        with self._writing:
            while self._queue or self._held:
                self._held = self._held or [self._queue.popleft() for _ in range(min(len(self._queue), 1000))]
                self._append(b"".join(map(_line, self._held)))
                self._held = []

    def close(self) -> None:
        """Write what is queued, and close the file; what comes later is dropped. Never raises."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._thread.join()
        self._try()
        lost = self.dropped + len(self._held) + len(self._queue)
        if lost:
            logger.warning("%s: %d lines could not be written and are lost", self.path, lost)
        self._lock.release()

    def _run(self, every: float) -> None:
        while not self._closed.wait(every):
            self._try()

    def _try(self) -> None:
        try:
            self.flush()
        except OSError as error:
            if not self._failing:
                logger.warning("%s cannot be written (%s); lines wait in memory", self.path, error.strerror or error)
            self._failing = True
        else:
            self._failing = False

    def _append(self, data: bytes) -> None:
        """Write all of `data` at the end, or leave the file as it was."""
        descriptor, written = self._lock.descriptor, 0
        try:
            while written < len(data):
                written += os.pwrite(descriptor, data[written:], self.size + written)
        except OSError:
            os.ftruncate(descriptor, self.size)
            raise
        self.size += len(data)

    def _mend(self) -> int:
        """Cut off a last line that was not written to its end; return the size."""
        data = self.path.read_bytes()
        size = data.rfind(b"\n") + 1
        os.ftruncate(self._lock.descriptor, size)
        return size


def _line(item: Mapping[str, Any]) -> bytes:
    try:
        return _encode(item).encode() + b"\n"
    except (TypeError, ValueError, RuntimeError) as error:
        logger.warning("not recorded, for it is not made of numbers and text: %.200r (%s)", item, error)
        return b""
