"""The stream of programs: pure, split, in the promised shape, and clear about bad settings."""

import re
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqtoolkit.testing import check_source
from seqtoolkit_program_eval import ProgramError, ProgramEval
from seqtoolkit_program_eval.source import PROBLEMS, TOKENS, belongs

LTE = "learning_to_execute"
SPLITS = ("train", "valid", "test")


def rows(block):
    """A block as a list of examples."""
    return [tuple(map(tuple, each)) for each in zip(*(block[name].rows() for name in sorted(block)), strict=True)]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 2**40), min_size=1, max_size=20),
    st.sampled_from(PROBLEMS),
    st.sampled_from(["mix", "baseline"]),
)
def test_an_example_depends_on_its_index_alone(indexes, problem, curriculum):
    """What comes at an index does not depend on what else is drawn with it, or was drawn before."""
    one = ProgramEval(problem, 3, 2, curriculum)
    together = rows(one.draw(np.array(indexes)))
    apart = [rows(ProgramEval(problem, 3, 2, curriculum).draw(np.array([index])))[0] for index in indexes]
    assert together == apart


@pytest.mark.parametrize("grammar", ["program_eval", LTE])
@pytest.mark.parametrize("curriculum", ["baseline", "naive", "mix", "combine"])
def test_the_laws_of_sources_hold(curriculum, grammar):
    """Pure, in any order and company, sharded over ranks, resumed at any block: the laws that every source is held to."""
    check_source(lambda seed, split: ProgramEval("control", 3, 2, curriculum, grammar, seed=seed, split=split))


def test_a_stream_resumes_exactly():
    """A stream stopped and begun anew from its state, levels included, goes on as the one never stopped."""

    def begin(state=None):
        source = ProgramEval("add", 4, 2, "combine")
        source.block = 8
        source.reset(state)
        return source

    source, stopped = begin(), []
    for update in range(120):
        if update == 60:
            state, told = source.get_state(), list(source.told)
        stopped.append(rows(source.next()))
        source.tell({"loss": 1.0})
    assert source.curriculum.advances
    again = begin(state)
    again.told.extend(told)
    for update in range(60, 120):
        assert rows(again.next()) == stopped[update]
        again.tell({"loss": 1.0})
    assert again.memory() == source.memory()


def test_seeds_and_splits_are_streams_of_their_own():
    """Another seed or split draws other programs."""
    drawn = {
        tuple(ProgramEval(seed=seed, split=split).programs(np.arange(50))[0]) for seed in range(3) for split in SPLITS
    }
    assert len(drawn) == 9


@pytest.mark.parametrize("length", [2, 4])
def test_splits_share_no_program_at_any_difficulty(length):
    """No text of one split is drawn in another, whatever the seed, the problem and the language."""
    drawn = {}
    for split in SPLITS:
        drawn[split] = set()
        for problem, nesting, grammar in product(("add", "program"), (1, 2), ("program_eval", LTE)):
            for seed in range(2):
                source = ProgramEval(problem, length, nesting, "baseline", grammar, seed=seed, split=split)
                drawn[split] |= set(source.programs(np.arange(400))[0])
    for one, other in combinations(SPLITS, 2):
        assert not drawn[one] & drawn[other]


def test_every_program_belongs_to_one_split():
    """Of all 90 numbers of two digits, each is drawn in exactly one split, about eight tenths of them in training."""
    drawn = {
        split: set(ProgramEval("copy", 2, 1, "baseline", split=split).programs(np.arange(2000))[0]) for split in SPLITS
    }
    assert sorted(number for numbers in drawn.values() for number in numbers) == sorted(map(str, range(10, 100)))
    assert 60 <= len(drawn["train"]) <= 82


def test_a_split_without_programs_is_named(tmp_path):
    """Where all programs of a difficulty are of other splits, the message names the split, the problem and the sizes."""
    text = ProgramEval().grammar.path.read_text()
    (tmp_path / "seven.lark").write_text(text.replace("10 ** (length - 1) .. 10 ** length - 1", "7 .. 7"))
    sources = [ProgramEval("copy", 1, 1, "mix", str(tmp_path / "seven.lark"), split=split) for split in SPLITS]
    assert sum(belongs(["7"], split)[0] for split in SPLITS) == 1
    for source in sources:
        if belongs(["7"], source.split)[0]:
            assert source.programs(np.arange(3))[0] == ["7"] * 3
        else:
            message = f"split: {source.split} has no program of length 1 and nesting 1 of the problem copy"
            with pytest.raises(ValueError, match=message):
                source.programs(np.arange(3))


