"""The trigram baseline against its equations, written once more in dictionaries, and against what is known by hand."""

import math
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqtoolkit_language import ngram
from seqtoolkit_language.ngram import Trigram


class Slow:
    """Modified Kneser-Ney in dictionaries and exact fractions: one n-gram after the other, as Chen & Goodman have it."""

    def __init__(self, tokens, vocabulary, order):
        self.vocabulary, self.order = vocabulary, order
        stream = [1] * (order - 1) + list(tokens)
        count = Counter(tuple(stream[i : i + order]) for i in range(len(tokens)))
        self.followers: dict = {}
        self.discount: dict = {}
        for k in range(order, 0, -1):
            self.discount[k] = self.discounts(Counter(count.values()))
            self.followers[k] = defaultdict(dict)
            for gram, times in count.items():
                self.followers[k][gram[:-1]][gram[-1]] = times
            left = defaultdict(set)
            for gram in count:
                left[gram[1:]].add(gram[0])
            count = Counter({gram: len(tokens) for gram, tokens in left.items()})

    @staticmethod
    def discounts(n):
        """D(1), D(2), D(3+) of one order's counts of counts."""
        fallback = [Fraction(1, 2), Fraction(1), Fraction(3, 2)]
        if 0 in (n[1], n[2], n[3], n[4]):
            return fallback
        y = Fraction(n[1], n[1] + 2 * n[2])
        exact = [1 - 2 * y * Fraction(n[2], n[1]), 2 - 3 * y * Fraction(n[3], n[2]), 3 - 4 * y * Fraction(n[4], n[3])]
        return exact if all(d > 0 for d in exact) else fallback

    def probability(self, word, context, k=None):
        """The chance of `word` after `context` by the model of order k."""
        k = self.order if k is None else k
        if k == 0:
            return Fraction(1, self.vocabulary)
        context = tuple(context)[len(context) - k + 1 :]
        below = self.probability(word, context[1:], k - 1)
        followers = self.followers[k].get(context)
        if followers is None:
            return below
        given_up = {w: self.discount[k][min(times, 3) - 1] for w, times in followers.items()}
        total = sum(followers.values())
        own = followers[word] - given_up[word] if word in followers else Fraction(0)
        return Fraction(own) / total + sum(given_up.values()) / total * below


def zipf(seed, length, vocabulary):
    """A stream in which some ids are frequent and most are rare, each drawn near the one before it."""
    rng = np.random.default_rng(seed)
    steps = rng.zipf(1.5, length) * rng.choice([1, 1, 1, 2], length)
    return np.minimum(steps % (2 * vocabulary), vocabulary - 1)


def after(model, context):
    """The probabilities of all next words."""
    return np.exp([model.log_probabilities([word], before=context)[0] for word in range(model.vocabulary)])


streams = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 400), st.integers(2, 24))


@settings(max_examples=40, deadline=None)
@given(streams, st.integers(1, 3), st.data())
def test_the_probabilities_of_all_next_words_sum_to_one(stream, order, data):
    """In contexts seen and unseen, whatever the order: to 1e-12, and each is above 0."""
    seed, length, vocabulary = stream
    tokens = zipf(seed, length, vocabulary)
    model = Trigram.learn(tokens, vocabulary, order)
    ids = st.integers(0, vocabulary - 1)
    at = data.draw(st.integers(0, length))
    for context in (tokens[max(0, at - 2) : at], data.draw(st.tuples(ids, ids))):
        chances = after(model, context)
        assert abs(chances.sum() - 1) < 1e-12
        assert chances.min() > 0


