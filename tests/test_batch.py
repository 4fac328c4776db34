"""Batches: padding that changes nothing, and blocks that are not as they should be."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqtoolkit.flow.batch import IGNORED, Batch, Pad, Stack
from seqtoolkit.flow.source import Ragged
from seqtoolkit.flow.spec import SpecError, record

FIELDS = record(question="i64<9>[B L]", answer="i64<7>[B A]", counted="bool[B A]")
IDS = st.lists(st.integers(1, 8), max_size=5)
ANSWERS = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=4)
ROWS = st.lists(st.tuples(IDS, ANSWERS), min_size=1, max_size=6)


def _block(toy, rows):
    return toy.block(*((question, [a for a, _ in answer], [c for _, c in answer]) for question, answer in rows))


@given(rows=ROWS, multiple=st.integers(1, 4), answer_multiple=st.integers(1, 4))
def test_pad_against_a_slow_reference(toy, rows, multiple, answer_multiple):
    """Row by row, in plain Python: question on the right before the answer, `first` where it begins, the rest blank."""
    batch = Pad(FIELDS, multiple=multiple, answer_multiple=answer_multiple)(_block(toy, rows))
    longest, most = (max(map(len, each)) for each in zip(*rows, strict=True))
    length = next(size for size in range(longest, longest + multiple) if size % multiple == 0)
    steps = next(size for size in range(most, most + answer_multiple) if size % answer_multiple == 0)
    assert batch.inputs.shape == (length + steps, len(rows))
    assert (batch.answers, batch.size) == (steps, len(rows))
    for row, (question, answer) in enumerate(rows):
        begin = length - len(question)
        assert batch.inputs[:, row].tolist() == [0] * begin + question + [0] * steps
        assert batch.first[:, row].nonzero().flatten().tolist() == [begin]
        rest = steps - len(answer)
        assert batch.targets[:, row].tolist() == [a for a, _ in answer] + [IGNORED] * rest
        assert batch.mask[:, row].tolist() == [c for _, c in answer] + [False] * rest
    assert [each.dtype for each in (batch.inputs, batch.targets, batch.mask, batch.first)] == [
        torch.int64, torch.int64, torch.bool, torch.bool,
    ]  # fmt: skip
    assert all(each.is_contiguous() for each in (batch.inputs, batch.targets, batch.mask, batch.first))


@pytest.mark.parametrize("decoder", ["shared", "separate"])
@pytest.mark.parametrize("multiple", [1, 8])
def test_padding_changes_nothing(toy, decoder, multiple):
    """A model answers a batch of questions of many lengths as it answers each of them alone."""
    graph = toy.graph(decoder=decoder)
    model = graph.model.double().eval()
    block = toy.Echo(length=7).draw(np.arange(12))
    batch = Pad(FIELDS | graph.source.writes, multiple=multiple)(block)
    with torch.no_grad():
        together, _ = model(batch.inputs, None, batch.first, batch.answers)
        for row, (question, answer) in enumerate(zip(block["question"].rows(), block["answer"].rows(), strict=True)):
            ids = torch.from_numpy(np.concatenate([question, np.zeros(len(answer), np.int64)]))
            alone, _ = model(ids[:, None], None, None, len(answer))
            torch.testing.assert_close(together[: len(answer), row], alone[:, 0], rtol=0, atol=1e-12)


def test_pad_writes_the_sizes_that_reach_it():
    """The numbers of ids flow on, known or not."""
    pad = Pad(FIELDS)
    assert {name: str(spec) for name, spec in pad.writes.items()} == {
        "inputs": "i64<9>[T B]", "targets": "i64<7>[U B]", "mask": "bool[U B]", "first": "bool[T B]",
    }  # fmt: skip
    assert str(Pad(FIELDS | record(answer="i64<X>[B A]")).writes["targets"]) == "i64<X>[U B]"


@pytest.mark.parametrize(
    ("fields", "options", "says"),
    [
        ({"question": "i64<9>[B L]"}, {}, "pad reads question, answer, counted, but answer, counted does not reach it"),
        ({"question": "f32[B L]", "answer": "i64<7>[B A]", "counted": "bool[B A]"}, {}, "the dtype is f32, not i64"),
        ({"question": "i64[B L]", "answer": "i64<7>[B A]", "counted": "bool[B A]"}, {}, "is not known"),
        (None, {"size": 0}, "size: wanted at least 1, got 0"),
        (None, {"multiple": 0}, "^multiple: wanted at least 1, got 0"),
        (None, {"answer_multiple": 0}, "answer_multiple: wanted at least 1, got 0"),
    ],
)
def test_pad_that_cannot_be(fields, options, says):
    """What pad needs and does not get is named."""
    with pytest.raises(ValueError, match=says):
        Pad(FIELDS if fields is None else record(**fields), **options)
    assert issubclass(SpecError, ValueError)


def _ragged(lengths, count=None):
    return Ragged(np.ones(sum(lengths) if count is None else count, np.int64), np.array(lengths, np.int64))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"question": None}, "wanted a Ragged field question in a block, got NoneType"),
        ({"answer": np.ones((2, 3))}, "wanted a Ragged field answer in a block, got ndarray"),
        ({"question": _ragged([2, 2], 5)}, "question has 5 values, its lengths add up to 4"),
        ({"counted": _ragged([1, 2])}, "counted as long as the answer"),
        ({"question": _ragged([2, 2, 2])}, "an answer for each question"),
        ({"answer": _ragged([0, 0]), "counted": _ragged([0, 0])}, "at least one step in a batch"),
        ({"question": _ragged([]), "answer": _ragged([]), "counted": _ragged([])}, "at least one step in a batch"),
    ],
)
def test_a_block_that_is_not_as_declared(toy, change, says):
    """A source's mistake is one line that says which field, not an error from deep inside numpy."""
    block = {"question": _ragged([2, 1]), "answer": _ragged([1, 1]), "counted": _ragged([1, 1])}
    Pad(FIELDS)(block)
    with pytest.raises(ValueError, match=f"^pad: .*{says}"):
        Pad(FIELDS)(block | change)


