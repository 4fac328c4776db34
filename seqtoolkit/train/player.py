"""Player: a policy with its memory, that chooses the next action in many worlds at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from seqtoolkit.flow.array import Arrays
from seqtoolkit.flow.core import State, leaves, map_state, refill
from seqtoolkit.flow.environment import Environment, Step, observed
from seqtoolkit.flow.model import Model
from seqtoolkit.flow.policy import log_probabilities, sample, split

Answer = TypeVar("Answer")


class Choice(NamedTuple):
    """What a policy does in all worlds."""

    actions: Tensor
    """[B] int64"""
    log_probabilities: Tensor
    """[B]: of these actions"""


class Player:
    """A policy with its memory of what it has seen in `rows` worlds; it starts anew in a world where `first` is set.

    Args:
        model: Whose predictions are the logits of the actions and the value [... A+1].
        rows: How many worlds (B).
        autocast: The context in which the model computes.
        seed: Of its draws; None takes the likeliest action.
    """

    def __init__(
        self, model: Model, rows: int, autocast: Callable[[], AbstractContextManager[Any]], seed: int | None
    ) -> None:
        self.model, self.autocast = model, autocast
        with torch.no_grad():
            self.state: State = model.core.initial_state(rows)
        device = next(model.parameters()).device
        self.generator = None if seed is None else torch.Generator(device).manual_seed(seed)

    @torch.no_grad()
    def __call__(self, observations: Tensor, first: Tensor) -> Choice:
        """Actions for observations [B ...], some of which are the `first` [B] of an episode."""
        with self.autocast():
            predictions, self.state = self.model(observations[None], self.state, first[None])
        logits, _ = split(predictions[0])
        actions = logits.argmax(-1) if self.generator is None else sample(logits, self.generator)
        return Choice(actions, log_probabilities(logits, actions))

    @torch.no_grad()
    def values(self, observations: Tensor, rows: Tensor) -> Tensor:
        """The values [n] of what comes next in some `rows` [n], observations [n ...]; nothing is remembered of it."""
        with self.autocast():
            state = map_state(lambda each: each[rows], self.state)
            predictions, _ = self.model(observations[None], state, None)
        return split(predictions[0])[1]

    def state_dict(self) -> dict[str, Any]:
        """Its memory, and where its draws stand."""
        drawn = None if self.generator is None else self.generator.get_state()
        return {"memory": [each.clone() for each in leaves(self.state)], "generator": drawn}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned; draws of another kind of device begin anew.

        Raises ValueError for a state of another core, or of other worlds.
        """
        self.state = refill(self.state, state["memory"])
        if self.generator is not None and self.generator.get_state().shape == state["generator"].shape:
            self.generator.set_state(state["generator"])


class Worlds:
    """An environment whose answers are tensors, and are looked at before anyone learns from them.

    Every error of the environment, and every answer that is none, is a ValueError of one line.
    """

    def __init__(self, environment: Environment, device: torch.device) -> None:
        self.environment, self.device = environment, device
        self.steps = 0
        """How many actions were taken in each world by this object."""
        if environment.on_device and device.type != "cpu":
            environment.place(Arrays(device))

    def reset(self) -> Tensor:
        """Begin every world anew; the first observations [B ...]."""
        self.steps = 0
        return self._asked("reset", lambda: self._observations(self.environment.reset(), self.environment.num_envs))

    def load_state_dict(self, state: dict[str, Any]) -> Tensor:
        """Go on from a state of the environment; the observations as they were then."""
        return self._observations(self.environment.load_state_dict(state), self.environment.num_envs)

    def step(self, actions: Tensor) -> Step:
        """Take actions [B]; tensors on the device of the policy."""
        given = actions if self.environment.arrays.device is not None else actions.cpu().numpy()
        made = self._asked(f"step {self.steps}", lambda: self._looked_at(self.environment.step(given)))
        self.steps += 1
        if made.finals is not None and made.finals.is_floating_point():
            last = made.observations.clone()
            last[made.truncated] = made.finals
            self.finite("the last observation", last[None])
        return made

    def finite(self, what: str, values: Tensor) -> None:
        """Raises ValueError where one of values [T B ...], the last the environment gave, is not finite."""
        if values.is_floating_point() and not bool(values.isfinite().all()):
            row, world = (~values.isfinite()).nonzero()[0][:2].tolist()
            value = values[row, world][~values[row, world].isfinite()].flatten()[0].item()
            step = self.steps - len(values) + row
            when = f"step {step}" if step >= 0 else "reset"
            raise ValueError(self._failed(f"{when}: {what} is {value} in world {world}: it has to be finite"))

    def _asked(self, what: str, ask: Callable[[], Answer]) -> Answer:
        try:
            return ask()
        except Exception as error:
            text = " ".join(str(error).split())
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            raise ValueError(self._failed(f"{what}: {kind}{text}")) from error

    def _failed(self, text: str) -> str:
        return f"environment {type(self.environment).__name__}: {text}"

    def _looked_at(self, made: Step) -> Step:
        if not isinstance(made, Step):
            raise ValueError(f"wanted a Step, got {type(made).__name__}")
        rows, tensor = self.environment.num_envs, self.environment.arrays.tensor
        rewards, terminated, truncated = (self._row(tensor(each)) for each in made[1:4])
        if not terminated.dtype == truncated.dtype == torch.bool:
            raise ValueError(f"wanted ends that are bool, got {terminated.dtype} and {truncated.dtype}")
        facts = {name: self._row(tensor(each)).float() for name, each in made.facts.items()}
        finals = None
        if made.finals is not None:
            finals = self._observations(made.finals, int(truncated.sum()), "finals")
        elif truncated.device.type == "cpu" and bool(truncated.any()):  # a GPU would be waited for
            raise ValueError(
                f"wanted the last observation of {int(truncated.sum())} truncated episodes in finals, got None"
            )
        return Step(self._observations(made.observations, rows), rewards.float(), terminated, truncated, finals, facts)

    def _observations(self, given: Any, rows: int, what: str = "observations") -> Tensor:
        wanted = self.environment.observation
        made = self.environment.arrays.tensor(given)
        shape = (rows, *wanted.axes[1:])
        if made.shape != shape or made.dtype != observed(wanted):
            got = f"{str(made.dtype).removeprefix('torch.')} {list(made.shape)}"
            raise ValueError(f"wanted {what} {wanted} of {shape[0]} worlds, got {got}")
        return made.to(self.device)

    def _row(self, given: Tensor) -> Tensor:
        if given.shape != (self.environment.num_envs,):
            wanted = f"[{self.environment.num_envs}]"
            raise ValueError(f"wanted rewards, ends and facts {wanted}, got {list(given.shape)}")
        return given.to(self.device)
