"""The Triton kernels against the reference, under Triton's interpreter: test_triton.py runs these in a process of their own.

TRITON_INTERPRET=1 has to be set before anything imports Triton, and stays for the whole process.
"""

import os
import statistics

import numpy as np
import pytest
import torch
from triton.runtime import interpreter

from seqtoolkit.sdk import map_state
from seqtoolkit.testing import KERNEL_LAWS, check_kernel, within
from seqtoolkit_rmc import RelationalMemory, reference
from seqtoolkit_rmc.kernels import triton

assert os.environ.get("TRITON_INTERPRET") == "1", "test_triton.py runs these, with TRITON_INTERPRET=1"

OPTIONS = {
    "usual": {},
    "memory gates": {"gate_style": "memory", "num_heads": 3, "head_size": 2},
    "no gates": {"gate_style": None, "key_size": 3},
    "one layer, wide keys": {"attention_mlp_layers": 1, "key_size": 19, "mem_slots": 1},
    "three layers, narrow keys": {"attention_mlp_layers": 3, "key_size": 1, "head_size": 17, "num_heads": 1},
    "wide": {"head_size": 13, "gate_style": "memory", "forget_bias": -0.5, "input_bias": 0.7},
    "matrices": {"input_size": (3, 2), "treat_input_as_matrix": True, "mem_slots": 2},
    "more rows than slots": {"input_size": (19, 2), "treat_input_as_matrix": True, "mem_slots": 1, "gate_style": None},
    "many slots": {"mem_slots": 18, "head_size": 2, "gate_style": "memory"},
    "one of everything": {"mem_slots": 1, "num_heads": 1, "head_size": 1, "attention_mlp_layers": 1, "input_size": 1},
}
QUICK = ("one layer, wide keys", "wide")
QUICK_LAWS = ("gradients",)


@pytest.fixture(autouse=True)
def rounds_as_a_gpu(monkeypatch):
    """Rounds to the nearest bfloat16, as the hardware does: the interpreter cuts off, and errs twice as much."""
    convert = interpreter._convert_float

    def rounded(data, source, target, mode):
        if (source.name, target.name) == ("fp32", "bf16"):
            return torch.tensor(data).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
        return convert(data, source, target, mode)

    monkeypatch.setattr(interpreter, "_convert_float", rounded)


@pytest.fixture(autouse=True)
def patches_once(monkeypatch):
    """Takes a third of the time off: the interpreter patches triton.language anew for each call of a device function."""
    call = interpreter.InterpretedFunction.__call__

    def called(self, *arguments, **options):
        ours = self.fn.__module__.startswith("seqtoolkit_rmc.")
        return self.rewrite()(*arguments, **options) if ours else call(self, *arguments, **options)

    monkeypatch.setattr(interpreter.InterpretedFunction, "__call__", called)


def make_core(generator, **options):
    """A core in float64 whose parameters, gains and biases too, are anything but what they begin with."""
    core = RelationalMemory(**{"input_size": 3, "mem_slots": 3, "num_heads": 2, "head_size": 4} | options).double()
    with torch.no_grad():
        for name, parameter in core.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            gain = name.endswith("norm.weight")
            parameter.copy_(gain + noise * (0.3 if parameter.dim() == 1 else parameter.shape[1] ** -0.5))
    return core


def drawn(core, steps, batch, generator):
    """Parameters without history, inputs [T B n D], a memory [B N M], and restarts [T B]."""
    parameters = map_state(lambda leaf: None if leaf is None else leaf.detach(), core.parameters_of())
    inputs = torch.randn(steps, batch, core.input_rows, core.input_size, generator=generator, dtype=torch.float64)
    memory = torch.randn(batch, core.mem_slots, core.mem_size, generator=generator, dtype=torch.float64)
    return parameters, inputs, memory, torch.rand(steps, batch, generator=generator) < 0.4


def of(unroll, settings):
    """An unrolling as a function of what has gradients, and of restarts."""

    def call(parameters, inputs, memory, first):
        fresh = torch.eye(*memory.shape[1:], dtype=memory.dtype)[None]
        return unroll(parameters, settings, inputs, memory, fresh, first)

    return call


