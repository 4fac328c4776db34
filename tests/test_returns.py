"""Returns: V-trace and GAE are their papers' sums, and the numbers that others have published."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqtoolkit.train.returns import gae, vtrace

CLIPS = {"clip_rho": 0.9, "clip_c": 0.7, "clip_pg_rho": 1.3}
SEEDS, LENGTHS, TRACES = st.integers(0, 2**31), st.integers(1, 9), st.sampled_from([0.0, 0.3, 0.95, 1.0])
SETTINGS = settings(max_examples=25, deadline=None)


def trajectories(seed, steps=6, rows=3):
    """Arguments of `vtrace`, in float64, some of whose episodes end on the way."""
    generator = torch.Generator().manual_seed(seed)
    rewards, values, ratios = torch.randn(3, steps, rows, generator=generator, dtype=torch.float64)
    discounts = 0.9 * (torch.rand(steps, rows, generator=generator) > 0.2).double()
    return {
        "rewards": rewards,
        "discounts": discounts,
        "values": values,
        "bootstrap": torch.randn(rows, generator=generator, dtype=torch.float64),
        "log_ratios": ratios,
    }


def on_policy(given):
    """Arguments of `gae` of those of `vtrace`, and the same with ratios of 1."""
    plain = {name: each for name, each in given.items() if name != "log_ratios"}
    return plain, {**plain, "log_ratios": torch.zeros_like(given["values"])}


def defined_vtrace(rewards, discounts, values, bootstrap, log_ratios, clips, trace):
    """Equation 1 of Espeholt et al. 2018 and the advantage of section 4.2, as sums of products."""
    steps, rows = values.shape
    targets, advantages = torch.zeros(2, steps, rows, dtype=torch.float64)
    for row in range(rows):
        value = [*values[:, row].tolist(), bootstrap[row].item()]
        ratio = [math.exp(each) for each in log_ratios[:, row].tolist()]
        reward, discount = rewards[:, row].tolist(), discounts[:, row].tolist()
        carried = [trace * min(clips["clip_c"], each) for each in ratio]
        for start in range(steps):
            total = value[start]
            for step in range(start, steps):
                error = min(clips["clip_rho"], ratio[step]) * (
                    reward[step] + discount[step] * value[step + 1] - value[step]
                )
                total += math.prod(discount[i] * carried[i] for i in range(start, step)) * error
            targets[start, row] = total
        for start in range(steps):
            later = targets[start + 1, row].item() if start + 1 < steps else value[steps]
            worth = reward[start] + discount[start] * (trace * later + (1 - trace) * value[start + 1])
            advantages[start, row] = min(clips["clip_pg_rho"], ratio[start]) * (worth - value[start])
    return targets, advantages


def defined_gae(rewards, discounts, values, bootstrap, trace):
    """The average of the advantages of 1, 2, ... steps, weighed by trace^(n-1) (Schulman et al. 2016, equation 16)."""
    steps = len(values)
    after = torch.cat([values, bootstrap[None]])
    found = torch.zeros_like(values)
    for start in range(steps):
        for count in range(1, steps - start + 1):
            total = -values[start]
            for step in range(start, start + count):
                total = total + discounts[start:step].prod(0) * rewards[step]
            total = total + discounts[start : start + count].prod(0) * after[start + count]
            share = trace ** (count - 1) * (1.0 if start + count == steps else 1 - trace)
            found[start] += share * total
    return found


def close(got, wanted):
    """The same to float64's last digits."""
    torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-11)


@SETTINGS
@given(SEEDS, LENGTHS, TRACES)
def test_vtrace_is_its_definition(seed, steps, trace):
    """Targets and advantages are the sums of products of the paper, whatever the clips and wherever episodes end."""
    given = trajectories(seed, steps)
    targets, advantages = defined_vtrace(**given, clips=CLIPS, trace=trace)
    got = vtrace(**given, **CLIPS, trace=trace)
    close(got.targets, targets)
    close(got.advantages, advantages)


@SETTINGS
@given(SEEDS, LENGTHS, TRACES)
def test_gae_is_its_definition(seed, steps, trace):
    """Advantages are the weighted average of those of n steps; with a trace of 1 those of all steps, as in A2C."""
    given, _ = on_policy(trajectories(seed, steps))
    close(gae(**given, trace=trace), defined_gae(**given, trace=trace))


@SETTINGS
@given(SEEDS, LENGTHS, TRACES)
def test_on_policy_vtrace_is_gae(seed, steps, trace):
    """On a policy's own trajectories V-trace is TD(lambda): targets are values plus advantages, which are GAE's."""
    plain, same = on_policy(trajectories(seed, steps))
    got, wanted = vtrace(**same, trace=trace), gae(**plain, trace=trace)
    close(got.advantages, wanted)
    close(got.targets, plain["values"] + wanted)


