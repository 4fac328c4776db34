"""The published implementation's numbers, for every option: outputs, memories, gates, and every gradient."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seqtoolkit_rmc import RelationalMemory, from_sonnet, reference

GOLDEN = sorted(Path(__file__).with_name("golden").glob("rmc_*.npz"))
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


COVERED: dict[str, Callable[[dict[str, Any]], bool]] = {
    "gates for each unit": lambda given: given["gate_style"] == "unit",
    "gates for each slot": lambda given: given["gate_style"] == "memory",
    "no gates": lambda given: given["gate_style"] is None,
    "another input_bias": lambda given: given["gate_style"] == "unit" and given["input_bias"] != 0,
    "another forget_bias": lambda given: given["gate_style"] == "unit" and given["forget_bias"] != 1,
    "other biases for each slot": lambda given: given["gate_style"] == "memory" and given["input_bias"] != 0,
    "keys of another size, smaller": lambda given: (
        given["key_size"] is not None and given["key_size"] < given["head_size"]
    ),
    "keys of another size, larger": lambda given: (
        given["key_size"] is not None and given["key_size"] > given["head_size"]
    ),
    "a vector": lambda given: given["matrix_n"] == 0,
    "a matrix, gates for each unit": lambda given: given["matrix_n"] > 1 and given["gate_style"] == "unit",
    "a matrix, gates for each slot": lambda given: given["matrix_n"] > 1 and given["gate_style"] == "memory",
    "a matrix, no gates": lambda given: given["matrix_n"] > 1 and given["gate_style"] is None,
    "a matrix, rows of different lengths": lambda given: given["matrix_n"] > 1 and given["lengths"] is not None,
    "vectors, rows of different lengths": lambda given: given["matrix_n"] == 0 and given["lengths"] is not None,
    **{f"{blocks} blocks": lambda given, blocks=blocks: given["num_blocks"] == blocks for blocks in (1, 2, 3)},
    **{
        f"{layers} layers": lambda given, layers=layers: given["attention_mlp_layers"] == layers
        for layers in (1, 2, 3, 5)
    },
    "one slot": lambda given: given["mem_slots"] == 1 and given["num_blocks"] == 1,
    "one slot, several blocks": lambda given: given["mem_slots"] == 1 and given["num_blocks"] > 1,
    "one head": lambda given: given["num_heads"] == 1,
    "one of everything": lambda given: given["mem_slots"] == given["num_heads"] == given["head_size"] == 1,
    "more slots than units": lambda given: given["mem_slots"] > given["num_heads"] * given["head_size"],
    "all at once": lambda given: (
        given["matrix_n"] > 1
        and given["gate_style"] == "memory"
        and given["num_blocks"] > 1
        and given["attention_mlp_layers"] > 2
        and given["key_size"] is not None
        and given["mem_slots"] > given["num_heads"] * given["head_size"]
        and given["forget_bias"] != 1
        and given["input_bias"] != 0
    ),
}
"""What there has to be an archive of."""


@cache
def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an archive."""
    with np.load(path) as archive:
        return {name: archive[name] for name in archive}


@cache
def config_of(path: Path) -> dict[str, Any]:
    """The settings of an archive."""
    return json.loads(str(read(path)["config"]))


class Golden:
    """One archive, in one dtype."""

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        self.arrays, self.config = read(path), config_of(path)
        self.dtype = dtype
        skipped = ("T", "B", "input_size", "matrix_n", "lengths", "seed")
        options = {name: value for name, value in self.config.items() if name not in skipped}
        rows, features = self.config["matrix_n"], self.config["input_size"]
        size = (rows, features) if rows else features
        self.core = RelationalMemory(size, treat_input_as_matrix=bool(rows), **options).to(dtype)
        variables = {name[4:]: array for name, array in self.arrays.items() if name.startswith("var/")}
        self.core.load_state_dict(from_sonnet(variables))

    def given(self, name: str) -> Tensor:
        """What went in, in this dtype."""
        return torch.from_numpy(self.arrays[name]).to(self.dtype)

    def wanted(self, name: str) -> np.ndarray:
        """What came out there, in this dtype."""
        return self.arrays[name + "_f64" if self.dtype is torch.float64 else name]

    def compare(self, what: str, got: Tensor) -> None:
        """Relative to what is large in an array, absolute where it is small."""
        wanted = self.wanted(what)
        difference = np.abs(got.detach().numpy() - wanted) / np.maximum(1, np.abs(wanted).max())
        assert difference.max() <= TOLERANCE[self.dtype], f"{what} differs by {difference.max():.1e}"


def cases(*, lengths: bool) -> Iterator[object]:
    """Each archive in each dtype."""
    for path in GOLDEN:
        if bool(config_of(path)["lengths"]) == lengths:
            for dtype in TOLERANCE:
                yield pytest.param(path, dtype, id=f"{path.stem}-{str(dtype)[6:]}")


