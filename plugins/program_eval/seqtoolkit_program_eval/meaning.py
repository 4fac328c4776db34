"""Meaning: what an alternative of a grammar computes, in a small language that is safe to read from anyone's file.

A meaning is a Python expression over the operands a, b, c, ... (the parts of an alternative that stand in the tree, in
order), with integers, arithmetic, comparisons, `and`, `or`, `not`, the conditional, and the calls of `CALLS`. Nothing
else is let through, so that a grammar file can compute but never reach anything.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

MAX_DIGITS = 4_300
"""Numbers of more digits are refused: CPython's own limit for reading and printing them."""
MAX_BITS = int(MAX_DIGITS * 3.3219)
MAX_MEANING = 300
MAX_TIMES = 10_000
"""Programs with longer loops are read but not sampled."""
CALLS = {"min": None, "max": None, "abs": 1, "store": 2, "load": 1, "repeat": 3, "do": None, "show": 1}
"""What a meaning may call, with the number of arguments where that is fixed.

`store(name, value)`, `load(name)`, `repeat(name, count, body)`: body, with name = 0, 1, ... before each time;
`do(*operands)`: the operands in order; `show(value)`: print.
"""
_ACTIONS = ("store", "repeat", "do", "show")
_NODES = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Load),
    *(ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod, ast.Pow, ast.LShift, ast.RShift),
    *(ast.BitAnd, ast.BitOr, ast.BitXor, ast.USub, ast.UAdd, ast.Not, ast.Invert, ast.And, ast.Or),
    *(ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq),
)


def parse(text: str, names: Iterable[str]) -> ast.expr:
    """Read a meaning over `names`. Raises ValueError that says what is not allowed."""
    if len(text) > MAX_MEANING:
        raise ValueError(f"a meaning has at most {MAX_MEANING} characters, this one {len(text)}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text.strip()!r} is not an expression") from error
    _check(tree, set(names), text.strip())
    return tree


def _check(node: ast.AST, names: set[str], text: str) -> None:
    if isinstance(node, ast.Name):
        if node.id not in names:
            known = ", ".join(sorted(names)) or "none"
            raise ValueError(f"{text!r} speaks of {node.id!r}, but the names here are {known}")
        return
    if isinstance(node, ast.Constant):
        if type(node.value) is not int or node.value.bit_length() > MAX_BITS:
            raise ValueError(f"{text!r}: the only constants are integers")
        return
    if isinstance(node, ast.Call):
        _check_call(node, names, text)
        return
    if not isinstance(node, _NODES):
        allowed = "arithmetic, comparisons, conditionals and " + ", ".join(CALLS)
        raise ValueError(f"{text!r}: {type(node).__name__} is not allowed in a meaning, only {allowed}")
    for child in ast.iter_child_nodes(node):
        _check(child, names, text)


def _check_call(node: ast.Call, names: set[str], text: str) -> None:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name not in CALLS or node.keywords:
        raise ValueError(f"{text!r}: the only calls are {', '.join(CALLS)}")
    if name == "do" and ast.unparse(node) == "do(*operands)":
        return
    wanted = CALLS[name]
    if wanted is not None and len(node.args) != wanted:
        raise ValueError(f"{text!r}: {name} takes {wanted} values, not {len(node.args)}")
    if not node.args and name != "do":
        raise ValueError(f"{text!r}: {name} needs a value")
    named = name in ("store", "load", "repeat")
    if named and not isinstance(node.args[0], ast.Name):
        raise ValueError(f"{text!r}: the first value of {name} is an operand, the variable's name")
    for child in node.args:
        _check(child, names, text)


def names_in(meaning: ast.expr, call: str) -> set[str]:
    """The operands that `meaning` gives to `call` as a variable's name."""
    calls = (node for node in ast.walk(meaning) if isinstance(node, ast.Call))
    named = (node for node in calls if isinstance(node.func, ast.Name) and node.func.id == call)
    return {node.args[0].id for node in named if node.args and isinstance(node.args[0], ast.Name)}


def calls(meaning: ast.expr) -> str | None:
    """The action that `meaning` is, or None where it is a value."""
    if isinstance(meaning, ast.Call) and isinstance(meaning.func, ast.Name) and meaning.func.id in _ACTIONS:
        return meaning.func.id
    return None


