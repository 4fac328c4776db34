"""Stop: the wish to end a run, which the loop reads between two updates."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Literal, Self

Status = Literal["FINISHED", "KILLED"]


class Stop:
    """The wish to end a run, and why; inside `with`, Ctrl-C and SIGTERM are such wishes, and a second Ctrl-C is at once."""

    def __init__(self) -> None:
        self.reason: str | None = None
        """Why the run is to end; None where it is not."""
        self.status: Status = "FINISHED"
        """How it ends: KILLED after a signal."""
        self._former: dict[int, Any] = {}

    def ask(self, reason: str, status: Status = "FINISHED") -> None:
        """Wish for the end. The first reason stays; KILLED, once wished for, stays too."""
        self.reason = self.reason or reason
        if status == "KILLED":
            self.status = status

    @property
    def asked(self) -> bool:
        """Whether the run is to end."""
        return self.reason is not None

    @property
    def killed(self) -> bool:
        """Whether it is to end as it is, with nothing more done than saved."""
        return self.asked and self.status == "KILLED"

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._former[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)

    def _hear(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  a handler's signature
        if self.killed:
            raise KeyboardInterrupt
        self.ask(signal.Signals(number).name, "KILLED")
