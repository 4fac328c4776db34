"""The baseline that language models have to beat: an interpolated, modified Kneser-Ney trigram, counted in numpy."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

EOS = 1
"""The id of <eos> in every vocabulary: what is taken to stand before the first token."""

LARGEST = 1 << 21
"""The largest vocabulary: three of its ids fit into 63 bits."""

CHUNK = 1 << 19
"""How many tokens are scored at once: it bounds the memory, whatever the stream."""

FALLBACK = (0.5, 1.0, 1.5)
"""The discounts of an order whose counts of counts give none."""


class Ids(Protocol):
    """Ids that have a length and slices: an array, a list, the tokens of a cache."""

    def __len__(self) -> int: ...

    def __getitem__(self, where: slice, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class Order:
    """One order k of the model: its k-grams by rising packed key, and the contexts that they stand in.

    The key of k ids is their number in base 2**bits, so the k-grams of one context lie side by side.
    """

    bits: int
    grams: np.ndarray  # uint64 [k-grams]
    counts: np.ndarray  # uint32 [k-grams]: c_k
    discounts: np.ndarray  # float64 [4]: what a count of 0, 1, 2, and 3 or more gives up
    contexts: np.ndarray  # uint64 [contexts]
    totals: np.ndarray  # float64 [contexts]: c_k(h .)
    left: np.ndarray  # float64 [contexts]: gamma_k(h), the share that goes to the order below

    @classmethod
    def of(cls, keys: np.ndarray, bits: int) -> "Order":
        """The order whose k-grams are `keys` (uint64, with repeats, sorted in place)."""
        keys.sort()
        starts = _starts(keys)
        grams, counts = keys[starts], np.diff(starts, append=len(keys)).astype(np.uint32)
        discounts = np.array([0.0, *_discounts(np.bincount(counts[counts <= 4], minlength=5))])
        contexts = grams >> bits
        starts = _starts(contexts)
        totals = np.add.reduceat(counts, starts, dtype=np.int64).astype(np.float64)
        left = np.add.reduceat(discounts[np.minimum(counts, 3)], starts) / totals
        return cls(bits, grams, counts, discounts, contexts[starts], totals, left)

    def mix(self, keys: np.ndarray, below: np.ndarray) -> np.ndarray:
        """p_k of each of `keys` (uint64 [n], k ids each), where `below` is p_{k-1} of the same tokens."""
        context, known = _find(self.contexts, keys >> self.bits)
        gram, found = _find(self.grams, keys)
        count = np.where(found, self.counts[gram], 0)
        own = (count - self.discounts[np.minimum(count, 3)]) / self.totals[context]
        return np.where(known, own + self.left[context] * below, below)


@dataclass(frozen=True, eq=False)
class Trigram:
    """An interpolated, modified Kneser-Ney model of a stream of tokens (Chen & Goodman, 1999, section 3).

    With n = `order` (3; 2 and 1 give the bigram and the unigram model) and V ids in the vocabulary,

        p_k(w | h) = (c_k(h w) - D_k(c_k(h w))) / c_k(h .) + gamma_k(h) p_{k-1}(w | h')     k = n, ..., 1
        gamma_k(h) = (D_k(1) N_1(h .) + D_k(2) N_2(h .) + D_k(3) N_{3+}(h .)) / c_k(h .)
        p_0(w)     = 1 / V

    where h are the k-1 tokens before w and h' is h without its first; c_k(h .) is the sum of c_k(h w) over w, and
    N_j(h .) the number of w with c_k(h w) = j (3+: 3 or more). A context that never occurred leaves all to the order
    below: p_k(w | h) = p_{k-1}(w | h'). So every probability is above 0, and those of all V ids sum to 1.

    * Counts: c_n(g) is how often g occurs; below, c_k(g) is how many different tokens stand before g (continuation).
    * Discounts, of each order by itself, with n_j the number of k-grams g with c_k(g) = j and Y = n_1 / (n_1 + 2 n_2):
      D(0) = 0, D(1) = 1 - 2 Y n_2 / n_1, D(2) = 2 - 3 Y n_3 / n_2, D(3) = D(4) = ... = 3 - 4 Y n_4 / n_3. Where one of
      n_1, ..., n_4 is 0 or a D is not above 0 (tiny corpora, small vocabularies), the order takes 1/2, 1 and 3/2.
    * Contexts run across <eos>, as a recurrent model's state does: the first word of a document is predicted from the
      <eos> before it and the last word before that. Before the first token of a stream stand n-1 times <eos>, unless
      `before` says otherwise. <eos> and <unk> are predicted like every other token.
    """

    vocabulary: int
    orders: tuple[Order, ...]  # of k = 1, ..., n

    @classmethod
    def learn(cls, tokens: Ids, vocabulary: int, order: int = 3, most: int = 50_000_000) -> "Trigram":
        """Count the first `most` tokens of a training stream.

        Args:
            tokens: ids, int [n].
            vocabulary: how many ids there are (V), at most 2**21.
            order: 3 for a trigram model, 2 for a bigram, 1 for a unigram model.
            most: how many tokens are counted, from the beginning; 50 million of a large vocabulary take 3 GB
                at the most, and the model half of that.

        Raises:
            ValueError: there is no token, an id is not of the vocabulary, or a number is out of its range.
        """
        for name, value, low, high in (
            ("vocabulary", vocabulary, 2, LARGEST),
            ("order", order, 1, 3),
            ("most", most, 1, 2**32 - 1),
        ):
            if not low <= value <= high:
                raise ValueError(f"an n-gram model takes {name} from {low} to {high}, not {value}")
        bits = (vocabulary - 1).bit_length()
        keys = np.empty(min(_length(tokens), most), np.uint64)
        for at, part in _keys(tokens, (), vocabulary, order, len(keys)):
            keys[at : at + len(part)] = part
        orders = [Order.of(keys, bits)]
        for k in range(order - 1, 0, -1):
            orders.append(Order.of(orders[-1].grams & np.uint64((1 << k * bits) - 1), bits))
        return cls(vocabulary, tuple(reversed(orders)))

    def log_probabilities(self, tokens: Ids, before: Ids = ()) -> np.ndarray:
        """The log-probability of each token of a stream after those before it, in nats, in order: float64 [n].

        `before` are the ids that stand before the stream, of which the last n-1 count; <eos> stands before these.

        Raises:
            ValueError: there is no token, or an id is not of the vocabulary.
        """
        logs = np.empty(_length(tokens))
        for at, part in self._scored(tokens, before):
            logs[at : at + len(part)] = part
        return logs

    def perplexity(self, tokens: Ids, before: Ids = ()) -> float:
        """The exponential of the mean of -log p, in bounded memory; arguments and errors as of log_probabilities."""
        length = _length(tokens)
        return math.exp(-math.fsum(float(part.sum()) for _, part in self._scored(tokens, before)) / length)

    def _scored(self, tokens: Ids, before: Ids) -> Iterator[tuple[int, np.ndarray]]:
        """The log-probabilities of one chunk after the other, and where each begins."""
        bits = self.orders[0].bits
        for at, keys in _keys(tokens, before, self.vocabulary, len(self.orders), len(tokens)):
            chances = np.full(len(keys), 1 / self.vocabulary)
            for k, order in enumerate(self.orders, 1):
                chances = order.mix(keys & np.uint64((1 << k * bits) - 1), chances)
            yield at, np.log(chances)


def _discounts(n: np.ndarray) -> tuple[float, float, float]:
    """D(1), D(2) and D(3+) of the counts of counts n[1] to n[4]."""
    if not n[1:5].all():
        return FALLBACK
    y = n[1] / (n[1] + 2 * n[2])
    one, two, three = (float(j - (j + 1) * y * n[j + 1] / n[j]) for j in (1, 2, 3))
    return (one, two, three) if min(one, two, three) > 0 else FALLBACK


def _starts(keys: np.ndarray) -> np.ndarray:
    """Where each run of equal keys begins, of sorted keys."""
    return np.concatenate(([0], np.flatnonzero(keys[1:] != keys[:-1]) + 1))


def _find(table: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each key stands in a sorted table, and whether it does: a key that does not has some index of the table."""
    rising = np.argsort(keys)  # neighbours in the table are asked for one after the other, while they are in the cache
    index = np.empty(len(keys), np.int64)
    index[rising] = np.minimum(np.searchsorted(table, keys[rising]), len(table) - 1)
    return index, table[index] == keys


def _length(tokens: Ids) -> int:
    if not len(tokens):
        raise ValueError("an n-gram model takes a stream of at least one token, and this one is empty")
    return len(tokens)


def _keys(tokens: Ids, before: Ids, vocabulary: int, order: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
    """The packed ids of each of the first `stop` tokens and the order-1 before it, chunk by chunk with its beginning."""
    bits = (vocabulary - 1).bit_length()
    nearest = before[max(0, len(before) - order + 1) :]
    ids = np.concatenate((np.full(order - 1, EOS, np.uint64), _checked(nearest, vocabulary, "before")))
    for start in range(0, stop, CHUNK):
        part = _checked(tokens[start : min(start + CHUNK, stop)], vocabulary, f"from token {start}")
        ids = np.concatenate((ids[len(ids) - order + 1 :], part))
        keys = np.zeros(len(part), np.uint64)
        for i in range(order):
            keys = keys << bits | ids[i : i + len(part)]
        yield start, keys


def _checked(ids: Ids, vocabulary: int, where: str) -> np.ndarray:
    """Ids as uint64 [n]."""
    given = np.asarray(ids)
    if not given.size:
        return np.empty(0, np.uint64)
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise ValueError(f"an n-gram model takes ids as integers [n], not {given.dtype} {list(given.shape)} ({where})")
    low, high = given.min(), given.max()
    if low < 0 or high >= vocabulary:
        wrong = low if low < 0 else high
        raise ValueError(f"id {wrong} ({where}) is not of the vocabulary, whose ids are 0 to {vocabulary - 1}")
    return given.astype(np.uint64)