def found(unroll, core, arguments, dtype, *, autocast=False):
    """Memories, and the gradients of inputs, memory and parameters."""
    parameters, inputs, memory, first = map_state(
        lambda leaf: leaf.to(dtype).requires_grad_() if leaf is not None and leaf.is_floating_point() else leaf,
        arguments,
    )
    leaves = {"inputs": inputs, "memory": memory}
    affines = [parameters.projection, *parameters.blocks[0], *parameters.mlp, *(parameters.gates or ())]
    leaves |= {f"{index} {name}": each for index, one in enumerate(affines) for name, each in one._asdict().items()}
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        memories = of(unroll, core.settings)(parameters, inputs, memory, first)
    weights = torch.arange(memories.numel()).mul(1.7).cos().to(torch.bfloat16).to(memories).view_as(memories)
    gradients = torch.autograd.grad((memories * weights).sum(), list(leaves.values()))
    return {"memories": memories, **dict(zip(leaves, gradients, strict=True))}


def law_trials():
    """The usual core with every law; one is quick.

    The other options with the law of gradients alone, for test_float64 holds them to 1e-12, and with a wider factor: the
    largest error of a handful of numbers, rounded in another order, is up to three times another's.
    """
    for law in KERNEL_LAWS:
        marks = [] if law in QUICK_LAWS else [pytest.mark.slow]
        yield pytest.param(law, OPTIONS["usual"], 2.0, id=f"{law}-usual", marks=marks)
    for name in sorted(OPTIONS.keys() - {"usual", "one of everything"}):
        yield pytest.param("gradients", OPTIONS[name], 4.0, id=f"gradients-{name}", marks=pytest.mark.slow)


@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("law", "options", "factor"), law_trials())
def test_laws(law, options, factor):
    """Outputs and every gradient obey the laws of kernels in float32, in drawn sizes, with restarts."""
    settings = make_core(torch.Generator(), **options).settings

    def make_inputs(generator):
        steps, batch = (int(torch.randint(1, most, (), generator=generator)) for most in (3, 8))
        return drawn(make_core(generator, **options), steps, batch, generator)

    check_kernel(of(triton.unroll, settings), of(reference.unroll, settings), make_inputs, law, factor=factor)


@pytest.mark.parametrize(
    "options",
    [pytest.param(OPTIONS[name], id=name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in OPTIONS],
)
def test_float64(options):
    """In float64 every option gives the reference's memories and gradients, over more than one program."""
    generator = torch.Generator().manual_seed(1)
    core = make_core(generator, **options)
    arguments = drawn(core, 2, 17 if core.mem_slots == core.input_rows == 1 else 6, generator)
    got, wanted = (found(each, core, arguments, torch.float64) for each in (triton.unroll, reference.unroll))
    for name, right in wanted.items():
        assert (got[name] - right).abs().max() <= 1e-12 * max(1, right.abs().max()), name


def test_without_restarts_and_without_grad():
    """Without `first`, and without a tape, the memories are the same."""
    generator = torch.Generator().manual_seed(2)
    core = make_core(generator)
    parameters, inputs, memory, _ = drawn(core, 3, 6, generator)
    wanted = of(reference.unroll, core.settings)(parameters, inputs, memory, None)
    torch.testing.assert_close(of(triton.unroll, core.settings)(parameters, inputs, memory, None), wanted)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param(OPTIONS["wide"], marks=pytest.mark.slow),
        pytest.param(OPTIONS["no gates"], marks=pytest.mark.slow),
    ],
    ids=["unit", "memory", "none"],
)
def test_autocast(options):
    """Under autocast errors are at most twice those of the reference under autocast, in the median of some draws."""
    times = {}
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        core = make_core(generator, **options)
        arguments = drawn(core, 2, 5, generator)
        exact = found(reference.unroll, core, arguments, torch.float64)
        plain = found(reference.unroll, core, arguments, torch.float32, autocast=True)
        got = found(triton.unroll, core, arguments, torch.float32, autocast=True)
        assert got["memories"].dtype == plain["memories"].dtype == torch.float32
        for name, right in exact.items():
            times.setdefault(name, []).append(within(name, got[name], plain[name], right, float("inf")))
    assert {name: each for name, each in times.items() if statistics.median(each) > 2} == {}


def test_autocast_does_something():
    """Operands are rounded to bfloat16 under autocast, and only there."""
    generator = torch.Generator().manual_seed(4)
    core = make_core(generator)
    arguments = drawn(core, 1, 2, generator)
    exact, plain, rounded = (
        found(triton.unroll, core, arguments, dtype, autocast=autocast)["memories"].double()
        for dtype, autocast in ((torch.float64, False), (torch.float32, False), (torch.float32, True))
    )
    assert (plain - exact).abs().max() < 1e-5
    assert (rounded - exact).abs().max() > 1e-4
