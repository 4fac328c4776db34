"""What the C++ loop has for itself: threads, its own functions, what it declines, and what it shares with Python."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
import torch
from torch import Tensor

from seqtoolkit_rmc import RelationalMemory, reference
from seqtoolkit_rmc.kernels import build, native, native_library

pytestmark = pytest.mark.skipif(
    isinstance(build.load(native_library.SOURCES, "native.cpp"), build.BuildError),
    reason="there is no C++ compiler here",
)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("batch", [1, 2, 7, 97])
def test_threads(batch, threads, trial):
    """Any number of threads gives the reference's numbers, whatever falls to each, and the same bits each time."""
    generator = torch.Generator().manual_seed(batch)
    core = trial.make_core(generator, torch.float64)
    inputs, memory = trial.sequence(core, 4, batch, generator)
    wanted = trial.run(reference.unroll, core, inputs, memory, first := trial.marks(4, batch, generator))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        got, again = (trial.run(native.unroll, core, inputs, memory, first) for _ in range(2))
    finally:
        torch.set_num_threads(before)
    trial.close(got, wanted, 1e-12)
    assert all(map(torch.equal, got, again))


def test_threads_may_change_before_the_way_back(trial):
    """What was kept by some threads is read rightly when torch has been given another number of them since."""
    generator = torch.Generator().manual_seed(3)
    core = trial.make_core(generator)
    inputs, memory = trial.sequence(core, 3, 70, generator)
    wanted = trial.run(reference.unroll, core, inputs, memory)
    leaves = [inputs.requires_grad_(), memory.requires_grad_()]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        memories = native.unroll(core.parameters_of(), core.settings, *leaves, core.initial_state(1), None)
        torch.set_num_threads(1)
        got = torch.autograd.grad(trial.loss(memories), [*leaves, *core.parameters()])
    finally:
        torch.set_num_threads(before)
    trial.close([memories, *got], wanted, 1e-12)


@pytest.mark.parametrize("sign", [-1, 1])
def test_functions(sign):
    """Gates and tanh keep to float32's rounding over their whole range, near zero and far from it too."""
    values = sign * torch.cat([torch.logspace(-30, 2.4, 4000), torch.zeros(1)])
    rows, width = len(values), 8
    core = RelationalMemory(width, 1, width, 1, gate_style="unit", attention_mlp_layers=1).requires_grad_(
        requires_grad=False
    )
    for parameter in core.parameters():
        parameter.zero_()
    core.blocks[0].mlp_norm.bias.fill_(1)  # M~ is 1
    core.gates_from_memory.weight[:width] = torch.eye(width)  # the input gate reads tanh of the memory
    core.gates_from_input.weight[width:] = torch.eye(width)  # and the forget gate the input
    core.input_projection.weight.copy_(torch.eye(width))
    given = [values[:, None].expand(rows, width).contiguous()]
    inputs, memory = given[0][None, :, None], given[0][:, None]
    got = native.unroll(core.parameters_of(), core.settings, inputs, memory, memory[:1], None)
    core.double()
    wide = inputs.double(), memory.double(), memory[:1].double(), None
    exact = reference.unroll(core.parameters_of(), core.settings, *wide)
    forget = torch.sigmoid(memory.double() + 1)
    size = torch.sigmoid(torch.tanh(memory.double())) * torch.tanh(torch.ones(())).double() + (forget * memory).abs()
    assert ((got - exact).abs() <= 4 * torch.finfo(torch.float32).eps * size).all()


def test_tanh():
    """What is let into an empty memory is tanh of M~ to float32's rounding, for the smallest M~ too."""
    values = torch.logspace(-35, 2, 100)
    values = torch.cat([values, -values, torch.zeros(1)])
    core = RelationalMemory(3, 1, len(values), 1, attention_mlp_layers=1).requires_grad_(requires_grad=False)
    for parameter in core.parameters():
        parameter.zero_()
    core.blocks[0].mlp_norm.bias.copy_(values)  # M~; the input gate is 1/2
    empty = torch.zeros(1, 1, len(values))
    got = native.unroll(core.parameters_of(), core.settings, torch.zeros(1, 1, 1, 3), empty, empty, None)
    exact = torch.tanh(values.double()) / 2
    assert ((got.flatten() - exact).abs() <= 4 * torch.finfo(torch.float32).eps * exact.abs()).all()


class Odd(Tensor):
    """A tensor of another class."""


DECLINES = {
    "num_blocks 2": lambda core, inputs: (RelationalMemory(3, num_blocks=2).double().parameters_of(), inputs),
    "got bfloat16": lambda core, inputs: (core.bfloat16().parameters_of(), inputs.bfloat16()),
    "got float64 and float32": lambda core, inputs: (core.float().parameters_of(), inputs),
    "got meta": lambda core, inputs: (core.to("meta").parameters_of(), inputs),
    "got Odd": lambda core, inputs: (core.parameters_of(), inputs.as_subclass(Odd)),
}


@pytest.mark.parametrize(("says", "change"), DECLINES.items(), ids=DECLINES)
def test_declines(says, change, trial):
    """What it cannot compute it declines in a clause, and refuses when asked nevertheless."""
    generator = torch.Generator().manual_seed(11)
    core = trial.make_core(generator)
    inputs, memory = trial.sequence(core, 2, 3, generator)
    assert native.missing(core.parameters_of(), core.settings, inputs) is None
    parameters, inputs = change(core, inputs)
    assert says in native.missing(parameters, core.settings, inputs)
    with pytest.raises(ValueError, match=says):
        native.unroll(parameters, core.settings, inputs, memory, memory[:1], None)


def test_declines_another_memory(trial):
    """A memory of another dtype is refused by name, not read as what it is not."""
    generator = torch.Generator().manual_seed(12)
    core = trial.make_core(generator)
    inputs, memory = trial.sequence(core, 2, 3, generator)
    with pytest.raises(ValueError, match="wants one dtype, got float64 and float32"):
        native.unroll(core.parameters_of(), core.settings, inputs, memory.float(), memory[:1], None)


def test_declines_what_watches_operations(monkeypatch, trial):
    """Under autocast, torch.func, forward-mode differentiation and the switch it steps aside."""
    core = trial.make_core(torch.Generator())
    given = core.parameters_of(), core.settings, torch.zeros(2, 3, core.input_rows, core.input_size).double()
    with torch.autocast("cpu"):
        assert "autocast" in native.missing(*given)
    seen = []
    torch.func.vmap(lambda each: seen.append(native.missing(*given)) or each)(torch.zeros(2))
    assert "torch.func" in seen[0]
    with torch.autograd.forward_ad.dual_level():
        assert "forward-mode" in native.missing(*given)
    monkeypatch.setenv("SEQTOOLKIT_NATIVE", "0")
    assert native.missing(*given) == "is turned off by SEQTOOLKIT_NATIVE=0"


def test_call_is_laid_out_as_the_kernel_reads_it():
    """Python and C++ agree on the fields of a call."""
    library = build.load(native_library.SOURCES, "native.cpp")
    library.rmc_call_size.restype = ctypes.c_int64
    assert library.rmc_call_size() == ctypes.sizeof(native_library.Call)
    text = (Path(native_library.SOURCES) / "call.h").read_text()
    places = [text.index(name) for name in (*native_library.SIZES[:5], *native_library.POINTERS)]
    assert len(places) == len(set(places))
