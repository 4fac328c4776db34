"""Preparation: what is made before a run begins, shown to a person at a terminal as a bar, to a log as lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

EVERY = 10.0
"""Seconds from one line of a log to the next."""
REDRAW = 0.1
"""Seconds from one picture of the bar to the next."""


class Preparation:
    """Shows on `stream` what is being made and which share of it is done; a bar where that is `interactive`."""

    def __init__(self, stream: TextIO, *, interactive: bool) -> None:
        self._stream, self._interactive = stream, interactive
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._said, self._due = "", 0.0

    def __call__(self, text: str, share: float) -> None:
        """Show that of `text` the `share` is done, from 0 to 1. Raises OSError or ValueError for a stream that breaks."""
        if self._interactive:
            self._draw(text, share)
        elif text != self._said or time.monotonic() >= self._due:
            self._said, self._due = text, time.monotonic() + EVERY
            self._stream.write(f"{text}  {share:.0%}\n")
            self._stream.flush()

    def close(self) -> None:
        """Give the terminal back."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = None

    def _draw(self, text: str, share: float) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

            console = Console(file=self._stream, force_terminal=True, highlight=False, markup=False)
            text_column = TextColumn("{task.description}", markup=False)
            columns = (text_column, BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=console, transient=True, auto_refresh=False)
            self._bar.start()
            self._said = ""
        if text != self._said or self._task is None:
            if self._task is not None and self._task in self._bar.task_ids:
                self._bar.remove_task(self._task)
            self._said, self._task, self._due = text, self._bar.add_task(text, total=1.0), 0.0
        self._bar.update(self._task, completed=share)
        if (
            share >= 1 or time.monotonic() >= self._due
        ):  # by no thread of rich's, in which a broken stream would be told of
            self._due = time.monotonic() + REDRAW
            self._bar.refresh()
