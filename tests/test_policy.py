"""Policy: the head of an actor and critic, and what its predictions say."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical

from seqtoolkit.flow.policy import ActorCritic, entropy, log_probabilities, sample, split
from seqtoolkit.flow.spec import Spec, SpecError
from seqtoolkit.host.registry import discover
from seqtoolkit.host.schema import schema

ACTIONS = Spec.parse("i64<5>[T B]")
LOGITS = st.lists(st.floats(-80, 80), min_size=2, max_size=6).map(torch.tensor)


@pytest.mark.parametrize("sizes", [[], [7], [7, 6]])
def test_logits_then_the_value(sizes):
    """Five logits and a value, by layers that are shared up to the last."""
    torch.manual_seed(0)
    head, outputs = ActorCritic(4, ACTIONS, sizes), torch.randn(3, 2, 4)
    predictions = head(outputs)
    assert head.writes == "f32[U B 6]"
    assert predictions.shape == (3, 2, 6)
    logits, values = split(predictions)
    hidden = outputs
    for layer in head.layers:
        hidden = layer(hidden)
    assert hidden.shape[-1] == (sizes or [4])[-1]
    torch.testing.assert_close(logits, head.policy(hidden))
    torch.testing.assert_close(values, head.value(hidden).squeeze(-1))
    predictions.square().sum().backward()
    assert all(each.grad is not None and each.grad.any() for each in head.parameters())


def test_the_policy_begins_near_to_uniform():
    """Rows of the policy's weights are orthogonal and of length 0.01, the value's of length 1; biases are 0."""
    head = ActorCritic(32, ACTIONS)
    torch.testing.assert_close(head.policy.weight @ head.policy.weight.t(), 1e-4 * torch.eye(5), rtol=0, atol=1e-9)
    assert head.value.weight.norm().item() == pytest.approx(1)
    assert not head.policy.bias.any()
    assert not head.value.bias.any()
    logits, _ = split(head(torch.randn(1, 50, 32)))
    assert entropy(logits).min() > math.log(5) - 0.01


def test_split_makes_float32_of_less():
    """Predictions at half precision become float32, in which losses are computed; float64 stays."""
    assert {each.dtype for each in split(torch.zeros(2, 3, dtype=torch.bfloat16))} == {torch.float32}
    assert {each.dtype for each in split(torch.zeros(2, 3, dtype=torch.float64))} == {torch.float64}


@settings(max_examples=30, deadline=None)
@given(LOGITS, st.floats(-1e4, 1e4))
def test_probabilities_and_entropy_are_torchs(logits, shift):
    """Logarithms of probabilities and entropies are those of torch's Categorical, wherever the logits stand."""
    theirs = Categorical(logits=logits.double())
    actions = torch.arange(len(logits))
    got = log_probabilities(logits.double().expand(len(logits), -1) + shift, actions)
    torch.testing.assert_close(got, theirs.log_prob(actions), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(entropy(logits.double() + shift), theirs.entropy(), rtol=1e-8, atol=1e-8)
    assert -1e-6 <= entropy(logits) <= math.log(len(logits)) + 1e-6


def test_actions_that_cannot_be():
    """A logit of -inf counts for nothing in the entropy and its gradient, and is never chosen."""
    logits = torch.tensor([[0.0, -torch.inf, 0.0], [1e4, 0.0, -1e4]], requires_grad=True)
    found = entropy(logits)
    torch.testing.assert_close(found, torch.tensor([math.log(2), 0.0]))
    found.sum().backward()
    assert logits.grad.isfinite().all()
    assert set(sample(logits[:1].expand(2000, 3), torch.Generator().manual_seed(0)).tolist()) == {0, 2}


def test_samples_are_of_the_policy():
    """Of 40,000 draws each action has its share, to five standard errors."""
    logits = torch.tensor([2.0, 0.0, -1.0, 1.0, -4.0])
    draws = sample(logits.expand(40_000, 5), torch.Generator().manual_seed(0))
    assert (draws.dtype, draws.shape) == (torch.int64, (40_000,))
    shares, wanted = torch.bincount(draws, minlength=5) / len(draws), logits.softmax(0)
    assert ((shares - wanted).abs() <= 5 * (wanted * (1 - wanted) / len(draws)).sqrt()).all()


def test_samples_are_the_generators():
    """The same state of a generator gives the same actions; it moves on; the global one has no part in it."""
    logits, generator = torch.randn(64, 5), torch.Generator().manual_seed(3)
    kept = generator.get_state()
    first = sample(logits, generator)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    second = sample(logits, generator)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first, second)
    generator.set_state(kept)
    assert torch.equal(sample(logits, generator), first)
    assert not sample(logits.requires_grad_(), generator).requires_grad


def test_rescale():
    """Values at the scale of returns stay the same under another mean and deviation; the policy is not touched."""
    head, outputs = ActorCritic(4, ACTIONS).double(), torch.randn(3, 2, 4, dtype=torch.float64)
    (logits, values), (mean, std, other, wide) = split(head(outputs)), torch.tensor([3.0, 2.0, -5.0, 0.25]).double()
    head.rescale(mean, std, other, wide)
    after = split(head(outputs))
    torch.testing.assert_close(after[1] * wide + other, values * std + mean, rtol=1e-12, atol=1e-12)
    assert torch.equal(after[0], logits)


def test_it_is_a_part():
    """`use: actor_critic` finds it, with `sizes` for a pipeline to give; it can be made of shapes alone."""
    head = discover().resolve("head", "actor_critic")
    assert head is ActorCritic
    assert list(schema(head).fields) == ["sizes"]
    with torch.device("meta"):
        assert sum(each.numel() for each in head(4, ACTIONS).parameters()) == 30


def test_a_head_that_cannot_be():
    """Sizes below 1, and targets that are no actions."""
    with pytest.raises(ValueError, match=r"^sizes: wanted at least 1, got 0"):
        ActorCritic(4, ACTIONS, [0])
    with pytest.raises(SpecError, match=r"wants i64<A>\[U B\], gets f32\[T B 2\]"):
        ActorCritic(4, Spec.parse("f32[T B 2]"))
    with pytest.raises(ValueError, match="the number of actions is not known here"):
        ActorCritic(4, Spec.parse("i64<A>[T B]"))
