"""Questions of a person: read from JSON, answered by the task's own rule, and refused with a word on what is wrong."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqtoolkit_nth_farthest import NthFarthest
from seqtoolkit_nth_farthest.question import QuestionError
from seqtoolkit_nth_farthest.source import GRID

ORDERS = ("farthest", "nearest")


def text(vectors, rank, reference):
    """A question as it is asked."""
    return json.dumps({"vectors": vectors, "n": rank, "from": reference})


@given(st.integers(2, 6), st.integers(1, 4), st.sampled_from(ORDERS), st.integers(0, 2**40))
def test_what_is_drawn_can_be_asked(count, dimensions, order, index):
    """The numbers of a drawn example, asked in the order of its labels, are the same vectors and have the same answer."""
    source = NthFarthest(count, dimensions, order)
    inputs = source.draw(np.array([index]))
    (example,), (wanted,) = inputs["inputs"].numpy(), inputs["targets"].tolist()
    vectors, labels, n, m = np.split(example, dimensions + np.arange(3) * count, axis=1)
    by_label = vectors[labels.argmax(1).argsort()]
    block = source.ask(text(by_label.tolist(), int(n[0].argmax()) + 1, int(m[0].argmax()) + 1))
    assert block["targets"].tolist() == [wanted]
    asked = block["inputs"][0].numpy()
    np.testing.assert_array_equal(asked[:, :dimensions], by_label)
    np.testing.assert_array_equal(asked[:, dimensions : dimensions + count], np.eye(count))
    np.testing.assert_array_equal(asked[:, dimensions + count :], example[:, dimensions + count :])


def test_a_question_by_hand():
    """Numbers left out are 0, labels count from 1, and the question is shown as any other."""
    source = NthFarthest(3, 2)
    block = source.ask(text([[0.5], [0.5, 0.75], [-0.25, 0]], 1, 1))
    inputs, targets = block["inputs"][0].numpy(), block["targets"][0].numpy()
    assert source.show(inputs, targets, np.array([1])) == (
        "1st farthest from 1? 1 at 0, 2 at 0.75, 3 at 0.75",
        "2",
        "2",
    )
    assert NthFarthest(3, 2, "nearest").ask(text([[0.5], [0.5, 0.75], [-0.25, 0]], 1, 1))["targets"].item() == 0


def test_numbers_are_rounded_to_the_grid():
    """What is asked is what float32 and the exact rule can hold, and never 1."""
    inputs = NthFarthest(2, 2).ask(text([[0.1, 1 - 1e-9], [-1, -1e-9]], 1, 1))["inputs"][0, :, :2].numpy()
    assert (inputs.astype(np.float64) * GRID == np.round(inputs.astype(np.float64) * GRID)).all()
    assert inputs[0, 1] == 1 - 1 / GRID
    assert inputs[1].tolist() == [-1, 0]


@pytest.mark.parametrize("count", [2, 8, 30])
def test_the_example_is_a_question(count):
    """What `asks` has as an example can be asked, whatever the number of vectors."""
    source = NthFarthest(count, 1)
    example = re.fullmatch(r"JSON; [^`]*`(.*)`", source.asks)[1]
    assert source.ask(example)["inputs"].shape == (1, count, source.width)


TWO = [[0.5], [0.25]]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("", r"the question is not JSON: line 1, column 1: Expecting value"),
        ('{"n": 1,\n}', r"the question is not JSON: line 2, column 1: "),
        ("[" * 100_000, r"the question is not JSON: "),
        ("3", r"wanted a JSON object with vectors, n, from, got int"),
        ("{}", r"wanted a JSON object with vectors, n, from, got none of them"),
        ('{"vectors": [], "n": 1}', r"wanted a JSON object with vectors, n, from, got vectors, n"),
        (text([[0.5]], 1, 1), r"vectors: wanted a list of 2, got 1 of them"),
        (text("0.5", 1, 1), r"vectors: wanted a list of 2, got '0.5'"),
        (text([[0.5], []], 1, 1), r"vectors, the 2\. one: wanted 1 to 2 numbers from -1 to below 1, got \[\]"),
        (text([[0.5], [1]], 1, 1), r"vectors, the 2\. one: .*, got \[1\]"),
        (text([[0.5], [True]], 1, 1), r"vectors, the 2\. one: .*, got \[true\]"),
        (text([[0.5], [float("nan")]], 1, 1), r"vectors, the 2\. one: .*, got \[NaN\]"),
        (text([[0.1, 0.2, 0.3], [0]], 1, 1), r"vectors, the 1\. one: wanted 1 to 2 numbers"),
        (text(TWO, 0, 1), r"n: wanted a whole number from 1 to 2, got 0"),
        (text(TWO, 1.0, 1), r"n: wanted a whole number from 1 to 2, got 1\.0"),
        (text(TWO, 1, 3), r"from: wanted a whole number from 1 to 2, got 3"),
        (text(TWO, 1, True), r"from: wanted a whole number from 1 to 2, got true"),
    ],
)
def test_what_is_no_question_is_told(question, message):
    """The field that is wrong is named, with what was wanted and what was given, in one line."""
    with pytest.raises(QuestionError, match=f"^{message}") as caught:
        NthFarthest(2, 2).ask(question)
    assert "\n" not in str(caught.value)