@pytest.mark.parametrize("problem", ["add", "control", "program"])
def test_numbers_have_exactly_length_digits(problem):
    """Numbers have `length` digits and no leading zero, loops 1 to 9 turns, and programs `nesting` operators."""
    source = ProgramEval(problem, 4, 3, "baseline")
    for text in source.programs(np.arange(500))[0]:
        assert {int(times) for times in re.findall(r"\[(\d+)\]", text)} <= set(range(1, 10))
        numbers = re.findall(r"\d+", re.sub(r"\[\d+\]", "[]", text))
        assert all(len(number) == 4 and number[0] != "0" for number in numbers)
        assert len(re.findall(r"for|if|[^x][+-]", text)) == 3
        assert text.count("(") == 2


def test_operators_come_as_often_as_they_weigh():
    """Equal weights without a setting; with one, its proportion; an operator of weight nought never."""
    count = 4000

    def share(sign, **weights):
        source = ProgramEval("program", 5, 1, "baseline", weights=weights)
        return sum(sign in text for text in source.programs(np.arange(count))[0]) / count

    for sign in ("if", "for", "-"):
        assert abs(share(sign) - 0.25) < 0.03
    assert abs(share("<") - 0.125) < 0.025
    assert share("*") == 0
    assert abs(share("*", multiply=4) - 0.5) < 0.03
    assert share("for", loop=0) == 0


def test_statement_operators_come_as_often_as_published():
    """Plus or minus, times, the choice, the assignment and the loop are equally likely; each in any operand's place."""
    source = ProgramEval("program", 4, 1, "baseline", LTE)
    texts = source.programs(np.arange(4000))[0]
    loops = [text for text in texts if "for" in text]
    kinds = {
        "sum": [text for text in texts if re.search(r"\(\(\d+[+-]", text)],
        "product": [text for text in texts if "*" in text],
        "choice": [text for text in texts if "if" in text],
        "loop": loops,
        "assignment": [text for text in texts if "=" in text and text not in loops],
    }
    assert sum(map(len, kinds.values())) == len(texts)
    assert all(abs(len(found) / len(texts) - 0.2) < 0.03 for found in kinds.values())
    small_first = sum(bool(re.search(r"\(\d{1,2}\*\d{3,}", text)) for text in kinds["product"])
    assert abs(small_first / len(kinds["product"]) - 0.5) < 0.1


def test_echoes_change_the_text_once_a_level():
    """copy, reverse and double: the number, changed as often as it is nested; as long as is asked."""
    for problem, change in (("copy", str), ("reverse", lambda text: text[::-1]), ("double", lambda text: text * 2)):
        for length, nesting in ((1, 1), (50, 1), (7, 3)):
            texts, answers = ProgramEval(problem, length, nesting, "baseline").programs(np.arange(30))
            for text, answer in zip(texts, answers, strict=True):
                wanted = text.strip("()")
                assert text == "(" * (nesting - 1) + wanted + ")" * (nesting - 1)
                assert len(wanted) == length
                for _ in range(nesting):
                    wanted = change(wanted)
                assert answer == wanted


def test_long_numbers_are_uniform():
    """Numbers too long for one random word fill their range: every leading and every last digit comes."""
    texts = ProgramEval("copy", 40, 1, "baseline").programs(np.arange(2000))[0]
    leading, last = (
        {digit: sum(text[place] == digit for text in texts) for digit in "0123456789"} for place in (0, -1)
    )
    assert leading["0"] == 0
    assert all(150 < leading[digit] < 300 for digit in "123456789")
    assert all(140 < last[digit] < 270 for digit in "0123456789")


@pytest.mark.parametrize(
    ("problem", "nesting", "longest"),
    [("program", 2, 3), ("add", 1, 3), ("copy", 1, 2), ("reverse", 1, 2), ("double", 1, 4), ("double", 2, 8)],
)
def test_the_longest_answers_have_no_end(problem, nesting, longest):
    """An answer that cannot go on needs no step to say so: no answer is longer than the longest, and shorter ones end."""
    source = ProgramEval(problem, 2, nesting)
    assert source.longest == longest
    rows = source.draw(np.arange(500))["answer"].rows()
    assert {len(row) for row in rows} <= set(range(1, longest + 1))
    assert all((row[-1] == 0) == (len(row[row != 0]) < longest) for row in rows)
    assert any(len(row) == longest and row[-1] != 0 for row in rows)


