"""Policy: the head of an actor and critic, and what its predictions say."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqtoolkit.flow.head import Head
from seqtoolkit.flow.spec import Spec, at_least, known, unify


class ActorCritic(Head):
    """The logits of the actions, then the value of what is seen: one output of A + 1 numbers.

    The policy begins near to uniform, its weights orthogonal of gain 0.01, those of the value of gain 1 (as Andrychowicz
    et al. 2021 found best).

    Args:
        sizes: The sizes of hidden layers with ReLU, shared by policy and value.
    """

    reads = "f32[U B H]"

    def __init__(
        self,
        input_size: int,
        target_spec: Spec,
        sizes: list[int] = [],  # noqa: B006  never changed; a pipeline shows it as the default
    ) -> None:
        super().__init__()
        actions = known(unify("i64<A>[U B]", target_spec)["A"], "the number of actions")
        layers: list[nn.Module] = []
        for size in sizes:
            at_least("sizes", size, 1)
            layers += [nn.Linear(input_size, size), nn.ReLU()]
            input_size = size
        self.layers = nn.Sequential(*layers)
        self.policy, self.value = nn.Linear(input_size, actions), nn.Linear(input_size, 1)
        for layer, gain in ((self.policy, 0.01), (self.value, 1.0)):
            nn.init.orthogonal_(layer.weight, gain)
            nn.init.zeros_(layer.bias)
        self.writes = f"f32[U B {actions + 1}]"

    def forward(self, outputs: Tensor) -> Tensor:
        """Outputs [U B H] to logits and value [U B A+1]."""
        hidden = self.layers(outputs)
        return torch.cat([self.policy(hidden), self.value(hidden)], -1)

    @torch.no_grad()
    def rescale(self, mean_before: Tensor, std_before: Tensor, mean_after: Tensor, std_after: Tensor) -> None:
        """Change the value's layer, in place, so that value * std + mean stays what it was under the mean and std before.

        Proposition 1 of van Hasselt et al. 2016.
        """
        weight, bias = self.value.weight, self.value.bias
        weight.mul_(std_before / std_after)
        bias.copy_((bias.to(mean_before.dtype) * std_before + mean_before - mean_after) / std_after)


def split(predictions: Tensor) -> tuple[Tensor, Tensor]:
    """Predictions [... A+1] to logits [... A] and values [...], at least float32."""
    predictions = predictions.to(torch.promote_types(predictions.dtype, torch.float32))
    return predictions[..., :-1], predictions[..., -1]


def log_probabilities(logits: Tensor, actions: Tensor) -> Tensor:
    """The logarithm of the probability of each action [...] under logits [... A]."""
    return F.log_softmax(logits, -1).gather(-1, actions[..., None]).squeeze(-1)


def entropy(logits: Tensor) -> Tensor:
    """The entropy [...] in nats of the policies of logits [... A]; actions that cannot be (-inf) count for nothing."""
    logarithms = F.log_softmax(logits, -1)
    return -(logarithms.exp() * logarithms.clamp(min=torch.finfo(logits.dtype).min)).sum(-1)


@torch.no_grad()
def sample(logits: Tensor, generator: torch.Generator) -> Tensor:
    """One action [...] of each policy of logits [... A], by a generator on their device.

    By exponential clocks, of which the first to ring is the choice (the Gumbel-max trick).
    """
    clocks = torch.empty_like(logits).exponential_(generator=generator)
    return (logits - clocks.log_()).argmax(-1)
