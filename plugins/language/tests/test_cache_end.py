"""The ends of documents and lines: counted in the first pass as they are written in the second."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqtoolkit_language.array import Tokens, Writer
from seqtoolkit_language.corpus import Text
from seqtoolkit_language.end import Ends, total
from seqtoolkit_language.tokenizer import EOS, Tokenization, Tokenizer, count

TEXTS = st.builds(
    Text, st.booleans(), st.sampled_from([b"a", b"a b\n", b" ", b"\n", b" \n\xc2\xa0", b"a <eos>", b"<EOS>\n "])
)


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("kind", ["word", "space", "character"])
@settings(max_examples=25, deadline=None)
@given(pieces=st.lists(st.lists(TEXTS, max_size=5), min_size=1, max_size=4))
def test_as_many_ends_are_counted_as_written(kind, lines, lowercase, pieces, tmp_path_factory):
    """Whatever the pieces, blank ones too: the counts are those of the tokens, and each document ends with <eos>."""
    tokenization = Tokenization(kind=kind, lines=lines, lowercase=lowercase)
    first = Text(begins=True, data=b"a")  # a corpus begins with a document, and has a token
    pieces = [[first, *pieces[0]], *pieces[1:]]
    table: dict[str, int] = {}
    counted = []
    for piece in pieces:
        counted.append(Ends(tokenization))
        for text in piece:
            count(text.data, tokenization, table)
            counted[-1].add(text)
    tokenizer = Tokenizer.learn(tokenization, table.items(), total(counted))
    folder = tmp_path_factory.mktemp("tokens")
    with Writer(folder, "", tokenizer.dtype, EOS) as writer:
        for piece in pieces:
            ids = [tokenizer.encode(text.data) for text in piece]
            starts = np.cumsum([0, *map(len, ids)])
            begins = [int(start) for start, text in zip(starts, piece, strict=False) if text.begins]
            writer.add(np.concatenate([np.empty(0, tokenizer.dtype), *ids]), np.array(begins, np.int64))
        writer.finish()
    tokens = Tokens.open(folder)
    assert np.array_equal(np.bincount(tokens[:], minlength=tokenizer.size), tokenizer.counts)
    documents = np.split(tokens[:], tokens.documents[1:])
    assert all(len(document) and document[-1] == EOS for document in documents)
    assert tokens.documents[0] == 0
