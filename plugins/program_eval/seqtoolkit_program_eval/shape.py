"""Shape: what a sampler has to know of a grammar, derived from its rules.

A program of `nesting` operators grows one step at a time: a step is an alternative of the grammar, one of whose operands
is the program so far, the others fresh numbers. A form is such an alternative with its inner rules (a comparison, the
body of a loop) written out, so that only holes are left.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Literal

from seqtoolkit_program_eval import meaning
from seqtoolkit_program_eval.form import Form, Hole, Term
from seqtoolkit_program_eval.grammar import Grammar, GrammarError
from seqtoolkit_program_eval.mark import Range
from seqtoolkit_program_eval.rule import Alternative, Slot

MAX_FORMS = 1_000


class Shapes:
    """What the sampler has to know of a grammar: `forms` of each problem, the brackets, and how a program ends."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.bracket = self._bracket()
        self.inner = self.bracket.slots[0].symbol
        self.operand_symbols = {
            symbol
            for symbol in {each.origin for each in grammar.alternatives.values()} | set(grammar.passages)
            if self.bracket.name in grammar.reachable(symbol)
        }
        self.number = self._numbers(self.inner)[0]
        self.usual = self._hole(self.number, None).drawn
        self.statement = grammar.alternatives[grammar.start].slots[0].symbol if grammar.statements else None
        self.assign, shown = self._only("store"), self._only("show")
        if self.statement and (self.assign is None or shown is None):
            raise GrammarError(f"{grammar.path}: no statement is `//= store(a, b)`, or none is `//= show(a)`")
        self.show = None if shown is None else replace(shown, after="")

    @property
    def operators(self) -> dict[str, Alternative]:
        """The alternatives that can be a step, by name."""
        reachable = list(self.grammar.reachable(self.inner))
        if self.statement:
            reachable += self.grammar.reachable(self.statement)
        found = {name: self.grammar.alternatives[name] for name in reachable if name in self.grammar.alternatives}
        shown = None if self.show is None else self.show.alternative.name
        return {
            name: each
            for name, each in found.items()
            if name not in (self.bracket.name, shown) and any(not slot.terminal for slot in each.slots)
        }

    def forms(self, weights: Mapping[str, float]) -> list[Form]:
        """The forms of the operators in `weights`, each weight shared among the operator's forms."""
        found = []
        for name, weight in weights.items():
            for share, form in self._forms_of(self.operators[name]):
                found.append(replace(form, weight=weight * share))
        if len(found) > MAX_FORMS:
            raise GrammarError(f"{self.grammar.path}: a step can take {len(found):,} forms, more than {MAX_FORMS:,}")
        return found

    def table(self, expression: str, longest: int) -> list[int]:
        """The values of an expression of `length`, at the index `length`, up to `longest`."""
        try:
            of = meaning.function(meaning.parse(expression, ["length"]), ["length"])
            return [0, *(int(of(length)) for length in range(1, longest + 1))]
        except (ValueError, ArithmeticError) as error:
            raise GrammarError(f"{self.grammar.path}: {expression!r}, a limit of numbers: {error}") from error

    def limits(self, drawn: Range, longest: int) -> tuple[list[int], list[int]]:
        """The lowest number of a range and how many there are, at the index `length`."""
        low, high = self.table(drawn.low, longest), self.table(drawn.high, longest)
        span = [top - bottom + 1 for bottom, top in zip(low, high, strict=True)]
        if min(span) < 1:
            raise GrammarError(f"{self.grammar.path}: {drawn.low}..{drawn.high} is empty")
        return low, span

    def _forms_of(self, operator: Alternative) -> list[tuple[float, Form]]:
        statement = self.statement is not None and operator.name in self.grammar.reachable(self.statement)
        symbol = self.statement if statement and self.statement else self.inner
        forms = []
        for share, term in self._expand(operator, operator.name, symbol, ()):
            terms, result = self._complete(term) if statement else ((term,), None)
            holes = [hole for each in terms for hole in each.holes() if hole.kind == "operand"]
            if not holes:
                raise GrammarError(f"{operator.mark.where}: {operator.name} leaves no operand for the program so far")
            places = holes if self.grammar.option("nested") == "any" else holes[:1]
            forms += [(share / len(places), Form(0.0, terms, place, result)) for place in places]
        return forms

    def _complete(self, term: Term) -> tuple[tuple[Term, ...], Hole]:
        """A statement, after one that gives its variable a value where it needs one."""
        used, set_here = term.names("load"), term.names("store")
        if not used:
            return (term,), next(iter(set_here))
        if self.assign is None or len(used) > 1:
            raise GrammarError(
                f"{term.alternative.mark.where}: a sampled statement reads one variable, "
                "and another statement (`//= store(a, b)`) gives variables their first value"
            )
        (variable,) = used
        operand = next(part for part in self.assign.parts if isinstance(part, Hole) and part.kind == "operand")
        return (replace(self.assign, parts=(variable, replace(operand))), term), variable

    def _expand(
        self, alternative: Alternative, operator: str, symbol: str, path: tuple[str, ...]
    ) -> list[tuple[float, Term]]:
        before, after = self.grammar.passage(symbol, alternative.name)
        path = (*path, alternative.name)
        found: list[tuple[float, Term]] = []
        for constraint in self._constraints(alternative):
            choices = []
            for name, slot in zip(alternative.operands, alternative.slots, strict=True):
                choices.append(self._fill(slot, constraint.get(name), operator, path))
            for chosen in product(*choices):
                share = 1.0
                for each, _ in chosen:
                    share *= each
                found.append((share, Term(alternative, tuple(part for _, part in chosen), before, after)))
        total = sum(share for share, _ in found)
        return [(share / total, term) for share, term in found]

    def _constraints(self, alternative: Alternative) -> list[dict[str, Range]]:
        choices = [[(name, drawn) for name in names] for names, drawn in alternative.mark.ranges]
        for names, _ in alternative.mark.ranges:
            for name in names:
                if name not in alternative.operands:
                    raise GrammarError(f"{alternative.mark.where}: {alternative.name} has no operand {name}")
        return [dict(chosen) for chosen in product(*choices)]

    def _fill(
        self, slot: Slot, drawn: Range | None, operator: str, path: tuple[str, ...]
    ) -> Sequence[tuple[float, Term | Hole]]:
        if slot.terminal:
            return [(1.0, self._hole(slot.symbol, drawn))]
        if slot.symbol in self.operand_symbols:
            before, after = self.grammar.passage(slot.symbol, self.number)
            number = self._hole(self.number, drawn)
            kind: Literal["operand", "number"] = "operand" if drawn is None else "number"
            return [(1.0, replace(number, kind=kind, before=before, after=after))]
        choices: list[tuple[float, Term | Hole]] = []
        for alternative in self._inner_choices(slot.symbol, operator, path):
            terms = self._expand(alternative, operator, slot.symbol, path)
            choices += [(alternative.mark.weight * share, term) for share, term in terms]
        if not choices:
            raise GrammarError(f"{self.grammar.path}: {slot.symbol} in {path[-1]} can be nothing finite")
        return choices

    def _inner_choices(self, symbol: str, operator: str, path: tuple[str, ...]) -> list[Alternative]:
        names = self.grammar.reachable(symbol)
        found = [self.grammar.alternatives[name] for name in names if name in self.grammar.alternatives]
        found = [each for each in found if each.mark.weight and each.name not in path]
        chosen = [each for each in found if operator in each.mark.within]
        return chosen or [each for each in found if each.name not in self.operators]

    def _hole(self, terminal: str, drawn: Range | None) -> Hole:
        known = self.grammar.terminals[terminal]
        limits = drawn or known.drawn
        if limits is None:
            raise GrammarError(f"{known.where}: {terminal} does not say what to draw: `//= {known.kind} in LOW..HIGH`")
        return Hole("name" if known.kind == "name" else "number", limits)

    def _numbers(self, symbol: str) -> list[str]:
        terminals = self.grammar.terminals
        return [
            name for name in self.grammar.reachable(symbol) if name in terminals and terminals[name].kind == "number"
        ]

    def _bracket(self) -> Alternative:
        """The alternative that makes an operand of any expression: text, a rule that leads back to itself, text."""
        for each in self.grammar.alternatives.values():
            kinds = [isinstance(part, str) for part in each.parts]
            if kinds == [True, False, True] and not each.slots[0].terminal and ast.unparse(each.meaning) == "a":
                inner = each.slots[0].symbol
                if each.name in self.grammar.reachable(inner) and self._numbers(inner):
                    return each
        raise GrammarError(
            f'{self.grammar.path}: no alternative puts an expression in brackets (`"(" sum ")" -> group //= a`), '
            "and so no program can be sampled"
        )

    def _only(self, call: str) -> Term | None:
        """The statement that does `call`, and needs no variable."""
        if self.statement is None:
            return None
        for name in self.grammar.reachable(self.statement):
            each = self.grammar.alternatives.get(name)
            if each is not None and meaning.calls(each.meaning) == call and not meaning.names_in(each.meaning, "load"):
                return self._expand(each, each.name, self.statement, ())[0][1]
        return None
