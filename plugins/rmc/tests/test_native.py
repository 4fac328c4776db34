"""The C++ loop against the reference: every law and option, published numbers, threads, restarts, and what it declines."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from seqtoolkit.sdk import map_state
from seqtoolkit.testing import KERNEL_LAWS, check_kernel
from seqtoolkit_rmc import RelationalMemory, from_sonnet, reference
from seqtoolkit_rmc.kernels import build, native, native_library

pytestmark = pytest.mark.skipif(
    isinstance(build.load(native_library.SOURCES, "native.cpp"), build.BuildError),
    reason="there is no C++ compiler here",
)
LUCK = {torch.float32: 4.0, torch.float64: 8.0}
"""How many times the reference's error is allowed where arrays are so small that the largest of few errors decides; in
float64 what counts as exact errs as well."""
DTYPES = [torch.float32, torch.float64]
OPTIONS = {
    "usual": {},
    "memory gates": {"gate_style": "memory"},
    "no gates": {"gate_style": None},
    "one layer": {"attention_mlp_layers": 1},
    "four layers, memory gates": {"attention_mlp_layers": 4, "gate_style": "memory"},
    "one slot": {"mem_slots": 1, "head_size": 5},
    "wide keys": {"mem_slots": 3, "num_heads": 3, "key_size": 11, "head_size": 2},
    "narrow keys, one head": {"mem_slots": 9, "num_heads": 1, "key_size": 1, "head_size": 17},
    "matrices": {"treat_input_as_matrix": True},
    "matrices, other biases": {
        "treat_input_as_matrix": True,
        "gate_style": "memory",
        "mem_slots": 2,
        "key_size": 3,
        "forget_bias": -0.5,
        "input_bias": 0.7,
        "attention_mlp_layers": 3,
    },
    "matrices, no gates": {"treat_input_as_matrix": True, "gate_style": None, "num_heads": 1},
}

ARCHIVES = [
    path
    for path in sorted(Path(__file__).with_name("golden").glob("rmc_*.npz"))
    if (config := json.loads(str(np.load(path)["config"])))["num_blocks"] == 1 and not config["lengths"]
]


def drawn(lowest: int, highest: int, generator: torch.Generator) -> int:
    """A whole number, both ends included."""
    return int(torch.randint(lowest, highest + 1, (), generator=generator))


def make_core(generator: torch.Generator, dtype: torch.dtype = torch.float64, **options) -> RelationalMemory:
    """A core whose parameters, gains and biases too, are anything but what they begin with."""
    features = drawn(1, 7, generator)
    size = (drawn(1, 4, generator), features) if options.get("treat_input_as_matrix") else features
    with torch.random.fork_rng():
        torch.manual_seed(drawn(0, 10**6, generator))
        core = RelationalMemory(size, **{"mem_slots": 4, "num_heads": 2, "head_size": 6} | options).to(dtype)
    with torch.no_grad():
        for parameter in core.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.1 * noise)
    return core


def sequence(core: RelationalMemory, steps: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs [T B n D] and a memory [B N M]."""
    shapes = (steps, batch, core.input_rows, core.input_size), (batch, core.mem_slots, core.mem_size)
    dtype = next(core.parameters()).dtype
    inputs, memory = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes)
    return inputs, memory


def plain(parameters: reference.Parameters) -> reference.Parameters:
    """Without history."""
    return map_state(lambda leaf: None if leaf is None else leaf.detach(), parameters)


def marks(steps: int, batch: int, generator: torch.Generator) -> Tensor:
    """Restarts, [T B]; none at some steps."""
    return torch.rand(steps, batch, generator=generator) * torch.rand(steps, 1, generator=generator) > 0.5


def run(unroll, core: RelationalMemory, inputs: Tensor, memory: Tensor, first: Tensor | None = None) -> list[Tensor]:
    """Memories, and the gradients of inputs, memory and all parameters."""
    leaves = [inputs.clone().requires_grad_(), memory.clone().requires_grad_()]
    memories = unroll(core.parameters_of(), core.settings, *leaves, core.initial_state(1).detach(), first)
    weights = torch.arange(memories.numel()).mul(1.7).cos().to(memories).view_as(memories)
    return [memories, *torch.autograd.grad((memories * weights).sum(), [*leaves, *core.parameters()])]


