"""Tracks: every token of a stream is predicted once in a pass, from the token before it, whatever the shape of a batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqtoolkit.sdk import IGNORED
from seqtoolkit_language.tokenizer import EOS
from seqtoolkit_language.track import Tracks, Window


class Stream:
    """Tokens in memory: token i is 10 + i, but for the <eos> at the end of each document."""

    def __init__(self, *lengths):
        ends = np.cumsum(lengths)
        self.ids = np.arange(10, 10 + ends[-1], dtype=np.uint16)
        self.ids[ends - 1] = EOS
        self.documents = ends - np.array(lengths)

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, where):
        return self.ids[where]


def walk(tracks, offset=0):
    """A pass: what each row reads, is to say, and where it begins anew, [rows, windows * T]."""
    parts = []
    for number in range(tracks.windows):
        rows = np.arange(tracks.count)
        parts.append(tracks.read(rows, np.full_like(rows, number), np.full_like(rows, offset)))
    return Window(*(np.concatenate(each, 1) for each in zip(*parts, strict=True)))


DOCUMENTS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@given(DOCUMENTS, st.data(), st.integers(1, 12), st.booleans(), st.integers(0, 5))
def test_a_pass_predicts_every_token_once(lengths, data, length, documents, every):
    """Each token is a target once, in order along the rows; what is read is the token before, and <eos> before the first.

    Rows begin anew with the pass, with documents and every so many steps where that is asked for, and nowhere else.
    """
    stream = Stream(*lengths)
    total = len(stream)
    count, offset = data.draw(st.integers(1, total)), data.draw(st.integers(0, total - 1))
    whole = walk(Tracks(stream, count, length, documents=documents, every=every), offset)
    known = whole.targets != IGNORED
    rows = known.sum(1)
    assert rows.sum() == total
    assert rows.max() - rows.min() <= 1
    turned = np.roll(stream.ids, -offset).astype(int)
    before = np.roll(stream.ids, 1 - offset).astype(int)
    assert whole.targets[known].tolist() == turned.tolist()
    assert whole.inputs[known].tolist() == before.tolist()
    assert (whole.inputs[~known] == EOS).all()
    begins = {(place - offset) % total for place in stream.documents.tolist()} if documents else set()
    place = 0
    for row in range(count):
        assert known[row, : rows[row]].all(), "nothing is left out before the end of a track"
        for step in range(rows[row]):
            wanted = step == 0 or place in begins or (every > 0 and step % every == 0)
            assert whole.first[row, step] == wanted
            place += 1


@given(DOCUMENTS, st.data())
def test_windows_are_cuts_of_one_track(lengths, data):
    """A pass in windows of any length is that in one window."""
    stream = Stream(*lengths)
    count, length = data.draw(st.integers(1, len(stream))), data.draw(st.integers(1, 12))
    cut = walk(Tracks(stream, count, length, documents=True))
    one = walk(Tracks(stream, count, len(stream), documents=True))
    steps = min(cut.inputs.shape[1], one.inputs.shape[1])
    for found, wanted in zip(cut, one, strict=True):
        assert (found[:, :steps] == wanted[:, :steps]).all()
    assert (cut.targets[:, steps:] == IGNORED).all()
    assert (one.targets[:, steps:] == IGNORED).all()


def test_a_window_over_the_end_of_the_stream():
    """After the last token comes the first; the token that is read there is the last one, <eos>."""
    whole = walk(Tracks(Stream(3, 2), 1, 5, documents=True), offset=3)
    assert whole.targets.tolist() == [[13, EOS, 10, 11, EOS]]
    assert whole.inputs.tolist() == [[EOS, 13, EOS, 10, 11]]
    assert whole.first.tolist() == [[True, False, True, False, False]]


def test_as_many_rows_as_tokens():
    """Each row has one token, and one window."""
    tracks = Tracks(Stream(2, 2), 4, 3)
    whole = walk(tracks)
    assert tracks.windows == 1
    assert whole.targets.tolist() == [[each, IGNORED, IGNORED] for each in (10, EOS, 12, EOS)]
    assert whole.first[:, 0].all()


def test_fewer_tokens_than_rows():
    """A row without a token is an error that says both numbers."""
    with pytest.raises(ValueError, match=r"^wanted a token at least for each of the 5 rows of a batch, got 4 in all$"):
        Tracks(Stream(4), 5, 3)
