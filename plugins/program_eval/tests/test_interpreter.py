"""The interpreter against CPython and against an evaluation of its own."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqtoolkit_program_eval import Grammar, ProgramError, ProgramEval, evaluate

LTE = "learning_to_execute"
COMPACT, STATEMENTS = Grammar.load("program_eval"), Grammar.load(LTE)
INNERMOST = re.compile(r"\(([^()]*)\)")
LOOP = re.compile(r"x=(.*)for\[(\d+)\]x\+=(.*)")


def cpython(program):
    """What CPython prints."""
    printed = []
    exec(program, {"__builtins__": {"range": range}, "print": lambda value: printed.append(str(value))})
    return "\n".join(printed)


def translated(text):
    """The value of a compact program by regular expressions and Python's eval."""
    while match := INNERMOST.search(text):
        text = text[: match.start()] + f" {translated(match[1])} " + text[match.end() :]
    if loop := LOOP.fullmatch(text.strip()):
        total = translated(loop[1])
        for _ in range(int(loop[2])):
            total += translated(loop[3])
        return total
    return eval(re.sub(r"(if|else)", r" \1 ", text))


@pytest.mark.parametrize(
    ("length", "nesting", "problem"),
    [(1, 1, "program"), (2, 3, "program"), (5, 2, "program"), (4, 6, "program"), (30, 3, "program"), (3, 4, "control")],
)
def test_statement_programs_run_as_in_cpython(length, nesting, problem):
    """Over 10,000 sampled programs print in the interpreter, and have as their sampled answer, what CPython prints."""
    source = ProgramEval(problem, length, nesting, grammar=LTE, seed=length)
    texts, answers = source.programs(np.arange(1700))
    for text, answer in zip(texts, answers, strict=True):
        assert evaluate(text, LTE) == cpython(text) == answer


@pytest.mark.parametrize(
    ("length", "nesting", "problem"),
    [(1, 1, "program"), (2, 4, "program"), (5, 2, "program"), (7, 6, "program"), (25, 3, "program"), (3, 3, "control")],
)
def test_compact_programs_have_their_values(length, nesting, problem):
    """Over 10,000 sampled programs of all operators have the values that an independent evaluation gives."""
    source = ProgramEval(problem, length, nesting, "baseline", weights={"multiply": 1, "negate": 1}, seed=length)
    texts, answers = source.programs(np.arange(1700))
    modulus = 10 ** (length + 1)
    for text, answer in zip(texts, answers, strict=True):
        value = translated(text)
        assert evaluate(text) == str(value)
        assert answer == str(value % modulus)


numbers = st.integers(0, 10**6).map(str)
operators = st.sampled_from(["+", "-", "*"])
spaces = st.sampled_from(["", " ", "  "])


def expressions(leaf, choice):
    """Texts of expressions over `leaf`, with operators in any order and brackets anywhere."""

    def wider(inner):
        return st.one_of(
            st.tuples(inner, spaces, operators, spaces, inner).map("".join),
            inner.map(lambda text: f"({text})"),
            inner.map(lambda text: f"-{text}" if text[0] not in "-x" else f"(-({text}))"),
            st.tuples(inner, inner, st.sampled_from("<>"), inner, inner).map(lambda parts: choice(*parts)),
        )

    return st.recursive(leaf, wider, max_leaves=8)


in_python = expressions(numbers, lambda a, b, sign, c, d: f"({a} if ({b}){sign}({c}) else {d})")


@settings(max_examples=150, deadline=None)
@given(in_python)
def test_any_expression_is_pythons(text):
    """Precedence, associativity, signs and blanks mean in both languages what they mean in Python."""
    assert evaluate(text) == str(eval(text))
    assert evaluate(f"print({text})", LTE) == str(eval(text))


