"""Continuations: the distribution that ids are drawn from, and the draws, step after step."""
# ruff: noqa: D102  the methods are those of the class they stand in for

import re
from fractions import Fraction
from itertools import combinations, islice, pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from seqtoolkit.flow import continuation
from seqtoolkit.flow.continuation import Sampling, follow, hear, most_likely, nucleus, textual

WEIGHTS = st.lists(st.integers(1, 6), min_size=1, max_size=6)
"""Of as many ids as there are numbers; ties are common."""
SHARE = st.fractions(Fraction(1, 50), 1)


def logs(weights):
    """Scores [1 V] of ids with these weights; of those with 0 they are -inf."""
    return torch.tensor([weights], dtype=torch.float64).log()


def likeliest(weights, k):
    """The ids of the k greatest weights, of equal ones the lowest, by the definition."""
    return sorted(range(len(weights)), key=lambda each: (-weights[each], each))[:k]


def smallest(weights, ids, p):
    """The smallest set of `ids` with at least p of their weight, found among all sets; of equal ones the lowest ids."""
    total = sum(weights[each] for each in ids)
    masses = [
        Fraction(sum(weights[each] for each in some), total)
        for n in range(len(ids))
        for some in combinations(ids, n + 1)
    ]
    assume(all(abs(each - p) > 1e-9 or p == 1 for each in masses))
    size = next(
        n + 1
        for n in range(len(ids))
        if any(sum(weights[each] for each in some) >= p * total for some in combinations(ids, n + 1))
    )
    return [each for each in likeliest(weights, len(weights)) if each in ids][:size]


def shares(weights, ids):
    """The probabilities [V] of `ids` alone, by their weights."""
    kept = np.array([each if place in ids else 0 for place, each in enumerate(weights)])
    return kept / kept.sum()