@settings(max_examples=40, deadline=None)
@given(streams, st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_the_dictionaries_say_the_same(stream, order, other):
    """Arrays and dictionaries agree on the training stream and on another one that has unseen contexts and words."""
    seed, length, vocabulary = stream
    train = zipf(seed, length, vocabulary)
    fast, slow = Trigram.learn(train, vocabulary, order), Slow(train.tolist(), vocabulary, order)
    for tokens in (train, np.random.default_rng(other).integers(vocabulary, size=60)):
        padded = [1, 1, *tokens.tolist()]
        expected = [math.log(slow.probability(word, padded[i : i + 2])) for i, word in enumerate(padded[2:])]
        np.testing.assert_allclose(fast.log_probabilities(tokens), expected, rtol=0, atol=1e-11)


def test_the_discounts_are_those_of_the_counts_of_counts():
    """A stream with all counts of counts above 0 has the published discounts at each order, not the fallback."""
    tokens = zipf(0, 3000, 300)
    fast, slow = Trigram.learn(tokens, 300), Slow(tokens.tolist(), 300, 3)
    for k, order in enumerate(fast.orders, 1):
        np.testing.assert_allclose(order.discounts, [0.0, *map(float, slow.discount[k])], atol=1e-12)
        assert tuple(order.discounts[1:]) != ngram.FALLBACK


def test_counts_of_counts_by_hand():
    """The counts 4 2 1 1 give Y 1/2 and D 1/2, 5/4 and 1; a 0 among them, or a discount below 0, gives the fallback."""
    assert ngram._discounts(np.array([0, 4, 2, 1, 1])) == (0.5, 1.25, 1.0)
    for n in ([9, 0, 2, 1, 1], [9, 4, 0, 1, 1], [9, 4, 2, 0, 1], [9, 4, 2, 1, 0], [9, 4, 2, 9, 1], [9, 4, 2, 1, 2]):
        with np.errstate(all="raise"):
            assert ngram._discounts(np.array(n)) == (0.5, 1.0, 1.5)


def test_three_tokens_by_hand():
    """The stream 2 3 2 of four words, whose discounts are 1/2, 1 and 3/2: worked out with pencil and paper.

    Trigrams 112, 123, 232 once each; bigrams 12, 23, 32 after one token each; 2 after two tokens, 3 after one. Hence
    p_1 = 3 3 11 7 (of 24); p_2(2|1) = 35/48; p_3(2|11) = 1/2 + 1/2 35/48.
    """
    model = Trigram.learn(np.array([2, 3, 2]), 4)
    np.testing.assert_allclose(np.exp(model.log_probabilities([2, 3, 2])), [83 / 96, 79 / 96, 83 / 96])
    for context, word, chance in (
        ((2, 3), 0, 1 / 32),  # a word never seen: half of a half of 1/8
        ((0, 0), 3, 7 / 24),  # no context was ever seen
        ((3, 2), 3, 31 / 48),  # only the nearer token was
        ((1, 1), 3, 7 / 96),
    ):
        assert model.log_probabilities([word], before=context)[0] == pytest.approx(math.log(chance))
    assert model.perplexity([2, 3, 2]) == pytest.approx((83 / 96 * 79 / 96 * 83 / 96) ** (-1 / 3))


def test_a_bigram_and_a_unigram_by_hand():
    """The stream 2 2 2 0: bigrams 12, 22 twice, 20; the unigram of order 1 counts occurrences, not continuations."""
    bigram, unigram = (Trigram.learn(np.array([2, 2, 2, 0]), 3, order) for order in (2, 1))
    np.testing.assert_allclose(after(unigram, ()), [0.5 / 4 + 1 / 6, 1 / 6, 1.5 / 4 + 1 / 6])
    lowest = [0.5 / 3 + 1 / 6, 1 / 6, 1 / 3 + 1 / 6]  # 0 after one token, 2 after two: (1/2 + 1) / 3 is left
    np.testing.assert_allclose(after(bigram, (2,)), [0.5 / 3 + lowest[0] / 2, lowest[1] / 2, 1 / 3 + lowest[2] / 2])


def test_a_stream_of_chance_has_the_perplexity_of_its_vocabulary():
    """No model predicts a uniform stream better than one word in V, and this one is hardly worse."""
    train, held_out = np.random.default_rng(0).integers(10, size=(2, 100_000))
    for order in (1, 2, 3):
        assert Trigram.learn(train, 10, order).perplexity(held_out) == pytest.approx(10, rel=0.01)


def test_a_longer_context_predicts_better_where_there_is_something_to_predict():
    """Where two tokens settle the next, a trigram is nearly sure, a bigram is not and a unigram even less."""
    tokens = np.tile([2, 3, 2, 4, 5, 6], 100)
    one, two, three = (Trigram.learn(tokens, 7, order).perplexity(tokens) for order in (1, 2, 3))
    assert one > 4 > two > 1.2 > three > 1


class OnDisk:
    """Tokens that can be asked for their length and for slices, and for nothing else, as a cache's."""

    def __init__(self, tokens):
        self.tokens, self.longest = tokens, 0

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, where):
        self.longest = max(self.longest, where.stop - where.start)
        return self.tokens[where]


