"""The grammar file is the truth: what is added there is sampled, run and given tokens; what is wrong there is named."""

import contextlib
import re

import numpy as np
import pytest

from seqtoolkit_program_eval import Grammar, GrammarError, ProgramEval, evaluate, meaning

COMPACT = Grammar.load("program_eval").path.read_text()
STATEMENTS = Grammar.load("learning_to_execute").path.read_text()


@pytest.fixture
def write(tmp_path):
    """Write a grammar and get its path."""

    def to(text, name="mine.lark"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return to


def extended():
    """The compact language with a maximum, a comparator and an absolute value."""
    atoms = '''| "max" "(" start "," start ")" -> maximum  //= max(a, b) ; in control program
     | "|" start "|" -> absolute  //= abs(a) ; weight 0.5
     | "(" start ")"'''
    text = COMPACT.replace('| "(" start ")"', atoms)
    return text.replace('condition: sum "<"', 'condition: sum "!=" sum -> unequal //= a != b\n         | sum "<"')


def in_python(text):
    """The extended language, in Python's words."""
    while match := re.search(r"\|([^|]*)\|", text):
        text = text[: match.start()] + f"abs({match[1]})" + text[match.end() :]
    return eval(re.sub(r"(if|else)", r" \1 ", text))


def test_an_operator_is_added_in_the_grammar_alone(write):
    """Three lines of grammar, and sampler, interpreter, vocabulary and round trip know max, |a| and !=."""
    path = write(extended())
    assert evaluate("max(3,x=1for[4]x+=2)", path) == "9"
    assert evaluate("|2-5|if3!=3else|-7|", path) == "7"
    source = ProgramEval("control", 3, 1, grammar=path, weights={"absolute": 1})
    texts, answers = source.programs(np.arange(2000))
    for sign in ("max(", "|", "!="):
        assert sum(sign in text for text in texts) > 100
    for text, answer in zip(texts, answers, strict=True):
        value = in_python(text)
        digits = max(map(len, re.findall(r"\d+", text)))
        assert evaluate(text, path) == str(value)
        assert answer == str(value % 10 ** (digits + 1))
        assert source.grammar.print(source.grammar.parse(text)) == text
    question = source.draw(np.arange(2000))["question"]
    assert [source.questions.decode(row) for row in question.rows()] == texts
    before = ProgramEval("control")
    assert set("max|!,") - set(before.questions.tokens) == set("ma|!,")
    assert set("max|!,") <= set(source.questions.tokens)
    whole = ProgramEval("control", grammar=path, tokens="terminal")
    assert {"max", "!=", "|"} <= set(whole.questions.tokens)


def test_nesting_goes_through_an_added_operator(write):
    """The program so far is an operand of an added operator, at any depth, and its value comes through."""
    source = ProgramEval("program", 2, 4, "baseline", grammar=write(extended()))
    texts, answers = source.programs(np.arange(500))
    assert any("max((" in text for text in texts)
    for text, answer in zip(texts, answers, strict=True):
        assert evaluate(text, str(source.grammar.path), modulus=1000) == answer


def test_a_statement_is_added_in_the_grammar_alone(write):
    """A `*=` of one line is sampled in loops, on a variable that has a value, and agrees with CPython."""
    more = '| NAME "*=" expression -> multiplied  //= store(a, load(a) * b) ; in loop\n       | _PRINT'
    path = write(STATEMENTS.replace("| _PRINT", more))
    texts, answers = ProgramEval("program", 1, 3, grammar=path).programs(np.arange(1000))
    assert sum("*=" in text for text in texts) > 30
    for text, answer in zip(texts, answers, strict=True):
        printed = []
        exec(text, {"print": printed.append})
        assert [answer] == list(map(str, printed)) == [evaluate(text, path)]


def test_programs_without_a_value_are_not_drawn(write):
    """With a division in the grammar, no drawn program divides by nought; the others do have their values."""
    path = write(
        COMPACT.replace('| product "*"', '| product "/" atom -> divide //= a // b ; b in 0..3\n        | product "*"')
    )
    source = ProgramEval("program", 1, 2, grammar=path, weights={"divide": 20})
    texts, answers = source.programs(np.arange(1000))
    assert not [text for text in texts if text.endswith("/0")]
    assert [evaluate(text, path, modulus=100)[-1] for text in texts] == [answer[-1] for answer in answers]


def test_long_loops_are_not_drawn(write):
    """A grammar that asks for loops of a million turns is refused by a message, not met with a hang."""
    path = write(
        STATEMENTS.replace("1..4 * length", "10 ** 6..10 ** 7").replace("a or b in 10 ** 6..10 ** 7", "b in 1..9")
    )
    with pytest.raises(ValueError, match="split"):
        ProgramEval("program", 1, 1, "baseline", grammar=path, weights={"loop": 1e9}).programs(np.arange(4))


WRONG = {
    "nothing": ("", r"mine\.lark: not a grammar: "),
    "no rule": ("start: foo", r"mine\.lark:1: not a grammar: Rule 'foo' used but not defined"),
    "no lark": ('start: "a', r"mine\.lark:1: not a grammar: Unexpected input"),
    "zeros": ("\0\0", r"mine\.lark:1: not a grammar: "),
    "a pattern": (COMPACT.replace("/[0-9]+/", "/[0-9/"), r"mine\.lark:27: not a grammar: Cannot compile token NUMBER"),
    "two ways": (
        COMPACT.replace("?sum: product\n", "?sum: product | atom\n"),
        r"mine\.lark.*not a grammar: Reduce/Reduce",
    ),
    "no meaning": (COMPACT.replace("//= -a ; weight 0", ""), r"mine\.lark:24: negate has no meaning"),
    "a meaning": (COMPACT.replace("//= a - b", "//= a -"), r"mine\.lark:18: 'a -' is not an expression"),
    "an operand": (COMPACT.replace("//= a - b", "//= a - c"), r"mine\.lark:18: 'a - c' speaks of 'c'.* a, b"),
    "a clause": (COMPACT.replace("; weight 0", "; wait 0", 1), r"mine\.lark:21: 'wait 0' is no clause"),
    "a weight": (COMPACT.replace("; weight 0", "; weight -1", 1), r"mine\.lark:21: weight wants a number from 0 up"),
    "a range": (COMPACT.replace("b in 1..9", "d in 1..9"), r"mine\.lark:8: loop has no operand d"),
    "an empty range": (COMPACT.replace("b in 1..9", "b in 9..1"), r"mine\.lark: 9\.\.1 is empty"),
    "a tower": (COMPACT.replace("length - 1\n", "9 ** 9 ** 9\n"), r"mine\.lark: .*more than 4300 digits"),
    "a name twice": (COMPACT.replace("-> greater", "-> less"), r"mine\.lark:14: less has a meaning already, at .*:13"),
    "a stray mark": (COMPACT + "\n//= a", r"mine\.lark:36: '//=' stands beside no alternative"),
    "no number": (COMPACT.replace("//= number in", "//= figure in"), r"mine\.lark:27: NUMBER is a pattern"),
    "any character": (COMPACT.replace("/[0-9]+/", "/.+/"), r"mine\.lark:27: NUMBER: .*which characters"),
    "no brackets": (COMPACT.replace('"(" start ")"', '"(" start'), r"mine\.lark: no alternative puts .* in brackets"),
    "an action": (COMPACT.replace("//= a < b", "//= show(a)"), r"mine\.lark:13: less acts where a value is wanted"),
    "a letter": (COMPACT.replace('"x="', '"é="'), r"only ASCII"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_grammar_that_is_none_is_told_in_one_line(write, wrong):
    """A corrupt grammar is a GrammarError of one line with the file and, wherever it is known, the line."""
    text, message = WRONG[wrong]
    with pytest.raises(GrammarError, match=message) as caught:
        ProgramEval(grammar=write(text))
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_told(tmp_path):
    """A file that is not UTF-8 is a GrammarError with its path."""
    (tmp_path / "bad.lark").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GrammarError, match=r"bad\.lark: cannot be read"):
        Grammar.load(str(tmp_path / "bad.lark"))


def test_any_cut_of_a_grammar_is_a_grammar_or_an_error():
    """Cut anywhere, a grammar file loads or is refused by a GrammarError of one line; nothing else is raised."""
    path, refused = Grammar.load("learning_to_execute").path, []
    for end in range(0, len(STATEMENTS), 101):
        with contextlib.suppress(GrammarError):
            Grammar(STATEMENTS[:end], path)
            continue
        with pytest.raises(GrammarError, match=r"^[^\n]*learning_to_execute\.lark[^\n]*$"):
            Grammar(STATEMENTS[:end], path)
        refused.append(end)
    assert len(refused) > 20


@pytest.mark.parametrize(
    "text",
    [
        "a.b", "a.__class__", "__import__('os')", "open(a)", "eval(a)", "(lambda: a)()", "[a for a in b]", "a[0]", "'a'",
        "f'{a}'", "a := b", "max(*a)", "min(a, key=b)", "(yield a)", "store(1, a)", "load(a, b)", "1.5", "None", "...",
        "a if b else c.d", "do(*a)", "max()", "a" * 400, "a and (" * 50 + "b" + ")" * 50 + ".real",
    ],
)  # fmt: skip
def test_a_meaning_reaches_nothing(write, text):
    """No attribute, no subscript, no text, no call but the few: an untrusted grammar computes numbers, nothing else."""
    with pytest.raises(GrammarError, match=r"mine\.lark:18: "):
        ProgramEval(grammar=write(COMPACT.replace("//= a - b", f"//= {text}")))


def test_generated_code_holds_texts_as_texts(write):
    """Braces, quotes and backslashes in a grammar's texts are text in the generated sampler, not code."""
    awkward = """| "{a}'\\"\\\\n" start "}" -> strange //= a + 1\n     | "(" start ")" """
    path = write(COMPACT.replace('| "(" start ")" ', awkward))
    source = ProgramEval("program", 1, 1, grammar=path, weights={"strange": 1e6})
    text = source.programs(np.arange(1))[0][0]
    assert re.fullmatch(r"""\{a\}'"\\n\d\}""", text)
    assert evaluate(text, path) == str(int(text[-2]) + 1)


@pytest.mark.parametrize("grow", [meaning.power, meaning.shift])
def test_no_number_grows_past_all_bounds(grow):
    """Powers and shifts are refused before they are computed, not after; small ones are Python's."""
    assert grow(2, 10) == {meaning.power: 1024, meaning.shift: 2048}[grow]
    for large in (2**15, 10**12):
        with pytest.raises(OverflowError, match="digits"):
            grow(2, large)
    with pytest.raises(ArithmeticError, match="negative"):
        grow(2, -1)
