"""Code: the Python source of a sampler, generated from the forms of a grammar."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

from seqtoolkit_program_eval import meaning
from seqtoolkit_program_eval.form import Form, Hole, Term
from seqtoolkit_program_eval.grammar import GrammarError
from seqtoolkit_program_eval.shape import Shapes

ECHOES: dict[str, Callable[[str], str]] = {
    "copy": lambda text: text,
    "reverse": lambda text: text[::-1],
    "double": lambda text: text + text,
}
"""The memorization problems: what each step does to the text of the value. The program is the number alone."""
WIDEST = 2**40
"""Ranges up to this size take one random word a number, so that no number is likelier than another by over 2**-24."""

_FUNCTIONS = {each.__name__: each for each in (str, range, list, len, zip, ArithmeticError, ValueError)}


class Code:
    """`source`, and `run`, the function that it defines: (rows, lengths, nestings) to (texts, answers).

    A row is a list of integers: the first number; then, for each step, which form it takes, `plain` numbers of the
    usual range, and `ranged` random words, from which numbers of other ranges and names are made. While a program's
    text grows (t; as an operand p; its statements so far s), so does its value (v).
    """

    def __init__(self, shapes: Shapes, forms: Sequence[Form], longest: int, deepest: int, echo: str | None) -> None:
        self.shapes, self.echo = shapes, echo
        self.forms = sorted(forms, key=lambda form: -form.weight)
        self._longest = longest
        drawn = [self._drawn(form) for form in self.forms] or [([], [])]
        self.plain, self.ranged = (max(len(each[place]) for each in drawn) for place in (0, 1))
        self.stride = 1 + self.plain + self.ranged
        self._letters = self._names(deepest)
        self._space: dict[str, Any] = {**meaning.BOUNDED, **_FUNCTIONS}
        if echo is not None:
            self._space["echo"] = ECHOES[echo]
        self.source = self._source()
        exec(self.source, self._space)  # noqa: S102  generated here from checked meanings and quoted texts
        self.run: Callable[..., tuple[list[str], list[str]]] = self._space["sample"]

    def _source(self) -> str:
        show = self.shapes.show
        body = ["v = row[0]", "t = p = str(v)"]
        if show is not None:
            body += ["s = ''", f"pool = list({self._letters!r})"]
        if self.echo is not None:
            body += ["v = p"]
        body += [f"for at in range(1, 1 + nesting * {self.stride}, {self.stride}):", *_indent(self._step())]
        result = "t" if show is None else f"s + {self._text(show, {}, None)}"
        lines = ["try:", *_indent([*body, f"v = {self._answer()}"])]
        lines += ["except (ArithmeticError, ValueError):", "    texts.append(''); answers.append('')", "    continue"]
        lines += [f"texts.append({result})", "answers.append(v)"]
        head = ["def sample(rows, lengths, nestings):", "    texts, answers = [], []"]
        loop = ["    for row, length, nesting in zip(rows, lengths, nestings):"]
        return "\n".join([*head, *loop, *_indent(_indent(lines)), "    return texts, answers", ""])

    def _answer(self) -> str:
        modulus = self.shapes.grammar.option("modulus")
        if self.echo is not None:
            return "v"
        if modulus is None:
            return "str(v)"
        self._space["moduli"] = self.shapes.table(modulus, self._longest)
        return "str(v % moduli[length])"

    def _step(self) -> list[str]:
        bracket = _quote([_braced(part) if isinstance(part, str) else "{t}" for part in self.shapes.bracket.parts])
        again = f"p = {bracket}"
        if self.echo is not None:
            return [f"if at > 1: {again}", "t = p", "v = echo(v)"]
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
        plain = [hole for hole in holes if hole.kind != "name" and hole.drawn == self.shapes.usual]
        return plain, [hole for hole in holes if hole not in plain]

    def _draw(self, hole: Hole, word: str) -> str:
        if hole.kind == "name":
            if hole.drawn.low == hole.drawn.high:
                return repr(hole.drawn.low)
            return f"pool.pop({word} % len(pool))"
        low, span = self.shapes.limits(hole.drawn, self._longest)
        if max(span) > WIDEST:
            raise GrammarError(f"{self.shapes.grammar.path}: {hole.drawn} has more than {WIDEST:,} numbers")
        place = len(self._space)
        self._space |= {f"low{place}": low, f"span{place}": span}
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

    def _text(self, term: Term, names: dict[Hole, str], nested: Hole | None) -> str:
        pieces = []
        for piece in term.pieces():
            if isinstance(piece, str):
                pieces.append(_braced(piece))
            else:
                pieces.append(f"{{{'p' if piece is nested or nested is None else names[piece]}}}")
        return _quote(pieces)

    def _value(self, term: Term, names: dict[Hole, str], nested: Hole | None) -> str:
        for each in (term, *(part for part in term.parts if isinstance(part, Term))):
            if meaning.calls(each.alternative.meaning):
                raise GrammarError(
                    f"{each.alternative.mark.where}: {each.alternative.name} acts where a value is wanted"
                )
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
        body = parts.get(arguments[2]) if call == "repeat" else None
        if isinstance(read, ast.Call) and isinstance(body, Term):
            count = meaning.substitute(read.args[1], sources)
            return [f"for {sources[arguments[0]]} in times({count}):", *_indent(self._act(body, names, nested))]
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
