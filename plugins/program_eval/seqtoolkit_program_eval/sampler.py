"""Sampler: random bits to programs and their answers, through generated code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seqtoolkit_program_eval.code import ECHOES, WIDEST, Code
from seqtoolkit_program_eval.form import Form
from seqtoolkit_program_eval.shape import Shapes


class Sampler:
    """Programs of one problem, up to `longest` digits and `deepest` operators: the forms, or an echo of the number."""

    def __init__(
        self, shapes: Shapes, forms: Sequence[Form], longest: int, deepest: int, echo: str | None = None
    ) -> None:
        self.code = Code(shapes, forms, longest, deepest, echo)
        low, span = shapes.limits(shapes.usual, longest)
        self._width = 1 if max(span) <= WIDEST else 2 + max(span).bit_length() // 64
        kind = np.int64 if self._width == 1 else object
        self._low, self._span = np.array(low, kind), np.array(span, kind)
        total = sum(form.weight for form in forms) or 1.0
        self._thresholds = np.cumsum([form.weight / total for form in self.code.forms])[:-1]
        modulus = shapes.grammar.option("modulus")
        self._moduli = [] if modulus is None else shapes.table(modulus, longest)
        self._shapes, self._modulus = shapes, modulus

    def words(self, nesting: int) -> int:
        """How many random words an example takes."""
        return self._width + nesting * (1 + self.code.plain * self._width + self.code.ranged)

    def __call__(
        self, bits: np.ndarray, lengths: np.ndarray, nestings: np.ndarray, most: int
    ) -> tuple[list[str], list[str]]:
        """Texts and answers from uint64 `bits` [n, words(most)], no nesting over `most`; "" where there is no value."""
        rows = self._rows(bits, lengths, most)
        return self.code.run(rows, lengths.tolist(), nestings.tolist())

    def answer(self, value: int, length: int, steps: int) -> str:
        """What the problem makes of the value of a program with numbers of `length` digits, in `steps` steps."""
        if self.code.echo is None:
            return str(value if self._modulus is None else value % self._modulus_of(self._modulus, length))
        text = str(value)
        for _ in range(steps):
            text = ECHOES[self.code.echo](text)
        return text

    def _modulus_of(self, modulus: str, length: int) -> int:
        """The modulus of numbers of `length` digits, which may be longer than those that are drawn."""
        known = length < len(self._moduli)
        return self._moduli[length] if known else self._shapes.table(modulus, length)[length]

    def _rows(self, bits: np.ndarray, lengths: np.ndarray, steps: int) -> list[list[int]]:
        count, width = len(bits), self._width
        first = self._numbers(bits[:, None, :width], lengths)
        if not self.code.forms:
            return first.tolist()
        rest = bits[:, width:].reshape(count, steps, -1)
        row = np.empty((count, 1 + steps * self.code.stride), self._low.dtype)
        row[:, :1] = first
        cells = row[:, 1:].reshape(count, steps, self.code.stride)
        chosen = (rest[:, :, 0] >> np.uint64(11)).astype(np.float64) * 2.0**-53
        cells[:, :, 0] = np.searchsorted(self._thresholds, chosen, side="right")
        end = 1 + self.code.plain * width
        numbers = self._numbers(rest[:, :, 1:end].reshape(count, steps * self.code.plain, width), lengths)
        cells[:, :, 1 : 1 + self.code.plain] = numbers.reshape(count, steps, self.code.plain)
        cells[:, :, 1 + self.code.plain :] = rest[:, :, end:] >> np.uint64(16)
        row[:, 1:] = cells.reshape(count, -1)
        return row.tolist()

    def _numbers(self, words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        low, span = self._low[lengths][:, None], self._span[lengths][:, None]
        if self._width == 1:
            return (words[:, :, 0] % span.astype(np.uint64)).astype(np.int64) + low
        wide = words.astype(object)
        total = wide[:, :, 0]
        for place in range(1, self._width):
            total = (total << 64) | wide[:, :, place]
        return total % span + low
