"""Sources: counted randomness, streams that resume and shard, feedback at fixed blocks."""

import copy
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqtoolkit.flow.ahead import PREFETCH
from seqtoolkit.flow.source import LAG, SPLITS, Ragged, counter_bits

INDEXES = np.arange(20_000, dtype=np.int64)
KEYS = st.tuples(st.integers(-(2**70), 2**70), st.sampled_from(SPLITS), st.integers(0, 2**40))


def test_golden_bits():
    """The numbers are frozen: a change here changes every example of every task. On purpose only."""
    bits = counter_bits(0, "train", np.array([0, 1, 2**62]), 2)
    assert bits.dtype == np.uint64
    assert bits.tolist() == [
        [0x5E801848E1063BD5, 0x1A5AF7607120750E],
        [0xAD0A891DF54C3A93, 0xCA48453E42F43AA7],
        [0x0CE0C33A6DD96D5A, 0xDDE4155A21B8558B],
    ]
    assert counter_bits(-7, "test", np.array([5]), 1, stream=3).tolist() == [[0x5F9033CE07E39090]]


@given(KEYS, st.lists(st.integers(0, 2**62), min_size=1, max_size=20), st.integers(1, 4), st.randoms())
def test_bits_are_of_the_index_alone(key, indexes, words, random):
    """Whatever indexes are asked for together, in whatever order and number of words, each has its own bits."""
    seed, split, stream = key
    whole = counter_bits(seed, split, np.array(indexes), words, stream)
    order = list(range(len(indexes)))
    random.shuffle(order)
    shuffled = counter_bits(seed, split, np.array(indexes)[order], words + 1, stream)
    assert (shuffled[:, :words] == whole[order]).all()
    alone = [counter_bits(seed, split, np.array([index]), words, stream)[0] for index in indexes]
    assert (np.stack(alone) == whole).all()


def test_bits_are_uniform():
    """Each of the 64 bits is set as often as not, and each of 256 values of each byte comes equally often."""
    bits = counter_bits(3, "train", INDEXES, 4).ravel()
    share = (bits[:, None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)).mean(0)
    assert abs(share - 0.5).max() < 5 * 0.5 / np.sqrt(len(bits))
    for shift in range(0, 64, 8):
        counts = np.bincount((bits >> np.uint64(shift) & np.uint64(255)).astype(int), minlength=256)
        expected = len(bits) / 256
        chi = ((counts - expected) ** 2 / expected).sum()
        assert 255 - 6 * np.sqrt(2 * 255) < chi < 255 + 6 * np.sqrt(2 * 255)


@pytest.mark.parametrize(
    "other",
    [(1, "train", 0, 0), (0, "valid", 0, 0), (0, "train", 1, 0), (0, "train", 0, 1), (2**32, "train", 0, 0), (-1, "train", 0, 0)],
)  # fmt: skip
def test_streams_are_independent(other):
    """Another seed, split, stream or index shares half of the bits and no number, as chance would have it."""
    seed, split, stream, shift = other
    a = counter_bits(0, "train", INDEXES, 2)
    b = counter_bits(seed, split, INDEXES + shift, 2, stream)
    differ = np.bitwise_count(a ^ b).mean(0) / 64
    assert abs(differ - 0.5).max() < 5 * 0.5 / np.sqrt(64 * len(a))
    if not shift:
        assert not np.intersect1d(a, b).size
    correlation = np.corrcoef(a[:, 0] / 2.0**64, b[:, 0] / 2.0**64)[0, 1]
    assert abs(correlation) < 5 / np.sqrt(len(a))


def test_words_of_an_example_are_independent():
    """The words of one index, and the same word of the next index, are uncorrelated."""
    bits = counter_bits(0, "train", INDEXES, 3) / 2.0**64
    columns = [bits[:-1, 0], bits[:-1, 1], bits[:-1, 2], bits[1:, 0], bits[1:, 1]]
    matrix = np.corrcoef(columns) - np.eye(5)
    assert abs(matrix).max() < 5 / np.sqrt(len(INDEXES))


def test_ragged_rows():
    """Rows are cut where the lengths say, empty ones and no rows included."""
    ragged = Ragged(np.arange(5), np.array([2, 0, 3, 0]))
    assert [row.tolist() for row in ragged.rows()] == [[0, 1], [], [2, 3, 4], []]
    assert Ragged(np.arange(0), np.array([], int)).rows() == []


def test_split_is_checked(toy):
    """A split that does not exist is named, with those that do."""
    with pytest.raises(ValueError, match="split: wanted one of train, valid, test, got 'dev'"):
        toy.Echo(split="dev")


def _texts(block):
    return [row.tolist() for row in block["question"].rows()]


def _take(node, count):
    return [_texts(next(node)) for _ in range(count)]


