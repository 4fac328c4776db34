"""Display: one way of showing how training goes; here, as plain lines for a log."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from seqtoolkit.flow.source import Sample  # which imports torch

LINES = 12
"""How many lines of one question are shown."""
_FIRST = ("loss", "accuracy", "sequence_accuracy")
_MOST = 4


@dataclass
class Now:
    """Where training stands."""

    total: int
    step: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    speed: float = 0.0
    begun: tuple[float, int] | None = None

    def left(self) -> str:
        """The time that the remaining steps will take at the pace so far, evaluations included."""
        if self.begun is None or self.step <= self.begun[1]:
            return "-:--:--"
        pace = (time.monotonic() - self.begun[0]) / (self.step - self.begun[1])
        seconds = round(pace * max(0, self.total - self.step))
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"

    def share(self) -> float:
        """The part that is done, between 0 and 1."""
        return min(1.0, self.step / self.total) if self.total > 0 else 1.0

    def values(self) -> list[str]:
        """The most telling metrics, and the speed."""
        return [
            *named(self.metrics, _MOST),
            f"{self.speed:,.0f} {'frames' if 'frames' in self.metrics else 'examples'}/s",
        ]


class Display(ABC):
    """One way of showing."""

    every: float
    """Seconds from one refresh to the next."""

    @abstractmethod
    def refresh(self) -> None:
        """Show where training stands."""

    @abstractmethod
    def evaluated(self, step: int, metrics: Mapping[str, float], samples: Sequence[Sample]) -> None:
        """Show an evaluation, its samples with the model's answers."""

    @abstractmethod
    def note(self, text: str) -> None:
        """Show a line."""

    @abstractmethod
    def close(self) -> None:
        """Show the last state and let go of the stream."""


class Log(Display):
    """Plain lines, in characters that the stream can write."""

    every = 10.0

    def __init__(self, now: Now, stream: TextIO) -> None:
        self._now, self._stream = now, stream
        self._shown: int | None = None

    def refresh(self) -> None:
        """Write one line."""
        now = self._now
        self._shown = now.step
        where = f"step {now.step}/{now.total}"
        self.note("  ".join([where, f"{now.share():.0%}", *now.values(), f"{now.left()} left"]))

    def evaluated(self, step: int, metrics: Mapping[str, float], samples: Sequence[Sample]) -> None:
        """Write a line, and a line or block for each sample."""
        self.note("  ".join([f"step {step}", split(metrics), *named(metrics, len(metrics))]))
        for question, expected, answer in map(cleaned, samples):
            verdict = f"right: {answer}" if answer == expected else f"wrong: {answer}  expected: {expected}"
            verdict = verdict if expected else f"... {answer}"
            lines = cut(question)
            rows = [f"{lines[0]}  {verdict}"] if len(lines) == 1 else [*lines, verdict]
            self.note("\n".join(f"    {row}" for row in rows))

    def note(self, text: str) -> None:
        """Write a line."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Write the last state, if it has not been written."""
        if self._now.begun is not None and self._shown != self._now.step:
            self.refresh()


def named(metrics: Mapping[str, float], most: int) -> list[str]:
    """The metrics as "name value", those that people look at first, first."""
    ranked = sorted(metrics, key=lambda name: _FIRST.index(_short(name)) if _short(name) in _FIRST else len(_FIRST))
    return [f"{clean(_short(name), breaks=False)} {float(metrics[name]):.4g}" for name in ranked[:most]]


def split(metrics: Mapping[str, float]) -> str:
    """On which split an evaluation's metrics were taken: what their names begin with, where that is one word."""
    begins = {name.rpartition("/")[0] for name in metrics} - {""}
    return clean(begins.pop(), breaks=False) if len(begins) == 1 else "evaluation"


def _short(name: str) -> str:
    return name.rpartition("/")[2]


def cleaned(sample: Sample) -> Sample:
    """A sample of clean text."""
    return sample._replace(**{name: clean(text) for name, text in sample._asdict().items()})


def clean(text: str, *, breaks: bool = True) -> str:
    """Text that cannot move the cursor, but by line breaks: the rest is shown as escapes, tabs as spaces."""
    kept = "\n" if breaks else ""
    text = text.expandtabs(4).replace("\r\n", "\n")
    shown = (letter if letter.isprintable() or letter in kept else repr(letter)[1:-1] for letter in text)
    return "".join(shown)


def cut(question: str) -> list[str]:
    """The lines of a question, at most `LINES`, and how many there are more."""
    lines = question.rstrip("\n").split("\n")
    return lines if len(lines) <= LINES else [*lines[: LINES - 1], f"... {len(lines) - LINES + 1} more lines"]