def stepped(core: RelationalMemory, inputs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """The sequence one step at a time."""
    outputs = []
    for now in inputs:
        output, memory = core.step(now, memory)
        outputs.append(output)
    return torch.stack(outputs), memory


def check_gradients(golden: Golden, output: Tensor, final: Tensor, inputs: Tensor, memory: Tensor) -> None:
    """Every gradient of the archive's loss."""
    ((output * golden.given("cot_output")).sum() + (final * golden.given("cot_memory")).sum()).backward()
    golden.compare("grad/__input__", inputs.grad)
    golden.compare("grad/__memory0__", memory.grad)
    variables = [name for name in golden.arrays if name.startswith("var/")]
    gradients = {name[4:]: golden.wanted("grad/" + name[4:]) for name in variables}
    wanted = from_sonnet(gradients)
    parameters = dict(golden.core.named_parameters())
    assert wanted.keys() == parameters.keys()
    for name, parameter in parameters.items():
        scale = wanted[name].abs().max().clamp(min=1)
        difference = ((parameter.grad - wanted[name]).abs().max() / scale).item()
        assert difference <= TOLERANCE[golden.dtype], f"gradient of {name} differs by {difference:.1e}"


@pytest.mark.parametrize("path", ["reference", "fused", "auto", "step"])
@pytest.mark.parametrize(("archive", "dtype"), cases(lengths=False))
def test_numbers(archive, dtype, path):
    """Outputs, every memory and every gradient are the published ones, stepped and unrolled by each backend."""
    golden = Golden(archive, dtype)
    golden.core.backend = "auto" if path == "step" else path
    inputs, memory = golden.given("input").requires_grad_(), golden.given("initial_memory").requires_grad_()
    run = golden.core if path != "step" else lambda *given: stepped(golden.core, *given)
    output, final = run(inputs, memory)
    golden.compare("output", output)
    golden.compare("memories", output.unflatten(-1, final.shape[1:]))
    golden.compare("final_memory", final)
    check_gradients(golden, output, final, inputs, memory)


@pytest.mark.parametrize(("archive", "dtype"), cases(lengths=False))
def test_inside(archive, dtype):
    """The reference's memories and gates at each step are the published ones."""
    golden = Golden(archive, dtype)
    memory, trace = golden.given("initial_memory"), []
    for now in golden.given("input"):
        rows = now.reshape(now.shape[0], -1, golden.config["input_size"])
        trace.append(reference.step(golden.core.parameters_of(), golden.core.settings, rows, memory))
        memory = trace[-1].memory
    golden.compare("memories", torch.stack([step.memory for step in trace]))
    for gate in ("input_gate", "forget_gate"):
        got = [getattr(step, gate) for step in trace]
        if golden.config["gate_style"] is None:
            assert got == [None] * len(trace)
        else:
            golden.compare(f"{gate}s", torch.stack(got))


@pytest.mark.parametrize(("archive", "dtype"), cases(lengths=True))
def test_lengths(archive, dtype):
    """Rows of different lengths: past a row's length the published loop holds the state and puts out zeros."""
    golden = Golden(archive, dtype)
    inputs, memory = golden.given("input").requires_grad_(), golden.given("initial_memory").requires_grad_()
    alive = torch.arange(len(inputs))[:, None] < torch.from_numpy(golden.arrays["lengths"])
    state, outputs = memory, []
    for now, on in zip(inputs, alive, strict=True):
        output, following = golden.core(now[None], state)
        outputs.append(torch.where(on[:, None], output[0], 0))
        state = torch.where(on[:, None, None], following, state)
    golden.compare("output", torch.stack(outputs))
    golden.compare("final_memory", state)
    check_gradients(golden, torch.stack(outputs), state, inputs, memory)


@pytest.mark.parametrize("archive", GOLDEN, ids=lambda path: path.stem)
def test_initial_state(archive):
    """The core starts from the published state."""
    golden = Golden(archive, torch.float32)
    wanted = golden.arrays["sonnet_initial_state"]
    assert np.array_equal(golden.core.initial_state(len(wanted)).numpy(), wanted)


@pytest.mark.parametrize("covers", COVERED.values(), ids=COVERED)
def test_every_option_has_an_archive(covers):
    """There is no option of the published code that none of the archives is of."""
    assert any(covers(config_of(path)) for path in GOLDEN)


def test_every_option_is_counted():
    """The options that the archives are of are all that a core has."""
    options = set(signature(RelationalMemory).parameters) - {"input_size", "treat_input_as_matrix", "backend"}
    assert all(config_of(path).keys() >= options for path in GOLDEN)
