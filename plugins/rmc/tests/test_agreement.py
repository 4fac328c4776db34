"""The backends for a CPU against the reference: every law and option, restarts, and rows that are not finite."""

from __future__ import annotations

import statistics
from collections import defaultdict

import pytest
import torch

from seqtoolkit.testing import KERNEL_LAWS, check_kernel
from seqtoolkit_rmc import RelationalMemory, reference
from seqtoolkit_rmc.kernels import build, fused, native, native_library

LUCK = 4.0
"""How many times the reference's error the laws allow, where the largest of few errors decides."""
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
    "two blocks": {"num_blocks": 2},
    "three blocks, matrices, memory gates": {"num_blocks": 3, "treat_input_as_matrix": True, "gate_style": "memory"},
}
BACKENDS = {"fused": fused.unroll, "native": native.unroll}
NO_COMPILER = pytest.mark.skipif(
    isinstance(build.load(native_library.SOURCES, "native.cpp"), build.BuildError),
    reason="there is no C++ compiler here",
)
WAYS = [pytest.param(way, id=name, marks=[NO_COMPILER] * (name == "native")) for name, way in BACKENDS.items()]
every_backend = pytest.mark.parametrize("unroll", WAYS)


def cases():
    """Each backend with each set of options that it has."""
    for way in WAYS:
        for name, options in OPTIONS.items():
            if way.id == "fused" or "num_blocks" not in options:
                yield pytest.param(*way.values, options, id=f"{way.id}, {name}", marks=way.marks)


def excess(got, near, exact):
    """How many times the error of `near` that of `got` is, by their norms."""
    return float((got - exact).detach().norm() / (near - exact).detach().norm().clamp(min=1e-30)) or 1e-3


@every_backend
@pytest.mark.parametrize("law", KERNEL_LAWS)
@pytest.mark.parametrize("name", ["usual", "matrices, no gates"])
def test_laws(unroll, name, law, trial):
    """Every law of kernels holds."""
    options = OPTIONS[name]
    settings = trial.make_core(torch.Generator(), **options).settings

    def make_inputs(generator):
        core = trial.make_core(generator, **options)
        steps, batch = trial.drawn(1, 3, generator), trial.drawn(10, 40, generator)
        first = trial.marks(steps, batch, generator) if name == "usual" else None
        return trial.plain(core.parameters_of()), *trial.sequence(core, steps, batch, generator), first

    def of(way):
        def call(parameters, inputs, memory, first):
            fresh = torch.eye(*memory.shape[1:], dtype=memory.dtype)[None]
            return way(parameters, settings, inputs, memory, fresh, first)

        return call

    check_kernel(of(unroll), of(reference.unroll), make_inputs, law, factor=LUCK)


@pytest.mark.parametrize(("unroll", "options"), cases())
def test_accuracy(unroll, options, trial):
    """Over draws no output or gradient errs twice as much as plain PyTorch's; in float64 none is wrong at all."""
    generator = torch.Generator().manual_seed(2)
    ratios = defaultdict(list)
    for draw in range(12):
        core = trial.make_core(generator, torch.float32, **options)
        inputs, memory = trial.sequence(core, trial.drawn(1, 4, generator), trial.drawn(20, 60, generator), generator)
        first = trial.marks(*inputs.shape[:2], generator) if draw % 2 else None
        got, near = (trial.run(way, core, inputs, memory, first) for way in (unroll, reference.unroll))
        wide = core.double(), inputs.double(), memory.double(), first
        exact = trial.run(reference.unroll, *wide)
        trial.close(trial.run(unroll, *wide), exact, 1e-11)
        names = ["output", "inputs", "memory", *dict(core.named_parameters())]
        for name, *found in zip(names, got, near, exact, strict=True):
            ratios[name].append(excess(*found))
    means = {name: statistics.geometric_mean(each) for name, each in ratios.items()}
    assert max(means.values()) <= 2, means


@pytest.mark.parametrize(("steps", "batch"), [(8, 64), (24, 32)])
@every_backend
def test_gates_of_the_memory(unroll, steps, batch):
    """The gradient of a weight as narrow as two gates' is summed as carefully as plain PyTorch's, if the sum is long."""
    found = []
    for seed in range(8):
        torch.manual_seed(seed)
        core = RelationalMemory(64, gate_style="memory")
        given = torch.randn(steps, batch, 1, 64), core.initial_state(batch)

        def gradient(way, core, inputs, memory):
            memories = way(core.parameters_of(), core.settings, inputs, memory, memory[:1], None)
            loss = memories * torch.linspace(-1, 1, memories.numel()).to(memories).view_as(memories)
            return torch.autograd.grad(loss.sum(), [core.gates_from_memory.weight])[0]

        got, near = (gradient(way, core, *given) for way in (unroll, reference.unroll))
        found.append(excess(got, near, gradient(reference.unroll, core.double(), *(each.double() for each in given))))
    assert statistics.geometric_mean(found) <= 1.5


