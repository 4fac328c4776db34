"""Sampler: Python source, generated from a grammar's rules, that writes programs and carries their values along."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from seqtoolkit_program_eval import meaning
from seqtoolkit_program_eval.form import Form, Hole, Shapes, Term
from seqtoolkit_program_eval.grammar import GrammarError

WIDE = 2**40
"""Ranges up to this size take one 64-bit word a number, so that no number is likelier than another by over 2**-24."""
ECHOES = {"copy": "v", "reverse": "v[::-1]", "double": "v + v"}
"""The memorization problems: what each step does to the text of the value. The program is the number alone."""


class Sampler:
    """Programs of one problem: `source` is the generated code, `__call__` runs it on random bits."""

    def __init__(
        self, shapes: Shapes, forms: Sequence[Form], longest: int, deepest: int, echo: str | None = None
    ) -> None:
        self.shapes, self.echo = shapes, echo
        self.forms = sorted(forms, key=lambda form: -form.weight)
        self.longest = longest
        self._space: dict[str, Any] = dict(meaning.BOUNDED) | {"str": str, "range": range, "len": len, "list": list}
        self._space |= {"zip": zip, "ArithmeticError": ArithmeticError}
        number = shapes.grammar.terminals[shapes.number]
        if number.drawn is None:
            raise GrammarError(f"{number.where}: {number.name} does not say what to draw: `//= number in LOW..HIGH`")
        self._plain = number.drawn
        low, high = (self._table(each) for each in (number.drawn.low, number.drawn.high))
        spans = [top - bottom + 1 for bottom, top in zip(low, high, strict=True)]
        if min(spans) < 1:
            raise GrammarError(f"{number.where}: {number.name}: the range is empty")
        widest = max(spans)
        self.words_a_number = 1 if widest <= WIDE else 2 + widest.bit_length() // 64
        kind = np.int64 if self.words_a_number == 1 else object
        self._low, self._span = np.array([0, *low], kind), np.array([1, *spans], kind)
        holes = [self._drawn(form) for form in self.forms] or [([], [])]
        self.plain = max(len(plain) for plain, _ in holes)
        self.ranged = max(len(ranged) for _, ranged in holes)
        self.stride = 1 + self.plain + self.ranged
        self._letters = self._names(deepest)
        total = sum(form.weight for form in self.forms) or 1.0
        self._thresholds = np.cumsum([form.weight / total for form in self.forms])[:-1]

    def words(self, nesting: int) -> int:
        """How many random words an example takes."""
        return self.words_a_number + nesting * (1 + self.plain * self.words_a_number + self.ranged)

    def __call__(
        self, bits: np.ndarray, lengths: np.ndarray, nestings: np.ndarray, most: int
    ) -> tuple[list[str], list[str]]:
        """Texts and answers from uint64 `bits` [n, words(most)], no nesting over `most`; "" where there is no value."""
        rows = self._rows(bits, lengths, most)
        return self._run(rows, lengths.tolist(), nestings.tolist())

    def answer(self, value: int, length: int, nesting: int) -> str:
        """What the problem makes of the value of a program."""
        modulus = self.shapes.grammar.option("modulus")
        if self.echo is None:
            return str(value if modulus is None else value % self._table(modulus)[length - 1])
        text = str(value)
        for _ in range(nesting):
            text = text[::-1] if self.echo == "reverse" else text + text if self.echo == "double" else text
        return text

    def _rows(self, bits: np.ndarray, lengths: np.ndarray, steps: int) -> list[list[int]]:
        count, width = len(bits), self.words_a_number
        first = self._numbers(bits[:, None, :width], lengths)
        if not self.forms:
            return first.tolist()
        rest = bits[:, width:].reshape(count, steps, -1)
        row = np.empty((count, 1 + steps * self.stride), self._low.dtype)
        row[:, :1] = first
        cells = row[:, 1:].reshape(count, steps, self.stride)
        chosen = (rest[:, :, 0] >> np.uint64(11)).astype(np.float64) * 2.0**-53
        cells[:, :, 0] = np.searchsorted(self._thresholds, chosen, side="right")
        end = 1 + self.plain * width
        numbers = self._numbers(rest[:, :, 1:end].reshape(count, steps * self.plain, width), lengths)
        cells[:, :, 1 : 1 + self.plain] = numbers.reshape(count, steps, self.plain)
        cells[:, :, 1 + self.plain :] = rest[:, :, end:] >> np.uint64(16)
        row[:, 1:] = cells.reshape(count, -1)
        return row.tolist()

    def _numbers(self, words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        low, span = self._low[lengths][:, None], self._span[lengths][:, None]
        if self.words_a_number == 1:
            return (words[:, :, 0] % span.astype(np.uint64)).astype(np.int64) + low
        wide = words.astype(object)
        total = wide[:, :, 0]
        for place in range(1, self.words_a_number):
            total = (total << 64) | wide[:, :, place]
        return total % span + low

    @cached_property
    def _run(self) -> Callable[..., tuple[list[str], list[str]]]:
        space = self._space
        exec(self.source, space)  # noqa: S102  generated here from checked meanings and quoted texts
        return space["sample"]

    @cached_property
    def source(self) -> str:
        """The generated code: `sample(rows, lengths, nestings)`."""
        show = self.shapes.show
        body = ["v = row[0]", "t = p = str(v)"]
        if show is not None:
            body += ["s = ''", f"pool = list({self._letters!r})"]
        if self.echo is not None:
            body += ["v = p"]
        body += [f"for at in range(1, 1 + nesting * {self.stride}, {self.stride}):", *_indent(self._step())]
        result = "t" if show is None else f"s + {self._text(show, {}, None)}"
        tries = _indent(body)
        lines = ["try:", *tries, "except ArithmeticError:", "    texts.append(''); answers.append('')", "    continue"]
        lines += [f"texts.append({result})", f"answers.append({self._answer()})"]
        head = ["def sample(rows, lengths, nestings):", "    texts, answers = [], []"]
        loop = ["    for row, length, nesting in zip(rows, lengths, nestings):"]
        return "\n".join([*head, *loop, *_indent(_indent(lines)), "    return texts, answers", ""])

    def _answer(self) -> str:
        modulus = self.shapes.grammar.option("modulus")
        if self.echo is not None:
            return "v"
        if modulus is None:
            return "str(v)"
        self._space["moduli"] = [0, *self._table(modulus)]
        return "str(v % moduli[length])"

    def _step(self) -> list[str]:
        bracket = _quote([_braced(part) if isinstance(part, str) else "{t}" for part in self.shapes.bracket.parts])
        again = f"p = {bracket}"
        if self.echo is not None:
            return [f"if at > 1: {again}", "t = p", f"v = {ECHOES[self.echo]}"]
        expression = self.shapes.show is None
        lines = [f"if at > 1: {again}"] if expression else []
        lines += ["form = row[at]"]
        for index, form in enumerate(self.forms):
            lines += [f"{'el' if index else ''}if form == {index}:", *_indent(self._form(form))]
            if form.result is None and not expression:
                lines += _indent([again])
        return lines

    def _form(self, form: Form) -> list[str]:
        names: dict[Hole, str] = {}
        plain, ranged = self._drawn(form)
        lines = []
        for place, hole in enumerate(plain):
            names[hole] = f"n{place}"
            lines.append(f"n{place} = row[at + {1 + place}]")
        for place, hole in enumerate(ranged):
            names[hole] = f"r{place}"
            lines.append(f"r{place} = {self._draw(hole, f'row[at + {1 + self.plain + place}]')}")
        if form.result is None:
            (term,) = form.terms
            value = self._value(term, names, form.nested)
            return [*lines, f"t = {self._text(term, names, form.nested)}", f"v = {value}"]
        lines += [f"s += {self._text(term, names, form.nested)}" for term in form.terms]
        for term in form.terms:
            lines += self._act(term, names, form.nested)
        return [*lines, f"p = {names[form.result]}", f"v = {_variable(names[form.result])}"]

    def _drawn(self, form: Form) -> tuple[list[Hole], list[Hole]]:
        """The holes that take a number of the usual range, and the others; the program so far is neither."""
        holes = dict.fromkeys(hole for term in form.terms for hole in term.holes() if hole is not form.nested)
        plain = [hole for hole in holes if hole.kind != "name" and hole.drawn == self._plain]
        return plain, [hole for hole in holes if hole not in plain]

    def _draw(self, hole: Hole, word: str) -> str:
        if hole.kind == "name":
            if hole.drawn.low == hole.drawn.high:
                return repr(hole.drawn.low)
            return f"pool.pop({word} % len(pool))"
        low, high = self._table(hole.drawn.low), self._table(hole.drawn.high)
        place = len(self._space)
        self._space[f"low{place}"] = [0, *low]
        self._space[f"span{place}"] = [1, *(top - bottom + 1 for bottom, top in zip(low, high, strict=True))]
        return f"low{place}[length] + {word} % span{place}[length]"

    def _names(self, deepest: int) -> str:
        """The letters from which new variables are drawn, each once in a program, so that none is overwritten."""
        holes = {hole for form in self.forms for hole in self._drawn(form)[1] if hole.kind == "name"}
        fixed = {hole.drawn.low for hole in holes if hole.drawn.low == hole.drawn.high}
        ranges = {hole.drawn for hole in holes if hole.drawn.low != hole.drawn.high}
        path = self.shapes.grammar.path
        if len(ranges) > 1 or any(len(each.low + each.high) > 2 for each in ranges):
            raise GrammarError(f"{path}: new names are drawn from one range of letters, such as a..j")
        letters = "".join(chr(code) for each in ranges for code in range(ord(each.low), ord(each.high) + 1))
        if fixed & set(letters):
            raise GrammarError(f"{path}: {', '.join(fixed & set(letters))} is a fixed name and may be drawn as well")
        if ranges and deepest > len(letters):
            raise ValueError(f"nesting: at most {len(letters)} in {path.name}, which has so many names, got {deepest}")
        return letters

    def _table(self, expression: str) -> list[int]:
        path = self.shapes.grammar.path
        try:
            of = meaning.function(meaning.parse(expression, ["length"]), ["length"])
            return [int(of(length)) for length in range(1, self.longest + 1)]
        except (ValueError, ArithmeticError, TypeError) as error:
            raise GrammarError(f"{path}: {expression!r}, a limit for numbers of `length` digits: {error}") from error

    def _text(self, term: Term, names: dict[Hole, str], nested: Hole | None) -> str:
        pieces = []
        for piece in term.pieces():
            if isinstance(piece, str):
                pieces.append(_braced(piece))
            else:
                pieces.append(f"{{{'p' if piece is nested or nested is None else names[piece]}}}")
        return _quote(pieces)

    def _value(self, term: Term, names: dict[Hole, str], nested: Hole | None) -> str:
        return meaning.substitute(term.alternative.meaning, self._sources(term, names, nested))

    def _sources(self, term: Term, names: dict[Hole, str], nested: Hole | None) -> dict[str, str]:
        sources = {}
        for operand, part in zip(term.alternative.operands, term.parts, strict=True):
            if isinstance(part, Term):
                acts = meaning.calls(part.alternative.meaning) is not None
                sources[operand] = "None" if acts else self._value(part, names, nested)
            elif part is nested:
                sources[operand] = "v"
            else:
                sources[operand] = _variable(names[part]) if part.kind == "name" else names[part]
        return sources

    def _act(self, term: Term, names: dict[Hole, str], nested: Hole | None) -> list[str]:
        """Statements that do what the term's meaning does to the variables."""
        read = term.alternative.meaning
        parts = dict(zip(term.alternative.operands, term.parts, strict=True))
        sources = self._sources(term, names, nested)
        call = meaning.calls(read)
        arguments = [_operand(each) for each in read.args] if isinstance(read, ast.Call) else []
        if call == "store" and isinstance(read, ast.Call):
            return [f"{sources[arguments[0]]} = {meaning.substitute(read.args[1], sources)}"]
        if call == "repeat" and isinstance(read, ast.Call) and isinstance(parts.get(arguments[2]), Term):
            count = meaning.substitute(read.args[1], sources)
            body = self._act(parts[arguments[2]], names, nested)  # type: ignore[arg-type]  a Term, as just asked
            return [f"for {sources[arguments[0]]} in range({count}):", *_indent(body)]
        raise GrammarError(
            f"{term.alternative.mark.where}: {term.alternative.name} cannot be sampled, only read: "
            "its meaning is neither a value, nor store(...), nor repeat(name, count, body)"
        )


def _operand(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _variable(name: str) -> str:
    return f"of_{name}"


def _quote(pieces: list[str]) -> str:
    return "f" + repr("".join(pieces))


def _braced(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _indent(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]
