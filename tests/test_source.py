"""Sources: counted randomness, streams that resume and shard, feedback at fixed blocks."""
# ruff: noqa: D102  the methods are those of the class they stand in for

import copy
import threading
import time
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from seqtoolkit.flow.ahead import PREFETCH
from seqtoolkit.flow.batch import Stack
from seqtoolkit.flow.counter import SPLITS, counter_bits, counter_tensor
from seqtoolkit.flow.mix import Mix
from seqtoolkit.flow.source import LAG, Ragged, Source
from seqtoolkit.flow.spec import record
from seqtoolkit.testing import SOURCE_LAWS, check_source

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


@given(
    st.lists(st.integers(-(2**62), 2**62), max_size=12),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from(SPLITS),
    st.integers(0, 5),
    st.integers(0, 9),
)
def test_bits_of_tensors_are_those_of_arrays(indexes, seed, split, words, stream):
    """counter_tensor gives the bits of counter_bits, whatever is asked for, in whatever order."""
    some = np.array(indexes, np.int64)
    for asked in (some, np.arange(len(some)) + (some[0] if len(some) else 0)):
        kept = asked.copy()
        wanted = counter_bits(seed, split, asked, words, stream)
        assert (counter_tensor(seed, split, asked, words, stream).numpy().view(np.uint64) == wanted).all()
        assert (asked == kept).all()


@pytest.mark.parametrize(("indexes", "copies"), [(range(5, 25), 0), ([3], 0), ([1, 0, 2], 1)])
def test_bits_are_made_where_they_are_asked_for(indexes, copies):
    """On another device all is computed there; only indexes with gaps are copied to it."""
    with Copies() as seen:
        made = counter_tensor(0, "train", np.array(indexes), 3, device="meta")
    assert (made.device.type, tuple(made.shape), made.dtype) == ("meta", (len(indexes), 3), torch.int64)
    assert seen.count == copies


class Copies(TorchDispatchMode):
    """Counts the copies from one device to another."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        return function(*args, **(kwargs or {}))


class Drawn(Source):
    """Numbers drawn on a device; keeps which indexes were asked of it, and from which thread."""

    on_device = True

    def __init__(self, seed=0, split="train"):
        super().__init__(seed, split)
        self.writes, self.asked, self.threads = record(inputs="f32[B T 2]", targets="i64<4>[B U]"), [], set()

    def draw(self, indexes):
        self.asked.append(int(indexes[0]))
        self.threads.add(threading.current_thread())
        bits = counter_tensor(self.seed, self.split, indexes, 7, device=self.device)
        return {"inputs": bits[:, :6].float().unflatten(1, (3, 2)), "targets": bits[:, 6:] & 3}


def _drawing(toy, source):
    graph = toy.graph()
    graph.collate = Stack(source.writes, size=4)
    return graph


def test_what_is_drawn_on_the_device_is_not_made_ahead(toy):
    """Each block is drawn when it is asked for, by who asks, and resumes from its state like any other."""
    source = Drawn()
    graph = _drawing(toy, source)
    stream, plain = graph.stream(source), _batches(graph.node(Drawn()), 5)
    for taken in range(1, 4):
        assert _batches(stream, 1) == plain[taken - 1 : taken]
        assert source.asked == [4 * each for each in range(taken)]
    assert source.threads == {threading.current_thread()}
    again = graph.stream(Drawn())
    again.reset(copy.deepcopy(stream.state_dict()))
    assert _batches(again, 2) == plain[3:]


def test_a_stream_tells_its_source_where_to_draw(toy):
    """A batch of a source that draws on the device is there; other sources are left where they are."""
    for make in (Drawn, partial(Mix, [Drawn, Drawn])):
        source = make()
        batch = next(_drawing(toy, source).stream(source, torch.device("meta")))
        assert {each.device.type for each in (batch.inputs, batch.targets, batch.mask)} == {"meta"}
        assert batch.inputs.shape == (3, 4, 2)
    echo = toy.Echo()
    toy.graph().node(echo, torch.device("meta"))
    assert echo.device.type == "cpu"


@pytest.mark.parametrize("law", SOURCE_LAWS)
def test_laws_of_a_contiguous_source(toy, law):
    """A source that goes on from block to block and has an end keeps the laws of all sources."""
    check_source(toy.Song, law)


def test_who_has_an_end(toy):
    """A source that says how many examples it has is finite, and contiguous where it says so; others are neither."""
    assert (toy.Echo().finite, toy.Echo().contiguous, toy.Echo().size) == (False, False, None)
    song = toy.Song(length=50, steps=4)
    assert (song.finite, song.contiguous, song.size) == (True, True, 13)
    song.block = 3
    assert song.size == 15


def test_a_finite_source_begins_anew(toy):
    """After its last example comes the first, marked as one that begins anew."""
    song = toy.Song(length=50, steps=4)
    song.block = 3
    once, again = song.draw(np.arange(15)), song.draw(np.arange(15, 30))
    assert all((once[name] == again[name]).all() for name in once)
    assert once["first"].sum() == 3


def test_most_sources_keep_nothing(toy, tmp_path):
    """Nothing is made, kept or compared unless a task does so."""
    echo = toy.Echo()
    echo.prepare(lambda *_: pytest.fail("nothing is made"))
    echo.keep(tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
    echo.adopt(tmp_path)
    assert not echo.baselines()
