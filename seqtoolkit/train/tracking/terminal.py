"""Terminal: a live bar, and colored answers above it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn, TextIO

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from seqtoolkit.train.tracking.display import Display, Now, cleaned, cut, named, split

if TYPE_CHECKING:
    from seqtoolkit.flow.source import Sample  # which imports torch

WIDEST = 100


class _Screen(Console):
    """A console that leaves it to others what a broken pipe means; rich ends the process."""

    def on_broken_pipe(self) -> NoReturn:
        raise  # noqa: PLE0704  (rich calls this while it handles the error)


class Terminal(Display):
    """A bar that stays at the bottom while lines go by above it."""

    every = 0.25

    def __init__(self, now: Now, stream: TextIO) -> None:
        self._now = now
        self._console = _Screen(file=stream, force_terminal=True, highlight=False, markup=False, emoji=False)
        self._live = Live(console=self._console, auto_refresh=False)
        self._right, self._wrong, self._arrow = "✓✗→" if self._console.encoding.startswith("utf") else ("+", "-", "=")

    def refresh(self) -> None:
        """Redraw the bar."""
        self._live.start()
        self._live.update(self._bar(), refresh=True)

    def evaluated(self, step: int, metrics: Mapping[str, float], samples: Sequence[Sample]) -> None:
        """Print above the bar."""
        head = [
            Text(row, "bold")
            for row in _rows([f"step {step}", split(metrics), *named(metrics, len(metrics))], self._console.width)
        ]
        rows = [row for sample in samples for row in self._sample(cleaned(sample))]
        self._console.print(Text("\n").join([*head, *rows]))

    def note(self, text: str) -> None:
        """Print above the bar."""
        self._console.print(Text(text))

    def close(self) -> None:
        """Draw the last state, and give back the cursor, stdout and stderr."""
        try:
            if self._live.is_started:
                self._live.update(self._bar())
        finally:
            self._live.stop()

    def _sample(self, sample: Sample) -> list[Text]:
        """A question and its answer: on one line where that fits, else one below the other."""
        right = sample.answer == sample.expected or not sample.expected
        style, mark = ("green", self._right) if right else ("red", self._wrong)
        style, mark = (style, mark) if sample.expected else ("cyan", " ")
        head = Text(f"{mark} ", style)
        answer = Text(f"{self._arrow} ").append(sample.answer, style)
        if not right:
            answer.append(f"  expected {sample.expected}", "dim")
        lines = cut(sample.question)
        question = Text("\n".join(lines))
        if len(lines) == 1 and 4 + question.cell_len + answer.cell_len <= self._console.width:
            return [Text.assemble(head, question, "  ", answer)]
        width = max(1, self._console.width - 2)
        rows = [row for text in (question, answer) for row in text.wrap(self._console, width, overflow="fold")]
        for row in rows:
            row.rstrip()
        return [Text.assemble(head if number == 0 else "  ", row) for number, row in enumerate(rows)]

    def _bar(self) -> Group:
        now = self._now
        line = Table.grid(padding=(0, 1), expand=True)
        line.width = min(WIDEST, self._console.width)
        line.add_column(no_wrap=True)
        line.add_column(ratio=1)
        line.add_column(no_wrap=True)
        line.add_column(no_wrap=True)
        line.add_row(
            f"{now.step}/{now.total}",
            ProgressBar(total=1.0, completed=now.share(), complete_style="cyan", finished_style="green"),
            f"{now.share():.0%}",
            f"{now.left()} left",
        )
        return Group(line, *_rows(now.values(), line.width))


def _rows(items: list[str], width: int) -> list[str]:
    """The items in rows of at most `width`; none is broken unless it is wider by itself."""
    rows = items[:1]
    for item in items[1:]:
        joint = f"{rows[-1]}  {item}"
        if cell_len(joint) <= width:
            rows[-1] = joint
        else:
            rows.append(item)
    return rows
