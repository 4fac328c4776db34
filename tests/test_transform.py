"""Transforms: blocks that are changed and blocks that are left alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqtoolkit.flow.source import Ragged
from seqtoolkit.flow.spec import SpecError, record
from seqtoolkit.flow.transform import Reverse

FIELDS = record(question="i64<9>[B L]", answer="i64<9>[B A]")


@given(st.lists(st.lists(st.integers(0, 8), max_size=5), max_size=6))
def test_reverse(rows):
    """Each row is read from its end, rows keep their places, other fields and the given block stay as they are."""
    values, lengths = (
        np.array([each for row in rows for each in row], np.int64),
        np.array([len(row) for row in rows], np.int64),
    )
    block = {"question": Ragged(values, lengths), "answer": object()}
    before = values.copy()
    turned = Reverse(FIELDS)(block)
    assert [row.tolist() for row in turned["question"].rows()] == [row[::-1] for row in rows]
    assert turned["answer"] is block["answer"]
    assert (values == before).all()
    assert [row.tolist() for row in Reverse(FIELDS)(turned)["question"].rows()] == rows


def test_reverse_keeps_what_flows():
    """The fields that flow on are those that came, and another field than the question may be turned."""
    assert Reverse(FIELDS, "answer").writes == FIELDS
    turned = Reverse(FIELDS, "answer")({"answer": Ragged(np.array([1, 2]), np.array([2]))})
    assert turned["answer"].values.tolist() == [2, 1]


def test_reverse_of_nothing():
    """A field that does not reach it is named, with those that do."""
    with pytest.raises(SpecError, match="reverse: no field 'text' reaches it, only question, answer"):
        Reverse(FIELDS, "text")