@every_backend
def test_one_of_everything(unroll, trial):
    """A memory of one number, whose norms are constant: where no number means anything, it is the reference's."""
    generator = torch.Generator().manual_seed(4)
    core = trial.make_core(generator, mem_slots=1, num_heads=1, head_size=1, attention_mlp_layers=1)
    given = trial.sequence(core, 3, 5, generator)
    trial.close(trial.run(unroll, core, *given), trial.run(reference.unroll, core, *given), 1e-12)


@pytest.mark.parametrize("gate_style", ["unit", "memory", None])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
@every_backend
def test_a_bad_row_keeps_to_itself(unroll, bad, gate_style, dtype, trial):
    """A row that is not finite changes no other row, forward or backward, and is not finite where the reference is not."""
    generator = torch.Generator().manual_seed(5)
    core = trial.make_core(generator, dtype, gate_style=gate_style)
    inputs, memory = trial.sequence(core, 3, 9, generator)
    memory_bad, inputs_bad = memory.clone(), inputs.clone()
    memory_bad[4, 1, 2] = bad
    inputs_bad[1, 6, 0, 0] = bad
    clean, got, wanted = (
        trial.run(way, core, *given)[:3]
        for way, given in (
            (unroll, (inputs, memory)),
            (unroll, (inputs_bad, memory_bad)),
            (reference.unroll, (inputs_bad, memory_bad)),
        )
    )
    others = [b for b in range(9) if b not in (4, 6)]
    for one, other, axis in zip(clean, got, (1, 1, 0), strict=True):
        assert torch.equal(*(each.index_select(axis, torch.tensor(others)) for each in (one, other)))
    assert torch.equal(got[0].isnan(), wanted[0].isnan())
    assert got[0].isnan().any()


@every_backend
def test_restart_forgets_what_is_not_finite(unroll, trial):
    """A row that has gone wrong is whole again after a restart, and so is the gradient of what follows."""
    generator = torch.Generator().manual_seed(6)
    core = trial.make_core(generator)
    inputs, memory = trial.sequence(core, 4, 3, generator)
    memory[1] = float("nan")
    first = torch.zeros(4, 3, dtype=torch.bool)
    first[2, 1] = True
    leaves = [inputs.requires_grad_(), memory.requires_grad_()]
    memories = unroll(core.parameters_of(), core.settings, *leaves, core.initial_state(1), first)
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
@every_backend
def test_one_beginning_for_all(unroll, options, alike, restarts, trial):
    """Where all rows begin with one memory, or all but one do, and no gradient goes there, weights have theirs."""
    generator = torch.Generator().manual_seed(13)
    core = trial.make_core(generator, **options)
    inputs, memory = trial.sequence(core, 3, 75, generator)
    memory = memory[:1].repeat(75, 1, 1)
    memory[70, 0, 0] += 0 if alike else 1
    first = trial.marks(3, 75, generator) if restarts else None
    found = []
    for way in (unroll, reference.unroll):
        memories = way(core.parameters_of(), core.settings, inputs, memory, core.initial_state(1), first)
        found.append([memories, *torch.autograd.grad((memories**2).sum(), list(core.parameters()))])
    trial.close(*found, 1e-12)


@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (3, 0), (40, 2), (2, 300)])
@every_backend
def test_sizes(unroll, steps, batch, trial):
    """One step of one row, no rows, more steps than rows, and more rows than a tile has."""
    generator = torch.Generator().manual_seed(7)
    core = trial.make_core(generator)
    given = trial.sequence(core, steps, batch, generator)
    if batch:
        trial.close(trial.run(unroll, core, *given), trial.run(reference.unroll, core, *given), 1e-11)
    else:
        assert trial.run(unroll, core, *given)[0].shape == (steps, 0, core.mem_slots, core.mem_size)


@every_backend
def test_nothing_is_kept_without_gradient(unroll, trial):
    """Under no_grad, or where nothing wants a gradient, the result has no history."""
    generator = torch.Generator().manual_seed(8)
    core = trial.make_core(generator)
    inputs, memory = trial.sequence(core, 3, 4, generator)
    fresh = core.initial_state(1)
    with torch.no_grad():
        assert unroll(core.parameters_of(), core.settings, inputs, memory, fresh, None).grad_fn is None
    core.requires_grad_(requires_grad=False)
    assert unroll(core.parameters_of(), core.settings, inputs, memory, fresh, None).grad_fn is None


@every_backend
def test_gradients_only_once(unroll, trial):
    """A second derivative is refused, not wrong."""
    generator = torch.Generator().manual_seed(10)
    core = trial.make_core(generator)
    inputs, memory = trial.sequence(core, 2, 3, generator)
    memories = unroll(core.parameters_of(), core.settings, inputs, memory, core.initial_state(1), None)
    gradient = torch.autograd.grad((memories**2).sum(), [core.blocks[0].qkv.weight], create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