class TestDistribution:
    """What may be drawn, and how likely."""

    @given(WEIGHTS, st.integers(1, 7))
    def test_top_k(self, weights, k):
        """The k likeliest are left, those of lowest id among equals, as likely to each other as before."""
        found = Sampling(top_k=k).distribution(logs(weights))[0].exp()
        np.testing.assert_allclose(found, shares(weights, likeliest(weights, k)), atol=1e-12)

    @given(WEIGHTS, SHARE)
    def test_top_p(self, weights, p):
        """The smallest set with that probability is left, at least one id."""
        found = Sampling(top_p=float(p)).distribution(logs(weights))[0].exp()
        np.testing.assert_allclose(found, shares(weights, smallest(weights, range(len(weights)), p)), atol=1e-12)

    @given(WEIGHTS, st.integers(1, 6), SHARE, st.sampled_from([0.5, 1.0, 3.0]), st.integers(0, 5))
    def test_all_together(self, weights, k, p, temperature, without):
        """Ids that are excluded are out first, then comes the temperature, then k, and p is of what k has left."""
        assume(1 < len(weights) > without)
        left = [0 if place == without else each for place, each in enumerate(weights)]
        wanted = shares(left, smallest(left, [each for each in likeliest(left, k) if each != without], p))
        sampling = Sampling(temperature, k, float(p), without=(without,))
        np.testing.assert_allclose(sampling.distribution(temperature * logs(weights))[0].exp(), wanted, atol=1e-12)

    def test_rows_are_filtered_alone(self):
        """Each row has its own k-th likeliest and its own nucleus."""
        rows = torch.cat([logs([1, 2, 7]), logs([5, 4, 1]), logs([1, 1, 1])])
        for sampling in (Sampling(top_k=2), Sampling(top_p=0.65)):
            alone = torch.cat([sampling.distribution(each[None]) for each in rows])
            torch.testing.assert_close(sampling.distribution(rows), alone)
        assert Sampling(top_p=0.65).distribution(rows).isfinite().tolist() == [
            [False, False, True], [True, True, False], [True, True, False],
        ]  # fmt: skip

    def test_nothing_filtered_is_the_model_s_own(self):
        """By default each id is as likely as the model says, be its scores log-probabilities or not, however rare."""
        scores = torch.tensor([[0.0, -50.0, 3.0, -700.0]])
        torch.testing.assert_close(Sampling().distribution(scores), scores.double().log_softmax(-1))
        torch.testing.assert_close(Sampling().distribution(scores + 9), scores.double().log_softmax(-1))

    @pytest.mark.parametrize("temperature", [0, 0.0, 1e-320])
    def test_no_temperature_is_the_likeliest(self, temperature):
        """At 0 the likeliest id is certain, the lowest of equals; the least temperatures above come to that, without overflow."""
        found = Sampling(temperature).distribution(torch.tensor([[1.0, 3.0, 2.0], [-2.0, -9.0, -5.0]]))
        assert found.exp().tolist() == [[0, 1, 0], [1, 0, 0]]
        assert Sampling(0).distribution(torch.zeros(1, 3)).exp().tolist() == [[1, 0, 0]]
        assert Sampling(0, without=(0,)).distribution(torch.zeros(1, 3)).exp().tolist() == [[0, 1, 0]]

    def test_a_high_temperature_makes_all_alike(self):
        """But for what is out, however likely it was."""
        found = Sampling(1e300, without=(1,)).distribution(torch.tensor([[-80.0, 50.0, 3.0]])).exp()
        np.testing.assert_allclose(found[0], [0.5, 0, 0.5])

    def test_filters_alone(self):
        """A k of all ids and a p of 1 change nothing."""
        scores = torch.tensor([[1.0, -torch.inf, 2.0]])
        assert most_likely(scores, 3) is scores
        torch.testing.assert_close(nucleus(scores, 1.0), scores.log_softmax(-1))

    @pytest.mark.parametrize(
        ("given_", "said"),
        [
            ({"temperature": -0.1}, "temperature: wanted a number of at least 0, got -0.1"),
            ({"temperature": float("nan")}, "temperature: wanted a number of at least 0, got nan"),
            ({"temperature": float("inf")}, "temperature: wanted a number of at least 0, got inf"),
            ({"top_k": -1}, "top_k: wanted at least 1, or 0 for all, got -1"),
            ({"top_p": 0.0}, "top_p: wanted a probability above 0 and at most 1, got 0.0"),
            ({"top_p": 1.1}, "top_p: wanted a probability above 0 and at most 1, got 1.1"),
            ({"top_p": float("nan")}, "top_p: wanted a probability above 0 and at most 1, got nan"),
            ({"seed": -1}, "seed: wanted a number from 0 to 2^32 - 1, got -1"),
            ({"seed": 2**32}, "seed: wanted a number from 0 to 2^32 - 1, got 4294967296"),
        ],
    )
    def test_what_cannot_be(self, given_, said):
        """A setting out of its range is named, with what is wanted."""
        with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
            Sampling(**given_)

    def test_nothing_to_draw(self):
        """Predictions that are no numbers, and ids that are all out, are said to be that."""
        for score in (torch.nan, torch.inf):
            with pytest.raises(
                ValueError,
                match=r"^nothing can be drawn: the model predicts NaN or infinity; its training has diverged$",
            ):
                Sampling().distribution(torch.tensor([[0.0, 1.0], [0.0, score]]))
        with pytest.raises(ValueError, match=r"^nothing can be drawn: no id is left$"):
            Sampling(without=(0, 1)).distribution(torch.zeros(1, 2))


class Chain(nn.Module):
    """A Markov chain: what comes next goes by the last id alone; the state counts the steps, `asked` keeps the calls."""

    def __init__(self, *weights):
        super().__init__()
        self.table = torch.tensor(weights, dtype=torch.float64).log()
        self.asked = []

    def forward(self, inputs, state, first, answers):
        assert first is None
        assert not torch.is_grad_enabled()
        self.asked.append(tuple(inputs.shape))
        state = torch.zeros(inputs.shape[1], 1) if state is None else state
        return self.table[inputs[-answers:]], state + len(inputs)


