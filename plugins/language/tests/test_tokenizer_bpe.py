"""Byte-pair encoding: its merges against a plain learner, its ids against a plain encoder, and what is never lost."""

import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as trial
from hypothesis import strategies as st

from seqtoolkit_language.bpe import Learner, merge, pieces
from seqtoolkit_language.tokenizer import EOS, Tokenization, Tokenizer, count

PATIENT = trial(max_examples=60, deadline=None)  # a busy machine is no failure
TEXT = st.text(st.sampled_from("aabbcé日हि12'\u2019_.! \n\t\u3000\u0301😀"), max_size=80) | st.text(max_size=20)
COUNTED = st.dictionaries(st.text("abc", min_size=1, max_size=12), st.integers(1, 6), min_size=1, max_size=12)


def slow_merges(counted: dict[str, int], size: int) -> list[tuple[str, str]]:
    """Learn merges by counting every pair anew before each."""
    texts = [chr(code) for code in range(256)]
    words = {text: list(text.encode()) for text in counted}
    merges = []
    while len(texts) < size:
        pairs: Counter = Counter()
        for text, word in words.items():
            for pair in pairwise(word):
                pairs[pair] += counted[text]
        fit = [(-n, pair) for pair, n in pairs.items() if n > 1]
        if not fit:
            break
        _, (left, right) = min(fit)
        merges.append((texts[left], texts[right]))
        texts.append(texts[left] + texts[right])
        words = {text: merge(word, (left, right), len(texts) - 1) for text, word in words.items()}
    return merges


def slow_tokens(piece: str, merges: list[tuple[str, str]]) -> list[str]:
    """Merge the bytes of a piece by each merge in turn."""
    tokens = list(piece.encode().decode("latin-1"))
    for left, right in merges:
        at = 0
        while at < len(tokens) - 1:
            if (tokens[at], tokens[at + 1]) == (left, right):
                tokens[at : at + 2] = [left + right]
            at += 1
    return tokens


def learned(setting: Tokenization, text: str) -> Tokenizer:
    """Return the tokenizer of a text."""
    table: dict[str, int] = {}
    count(text.encode(), setting, table)
    return Tokenizer.learn(setting, table.items(), 7)


@PATIENT
@given(counted=COUNTED, extra=st.integers(0, 25))
def test_merges_are_those_of_a_learner_that_counts_all_anew(counted, extra):
    """Counts that are kept up to date choose the pairs that a full count chooses, and end where no pair stands twice."""
    learner = Learner(counted.items())
    learner.learn(256 + extra)
    assert learner.merges == slow_merges(counted, 256 + extra)
    assert [learner.texts[token] for word in learner.words for token in word] == [
        token for text in counted for token in slow_tokens(text, learner.merges)
    ]


@PATIENT
@given(text=TEXT, other=TEXT, extra=st.integers(0, 30), lines=st.booleans())
def test_nothing_is_lost_and_ids_are_those_of_a_plain_encoder(text, other, extra, lines):
    """Any text comes back, learned from or not; the counts are those of its ids; each token has one id."""
    tokenizer = learned(Tokenization("bpe", 258 + extra, lines=lines), text)
    assert tokenizer.size == 258 + extra
    merges, ids = tokenizer.vocabulary.merges, {token: i for i, token in enumerate(tokenizer.tokens)}
    assert len(set(tokenizer.tokens[2:]) - {""}) == 256 + len(merges)
    for some in (text, other):
        found = tokenizer.encode(some.encode())
        assert tokenizer.decode(found) == some
        assert tokenizer.characters[found].sum() == len(some)
    found = tokenizer.encode(text.encode())
    tally = np.bincount(found[found != EOS], minlength=tokenizer.size)
    assert tally[2:].tolist() == tokenizer.counts[2:].tolist()
    assert tokenizer.counts[EOS] == 7
    assert (found == EOS).sum() == (text.count("\n") if lines else 0)
    line = other.replace("\n", "")
    spelled = [tokenizer.tokens[i] for i in tokenizer.encode(line.encode())]
    assert all(token in ids for token in spelled)
    assert "".join(spelled) == line.encode().decode("latin-1")


@PATIENT
@given(word=st.text("abc", min_size=1, max_size=20))
def test_a_word_is_encoded_by_its_merges_in_turn(word):
    """The library's ids are those of merging by each learned pair in the order of learning."""
    tokenizer = learned(Tokenization("bpe", 280), "abcabc abcab aabb aabbc bcbc caca cacab " * 3)
    spelled = [tokenizer.tokens[i] for i in tokenizer.encode(word.encode())]
    assert spelled == slow_tokens(word, tokenizer.vocabulary.merges)
    assert any(len(token) > 2 for token in tokenizer.tokens[2:])


@PATIENT
@given(text=TEXT)
def test_pieces_of_a_chunk_are_all_of_it(text):
    """Pieces joined are the chunk, and none is longer than 32 characters and what leads it."""
    assert "".join(pieces(text)) == text
    assert all(0 < len(piece) <= 33 for piece in pieces(text * 9))


def test_pieces_part_letters_digits_and_signs():
    """No token goes from a word into a number or a sign; a blank goes with what follows it."""
    assert pieces(" don't!!") == (" don", "'t", "!!")
    assert pieces(" B2_हिन्") == (" B", "2", "_", "हिन्")


def test_equal_counts_in_another_order_are_an_equal_tokenizer():
    """The order in which workers merged their tables shows nowhere."""
    setting, counted = Tokenization("bpe", 270), {"abab": 3, "baba": 3, "caca": 2, "é": 4}
    one = Tokenizer.learn(setting, counted.items())
    assert one.digest == Tokenizer.learn(setting, reversed(counted.items())).digest


def test_rare_pieces_are_not_learned_from():
    """With a min_count a rare piece gives no merges, yet is encoded."""
    tokenizer = Tokenizer.learn(Tokenization("bpe", 300, min_count=3), [("xyxyxy", 2), ("ab", 3)])
    assert tokenizer.vocabulary.merges == [("a", "b")]
    assert tokenizer.decode(tokenizer.encode(b"xyxyxy")) == "xyxyxy"


def test_small_letters():
    """With lowercase what comes back is in small letters."""
    tokenizer = learned(Tokenization("bpe", 260, lowercase=True), "ABAB ÉÉ")
    assert tokenizer.decode(tokenizer.encode("ABAB ÉÉ".encode())) == "abab éé"


def test_without_its_library_bpe_says_what_to_install(monkeypatch):
    """The optional library is missed in one line, when a text is encoded."""
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ValueError, match=r"^kind: bpe wants the library tokenizers.*pip install 'seqtoolkit-language"):
        learned(Tokenization("bpe", 258), "a").encode(b"a")