def power(base: int, exponent: int) -> int:
    """`base ** exponent`, refused (OverflowError, ArithmeticError) where it is no integer or too large to hold."""
    if exponent < 0:
        raise ArithmeticError("a negative power")
    if abs(base) > 1 and base.bit_length() * exponent > 2 * MAX_BITS:
        raise OverflowError(f"a number of more than {MAX_DIGITS} digits")
    return base**exponent


def shift(base: int, places: int) -> int:
    """`base << places`, refused (OverflowError, ArithmeticError) where it is no integer or too large to hold."""
    if places < 0:
        raise ArithmeticError("a negative shift")
    if base and base.bit_length() + places > 2 * MAX_BITS:
        raise OverflowError(f"a number of more than {MAX_DIGITS} digits")
    return base << places


def times(count: int) -> range:
    """0 .. count - 1, refused (OverflowError) where sampling would take too long."""
    if count > MAX_TIMES:
        raise OverflowError(f"a loop of more than {MAX_TIMES:,} times")
    return range(count)


BOUNDED = {"power": power, "shift": shift, "times": times, "min": min, "max": max, "abs": abs, "__builtins__": {}}
"""What compiled meanings see, and all that they see."""


class _Substitute(ast.NodeTransformer):
    """Put expressions in the place of operands, and the bounded functions in the place of `**` and `<<`."""

    def __init__(self, operands: Callable[[str], ast.expr]) -> None:
        self.operands = operands

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.operands(node.id)

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        left, right = self.visit(node.left), self.visit(node.right)
        bounded = {ast.Pow: "power", ast.LShift: "shift"}.get(type(node.op))
        if bounded is None:
            return ast.BinOp(left, node.op, right)
        return ast.Call(ast.Name(bounded, ast.Load()), [left, right], [])

    def visit_Call(self, node: ast.Call) -> ast.expr:
        arguments = [self.visit(argument) for argument in node.args]
        loads = isinstance(node.func, ast.Name) and node.func.id == "load"
        return arguments[0] if loads else ast.Call(node.func, arguments, [])


def substitute(meaning: ast.expr, operands: Mapping[str, str]) -> str:
    """Python source of a meaning that acts on nothing, with `operands` (source texts) in the place of the names."""

    def operand(name: str) -> ast.expr:
        return ast.parse(operands[name], mode="eval").body

    return ast.unparse(ast.fix_missing_locations(_Substitute(operand).visit(_copy(meaning))))


def function(meaning: ast.expr, operands: Iterable[str]) -> Callable[..., Any]:
    """A plain function of the operands."""
    names = list(operands)
    source = f"lambda {', '.join(names)}: {substitute(meaning, {name: name for name in names})}"
    return eval(source, dict(BOUNDED))  # noqa: S307  every node of the source was checked


Steps = Generator[Any, Any, Any]


def stepper(meaning: ast.expr, operands: Iterable[str], *, variadic: bool) -> Callable[..., Steps]:
    """A generator function (memory, operands) that yields each operand when it needs its value, and returns its own.

    Whoever drives it decides what an operand's value is: nothing is evaluated that the meaning does not ask for.
    """
    body = ast.unparse(ast.fix_missing_locations(_Ask().visit(_copy(meaning))))
    names = "*operands" if variadic else ", ".join(operands)
    source = f"def meaning(memory, {names}):\n    if False: yield\n    return {body}\n"
    space: dict[str, Any] = dict(BOUNDED)
    exec(source, space)  # noqa: S102  every node of the source was checked
    return space["meaning"]


class _Ask(_Substitute):
    """An operand becomes `(yield operand)`, and the calls that touch variables become methods of the memory."""

    def __init__(self) -> None:
        super().__init__(lambda name: ast.Yield(ast.Name(name, ast.Load())))

    def visit_Call(self, node: ast.Call) -> ast.expr:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        method = ast.Attribute(ast.Name("memory", ast.Load()), name, ast.Load())
        if name == "repeat":
            return ast.YieldFrom(ast.Call(method, node.args, []))
        if name == "do" and any(isinstance(argument, ast.Starred) for argument in node.args):
            return ast.YieldFrom(ast.Call(method, [ast.Name("operands", ast.Load())], []))
        arguments = [self.visit(argument) for argument in node.args]
        if name in ("load", "store", "show"):
            return ast.Call(method, arguments, [])
        if name == "do":
            return ast.Tuple(arguments, ast.Load())
        return ast.Call(node.func, arguments, [])


def _copy(meaning: ast.expr) -> ast.expr:
    return ast.parse(ast.unparse(meaning), mode="eval").body