def test_small_integers_are_widened(toy):
    """A source may keep its ids small: the batch is int64 and IGNORED does not wrap around."""
    block = toy.block(([1], [2], [True]), ([1, 2], [3, 4], [True, True]))
    small = {name: Ragged(each.values.astype(np.uint8), each.lengths) for name, each in block.items()}
    batch = Pad(FIELDS)(small)
    assert batch.targets.dtype == torch.int64
    assert batch.targets.T.tolist() == [[2, IGNORED], [3, 4]]
    assert batch.mask.dtype == torch.bool


def test_parts_of_a_batch():
    """Parts are cut along the examples, fields that are not there stay so, and moving keeps the rest."""
    batch = Batch(torch.arange(12).reshape(3, 4), torch.arange(8).reshape(2, 4), torch.ones(2, 4, dtype=torch.bool))
    part = batch.part(1, 3)
    assert part.inputs.tolist() == [[1, 2], [5, 6], [9, 10]]
    assert part.targets.tolist() == [[1, 2], [5, 6]]
    assert part.mask.shape == (2, 2)
    assert part.first is None
    assert part.size == 2
    moved = batch.to(torch.device("meta"))
    assert moved.inputs.device.type == moved.targets.device.type == moved.mask.device.type == "meta"


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_stack_turns_examples_to_time_major(kind):
    """Step t of example b stands at [t, b], arrays or tensors, matrices too; every answer is counted, nothing restarts."""
    inputs, targets = np.arange(60, dtype=np.float32).reshape(2, 5, 3, 2), np.arange(4).reshape(2, 2)
    stack = Stack(record(inputs="f32[B T 3 2]", targets="i64<4>[B U]"), size=2)
    batch = stack({"inputs": kind(inputs), "targets": kind(targets)})
    assert (batch.inputs.numpy() == inputs.swapaxes(0, 1)).all()
    assert batch.targets.tolist() == targets.T.tolist()
    assert batch.inputs.is_contiguous()
    assert batch.targets.is_contiguous()
    assert batch.mask.tolist() == [[True, True]] * 2
    assert batch.first is None
    assert {name: str(spec) for name, spec in stack.writes.items()} == {
        "inputs": "f32[T B 3 2]", "targets": "i64<4>[U B]", "mask": "bool[U B]",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"inputs": "f32[B T 3]"}, "stack reads inputs, targets, but targets does not reach it"),
        ({"question": "i64<3>[B L]"}, "but inputs does not reach it"),
        ({"inputs": "f32[B T 3]", "targets": "i64<4>[B]"}, r"stack: wanted targets as i64\[B U ...\], got i64<4>\[B\]"),
    ],
)
def test_stack_of_what_does_not_reach_it(fields, says):
    """A field that is not there, or has no axis of steps, is named with what is wanted."""
    with pytest.raises(SpecError, match=says):
        Stack(record(**fields))