@settings(max_examples=150, deadline=None)
@given(in_python)
def test_printing_and_parsing_are_inverse(text):
    """parse(print(tree)) == tree, for trees of texts that no sampler writes."""
    for grammar, program in ((COMPACT, text), (STATEMENTS, f"a={text}\nprint(a)")):
        tree = grammar.parse(program)
        printed = grammar.print(tree)
        assert grammar.parse(printed) == tree
        assert grammar.print(grammar.parse(printed)) == printed


@pytest.mark.parametrize("grammar", ["program_eval", LTE])
@pytest.mark.parametrize("problem", ["program", "copy"])
def test_sampled_programs_print_as_they_are(grammar, problem):
    """print(parse(text)) == text for what the sampler writes, and so parse(print(tree)) == tree."""
    source = ProgramEval(problem, 4, 5, grammar=grammar)
    for text in source.programs(np.arange(1000))[0]:
        assert source.grammar.print(source.grammar.parse(text)) == text


names = st.sampled_from(["a", "b", "iffy", "x", "forx", "_else"])
small = expressions(
    st.one_of(names, st.integers(0, 99).map(str)), lambda a, b, sign, c, d: f"({a} if ({b}){sign}({c}) else {d})"
)
simple = st.one_of(
    st.tuples(names, st.sampled_from(["=", "+=", "-=", " = ", " += "]), small).map("".join),
    small.map(lambda text: f"print({text})"),
)
lines = st.lists(simple, min_size=1, max_size=3).map("; ".join)
indented = st.lists(lines, min_size=1, max_size=2).map(lambda each: "".join(f"\n   {line}" for line in each))
statements = st.one_of(
    lines,
    lines.map(lambda text: f"{text} ;  # done"),
    st.tuples(names, st.integers(0, 5), st.one_of(lines, indented)).map(
        lambda p: f"for {p[0]} in range({p[1]}):{p[2]}"
    ),
    st.tuples(small, small, indented, indented).map(lambda p: f"if {p[0]}<{p[1]}:{p[2]}\nelse:{p[3]}"),
)
START = "a=1\nb=2;iffy=3\nx=4;\nforx=5\n_else=6\n\n"


@settings(max_examples=150, deadline=None)
@given(st.lists(statements, min_size=1, max_size=5).map("\n".join))
def test_any_program_is_pythons(text):
    """Statements, indented bodies, comments and names that begin like keywords do in the interpreter what CPython does."""
    program = START + text
    try:
        wanted = cpython(program)
    except ValueError:
        return
    if len(wanted) < 4000:
        assert evaluate(program, LTE) == wanted
        tree = STATEMENTS.parse(program)
        assert STATEMENTS.parse(STATEMENTS.print(tree)) == tree
        assert cpython(STATEMENTS.print(tree)) == wanted


@pytest.mark.parametrize(
    ("program", "answer"),
    [
        ("j=8584\nfor x in range(8):\n  j+=920\nb=(1500+j)\nprint((b+7567))", "25011"),
        ("i=8827\nc=(i-5347)\nprint((c+8704) if 2641<8500 else 5308)", "12184"),
        ("a=1 if 1<2 else q\nprint(a)", "1"),
        ("for x in range(3):a=1;print(x)", "0\n1\n2"),
        ("x=5\nfor x in range(0):x+=3\nprint(x)", "5"),
        ("a=1;", ""),
        ("print((1+\n2))\r\n", "3"),
    ],
)
def test_programs_of_the_paper_and_corners_of_python(program, answer):
    """The paper's own examples (Zaremba & Sutskever 2014, figure 1), and what is easily got wrong."""
    assert evaluate(program, LTE) == answer