def test_stream_is_what_is_drawn(toy):
    """The blocks of a stream, end to end, are the examples 0, 1, 2, ..., whatever the size of a block."""
    source = toy.Echo()
    source.block = 7
    assert [text for block in _take(source, 3) for text in block] == _texts(toy.Echo().draw(np.arange(21)))
    source.reset()
    assert _take(source, 1)[0] == _texts(toy.Echo().draw(np.arange(7)))


@given(
    taken=st.integers(0, 6),
    before=st.sampled_from([(1, 12), (2, 6), (3, 4)]),
    after=st.sampled_from([(1, 12), (4, 3), (6, 2)]),
)
def test_resumes_on_any_topology(toy, taken, before, after):
    """World and block may change at a resume: all ranks together go on with the next example, none lost or twice."""

    def ranks(world, block, state):
        made = [toy.Echo(5) for _ in range(world)]
        for rank, source in enumerate(made):
            source.rank, source.world, source.block = rank, world, block
            source.reset(state)
        return made

    drawn, state = [], None
    for world, block in (before, after):
        sources = ranks(world, block, state)
        drawn += [text for _ in range(taken) for source in sources for text in _texts(next(source))]
        states = [source.state_dict() for source in sources]
        assert all(each == states[0] for each in states)
        state = copy.deepcopy(states[0])
    assert drawn == _texts(toy.Echo(5).draw(np.arange(24 * taken)))


def _batches(node, count):
    return [next(node).inputs.tolist() for _ in range(count)]


@pytest.mark.parametrize("taken", [0, 1, 2, 5])
def test_made_ahead_resumes_exactly(toy, taken):
    """A stream made ahead delivers what the caller's thread would, and goes on after the last batch handed out."""
    graph = toy.graph()
    plain = _batches(graph.node(toy.Echo(9)), 12)
    stream = graph.stream(toy.Echo(9))
    assert _batches(stream, taken) == plain[:taken]
    state = copy.deepcopy(stream.state_dict())
    assert _batches(stream, 3) == plain[taken : taken + 3]
    again = graph.stream(toy.Echo(9))
    again.reset(state)
    assert _batches(again, 7) == plain[taken : taken + 7]
    again.reset()
    assert _batches(again, 2) == plain[:2]


class FaultyError(Exception):
    """An error that torchdata could not raise again: it takes two arguments."""

    def __init__(self, what, why):
        super().__init__(f"{what}: {why}")


@pytest.mark.parametrize("error", [ValueError("length: too long"), FaultyError("disk", "gone"), KeyError("field")])
def test_error_reaches_the_trainer_as_itself(toy, error):
    """The very error that a draw raised on the other thread is raised at its batch, after those before it."""

    class Broken(toy.Echo):
        def draw(self, indexes):
            if indexes[0] >= 24:
                raise error
            return super().draw(indexes)

    graph = toy.graph()
    stream = graph.stream(Broken())
    assert len(_batches(stream, 3)) == 3
    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            next(stream)
        assert caught.value is error


def test_a_finite_stream_ends(toy):
    """A source that ends, ends the stream made ahead of it, after its last batch."""

    class Short(toy.Echo):
        def next(self):
            if self.index >= 16:
                raise StopIteration
            return super().next()

    assert len(list(toy.graph().stream(Short()))) == 2


def test_threads_end_with_their_stream(toy):
    """A stream that is dropped, or begun anew, leaves no thread behind."""
    before = set(threading.enumerate())
    stream = toy.graph().stream(toy.Echo())
    for _ in range(3):
        stream.reset()
        next(stream)
    assert len(set(threading.enumerate()) - before) == 1
    del stream
    assert set(threading.enumerate()) <= before


@given(st.lists(st.sampled_from([0, 1, 3]), min_size=LAG + 6, max_size=LAG + 6))
def test_feedback_is_heard_at_fixed_blocks(toy, delays):
    """However far ahead blocks are made, block n knows the updates before n - LAG + 1, and no other."""
    source = toy.Rising()
    drawn = 0
    for update, ahead in enumerate(delays):
        while drawn <= min(update + ahead, update + LAG - 1):
            next(source)
            assert source.heard == [float(each) for each in range(max(0, drawn - LAG + 1))]
            drawn += 1
        source.tell({"loss": float(update)})


def test_prefetching_leaves_time_to_hear(toy):
    """No more is made ahead than LAG allows for, the page-locked batch in between included."""
    drawn = []

    class Counted(toy.Echo):
        def draw(self, indexes):
            drawn.append(indexes[0])
            return super().draw(indexes)

    stream = toy.graph().stream(Counted())
    for taken in range(1, 4):
        next(stream)
        deadline = time.monotonic() + 5
        while len(drawn) < taken + PREFETCH and time.monotonic() < deadline:
            time.sleep(0.001)
        assert len(drawn) == taken + PREFETCH
    assert PREFETCH + 1 < LAG


def test_who_listens(toy):
    """A source listens where it does something with what it hears."""
    assert not toy.Echo().listens
    assert toy.Rising().listens
