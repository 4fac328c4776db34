"""Progress: how training goes, for a person at a terminal or for a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from seqtoolkit.train.tracking.display import Display, Log, Now, clean
from seqtoolkit.train.tracking.preparation import Preparation

if TYPE_CHECKING:
    from seqtoolkit.flow.source import Sample  # which imports torch


class Progress:
    """Shows the progress of `total_steps` updates on `stream`.

    `interactive` says whether that is a terminal on which lines can be redrawn; found out where it is None. A stream that
    breaks is given up without a word, for training is worth more than its picture. One that is `quiet` shows nothing.
    """

    def __init__(
        self,
        total_steps: int,
        interactive: bool | None = None,  # noqa: FBT001  (one of three choices)
        stream: TextIO | None = None,
        *,
        quiet: bool = False,
    ) -> None:
        stream = sys.stderr if stream is None else stream
        if interactive is None:
            interactive = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._now = Now(total_steps)
        make = _terminal if interactive else Log
        self._display: Display | None = None if quiet else make(self._now, stream)
        self._preparation = Preparation(stream, interactive=interactive)
        self._due = 0.0

    def preparing(self, text: str, share: float) -> None:
        """Show which share, from 0 to 1, is done of what is made before training."""
        if self._display is not None:
            self._attempt(self._preparation, clean(text), share)

    def prepared(self) -> None:
        """Nothing more is made."""
        with suppress(OSError, ValueError):
            self._preparation.close()

    def update(self, step: int, metrics: Mapping[str, float], examples_per_second: float) -> None:
        """Hear of one update; shows it if the last one shown is long enough ago."""
        now = self._now
        now.step, now.metrics, now.speed = step, metrics, examples_per_second
        instant = time.monotonic()
        if now.begun is None:
            now.begun = (instant, step)
        if instant >= self._due and self._display is not None:
            self._attempt(self._display.refresh)
            self._due = time.monotonic() + (self._display.every if self._display else 0.0)

    def evaluated(self, step: int, metrics: Mapping[str, float], samples: Sequence[Sample]) -> None:
        """Show an evaluation, and what the model answers to some questions."""
        if self._display is not None:
            self._attempt(self._display.evaluated, step, metrics, samples)

    def note(self, text: str) -> None:
        """Show a line."""
        if self._display is not None:
            self._attempt(self._display.note, clean(text))

    def close(self) -> None:
        """Show the last state, and give the terminal back. May be called twice."""
        if self._display is not None:
            self._attempt(self._display.close)
        self._display = None

    def _attempt(self, show: Callable[..., None], *arguments: object) -> None:
        try:
            show(*arguments)
        except (OSError, ValueError):  # a broken pipe, a closed stream
            if self._display is not None:
                with suppress(OSError, ValueError):
                    self._display.close()
            self._display = None


def _terminal(now: Now, stream: TextIO) -> Display:
    """The display that rich draws, which is imported for it alone."""
    from seqtoolkit.train.tracking.terminal import Terminal

    return Terminal(now, stream)