@pytest.mark.parametrize(
    ("program", "grammar", "message"),
    [
        ("1+", "program_eval", "line 1, column 3: expected a number or '(' or '-', got the end of the text"),
        ("1+*2", "program_eval", "line 1, column 3: expected a number or '(' or '-', got '*'"),
        ("", "program_eval", "line 1, column 1: expected a number or '(' or '-' or 'x=', got the end of the text"),
        ("(1\n+$)", "program_eval", "line 2, column 2: expected a number or '(' or '-', got '$'"),
        ("x=3for[3]x=1", "program_eval", "line 1, column 9: expected ']x+=', got ']'"),
        ("a=1\nprint(1 2)", LTE, "line 2, column 9: expected ')' or '*' or '+' or '-' or 'if', got '2'"),
        ("print(007)", LTE, "line 1, column 9:"),
        ("a=", LTE, "line 1, column 3: expected a name or a number or '(' or '+' or '-', got a new line"),
        ("a=1\nprint(a+b)", LTE, "line 2, column 9: the name 'b' has no value yet"),
        ("for x in range(2):\na=1", LTE, "line 2, column 1: expected an indented line, got 'a'"),
        ("  print(1)", LTE, "line 1, column 1: expected a statement, got an indented line"),
        ("a=1\nfor x in range(2):\n", LTE, "line 2, column 19: expected"),
        ("if 1<2:\n    a=1\n  b=2", LTE, "indentation matches none"),
    ],
)
def test_a_mistake_is_shown_where_it_is(program, grammar, message):
    """Syntax errors give the line, the column, what was expected in plain words, and what stands there, in one line."""
    with pytest.raises(ProgramError) as caught:
        evaluate(program, grammar)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("for x in range(1000000000):a=1", "more than 1,000,000 steps"),
        ("a=3\nfor x in range(99999):a+=a", "more than 4,300 digits"),
        ("for x in range(99999):print(123456789)", "prints more than"),
        ("print(" + "9" * 4301 + ")", "line 1, column 7: a number of more than 4,300 digits"),
        ("print(1)\n" * 20_000, "180,000 characters"),
    ],
)
def test_programs_that_are_too_large_or_take_too_long_are_refused(program, message):
    """Steps, digits, output and text have limits, each told in one line."""
    with pytest.raises(ProgramError, match=message):
        evaluate(program, LTE)


def test_deep_and_long_programs_meet_no_limit_of_pythons():
    """Nesting of tens of thousands of levels is parsed, printed and run without recursion."""
    for text, value in (
        ("-" * 20_000 + "1", "1"),
        ("(" * 20_000 + "7" + ")" * 20_000, "7"),
        ("1+" * 20_000 + "1", "20001"),
    ):
        assert evaluate(text) == value
    tree = COMPACT.parse("(" * 20_000 + "7" + ")" * 20_000)
    assert COMPACT.print(tree) == "(" * 20_000 + "7" + ")" * 20_000
    assert evaluate("x=1for[999999999999]x+=2") == "1999999999999"


def test_the_modulus_is_pythons():
    """Negative values wrap; None leaves the value alone; a printed answer is reduced as well."""
    assert evaluate("3-8") == "-5"
    assert evaluate("3-8", modulus=100) == "95"
    assert evaluate("print(3-8)", LTE, modulus=100) == "95"
    with pytest.raises(ValueError, match="modulus"):
        evaluate("1", modulus=0)


def test_an_unknown_grammar_is_named():
    """A name that no plugin ships is an error that says which there are."""
    with pytest.raises(ValueError, match=r"program_evel.*program_eval"):
        evaluate("1", "program_evel")


def test_arithmetic_that_has_no_value_is_the_programs_mistake(tmp_path):
    """A grammar with division: by nought is a ProgramError; a power too large is one as well, at once."""
    text = COMPACT.path.read_text()
    file = tmp_path / "more.lark"
    more = '| product "/" atom -> divide //= a // b\n        | product "^" atom -> power //= a ** b\n        | product "*" atom '
    file.write_text(text.replace('| product "*" atom ', more))
    assert evaluate("7/2", str(file)) == "3"
    with pytest.raises(ProgramError, match="zero"):
        evaluate("1/(2-2)", str(file))
    with pytest.raises(ProgramError, match="digits"):
        evaluate("9^9^9^9^9", str(file))
    with pytest.raises(ProgramError, match="negative power"):
        evaluate("2^(1-2)", str(file))
