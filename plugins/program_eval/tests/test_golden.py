"""The programs and answers of the published generators."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from seqtoolkit_program_eval import Grammar, ProgramEval, evaluate

LINES = [json.loads(line) for line in (Path(__file__).parent / "golden" / "programs.jsonl").read_text().splitlines()]
ECHOES = ("copy", "reverse", "double")
COMPACT = [line for line in LINES if not line["task"].startswith("lua") and line["task"] not in ECHOES]


def test_the_file_is_whole():
    """All 178 lines of the golden file are held against the toolkit, so that no test below passes on nothing."""
    assert len(LINES) == 178
    assert {line["task"] for line in LINES} >= {
        "algebra",
        "control",
        "all",
        "alg_ctrl",
        "addition",
        "lua_full",
        *ECHOES,
    }


def test_compact_programs_have_the_published_answers():
    """Values modulo 10 ** (length + 1), negative ones wrapped."""
    got = [evaluate(line["source"], modulus=10 ** (line["length"] + 1)) for line in COMPACT]
    assert got == [line["target"] for line in COMPACT]


def test_statement_programs_print_the_published_answers():
    """The statement language prints what the published generator says."""
    lines = [line for line in LINES if line["task"].startswith("lua")]
    got = [evaluate(line["source"], grammar="learning_to_execute") for line in lines]
    assert got == [line["target"] for line in lines]


@pytest.mark.parametrize("task", ECHOES)
def test_memorization_problems_have_the_published_answers(task):
    """Each level of nesting changes the value's text once more: `(632)`, doubled, is there four times."""
    for line in LINES:
        if line["task"] == task:
            source = ProgramEval(problem=task, length=line["length"], nesting=line["nesting"])
            block = source.ask(line["source"])
            assert source.answers.decode(block["answer"].values) == line["target"]


def test_a_person_gets_the_published_answer_from_a_source():
    """`ask` takes the modulus that fits the numbers of the program, whatever the longest that the source draws."""
    source = ProgramEval(length=9, nesting=4)
    for line in COMPACT:
        answer = source.ask(line["source"])["answer"].values
        assert source.answers.decode(answer) == line["target"]


def test_golden_programs_print_as_they_are():
    """Printing the tree of a published program gives its text, but for the semicolons at ends of lines."""
    for line in LINES:
        grammar = Grammar.load("learning_to_execute" if line["task"].startswith("lua") else "program_eval")
        assert grammar.print(grammar.parse(line["source"])) == line["source"].replace(";", "")


@pytest.mark.parametrize(("problem", "tasks"), [("add", "addition"), ("control", "alg_ctrl"), ("program", "all")])
def test_the_problems_have_the_published_shapes(problem, tasks):
    """With all numbers taken for one, drawn programs have every published shape of one operator, and no other."""
    weights = {"multiply": 1} if problem == "program" else None
    source = ProgramEval(problem, nesting=1, weights=weights)
    drawn = {re.sub(r"\d+", "1", text) for text in source.programs(np.arange(3000))[0]}
    lines = [line for line in LINES if line["task"] == tasks and line["nesting"] == 1]
    assert {re.sub(r"\d+", "1", line["source"]) for line in lines} <= drawn
    assert len(drawn) == {"add": 1, "control": 4, "program": 6}[problem]


@pytest.mark.parametrize(
    ("program", "length", "answer"),
    [
        ("473278230+(1257657+32721978)", 7, "7257865"),
        ("221 if ((411 if 918>314 else 680)+321)<778 else 652", 3, "221"),
        ("x=82930-31249 for[6] x+=98315", 5, "641571"),
        ("x=(28694 if 89425>31990 else 38662) for[5] x+=54926", 5, "303324"),
        ("x=(x=76957 for[7] x+=62117) for[8] x+=90285", 5, "234056"),
    ],
)
def test_programs_of_the_paper(program, length, answer):
    """The samples of figure 6 (Santoro et al. 2018), in their own spacing and with code in any operand."""
    assert evaluate(program, modulus=10 ** (length + 1)) == answer