@pytest.mark.parametrize("tokens", ["character", "terminal"])
@pytest.mark.parametrize("grammar", ["program_eval", LTE])
@pytest.mark.parametrize("terminate", [True, False])
def test_batches_are_as_declared(tokens, grammar, terminate):
    """Ids stay under the declared bounds, questions and answers decode to the texts, ends are not counted."""
    source = ProgramEval("program", 3, 3, grammar=grammar, tokens=tokens, terminate=terminate)
    texts, answers = source.programs(np.arange(200))
    block = source.draw(np.arange(200))
    assert {name: block[name].values.dtype.name for name in block} == {
        "question": "int64",
        "answer": "int64",
        "counted": "bool",
    }
    assert block["question"].values.max() < source.writes["question"].bound
    assert block["answer"].values.max() < source.writes["answer"].bound
    assert block["question"].values.min() > 0
    assert [source.questions.decode(row) for row in block["question"].rows()] == texts
    assert [source.answers.decode(row) for row in block["answer"].rows()] == answers
    for answer, counted in zip(block["answer"].rows(), block["counted"].rows(), strict=True):
        assert counted.tolist() == (answer != 0).tolist()
        assert (answer[-1] == 0) == (terminate and len(answer[answer != 0]) != source.longest)
    for inputs, targets, text, said in zip(
        block["question"].rows(), block["answer"].rows(), texts, answers, strict=True
    ):
        padded = np.concatenate([np.zeros(4, np.int64), inputs, np.zeros(9, np.int64)])
        wanted = np.concatenate([targets, np.full(3, -100)])
        assert source.show(padded, wanted, np.where(wanted < 0, 0, wanted)) == (text, said, said)


def test_tokens_are_whole_words_or_characters():
    """By terminals a keyword is one id, a number one id a digit; by characters everything is one id a character."""
    whole, single = (ProgramEval(tokens=tokens).ask("x=12for[3]x+=4if5<6else7") for tokens in ("terminal", "character"))
    assert len(whole["question"].values) == len(
        ["x=", "1", "2", "for[", "3", "]x+=", "4", "if", "5", "<", "6", "else", "7"]
    )
    assert len(single["question"].values) == len("x=12for[3]x+=4if5<6else7")


def test_a_wrong_prediction_is_shown_up_to_its_end():
    """What a model says after its own end is not shown."""
    source = ProgramEval()
    block = source.ask("12+30")
    inputs, targets = block["question"].values, block["answer"].values
    said = np.array([*source.answers.encode(["4"]).values, 0, 5])
    assert source.show(inputs, targets, said) == ("12+30", "42", "4")


def test_a_person_asks_in_any_spelling():
    """Blanks and needless semicolons go; the question is what the sampler would have written; mistakes are told."""
    source = ProgramEval()
    assert source.questions.decode(source.ask(" 1 + ( 2 - 3 ) ")["question"].values) == "1+(2-3)"
    statements = ProgramEval(grammar=LTE)
    block = statements.ask("a = 3 ;\nfor x in range( 2 ) :\n    a -= 5\nprint( a )")
    assert statements.questions.decode(block["question"].values) == "a=3\nfor x in range(2):\n  a-=5\nprint(a)"
    assert statements.answers.decode(block["answer"].values) == "-7"
    with pytest.raises(ProgramError, match="prints 2 numbers"):
        statements.ask("print(1)\nprint(2)")
    with pytest.raises(ProgramError, match="line 1, column 3"):
        source.ask("1+")


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("1+", "line 1, column 3: expected a number"),
        ("1 /\n 2", "line 1, column 3: expected"),
        ("é", "line 1, column 1"),
        ("", "line 1, column 1"),
        ("1" * 1001, "the program has a number of 1,001 digits; at most 1,000 are read"),
    ],
)
def test_what_is_no_program_is_told(question, message):
    """A text that is no program, or too large, is a ValueError of one line that says what is wrong, and where."""
    with pytest.raises(ProgramError, match=message) as caught:
        ProgramEval().ask(question)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("grammar", ["program_eval", LTE])