@SETTINGS
@given(SEEDS, st.integers(0, 4))
def test_nothing_passes_the_end_of_an_episode(seed, end):
    """What comes after a discount of 0 changes no bit of what is said of the steps up to it."""
    given, other = trajectories(seed), trajectories(seed + 1)
    given["discounts"][end] = 0
    changed = {
        name: torch.cat([each[: end + 1], other[name][end + 1 :]]) for name, each in given.items() if each.dim() > 1
    }
    changed["bootstrap"] = other["bootstrap"]
    for got, wanted in zip(vtrace(**changed), vtrace(**given), strict=True):
        assert torch.equal(got[: end + 1], wanted[: end + 1])
        assert not torch.equal(got[end + 1 :], wanted[end + 1 :])
    got, wanted = gae(**on_policy(changed)[0]), gae(**on_policy(given)[0])
    assert torch.equal(got[: end + 1], wanted[: end + 1])


@SETTINGS
@given(SEEDS, LENGTHS)
def test_without_a_future(seed, steps):
    """With discounts of 0 an action is worth its reward."""
    given = trajectories(seed, steps)
    given["discounts"].zero_()
    error = given["rewards"] - given["values"]
    close(gae(**on_policy(given)[0]), error)
    got = vtrace(**given)
    close(got.advantages, error * given["log_ratios"].exp().clamp(max=1))
    close(got.targets, given["values"] + got.advantages)


@SETTINGS
@given(SEEDS, LENGTHS)
def test_ratios_above_the_clip(seed, steps):
    """By how much a ratio is above the clips does not matter, infinitely included."""
    given = trajectories(seed, steps)
    high = math.log(max(CLIPS.values()))
    over = {**given, "log_ratios": torch.where(given["log_ratios"] > 0, torch.inf, given["log_ratios"])}
    at = {**given, "log_ratios": torch.where(given["log_ratios"] > 0, high, given["log_ratios"])}
    for got, wanted in zip(vtrace(**over, **CLIPS), vtrace(**at, **CLIPS), strict=True):
        close(got, wanted)


def test_an_action_that_the_policy_would_never_take():
    """A ratio of 0 leaves the value as it is, gives the action no weight, and carries nothing back."""
    given = trajectories(0)
    given["log_ratios"][3] = -torch.inf
    got = vtrace(**given)
    assert torch.equal(got.targets[3], given["values"][3])
    assert not got.advantages[3].any()
    given["rewards"][4:] += 1
    assert torch.equal(vtrace(**given).targets[:4], got.targets[:4])


def test_each_clip_is_its_own():
    """A clip of the errors, of what is carried back, and of the advantages; each changes what it should alone."""
    given = trajectories(1)
    given["log_ratios"].abs_()
    plain = vtrace(**given)
    weighed = vtrace(**given, clip_pg_rho=1e9)
    assert torch.equal(weighed.targets, plain.targets)
    close(weighed.advantages, plain.advantages * given["log_ratios"].exp())
    alone = vtrace(**given, clip_c=0.5)
    assert torch.equal(alone.targets[-1], plain.targets[-1])
    assert not torch.equal(alone.targets, plain.targets)
    assert not torch.equal(vtrace(**given, clip_rho=0.5).targets[-1], plain.targets[-1])


def test_no_gradient_and_nothing_changed():
    """Targets and advantages carry no gradient, and what was given is as it was, in whatever layout it came."""
    given = trajectories(2)
    kept = {name: each.clone() for name, each in given.items()}
    wanting = {name: each.detach().requires_grad_() for name, each in given.items()}
    found = [*vtrace(**wanting), gae(**on_policy(wanting)[0])]
    assert not any(each.requires_grad for each in found)
    assert all(torch.equal(given[name], each) for name, each in kept.items())
    turned = {name: each.t().contiguous().t() for name, each in given.items()}
    assert all(map(torch.equal, [*vtrace(**turned), gae(**on_policy(turned)[0])], found))


RLAX = {
    "behavior": [[[8.9, 0.7], [5.0, 1.0], [0.6, 0.1], [-0.9, -0.1]], [[0.3, -5.0], [1.0, -8.0], [0.3, 1.7], [4.7, 3.3]]],
    "target": [[[0.4, 0.5], [9.2, 8.8], [0.7, 4.4], [7.9, 1.4]], [[1.0, 0.9], [1.0, -1.0], [-4.3, 8.7], [0.8, 0.3]]],
    "actions": [[0, 1, 0, 0], [1, 0, 0, 1]],
    "rewards": [[-1.3, -1.3, 2.3, 42.0], [1.3, 5.3, -3.3, -5.0]],
    "discounts": [[0.0, 0.89, 0.85, 0.99], [0.88, 1.0, 0.83, 0.95]],
    "values": [[2.1, 1.1, -3.1, 0.0], [3.1, 0.1, -1.1, 7.4]],
    "errors": [[-1.6155143, -3.4973226, 1.8670533, 50.316002], [1.4662437, 3.6116405, -8.3327293e-5, -13.54]],
}  # fmt: skip
"""Inputs and results that DeepMind publishes in rlax, rlax/_src/vtrace_test.py; [B T], results to one part in 1000."""


def rows(name):
    """One of rlax's, time-major."""
    return torch.tensor(RLAX[name], dtype=torch.float64).transpose(0, 1)


