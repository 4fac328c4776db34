"""The published implementation's numbers: outputs, states, and every gradient."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from seqtoolkit.sdk import Core
from seqtoolkit_dnc import DNC, from_deepmind, reference
from seqtoolkit_dnc.reference import Cell, State

GOLDEN = sorted(Path(__file__).with_name("golden").glob("dnc_*.npz"))
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
MEMORY = ("access_output", "memory", "read_weights", "write_weights", "link", "precedence", "usage")
CELL = ("controller_hidden", "controller_cell")


class Golden:
    """One archive, in one dtype."""

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        with np.load(path) as archive:
            self.arrays = {name: archive[name] for name in archive}
        self.config = json.loads(str(self.arrays["config"]))
        self.dtype = dtype
        self.core = DNC(
            self.config["input_size"],
            self.config["hidden"],
            **self.config["access"],
            output_size=self.config["output_size"],
            clip_value=self.config["clip"] or None,
        ).to(dtype)
        exact = {name[4:]: array for name, array in self.arrays.items() if name.startswith("var/")}
        self.core.load_state_dict(from_deepmind({name: self.cast(array).numpy() for name, array in exact.items()}))

    def cast(self, array: np.ndarray) -> Tensor:
        """In this dtype."""
        return torch.from_numpy(array).to(self.dtype)

    def wanted(self, name: str) -> np.ndarray:
        """What came out there, in this dtype."""
        return self.arrays[name + "_f64" if self.dtype is torch.float64 else name]

    def start(self) -> State:
        """The state that was fed."""
        memory = (self.cast(self.arrays[f"state0/{name}"]) for name in MEMORY)
        cell = Cell(*(self.cast(self.arrays[f"state0/{name}"]) for name in CELL))
        return State(*memory, controller=(cell,))

    def compare(self, what: str, got: Tensor, wanted: np.ndarray) -> None:
        """Relative to what is large in an array, absolute where it is small."""
        difference = np.abs(got.detach().numpy() - wanted) / max(1, np.abs(wanted).max())
        assert difference.max() <= TOLERANCE[self.dtype], f"{what} differs by {difference.max():.1e}"

    def compare_state(self, prefix: str, got: State) -> None:
        """Every tensor of a state, row by row."""
        tensors = dict(zip((*MEMORY, *CELL), [*got[:7], *got.controller[0]], strict=True))
        for name, tensor in tensors.items():
            self.compare(f"{prefix}/{name}", tensor, self.wanted(f"{prefix}/{name}"))

    def compare_gradients(self) -> None:
        """Those of all parameters."""
        names = [name[4:] for name in self.arrays if name.startswith("var/")]
        wanted = from_deepmind({name: self.wanted(f"grad/{name}") for name in names})
        size = self.config["hidden"]
        wanted["controller.0.bias"][2 * size : 3 * size] -= 1  # the constant that from_deepmind adds to weights
        parameters = dict(self.core.named_parameters())
        assert wanted.keys() == parameters.keys()
        for name, parameter in parameters.items():
            self.compare(f"gradient of {name}", parameter.grad, wanted[name].numpy())


class Reference(DNC):
    """The equations themselves, stepped."""

    unroll = Core.unroll

    def step(self, inputs, state):
        """The reference's step."""
        return reference.step(self.parameters_of(), self.settings, inputs, state)


def cases() -> Iterator[object]:
    """Each archive in each dtype."""
    for path in GOLDEN:
        for dtype in TOLERANCE:
            yield pytest.param(path, dtype, id=f"{path.stem}-{str(dtype)[6:]}")


RUNS = {
    "unroll": lambda core, inputs, state: core.unroll(inputs, state),
    "step": Core.unroll,
    "reference": lambda core, inputs, state: Core.unroll(as_reference(core), inputs, state),
}


def as_reference(core: DNC) -> DNC:
    """The same core, by the equations."""
    core.__class__ = Reference
    return core


@pytest.mark.parametrize("path", RUNS)
@pytest.mark.parametrize(("archive", "dtype"), cases())
def test_numbers(archive, dtype, path):
    """Outputs and every gradient are the published ones, unrolled, stepped and by the reference; states where untied."""
    golden = Golden(archive, dtype)
    assert not golden.config["lengths"], "archives of rows of different lengths are not read yet"
    inputs = golden.cast(golden.arrays["input"]).requires_grad_()
    output, final = RUNS[path](golden.core, inputs, golden.start())
    golden.compare("output", output, golden.wanted("output"))
    ((output * golden.cast(golden.arrays["cot_output"])).sum() + final.memory.sum()).backward()
    golden.compare("gradient of the input", inputs.grad, golden.wanted("grad/__input__"))
    golden.compare_gradients()
    if "randstate" in archive.stem:
        golden.compare_state("final", final)


@pytest.mark.parametrize("path", ["unroll", "reference"])
@pytest.mark.parametrize(("archive", "dtype"), [each for each in cases() if "randstate" in each.id])
def test_every_state(archive, dtype, path):
    """From a state without ties every state on the way is the published one, row by row."""
    golden = Golden(archive, dtype)
    state = golden.start()
    for time, now in enumerate(golden.cast(golden.arrays["input"])):
        _, state = RUNS[path](golden.core, now[None], state)
        tensors = dict(zip((*MEMORY, *CELL), [*state[:7], *state.controller[0]], strict=True))
        for name, tensor in tensors.items():
            golden.compare(f"{name} at step {time}", tensor, golden.wanted(f"steps/{name}")[time])


def test_archives_are_there():
    """There are numbers to compare with, of one write head and of several."""
    writes = {json.loads(str(np.load(path)["config"]))["access"]["num_writes"] for path in GOLDEN}
    assert len(GOLDEN) >= 2
    assert min(writes) == 1 < max(writes)