@pytest.mark.parametrize(("inputs", "targets"), [((2, 5, 3), (2, 6)), ((2, 5, 3), (3, 1))])
def test_stack_of_a_block_that_is_not_as_declared(inputs, targets):
    """More answers than steps, or than examples, are refused with both shapes."""
    stack = Stack(record(inputs="f32[B T 3]", targets="i64<4>[B U]"))
    with pytest.raises(ValueError, match="as many examples of both, with no more answers than steps, got inputs"):
        stack({"inputs": np.zeros(inputs, np.float32), "targets": np.zeros(targets, np.int64)})


TEXT = {"inputs": "i64<9>[B T]", "targets": "i64<9>[B U]", "first": "bool[B T]", "weight": "i64[B U]"}


def _text(first=False):
    """A block of two rows of four steps, of which three targets are ignored."""
    targets = np.array([[1, 2, 3, 4], [5, IGNORED, IGNORED, IGNORED]])
    begins = np.zeros((2, 4), bool)
    begins[1, 2] = first
    return {"inputs": np.arange(8).reshape(2, 4), "targets": targets, "first": begins, "weight": 10 * targets}


def test_stack_of_rows_that_go_on():
    """What is ignored is not counted; `first` is handed on where anything begins anew; other fields go along."""
    stack = Stack(record(**TEXT), size=2)
    batch = stack(_text(first=True))
    assert batch.mask.T.tolist() == [[True] * 4, [True, False, False, False]]
    assert batch.first.T.tolist() == [[False] * 4, [False, False, True, False]]
    assert batch.extra["weight"].T.tolist() == _text()["weight"].tolist()
    assert stack(_text()).first is None
    assert {name: str(spec) for name, spec in stack.writes.items()} == {
        "inputs": "i64<9>[T B]", "targets": "i64<9>[U B]", "mask": "bool[U B]", "first": "bool[T B]", "weight": "i64[U B]",
    }  # fmt: skip


def test_further_fields_go_wherever_a_batch_goes():
    """Parts, moves and changes are of all tensors, the extra ones too; a row's own stay with it."""
    batch = Stack(record(**TEXT), size=2)(_text(first=True))
    part = batch.part(1, 2)
    assert part.extra["weight"].T.tolist() == [_text()["weight"][1].tolist()]
    assert part.first.T.tolist() == [[False, False, True, False]]
    assert batch.tensors().keys() == {"inputs", "targets", "mask", "first", "weight"}
    assert all(each.device.type == "meta" for each in batch.to(torch.device("meta")).tensors().values())
    doubled = batch.map(lambda each: torch.cat([each, each], 1))
    assert all(each.shape[1] == 4 for each in doubled.tensors().values())
    assert "first" not in Stack(record(**TEXT), size=2)(_text()).tensors()
