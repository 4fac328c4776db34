"""Learner: what is learned from, and the one step in which it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from seqtoolkit.flow.batch import Batch
from seqtoolkit.flow.core import State, leaves, map_state, refill
from seqtoolkit.flow.graph import Graph
from seqtoolkit.flow.kind import Kind
from seqtoolkit.flow.source import LAG
from seqtoolkit.train.capture import Captures, CudaGraphs, Told
from seqtoolkit.train.optimize import Precision, Update, adam
from seqtoolkit.train.schedule import constant

MakeOptimizer = Annotated[Callable[..., Optimizer], Kind("optimizer")]
MakeSchedule = Annotated[Callable[..., float], Kind("schedule")]
Capturing = Literal["auto", "always", "never"]


class Learner(ABC):
    """`for step, batch in zip(steps, learner.stream()): metrics = learner.step(batch)`."""

    update: Update
    """How its gradients become steps."""
    carries: bool = False
    """Whether a batch starts from the state in which the one before has ended, which wants a contiguous source."""
    acts: bool = False
    """Whether what it learns from is made by its policy, in an environment."""

    def __init__(self, graph: Graph, device: torch.device) -> None:
        if self.acts != graph.acting:
            wanted, given = ("an environment", "a source")[:: 1 if self.acts else -1]
            raise ValueError(f"{type(self).__name__} learns from {wanted}, got {given}")
        self.graph, self.device = graph, device
        self.model = graph.model.to(device)

    @abstractmethod
    def stream(self) -> Iterator[Any]:
        """Batches, or trajectories, without end, from where the stream stands; each has a `size`."""

    @abstractmethod
    def start(self, batch: Any, begin: int = 0) -> State | None:
        """The state in which the model begins to read a batch, or a part of one whose first row is `begin`."""

    @abstractmethod
    def step(self, batch: Any) -> dict[str, Any]:
        """Learn from a batch; return what is worth knowing, each as [sum, count] or a scalar."""

    def close(self) -> None:  # noqa: B027  most hold nothing
        """Let go of what it holds, once a run is over."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that moves, but for the model's weights."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""