@pytest.mark.parametrize("tokens", TOKENS)
def test_the_example_is_a_question(problem, grammar, tokens):
    """What `asks` has as an example, in one line, is a program of the source's own language and problem."""
    source = ProgramEval(problem, 3, 2, grammar=grammar, tokens=tokens)
    asks = source.asks
    assert "\n" not in asks
    assert asks.startswith(f"a program of {grammar}, such as `")
    text = asks.split("`")[1]
    assert source.questions.decode(source.ask(text)["question"].values) == text


def test_a_question_longer_than_any_that_is_drawn():
    """The modulus goes by the digits that there are, as it does where such programs are drawn."""
    drawn, short = ProgramEval(length=6, nesting=1, curriculum="baseline"), ProgramEval(length=2, nesting=1)
    texts, answers = drawn.programs(np.arange(50))
    asked = [short.answers.decode(short.ask(text)["answer"].values) for text in texts]
    assert asked == answers
    assert any(len(answer) > short.longest for answer in answers)


@pytest.mark.parametrize(("terminate", "steps"), [(True, 1), (False, 0)])
def test_there_is_room_for_all_that_a_model_says(terminate, steps):
    """A question is answered in as many steps as the longest answer has; after its true end nothing is wanted or counted."""
    source = ProgramEval(length=3, terminate=terminate)
    block = source.ask("1+1")
    assert source.longest == 4
    assert block["answer"].values[1 + steps :].tolist() == [-100] * (3 - steps)
    assert block["counted"].values.tolist() == [True, False, False, False]
    inputs, targets = block["question"].values, block["answer"].values
    said = source.answers.encode(["2345"]).values
    assert source.show(inputs, targets, said) == ("1+1", "2", "2345" if terminate else "2")
    unbounded = ProgramEval(length=3, terminate=terminate, grammar=LTE)
    assert len(unbounded.ask("print(1+1)")["answer"].values) == 1 + steps


def test_what_is_said_beyond_the_longest_answer_is_not_shown():
    """Batches of round lengths have steps at which nothing was ever learned."""
    source = ProgramEval(length=1)
    texts = source.ask("9+9")
    said = source.answers.encode(["1877"]).values
    targets = np.concatenate([texts["answer"].values, [-100, -100]])
    assert source.longest == 2
    assert source.show(texts["question"].values, targets, said).answer == "18"


@pytest.mark.parametrize(
    ("curriculum", "low"), [("baseline", (3, 2)), ("mix", (1, 1)), ("naive", (1, 1)), ("combine", (1, 1))]
)
def test_difficulties_that_are_covered(curriculum, low):
    """The baseline has the greatest length and nesting alone, the others all from 1 on."""
    covers = ProgramEval(length=3, nesting=2, curriculum=curriculum).covers
    assert covers == {"length": (low[0], 3), "nesting": (low[1], 2)}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"problem": "divide"}, "problem: wanted one of add, control"),
        ({"curriculum": "none"}, "curriculum: wanted one of"),
        ({"tokens": "word"}, "tokens: wanted one of"),
        ({"split": "dev"}, "split: wanted one of"),
        ({"length": 0}, "length: wanted a whole number from 1"),
        ({"length": 2.5}, "length: wanted a whole number"),
        ({"length": True}, "length: wanted a whole number"),
        ({"nesting": 101}, "nesting: wanted a whole number from 1 to 100, got 101"),
        ({"nesting": 11, "grammar": LTE}, "nesting: at most 10"),
        ({"problem": "double", "nesting": 60}, "nesting: double"),
        ({"grammar": "lisp"}, "grammar 'lisp'"),
        (
            {"weights": {"mulitply": 1}},
            r"weights\.mulitply: the grammar has no operator of that name; it has .*multiply",
        ),
        ({"weights": {"add": -1}}, r"weights\.add: wanted a number from 0 up"),
        ({"weights": {"add": "much"}}, r"weights\.add: wanted a number from 0 up"),
        ({"problem": "add", "weights": {"add": 0}}, "weights: no operator is left"),
        ({"problem": "copy", "weights": {"add": 1}}, "weights: copy has no operators"),
    ],
)
def test_a_bad_setting_is_named(given, message):
    """Each bad value is a ValueError of one line that names the parameter."""
    with pytest.raises(ValueError, match=message) as caught:
        ProgramEval(**given)
    assert "\n" not in str(caught.value)
