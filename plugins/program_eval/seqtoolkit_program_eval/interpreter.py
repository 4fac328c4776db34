"""Interpreter: runs the trees of any grammar by the meanings that stand in it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import lark

from seqtoolkit_program_eval import meaning
from seqtoolkit_program_eval.grammar import Grammar, ProgramError

MAX_STEPS = 1_000_000
MAX_PRINTED = 100_000


class Memory:
    """The variables of a running program, and what it has printed."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.printed: list[int] = []
        self.room = MAX_PRINTED

    def load(self, name: str) -> Any:
        """The value of a variable."""
        if name not in self.values:
            place = f"line {name.line}, column {name.column}: " if isinstance(name, lark.Token) else ""
            raise ProgramError(f"{place}the name {str(name)!r} has no value yet")
        return self.values[name]

    def store(self, name: str, value: Any) -> None:
        """Give a variable its value."""
        self.values[str(name)] = value

    def show(self, value: Any) -> None:
        """Print a value."""
        self.room -= 2 + value.bit_length() // 3
        if self.room < 0:
            raise ProgramError(f"the program prints more than about {MAX_PRINTED:,} digits")
        self.printed.append(int(value))

    def repeat(self, name: Any, count: Any, body: Any) -> meaning.Steps:
        """Run `body` for each of 0 .. count - 1 as the value of `name`."""
        variable = yield name
        for value in range((yield count)):
            self.store(variable, value)
            yield body

    def do(self, operands: tuple[Any, ...]) -> meaning.Steps:
        """Run the operands in order."""
        yield from operands


def run(grammar: Grammar, tree: lark.Tree[Any] | lark.Token) -> tuple[Any, Memory]:
    """The value of a tree, and the memory it leaves. Raises ProgramError where it fails or takes too long.

    A stack of generators, so that neither deep trees nor long ones meet Python's own limits.
    """
    steppers = _steppers(grammar)
    memory = Memory()
    value, stack = _enter(tree, steppers, grammar, memory)
    for _ in range(MAX_STEPS):
        if not stack:
            return value, memory
        try:
            asked = stack[-1].send(value)
        except StopIteration as done:
            value = done.value
            stack.pop()
            if isinstance(value, int) and value.bit_length() > meaning.MAX_BITS:
                raise ProgramError(f"a number of more than {meaning.MAX_DIGITS:,} digits") from None
        except ArithmeticError as error:
            raise ProgramError(f"the program cannot be run: {error}") from error
        else:
            value, entered = _enter(asked, steppers, grammar, memory)
            stack += entered
    raise ProgramError(f"the program takes more than {MAX_STEPS:,} steps")


def _enter(
    node: Any, steppers: dict[str, Callable[..., meaning.Steps]], grammar: Grammar, memory: Memory
) -> tuple[Any, list[meaning.Steps]]:
    if not isinstance(node, lark.Token):
        return None, [steppers[str(node.data)](memory, *node.children)]
    if grammar.terminals[node.type].kind != "number":
        return node, []
    if len(node) > meaning.MAX_DIGITS:
        raise ProgramError(
            f"line {node.line}, column {node.column}: a number of more than {meaning.MAX_DIGITS:,} digits"
        )
    return int(node), []


@lru_cache(maxsize=64)
def _steppers(grammar: Grammar) -> dict[str, Callable[..., meaning.Steps]]:
    return {
        name: meaning.stepper(each.meaning, each.operands, variadic=each.variadic)
        for name, each in grammar.alternatives.items()
    }


def values_of(grammar: Grammar, text: str) -> tuple[lark.Tree[Any] | lark.Token, list[int]]:
    """The tree of a program, and what it comes to: its value, or the values that it prints."""
    tree = grammar.parse(text)
    value, memory = run(grammar, tree)
    return tree, memory.printed if grammar.statements else [int(value)]


def evaluate(source: str, grammar: str = "program_eval", modulus: int | None = None) -> str:
    """The answer of a program of any grammar, as text: its value, or what it prints.

    Args:
        source: the program's text.
        grammar: the grammar's name, or a path to a `.lark` file.
        modulus: reduce a value to 0 .. modulus - 1, as Python's `%` does; None for the value itself.

    Raises:
        ProgramError: (a ValueError) the text is not of the language, with line, column and what was expected, or the
            program fails, or it is too large or takes too long.
        GrammarError: (a ValueError) there is no such grammar, or it does not compile.
    """
    if modulus is not None and modulus < 1:
        raise ValueError(f"modulus: wanted None or at least 1, got {modulus}")
    _, values = values_of(Grammar.load(grammar), source)
    return "\n".join(str(value if modulus is None else value % modulus) for value in values)