def close(gots: list[Tensor], wanteds: list[Tensor], tolerance: float) -> None:
    """Relative to what is large, absolute where nothing is."""
    for got, wanted in zip(gots, wanteds, strict=True):
        assert (got - wanted).abs().max() <= tolerance * max(1, wanted.abs().max())


def check(options: dict, dtype: torch.dtype, law: str, *, restarts: bool) -> None:
    """Hold the kernel against one law, in drawn sizes."""
    settings = make_core(torch.Generator(), **options).settings

    def make_inputs(generator):
        core = make_core(generator, **options)
        steps, batch = drawn(1, 3, generator), drawn(10, 40, generator)
        first = marks(steps, batch, generator) if restarts else None
        return plain(core.parameters_of()), *sequence(core, steps, batch, generator), first

    def of(unroll):
        def call(parameters, inputs, memory, first):
            fresh = torch.eye(*memory.shape[1:], dtype=memory.dtype)[None]
            return unroll(parameters, settings, inputs, memory, fresh, first)

        return call

    check_kernel(of(native.unroll), of(reference.unroll), make_inputs, law, dtype=dtype, factor=LUCK[dtype])


@pytest.mark.parametrize("law", KERNEL_LAWS)
@pytest.mark.parametrize("name", ["usual", "matrices, no gates"])
def test_laws(name, law):
    """Every law of kernels holds."""
    check(OPTIONS[name], torch.float32, law, restarts=name == "usual")


@pytest.mark.parametrize("law", ["values", "gradients"])
@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options(options, dtype, law):
    """Outputs and every gradient err as little as plain PyTorch's, for every option."""
    check(options, dtype, law, restarts=law == "gradients")


def test_accuracy():
    """In a core of a common size, where luck evens out, float32 errs at most twice as much as plain PyTorch."""
    generator = torch.Generator().manual_seed(2)
    core = make_core(generator, torch.float32, head_size=32, mem_slots=8)
    inputs, memory = sequence(core, 4, 60, generator)
    got, near = (run(unroll, core, inputs, memory) for unroll in (native.unroll, reference.unroll))
    exact = run(reference.unroll, core.double(), inputs.double(), memory.double())
    for each, plainly, right in zip(got, near, exact, strict=True):
        assert (each - right).norm() <= 2 * (plainly - right).norm()


def test_one_of_everything():
    """A memory of one number, whose norms are constant: where no number means anything, it is the reference's."""
    generator = torch.Generator().manual_seed(4)
    core = make_core(generator, mem_slots=1, num_heads=1, head_size=1, attention_mlp_layers=1)
    given = sequence(core, 3, 5, generator)
    close(run(native.unroll, core, *given), run(reference.unroll, core, *given), 1e-12)


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.stem)
def test_published_numbers(archive, dtype):
    """Outputs and gradients are those of the published code."""
    with np.load(archive) as arrays:
        given = {name: arrays[name] for name in arrays}
    config = json.loads(str(given["config"]))
    skipped = ("T", "B", "input_size", "matrix_n", "lengths", "seed")
    options = {name: value for name, value in config.items() if name not in skipped}
    rows, features = config["matrix_n"], config["input_size"]
    core = RelationalMemory((rows, features) if rows else features, treat_input_as_matrix=bool(rows), **options).to(
        dtype
    )
    core.load_state_dict(from_sonnet({name[4:]: each for name, each in given.items() if name.startswith("var/")}))
    ending = "_f64" if dtype is torch.float64 else ""
    inputs, memory, d_output, d_memory = (
        torch.from_numpy(given[name]).to(dtype) for name in ("input", "initial_memory", "cot_output", "cot_memory")
    )
    leaves = [inputs.requires_grad_(), memory.requires_grad_()]
    shaped = inputs.reshape(*inputs.shape[:2], core.input_rows, core.input_size)
    memories = native.unroll(core.parameters_of(), core.settings, shaped, memory, core.initial_state(1), None)
    loss = (memories.flatten(2) * d_output).sum() + (memories[-1] * d_memory).sum()
    gradients = torch.autograd.grad(loss, [*leaves, *core.parameters()])
    published = from_sonnet({name[4:]: given["grad/" + name[4:] + ending] for name in given if name.startswith("var/")})
    wanted = [torch.from_numpy(given[name + ending]) for name in ("memories", "grad/__input__", "grad/__memory0__")]
    wanted += [published[name] for name, _ in core.named_parameters()]
    close([memories, *gradients], wanted, 1e-10 if dtype is torch.float64 else 1e-5)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("batch", [1, 2, 7, 97])
