"""Trial: a core, a sequence, a state and restarts, drawn for one law."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from seqtoolkit.flow.core import Core, State, map_state
from seqtoolkit.testing.law import demand, same
from seqtoolkit.testing.nest import named

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-4}
STEPS, ROWS = 7, 4
RESTARTS: tuple[Sequence[int], ...] = ((0, 4), (2,), (), range(STEPS))
"""The steps at which each row begins anew."""

Run = Callable[[Tensor, State, Tensor | None], tuple[Tensor, State]]


def leaves(state: State) -> list[Tensor]:
    """The tensors of a state, in order; breaks the law where something else is in it."""
    found = named("state", state)
    for name, leaf in found.items():
        wanted = "wanted tensors in a nest of tuples, lists and dicts"
        demand(isinstance(leaf, Tensor), f"{name}: {wanted}, got {type(leaf).__name__}")
    return list(found.values())


def learnable(state: State) -> State:
    """A copy of a state whose floating tensors want a gradient."""
    return map_state(lambda leaf: leaf.detach().clone().requires_grad_(leaf.is_floating_point()), state)


def wanting(state: State) -> list[Tensor]:
    """Those tensors of a state that want a gradient."""
    return [leaf for leaf in leaves(state) if leaf.requires_grad]


def weighted(*tensors: Tensor) -> Tensor:
    """A sum in which no two elements can stand for each other."""
    parts = (
        tensor * torch.arange(tensor.numel(), device=tensor.device).mul(1.7).cos().view_as(tensor) for tensor in tensors
    )
    return torch.stack([part.sum() for part in parts]).sum()


def gradients(total: Tensor, sources: Sequence[Tensor]) -> list[Tensor]:
    """The gradient of a sum in each of its sources; zeros where there is no way."""
    return list(torch.autograd.grad(total, sources, allow_unused=True, materialize_grads=True))


def row_of(state: State, row: int) -> State:
    """One row of a state, as a batch of one."""
    return map_state(lambda leaf: leaf[row : row + 1], state)


def same_state(what: str, got: State, wanted: State, tolerance: float) -> None:
    """Demand that two states are the same nest of the same tensors."""
    gots, wanteds = leaves(got), leaves(wanted)
    demand(len(gots) == len(wanteds), f"{what}: wanted {len(wanteds)} tensors, got {len(gots)}")
    for index, (one, other) in enumerate(zip(gots, wanteds, strict=True)):
        same(f"{what}, tensor {index}", one, other, tolerance)


@dataclass
class Trial:
    """What a law is given. Every number in it, the core's parameters too, follows from the seed."""

    factory: Callable[[int], Core]
    input_size: int
    input_shape: Sequence[int]
    dtype: torch.dtype
    seed: int
    generator: torch.Generator = field(init=False)
    core: Core = field(init=False)

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)
        self.core = self.make(self.seed)

    @property
    def tolerance(self) -> float:
        """How far two ways to the same numbers may end apart."""
        return TOLERANCE[self.dtype]

    def make(self, seed: int) -> Core:
        """A core whose every parameter has been moved off its start, where a zero could hide a fault."""
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            core = self.factory(self.input_size)
        with torch.no_grad():
            for parameter in core.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype), alpha=0.1)
        return core.to(self.dtype).eval()

    def inputs(self, steps: int = STEPS, rows: int = ROWS) -> Tensor:
        """Inputs [T B ...]."""
        return torch.randn(steps, rows, *self.input_shape, generator=self.generator, dtype=self.dtype)

    def first(self, steps: int = STEPS, rows: int = ROWS) -> Tensor:
        """Restarts [T B] at the steps of `RESTARTS`."""
        marks = [[step in RESTARTS[index % len(RESTARTS)] for index in range(rows)] for step in range(steps)]
        return torch.tensor(marks)

    def state(self, rows: int = ROWS) -> State:
        """A state that has been somewhere: after two steps of other inputs."""
        state = self.core.initial_state(rows)
        with torch.no_grad():
            for now in self.inputs(2, rows):
                _, state = self.core.step(now, state)
        leaves(state)
        return state

    def seeded(self, inputs: Tensor, state: State, first: Tensor, *, training: bool) -> tuple[Tensor, State]:
        """Unroll with the same noise each time, in training or not."""
        self.core.train(training)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            result = self.core.unroll(inputs, state, first)
        self.core.eval()
        return result

    def stepped(self, inputs: Tensor, state: State, first: Tensor | None = None) -> tuple[Tensor, State]:
        """What unrolling means."""
        return Core.unroll(self.core, inputs, state, first)

    def outcome(self, run: Run, inputs: Tensor, state: State, first: Tensor | None = None) -> dict[str, Tensor]:
        """Outputs, last state, and the gradient of everything in a weighted sum of both."""
        inputs, state = inputs.clone().requires_grad_(), learnable(state)
        outputs, last = run(inputs, state, first)
        found = {"outputs": outputs} | {f"state {index}": leaf for index, leaf in enumerate(leaves(last))}
        sources = {"gradient of the inputs": inputs}
        sources |= {f"gradient of the state passed, {index}": leaf for index, leaf in enumerate(wanting(state))}
        sources |= {f"gradient of {name}": each for name, each in self.core.named_parameters() if each.requires_grad}
        total = weighted(*(tensor for tensor in found.values() if tensor.requires_grad))
        return found | dict(zip(sources, gradients(total, list(sources.values())), strict=True))