def test_chunks_change_nothing(monkeypatch):
    """A stream counted and scored seven tokens at a time, from slices alone, is as counted and scored at once."""
    tokens, held_out = zipf(1, 500, 30).astype(np.uint16), OnDisk(zipf(2, 100, 30).astype(np.int32))
    whole = Trigram.learn(tokens, 30)
    expected = whole.log_probabilities(held_out.tokens)
    monkeypatch.setattr(ngram, "CHUNK", 7)
    parts = Trigram.learn(OnDisk(tokens), 30)
    np.testing.assert_array_equal(parts.log_probabilities(held_out), expected)
    assert held_out.longest == 7
    assert parts.perplexity(held_out) == pytest.approx(math.exp(-expected.mean()), rel=1e-12)
    assert parts.perplexity(tokens[9:], tokens[:9]) == pytest.approx(whole.perplexity(tokens[9:], tokens[7:9]))


@given(st.integers(1, 99))
def test_what_stands_before_a_part_is_its_context(cut):
    """A stream scored in two parts is scored as one, when the second is told what stands before it."""
    tokens = zipf(3, 100, 9)
    model = Trigram.learn(tokens, 9)
    parts = model.log_probabilities(tokens[:cut]), model.log_probabilities(tokens[cut:], before=tokens[:cut])
    np.testing.assert_array_equal(np.concatenate(parts), model.log_probabilities(tokens))


def test_only_the_first_tokens_are_counted_where_there_are_too_many():
    """`most` counts that many tokens from the beginning, and reads no others."""
    tokens = zipf(4, 300, 20)
    few = Trigram.learn(np.concatenate((tokens, [10**6])), 20, most=300)
    np.testing.assert_array_equal(few.log_probabilities(tokens), Trigram.learn(tokens, 20).log_probabilities(tokens))


def test_the_largest_vocabulary_packs_without_a_clash():
    """Three ids of 21 bits each, the highest among them, stay apart: 2**21 words, and the sum over context is 1."""
    top = ngram.LARGEST - 1
    model = Trigram.learn(np.array([top, top, 0, top, top - 1, top, top]), top + 1)
    assert len(model.orders[2].grams) == 7
    words = np.array([0, top - 1, top, 1, 2])
    chances = np.array([math.exp(model.log_probabilities([word], (top, top))[0]) for word in words])
    assert chances[0] > chances[2] > chances[1] > chances[3] == chances[4] > 0
    assert chances[:3].sum() + (top - 2) * chances[3] == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(
    ("tokens", "changes", "message"),
    [
        ([], {}, "at least one token"),
        ([2, 9], {}, "id 9 (from token 0) is not of the vocabulary, whose ids are 0 to 8"),
        ([2, -1], {}, "id -1 (from token 0) is not of the vocabulary"),
        ([2.0], {}, "integers [n], not float64 [1]"),
        ([[2]], {}, "integers [n], not int64 [1, 1]"),
        ([2], {"vocabulary": 2**21 + 1}, "vocabulary from 2 to 2097152, not 2097153"),
        ([2], {"vocabulary": 1}, "vocabulary from 2"),
        ([2], {"order": 4}, "order from 1 to 3, not 4"),
        ([2], {"most": 0}, "most from 1 to"),
    ],
)
def test_what_cannot_be_counted_is_said_in_one_line(tokens, changes, message):
    """An empty stream, ids outside of the vocabulary and numbers out of range are errors of one line."""
    with pytest.raises(ValueError, match=r"n-gram|vocabulary") as error:
        Trigram.learn(np.array(tokens), **{"vocabulary": 9, **changes})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_cannot_be_scored_is_said_in_one_line():
    """The same holds for the stream to score and for what stands before it."""
    model = Trigram.learn(np.array([2, 3, 2]), 4)
    for score in (model.log_probabilities, model.perplexity):
        with pytest.raises(ValueError, match="empty"):
            score([])
        with pytest.raises(ValueError, match=r"id 4 \(from token 0\)"):
            score([1, 4])
        with pytest.raises(ValueError, match=r"id 4 \(before\)"):
            score([1], before=(4, 1))