def test_threads(batch, threads):
    """Any number of threads gives the reference's numbers, whatever falls to each, and the same bits each time."""
    generator = torch.Generator().manual_seed(batch)
    core = make_core(generator, torch.float64)
    inputs, memory = sequence(core, 4, batch, generator)
    wanted = run(reference.unroll, core, inputs, memory, first := marks(4, batch, generator))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        got, again = (run(native.unroll, core, inputs, memory, first) for _ in range(2))
    finally:
        torch.set_num_threads(before)
    close(got, wanted, 1e-12)
    assert all(map(torch.equal, got, again))


def test_threads_may_change_before_the_way_back():
    """What was kept by some threads is read rightly when torch has been given another number of them since."""
    generator = torch.Generator().manual_seed(3)
    core = make_core(generator)
    inputs, memory = sequence(core, 3, 70, generator)
    wanted = run(reference.unroll, core, inputs, memory)
    leaves = [inputs.requires_grad_(), memory.requires_grad_()]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        memories = native.unroll(core.parameters_of(), core.settings, *leaves, core.initial_state(1), None)
        torch.set_num_threads(1)
        weights = torch.arange(memories.numel()).mul(1.7).cos().to(memories).view_as(memories)
        got = torch.autograd.grad((memories * weights).sum(), [*leaves, *core.parameters()])
    finally:
        torch.set_num_threads(before)
    close([memories, *got], wanted, 1e-12)


@pytest.mark.parametrize("gate_style", ["unit", "memory", None])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
def test_a_bad_row_keeps_to_itself(bad, gate_style, dtype):
    """A row that is not finite changes no other row, forward or backward, and is not finite where the reference is not."""
    generator = torch.Generator().manual_seed(5)
    core = make_core(generator, dtype, gate_style=gate_style)
    inputs, memory = sequence(core, 3, 9, generator)
    memory_bad, inputs_bad = memory.clone(), inputs.clone()
    memory_bad[4, 1, 2] = bad
    inputs_bad[1, 6, 0, 0] = bad
    clean, got, wanted = (
        run(unroll, core, *given)[:3]
        for unroll, given in (
            (native.unroll, (inputs, memory)),
            (native.unroll, (inputs_bad, memory_bad)),
            (reference.unroll, (inputs_bad, memory_bad)),
        )
    )
    others = [b for b in range(9) if b not in (4, 6)]
    for one, other, axis in zip(clean, got, (1, 1, 0), strict=True):
        assert torch.equal(*(each.index_select(axis, torch.tensor(others)) for each in (one, other)))
    assert torch.equal(got[0].isnan(), wanted[0].isnan())
    assert got[0].isnan().any()


def test_restart_forgets_what_is_not_finite():
    """A row that has gone wrong is whole again after a restart, and so is the gradient of what follows."""
    generator = torch.Generator().manual_seed(6)
    core = make_core(generator)
    inputs, memory = sequence(core, 4, 3, generator)
    memory[1] = float("nan")
    first = torch.zeros(4, 3, dtype=torch.bool)
    first[2, 1] = True
    leaves = [inputs.requires_grad_(), memory.requires_grad_()]
    memories = native.unroll(core.parameters_of(), core.settings, *leaves, core.initial_state(1), first)
    assert memories[2:].isfinite().all()
    assert memories[:2, 1].isnan().all()
    from_inputs = torch.autograd.grad((memories[2:] ** 2).sum(), [leaves[0]])[0]
    assert from_inputs[2:].isfinite().all()
    assert from_inputs[2:, 1].any()


@pytest.mark.parametrize(
    "options", [{}, {"gate_style": "memory"}, {"gate_style": None}], ids=["unit", "memory", "none"]
)
@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("restarts", [False, True])
def test_one_beginning_for_all(options, alike, restarts):
    """Where all rows begin with one memory, or all but one do, and no gradient goes there, weights have theirs."""
    generator = torch.Generator().manual_seed(13)
    core = make_core(generator, **options)
    inputs, memory = sequence(core, 3, 75, generator)
    memory = memory[:1].repeat(75, 1, 1)
    memory[70, 0, 0] += 0 if alike else 1
    first = marks(3, 75, generator) if restarts else None
    found = []
    for unroll in (native.unroll, reference.unroll):
        memories = unroll(core.parameters_of(), core.settings, inputs, memory, core.initial_state(1), first)
        found.append([memories, *torch.autograd.grad((memories**2).sum(), list(core.parameters()))])
    close(*found, 1e-12)