def test_vtrace_is_rlaxs():
    """With all clips at 1 the errors of the values, and the advantages, are those that rlax's own test expects."""
    actions = torch.tensor(RLAX["actions"]).t()[..., None]
    chosen = [rows(name).log_softmax(-1).gather(-1, actions).squeeze(-1) for name in ("target", "behavior")]
    bootstrap = torch.tensor([8.4, -1.2], dtype=torch.float64)
    got = vtrace(rows("rewards"), rows("discounts"), rows("values"), bootstrap, chosen[0] - chosen[1])
    torch.testing.assert_close(got.targets - rows("values"), rows("errors"), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(got.advantages, rows("errors"), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("trace", "wanted"),
    [
        (1.0, [[-1.45118, -4.4557, 2.5396, 0.5249, -0.49], [3.0, 2.0, 1.0, 0.0, -4.9]]),
        (0.7, [[-0.676979, -5.248167, 2.4846, 0.6704, -0.49], [2.2899, 1.73, 1.0, 0.0, -4.9]]),
        (0.4, [[0.56731, -6.042, 2.3431, 0.815, -0.49], [1.725, 1.46, 1.0, 0.0, -4.9]]),
    ],
)
def test_gae_is_rlaxs(trace, wanted):
    """Advantages are those that rlax's own test of truncated GAE expects (rlax/_src/multistep_test.py), to its 1e-3."""
    rewards = torch.tensor([[0.0, 0.0, 1.0, 0.0, -0.5], [0.0, 0.0, 0.0, 0.0, 1.0]]).t()
    values = torch.tensor([[1.0, 4.0, -3.0, -2.0, -1.0, -1.0], [-3.0, -2.0, -1.0, 0.0, 5.0, -1.0]]).t()
    discounts = torch.tensor([[0.99] * 5, [0.9, 0.9, 0.9, 0.0, 0.9]]).t()
    got = gae(rewards, discounts, values[:-1], values[-1], trace)
    torch.testing.assert_close(got, torch.tensor(wanted).t(), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("trace", "wanted"),
    [
        (0.75, [[1.6460547, 0.72281253, 0.7375001, 0.6500001, 3.4], [0.7866317, 0.9913063, 0.1101501, 2.834, 3.99]]),
        (1.0, [[1.315, 0.63, 0.7, 1.7, 3.4], [1.33592, 0.9288, 0.2576, 3.192, 3.99]]),
    ],
)
def test_targets_are_rlaxs_returns(trace, wanted):
    """Values plus advantages are the lambda-returns and, with a trace of 1, the 5-step returns of the same file."""
    rewards = torch.tensor([[1.0, 0.0, -1.0, 0.0, 1.0], [0.5, 0.8, -0.7, 0.0, 2.1]]).t()
    discounts = torch.tensor([[0.5, 0.9, 1.0, 0.5, 0.8], [0.9, 0.5, 0.3, 0.8, 0.7]]).t()
    after = torch.tensor([[3.0, 1.0, 5.0, -5.0, 3.0], [-1.7, 1.2, 2.3, 2.2, 2.7]]).t()
    values = torch.cat([torch.full((1, 2), 7.0), after[:-1]])
    got = values + gae(rewards, discounts, values, after[-1], trace)
    torch.testing.assert_close(got, torch.tensor(wanted).t(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"values": torch.zeros(0, 3)}, r"values: wanted \[T B\] of at least one step, got \[0, 3\]"),
        ({"values": torch.zeros(3)}, r"values: wanted \[T B\] of at least one step, got \[3\]"),
        ({"rewards": torch.zeros(6, 1)}, r"rewards: wanted \[6, 3\] as the values are, got \[6, 1\]"),
        ({"discounts": torch.zeros(3)}, r"discounts: wanted \[6, 3\] as the values are, got \[3\]"),
        ({"log_ratios": torch.zeros(5, 3)}, r"log_ratios: wanted \[6, 3\] as the values are, got \[5, 3\]"),
        ({"bootstrap": torch.zeros(1, 3)}, r"bootstrap: wanted \[3\] as the values are, got \[1, 3\]"),
        ({"trace": 1.1}, "trace: wanted 0 to 1, got 1.1"),
        ({"trace": math.nan}, "trace: wanted 0 to 1, got nan"),
        ({"clip_rho": 0.0}, "clip_rho: wanted a ratio above 0, got 0.0"),
        ({"clip_c": -1.0}, "clip_c: wanted a ratio above 0, got -1.0"),
        ({"clip_pg_rho": math.nan}, "clip_pg_rho: wanted a ratio above 0, got nan"),
    ],
)
def test_what_cannot_be(change, says):
    """Shapes that would broadcast, and numbers that make no sense, are refused by name."""
    with pytest.raises(ValueError, match=f"^{says}"):
        vtrace(**{**trajectories(3), **change})
    allowed = {"rewards", "discounts", "values", "bootstrap", "trace"}
    if change.keys() <= allowed:
        with pytest.raises(ValueError, match=f"^{says}"):
            gae(**{**on_policy(trajectories(3))[0], **change})