class Reader(Learner):
    """A learner that reads the batches of the graph's source."""

    def __init__(self, graph: Graph, device: torch.device) -> None:
        super().__init__(graph, device)
        if self.carries and not graph.source.contiguous:
            raise ValueError(
                f"the state is carried from batch to batch, which wants a contiguous source, such as text; "
                f"{type(graph.source).__name__} is none: use supervised"
            )
        self._node = graph.stream(graph.source, device)
        self._told: deque[dict[str, float]] = deque(maxlen=LAG)

    def stream(self) -> Iterator[Batch]:
        """Batches without end, from where the stream stands."""
        for batch in self._node:
            yield batch.to(self.device)

    def observed(self, metrics: Mapping[str, Tensor]) -> None:
        """Tell the source of an update, if it listens: reading a number stops a GPU."""
        if self.graph.source.listens:
            self._told.append({"loss": float(metrics["loss"])})
            self.graph.source.tell(self._told[-1])

    def state_dict(self) -> dict[str, Any]:
        """Everything that moves, but for the model's weights."""
        return {"stream": self._node.state_dict(), "told": list(self._told)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._told = deque(state["told"], maxlen=LAG)
        self.graph.source.told = deque(self._told)
        self._node.reset(state["stream"])


class Descent(Reader):
    """A learner whose update is a step along the gradient of the pipeline's loss; learners differ in where a batch starts."""

    def __init__(
        self,
        graph: Graph,
        device: torch.device,
        steps: int,
        precision: Precision,
        optimizer: MakeOptimizer = adam,
        schedule: MakeSchedule = constant,
        clip: float | None = None,
        accumulate: int = 1,
        capture: Capturing = "auto",
    ) -> None:
        """Make the optimizer.

        Args:
            graph: What flows to the model and from it.
            device: Where the model computes.
            steps: How many updates there will be, for the schedule.
            precision: At which the model computes.
            optimizer: How a gradient becomes a step.
            schedule: How the learning rate moves over the run.
            clip: The greatest L2 norm of the gradient; null leaves it.
            accumulate: In how many parts a batch goes through the model, to save memory; the update is the same.
            capture: Whether updates are replayed as CUDA graphs, one for each shape of batch: `auto` where that can be,
                `always` or fail, `never`. Let the batches have few shapes (`batch.multiple`, `batch.answer_multiple`).
        """
        super().__init__(graph, device)
        if accumulate < 1:
            raise ValueError(f"accumulate: wanted at least 1, got {accumulate}")
        self.accumulate = accumulate
        make_factor = partial(schedule, steps=steps)
        self.update = Update(self.model, optimizer(self.model.parameters()), make_factor, clip, device, precision)
        self.captures = self._capturing(capture)

    @abstractmethod
    def end(self, state: State, begin: int) -> None:
        """Hear of the state in which the model has read the rows from `begin` on; their gradients are taken by then."""

    def step(self, batch: Batch) -> dict[str, Any]:
        """One update; returns `loss`, `gradient_norm`, `learning_rate` and the sums of each metric of the pipeline."""
        self.model.train()
        rate = self.update.begin()
        told = self._learn(batch) if self.captures is None else self.captures(batch)
        self.observed(told)
        return {**told, "learning_rate": rate}

    def _learn(self, batch: Batch) -> Told:
        """What of an update happens on the device, from the batch to the weights."""
        count, size = self.graph.loss.count(batch).clamp(min=1), -(-batch.size // self.accumulate)
        sums: dict[str, Tensor] = {}
        for begin in range(0, batch.size, size):
            part = batch if size == batch.size else batch.part(begin, begin + size)
            with self.update.autocast():
                predictions, state = self.model(
                    part.inputs, self.start(part, begin), part.first, part.answers, part.targets
                )
                loss = self.graph.loss.total(predictions, part) / count
            self.update.backward(loss)
            self.end(state, begin)
            found = {"loss": loss.detach()}
            with torch.no_grad():
                found |= {name: metric.measure(predictions, part) for name, metric in self.graph.metrics.items()}
            sums = {name: sums[name] + value if name in sums else value for name, value in found.items()}
        return {**sums, "gradient_norm": self.update.apply()}

    def _capturing(self, capture: Capturing) -> Captures | None:
        lacking = self.update.uncapturable()
        if capture == "always" and lacking:
            raise ValueError(f"capture: always wants {lacking}; use auto or never")
        if capture == "never" or lacking:
            return None
        self.update.make_capturable()
        return Captures(self._learn, CudaGraphs(self.device), self.update.clear, strict=capture == "always")

    def state_dict(self) -> dict[str, Any]:
        """Everything that moves, but for the model's weights."""
        return {**super().state_dict(), "update": self.update.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        super().load_state_dict(state)
        self.update.load_state_dict(state["update"])
        if self.captures is not None:
            self.captures.clear()


class Supervised(Descent):
    """Each batch from a fresh state: predict, lose, update."""

    def start(self, batch: Batch, begin: int = 0) -> State | None:  # noqa: ARG002  the same whatever the batch
        """A fresh state."""
        return None

    def end(self, state: State, begin: int) -> None:
        """It is dropped."""


class Truncated(Descent):
    """Each batch from the state in which the one before has ended, its gradient cut: truncated back-propagation through time.

    The batches are those of a contiguous source, such as `text`; rows that begin anew are marked by it (Williams & Peng
    1990, with the truncation at the batch's length).
    """

    carries = True
    carry: State | None = None
    """The state after the last update, [B ...]; in memory that stays where it is, so that a captured update reads and writes it."""

    def start(self, batch: Batch, begin: int = 0) -> State | None:
        """The state in which these rows have ended: a copy, for a core may hand on a part of it in another place."""
        return map_state(lambda each: each[begin : begin + batch.size].clone(), self.carry)

    def end(self, state: State, begin: int) -> None:
        """It is carried over."""
        map_state(lambda old, new: old[begin : begin + len(new)].copy_(new.detach()), self.carry, state)

    def step(self, batch: Batch) -> dict[str, Any]:
        """One update, as all learners make it. Raises ValueError for a batch that has not the rows of the one before."""
        if self.carry is None:
            self.carry = self._fresh(batch.size)
        self._rows(leaves(self.carry), batch.size)
        return super().step(batch)

    def state_dict(self) -> dict[str, Any]:
        """Everything that moves, but for the model's weights."""
        carry = None if self.carry is None else [each.clone() for each in leaves(self.carry)]
        return {**super().state_dict(), "carry": carry}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned. Raises ValueError for that of another core, or of other rows."""
        super().load_state_dict(state)
        if state["carry"] is None:
            self.carry = None
            return
        self._rows(state["carry"], self.graph.collate.size)
        self.carry = self._fresh(self.graph.collate.size)
        self.carry = refill(self.carry, state["carry"])

    @staticmethod
    def _rows(leaves: Sequence[Tensor], rows: int) -> None:
        if leaves and len(leaves[0]) != rows:
            raise ValueError(
                f"truncated goes on from a batch of {len(leaves[0])} rows, and got one of {rows}: batch.size has to stay "
                "as it was"
            )

    def _fresh(self, rows: int) -> State:
        return map_state(lambda each: each.detach().clone(), self.model.core.initial_state(rows))