@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (3, 0), (40, 2), (2, 300)])
def test_sizes(steps, batch):
    """One step of one row, no rows, more steps than rows, and more rows than a tile has."""
    generator = torch.Generator().manual_seed(7)
    core = make_core(generator)
    given = sequence(core, steps, batch, generator)
    if batch:
        close(run(native.unroll, core, *given), run(reference.unroll, core, *given), 1e-11)
    else:
        assert run(native.unroll, core, *given)[0].shape == (steps, 0, core.mem_slots, core.mem_size)


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


def test_nothing_is_kept_without_gradient():
    """Under no_grad, or where nothing wants a gradient, the result has no history."""
    generator = torch.Generator().manual_seed(8)
    core = make_core(generator)
    inputs, memory = sequence(core, 3, 4, generator)
    fresh = core.initial_state(1)
    with torch.no_grad():
        assert native.unroll(core.parameters_of(), core.settings, inputs, memory, fresh, None).grad_fn is None
    core.requires_grad_(requires_grad=False)
    assert native.unroll(core.parameters_of(), core.settings, inputs, memory, fresh, None).grad_fn is None


def test_kept_bytes():
    """What backward keeps is less than half of what the reference keeps."""
    generator = torch.Generator().manual_seed(9)
    core = make_core(generator, torch.float32, head_size=32)
    given = sequence(core, 6, 16, generator)

    def kept(unroll):
        seen = {}
        note = lambda tensor: seen.setdefault(tensor.untyped_storage().data_ptr(), tensor)  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            memories = unroll(core.parameters_of(), core.settings, *given, core.initial_state(1), None)
        assert memories.requires_grad
        own = {parameter.data_ptr() for parameter in core.parameters()}
        return sum(each.untyped_storage().nbytes() for at, each in seen.items() if at not in own)

    assert 2 * kept(native.unroll) < kept(reference.unroll)


def test_gradients_only_once():
    """A second derivative is refused, not wrong."""
    generator = torch.Generator().manual_seed(10)
    core = make_core(generator)
    inputs, memory = sequence(core, 2, 3, generator)
    memories = native.unroll(core.parameters_of(), core.settings, inputs, memory, core.initial_state(1), None)
    gradient = torch.autograd.grad((memories**2).sum(), [core.blocks[0].qkv.weight], create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


class Odd(Tensor):
    """A tensor of another class."""


DECLINES = {
    "num_blocks 2": lambda core, inputs: (make_core(torch.Generator(), num_blocks=2).parameters_of(), inputs),
    "got bfloat16": lambda core, inputs: (core.bfloat16().parameters_of(), inputs.bfloat16()),
    "got float64 and float32": lambda core, inputs: (core.float().parameters_of(), inputs),
    "got meta": lambda core, inputs: (core.to("meta").parameters_of(), inputs),
    "got Odd": lambda core, inputs: (core.parameters_of(), inputs.as_subclass(Odd)),
}


@pytest.mark.parametrize(("says", "change"), DECLINES.items(), ids=DECLINES)
def test_declines(says, change):
    """What it cannot compute it declines in a clause, and refuses when asked nevertheless."""
    generator = torch.Generator().manual_seed(11)
    core = make_core(generator)
    inputs, memory = sequence(core, 2, 3, generator)
    assert native.missing(core.parameters_of(), core.settings, inputs) is None
    parameters, inputs = change(core, inputs)
    assert says in native.missing(parameters, core.settings, inputs)
    with pytest.raises(ValueError, match=says):
        native.unroll(parameters, core.settings, inputs, memory, memory[:1], None)


def test_declines_another_memory():
    """A memory of another dtype is refused by name, not read as what it is not."""
    generator = torch.Generator().manual_seed(12)
    core = make_core(generator)
    inputs, memory = sequence(core, 2, 3, generator)
    with pytest.raises(ValueError, match="wants one dtype, got float64 and float32"):
        native.unroll(core.parameters_of(), core.settings, inputs, memory.float(), memory[:1], None)


def test_declines_what_watches_operations(monkeypatch):
    """Under autocast, torch.func, forward-mode differentiation and the switch it steps aside."""
    core = make_core(torch.Generator())
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
