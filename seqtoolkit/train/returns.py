"""Returns: what the steps of trajectories were worth, as pure functions over [T B]."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class VTrace(NamedTuple):
    """What V-trace says of each step [T B]; no gradient flows through it."""

    targets: Tensor
    """what the values are to become"""
    advantages: Tensor
    """by what to weigh the gradient of the logarithm of the policy; the clipped ratio is in it"""


@torch.no_grad()
def vtrace(
    rewards: Tensor,
    discounts: Tensor,
    values: Tensor,
    bootstrap: Tensor,
    log_ratios: Tensor,
    *,
    clip_rho: float = 1.0,
    clip_c: float = 1.0,
    clip_pg_rho: float = 1.0,
    trace: float = 1.0,
) -> VTrace:
    """V-trace (Espeholt et al. 2018, equation 1 and section 4.2): returns of a policy from what another one did.

    With `trace` below 1 (remark 2) the return of an action goes on from as much of the target as of the value, so that
    on a policy's own trajectories the advantages are those of `gae`.

    Args:
        rewards: Of each step [T B].
        discounts: The discount of what comes after each step [T B]: 0 where the episode ended.
        values: Of what each action was chosen from [T B].
        bootstrap: The value after the last step [B].
        log_ratios: log(policy / behavior) of each action [T B].
        clip_rho: The greatest ratio in the targets, which says whose value they are.
        clip_c: The greatest ratio in what is carried back from later steps.
        clip_pg_rho: The greatest ratio in the advantages.
        trace: The share of what is carried back, lambda.

    Raises:
        ValueError: shapes that differ, a clip that is not above 0, or a trace outside of 0 to 1.
    """
    _require(trace, values, bootstrap, rewards=rewards, discounts=discounts, log_ratios=log_ratios)
    for name, clip in (("clip_rho", clip_rho), ("clip_c", clip_c), ("clip_pg_rho", clip_pg_rho)):
        if not clip > 0:
            raise ValueError(f"{name}: wanted a ratio above 0, got {clip}")
    ratios = log_ratios.exp()
    errors = _errors(rewards, discounts, values, bootstrap)
    carried = discounts * ratios.clamp(max=clip_c).mul_(trace)
    gains = _carried_back(errors * ratios.clamp(max=clip_rho), carried)
    errors[:-1].add_(discounts[:-1] * gains[1:], alpha=trace)
    return VTrace(values + gains, errors.mul_(ratios.clamp_(max=clip_pg_rho)))


@torch.no_grad()
def gae(rewards: Tensor, discounts: Tensor, values: Tensor, bootstrap: Tensor, trace: float = 0.95) -> Tensor:
    """Generalized advantage estimates [T B] (Schulman et al. 2016, equation 16), without gradient.

    Arguments and errors are those of `vtrace`. Values plus advantages are the targets of the values; with a trace of 1
    they are the n-step returns of A2C.
    """
    _require(trace, values, bootstrap, rewards=rewards, discounts=discounts)
    return _carried_back(_errors(rewards, discounts, values, bootstrap), discounts * trace)


def _errors(rewards: Tensor, discounts: Tensor, values: Tensor, bootstrap: Tensor) -> Tensor:
    """The errors of the values at each step [T B], in memory of their own."""
    after = torch.cat([values[1:], bootstrap[None]])
    return after.mul_(discounts).add_(rewards).sub_(values)


def _carried_back(errors: Tensor, factors: Tensor) -> Tensor:
    """sum_{k >= 0} (prod_{i < k} factors[t + i]) errors[t + k] at each step t [T B], in the memory of `errors`."""
    later, *earlier = reversed(errors.unbind())
    for now, factor in zip(earlier, reversed(factors.unbind()[:-1]), strict=True):
        later = now.addcmul_(factor, later)
    return errors


def _require(trace: float, values: Tensor, bootstrap: Tensor, **others: Tensor) -> None:
    if values.dim() != 2 or not len(values):
        raise ValueError(f"values: wanted [T B] of at least one step, got {list(values.shape)}")
    wanted = dict.fromkeys(others, values.shape) | {"bootstrap": values.shape[1:]}
    for name, given in {**others, "bootstrap": bootstrap}.items():
        if given.shape != wanted[name]:
            raise ValueError(f"{name}: wanted {list(wanted[name])} as the values are, got {list(given.shape)}")
    if not 0 <= trace <= 1:
        raise ValueError(f"trace: wanted 0 to 1, got {trace}")