def ids(*columns):
    """A prompt [T B] of these columns."""
    return torch.tensor(columns).T


def told(model, prompt, sampling, steps, end=None):
    """Some steps of what follows a prompt, [steps B]."""
    return torch.stack(list(islice(follow(model, hear(model, prompt), sampling, end), steps)))


def unlikely(counts, weights):
    """Pearson's chi-square of counts against weights, over its value at one in a thousand."""
    expected = np.array(weights) / sum(weights) * counts.sum()
    critical = {1: 10.83, 2: 13.82, 3: 16.27, 4: 18.47}[len(weights) - 1]
    return ((counts - expected) ** 2 / expected).sum() / critical


class TestFollow:
    """The draws."""

    rows = ((1, 2, 3, 4), (4, 3, 2, 1), (1, 1, 1, 9), (5, 1, 5, 1))

    def test_draws_are_as_likely_as_the_distribution_says(self):
        """Along one row after each id, and across rows whose seeds follow one another: chi-square at one in a thousand."""
        model = Chain(*self.rows)
        said = told(model, ids([0]), Sampling(seed=3), 2000)[:, 0].numpy()
        for each, weights in enumerate(self.rows):
            counts = np.bincount(said[1:][said[:-1] == each], minlength=4)
            assert unlikely(counts, weights) < 1
            assert unlikely(counts, weights[::-1]) > 1
        across = next(follow(model, hear(model, ids([0])).repeat(2000), Sampling(seed=3)))
        assert unlikely(np.bincount(across, minlength=4), self.rows[0]) < 1

    @pytest.mark.parametrize(
        ("sampling", "allowed"),
        [
            (Sampling(without=(3,)), {0: {0, 1, 2}, 1: {0, 1, 2}, 2: {0, 1, 2}}),
            (Sampling(top_k=2), {0: {2, 3}, 2: {0, 3}, 3: {0, 2}}),
            (Sampling(top_p=0.6), {0: {2, 3}, 2: {3}, 3: {0, 2}}),
        ],
    )
    def test_what_is_out_is_never_drawn(self, sampling, allowed):
        """After each id comes every one that is left, and no other, in five hundred draws."""
        said = told(Chain(*self.rows), ids([0]), sampling, 500)[:, 0].tolist()
        followed = {each: {after for before, after in pairwise(said) if before == each} for each in said}
        assert followed == allowed

    def test_the_least_draw_is_of_an_id_that_is_left(self, monkeypatch):
        """Even a draw of exactly 0, one in many, falls on no id without probability."""
        monkeypatch.setattr(continuation, "_DRAWS", 1)
        assert told(Chain(*self.rows), ids([0]), Sampling(without=(0, 1)), 1).tolist() == [[2]]

    def test_the_likeliest(self):
        """Without temperature the seed says nothing."""
        model = Chain((1, 2, 0), (0, 1, 2), (3, 2, 1))
        for seed in (0, 1):
            assert told(model, ids([0], [1]), Sampling(0, seed=seed), 4).T.tolist() == [[1, 2, 0, 1], [2, 0, 1, 2]]

    def test_a_seed_is_a_text(self):
        """The same seed says the same, another one another; the draws of other parts of a program are left alone."""
        model = Chain(*self.rows)
        before = torch.get_rng_state()
        one, again, other = (told(model, ids([0]), Sampling(seed=seed), 50) for seed in (7, 7, 8))
        assert torch.equal(one, again)
        assert not torch.equal(one, other)
        assert torch.equal(torch.get_rng_state(), before)

    def test_row_n_is_the_text_of_the_nth_seed(self):
        """Rows in company are what each is alone, from the seed that is as many after the first."""
        model = Chain(*self.rows)
        together = torch.stack(list(islice(follow(model, hear(model, ids([2])).repeat(3), Sampling(seed=5)), 40)))
        alone = [told(model, ids([2]), Sampling(seed=5 + row), 40) for row in range(3)]
        assert torch.equal(together, torch.cat(alone, 1))

    def test_the_end(self):
        """A row that has ended stays so, whatever the others say; once all have, nothing comes; without an end all goes on."""
        model = Chain((0, 1, 0), (0, 0, 1), (1, 0, 0))
        assert told(model, ids([0], [1]), Sampling(), 9, end=2).tolist() == [[1, 2], [2, 2]]
        assert told(model, ids([0]), Sampling(), 4).T.tolist() == [[1, 2, 0, 1]]

    def test_a_step_is_made_when_it_is_asked_for(self, monkeypatch):
        """A prompt is read in pieces as long as can be, then each id costs one step, and the last one asked for none."""
        model = Chain(*self.rows)
        told(model, ids([0] * 1000, [1] * 1000), Sampling(), 3)
        assert model.asked == [(1000, 2), (1, 2), (1, 2)]
        monkeypatch.setattr(continuation, "STEPS", 400)
        model.asked.clear()
        assert hear(model, ids([0] * 1000)).state.item() == 1000
        assert model.asked == [(400, 1), (400, 1), (200, 1)]

    def test_no_prompt(self):
        """Nothing follows from no step at all."""
        with pytest.raises(ValueError, match=r"^prompt: wanted at least one step, got none$"):
            hear(Chain((1,)), torch.zeros(0, 1, dtype=torch.long))


class TestModel:
    """With a model as pipelines make them."""

    @pytest.fixture
    def model(self, toy):
        torch.manual_seed(0)
        return toy.graph(dropout=0.5).model.double().train()

    def test_only_the_last_step_is_predicted(self, model):
        """It is what the model says at the last of all steps, in evaluation; the head never sees a second one."""
        prompt = torch.randint(6, (30, 2))
        seen = []
        model.head.register_forward_hook(lambda _, given, __: seen.append(tuple(given[0].shape)))
        heard = hear(model, prompt)
        assert seen == [(1, 2, 7)]
        assert not model.training
        assert not heard.scores.requires_grad
        predictions, state = model(prompt)
        torch.testing.assert_close(heard.scores, predictions[-1].detach())
        torch.testing.assert_close(heard.state, state.detach())

    def test_a_prompt_may_be_cut_anywhere(self, model, monkeypatch):
        """Read in pieces, by `STEPS` or by a caller from the state before, it comes to the same."""
        prompt = torch.randint(6, (10, 3))
        whole = hear(model, prompt)
        monkeypatch.setattr(continuation, "STEPS", 3)
        pieces = hear(model, prompt[4:], hear(model, prompt[:4]).state)
        for one, other in zip(whole, pieces, strict=True):
            torch.testing.assert_close(one, other)

    def test_going_on_is_reading(self, model):
        """What was said is what the model would have said next to one who reads it as a prompt."""
        prompt = torch.randint(6, (5, 2))
        said = told(model, prompt, Sampling(0), 6)
        for step in range(6):
            read = torch.cat([prompt, said[:step]])
            assert torch.equal(hear(model, read).scores.argmax(-1), said[step])

    def test_rows_do_not_see_each_other(self, model):
        """A row's text is the one that it has alone, from its own seed."""
        prompt = torch.randint(6, (5, 4))
        together = told(model, prompt, Sampling(seed=11), 30)
        for row in range(4):
            alone = told(model, prompt[:, row : row + 1], Sampling(seed=11 + row), 30)
            assert torch.equal(alone[:, 0], together[:, row])


def test_what_is_textual():
    """A source that encodes, decodes and knows an end is; one that lacks any of these is not."""
    whole = {"encode": len, "decode": len, "end": 1}
    assert textual(SimpleNamespace(**whole))
    for name in whole:
        assert not textual(SimpleNamespace(**{key: each for key, each in whole.items() if key != name}))
    assert not textual(SimpleNamespace(**whole | {"encode": "utf-8"}))
