"""RelationalMemory keeps the laws of cores, starts as published, and says what is wrong with what it is given."""

import re
from functools import partial
from inspect import signature
from itertools import product
from pathlib import Path

import pytest
import torch

import seqtoolkit_rmc
from seqtoolkit.testing import CORE_LAWS, check_core
from seqtoolkit_rmc import RelationalMemory

SMALL = partial(RelationalMemory, mem_slots=3, head_size=4, num_heads=2)
CORES = {
    "unit": SMALL,
    "memory": partial(SMALL, gate_style="memory", num_blocks=2, input_bias=0.5),
    "none": partial(SMALL, gate_style=None, num_blocks=3, key_size=3, attention_mlp_layers=1),
    "one slot": partial(SMALL, mem_slots=1, attention_mlp_layers=3),
    "one slot, no gates": partial(SMALL, mem_slots=1, gate_style=None, num_blocks=2, forget_bias=-1.0),
    "one of each": partial(SMALL, mem_slots=1, num_heads=1, key_size=1, gate_style="memory"),
    "many slots": partial(SMALL, mem_slots=9, num_heads=1),
    "heads of one unit": partial(SMALL, head_size=1, num_heads=5, key_size=2),
    "five layers": partial(SMALL, attention_mlp_layers=5, key_size=7),
}
MATRICES = {
    "rows, unit": ((2, 5), partial(SMALL, num_blocks=2)),
    "memory": ((2, 5), partial(SMALL, gate_style="memory")),
    "rows, none": ((2, 5), partial(SMALL, gate_style=None, num_blocks=2)),
    "one row, one slot": ((1, 5), partial(SMALL, mem_slots=1)),
    "rows of one feature": ((3, 1), partial(SMALL, mem_slots=1, num_heads=1, gate_style="memory")),
}
README = Path(__file__).parents[1] / "README.md"
FUSED = {
    "unit": partial(SMALL, backend="fused"),
    "memory": partial(SMALL, gate_style="memory", num_blocks=2, backend="fused"),
    "one slot, no gates": partial(SMALL, mem_slots=1, gate_style=None, attention_mlp_layers=1, backend="fused"),
}
USUAL = ("unit", "memory", "one slot")
TELLING = ("shapes", "unroll_is_step", "restart_gradient", "parameters", "float64")
COUNT = re.compile(r"<!-- parameter count: rmc -->\n```python\n(.*?)```", re.DOTALL)


def trials(cores):
    """Each core with each law in each dtype; outside of the usual cores only the laws that an option can break are quick."""
    for (name, core), law, dtype in product(cores.items(), CORE_LAWS, (torch.float64, torch.float32)):
        quick = law != "compiled" if name in USUAL else law in TELLING and dtype is torch.float64
        marks = [] if quick else [pytest.mark.slow]
        yield pytest.param(law, core, dtype, id=f"{law}-{name}-{str(dtype)[6:]}", marks=marks)


@pytest.mark.parametrize(("law", "core", "dtype"), trials(CORES))
def test_laws(law, core, dtype):
    """Every law of cores holds, in each style and in odd sizes."""
    check_core(core, law, dtype=dtype)


@pytest.mark.parametrize(("law", "core", "dtype"), trials(FUSED))
def test_laws_without_a_compiler(law, core, dtype):
    """Every law holds where plain PyTorch unrolls."""
    check_core(core, law, dtype=dtype)


@pytest.mark.parametrize(("law", "core", "dtype"), trials(MATRICES))
def test_laws_of_matrices(law, core, dtype):
    """Every law holds where an input is a matrix."""
    shape, core = core
    check_core(lambda _: core(shape, treat_input_as_matrix=True), law, input_shape=shape, dtype=dtype)


@pytest.mark.parametrize("core", [CORES["unit"], CORES["one slot, no gates"], partial(SMALL, gate_style="memory")])
@pytest.mark.parametrize("shape", [(5,), (2, 5)])
def test_compiled_whole(shape, core):
    """torch.compile takes a step in one graph; its outputs and gradients are those of the step itself."""
    matrix = len(shape) > 1
    core = core(shape if matrix else 5, treat_input_as_matrix=matrix).double()
    inputs = torch.randn(3, *shape, dtype=torch.float64)
    state = torch.randn_like(core.initial_state(3)).requires_grad_()
    found = []
    for step in (core.step, torch.compile(core.step, fullgraph=True, backend="aot_eager")):
        output, following = step(inputs, state)
        total = output.square().sum() + following.cos().sum()
        found.append([output, following, *torch.autograd.grad(total, [state, *core.parameters()])])
    torch.compiler.reset()
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("gate_style", ["unit", "memory", None])
@pytest.mark.parametrize("options", [{}, {"num_blocks": 3, "key_size": 5}, {"attention_mlp_layers": 5, "mem_slots": 9}])
@pytest.mark.parametrize("size", [7, (3, 7)])
def test_parameter_count(size, options, gate_style):
    """A core has as many parameters as the README's formula says, for vectors and for matrices."""
    chosen = {"input_size": size, "treat_input_as_matrix": size != 7, "gate_style": gate_style, **options}
    defaults = {name: each.default for name, each in signature(RelationalMemory).parameters.items()}
    names = defaults | chosen
    exec(COUNT.search(README.read_text())[1], {}, names)
    assert sum(parameter.numel() for parameter in RelationalMemory(**chosen).parameters()) == names["count"]


def test_state_dict_names():
    """Checkpoints and everyone's tools know the parameters by these names."""
    affine = ("weight", "bias")
    modules = ["input_projection", "mlp.0", "mlp.1", "gates_from_input", "gates_from_memory"]
    parts = ("qkv", "qkv_norm", "attention_norm", "mlp_norm")
    modules += [f"blocks.{block}.{part}" for block in range(2) for part in parts]
    assert RelationalMemory(5, num_blocks=2).state_dict().keys() == {
        f"{each}.{part}" for each in modules for part in affine
    }


def test_start_is_the_published_one():
    """Weights are drawn from a normal of std 1/sqrt(fan in) cut at two std, biases are 0, norms change nothing."""
    torch.manual_seed(0)
    core = RelationalMemory(100, head_size=64)
    for name, parameter in core.named_parameters():
        if "norm" in name:
            assert bool((parameter == float(name.endswith("weight"))).all()), name
        elif name.endswith("bias"):
            assert not parameter.count_nonzero(), name
        else:
            std = parameter.shape[1] ** -0.5
            assert parameter.abs().max() <= 2 * std, name
            assert parameter.std().item() == pytest.approx(0.8796 * std, rel=0.02), name  # what cutting leaves of it


@pytest.mark.parametrize(("slots", "size"), [(3, 8), (8, 8), (9, 8)])
def test_initial_state_is_the_identity(slots, size):
    """Slot i starts with a 1 in column i, where there is such a column."""
    state = RelationalMemory(5, mem_slots=slots, head_size=size, num_heads=1).initial_state(2)
    assert state.tolist() == [[[float(row == column) for column in range(size)] for row in range(slots)]] * 2


def test_further_axes_are_flattened():
    """Inputs with more axes than one are flattened, as published."""
    core, matrix = SMALL(6), SMALL((3, 4), treat_input_as_matrix=True)
    inputs = torch.randn(2, 3, 2, 3)
    torch.testing.assert_close(core(inputs)[0], core(inputs.flatten(2))[0])
    inputs = torch.randn(2, 3, 3, 2, 2)
    torch.testing.assert_close(matrix(inputs)[0], matrix(inputs.flatten(3))[0])


@pytest.mark.parametrize("gate_style", ["unit", "memory", None])
@pytest.mark.parametrize("num_blocks", [1, 2])
def test_autocast(gate_style, num_blocks):
    """Under autocast to bfloat16 the state stays float32, and the outputs are near those of float32."""
    core = SMALL(5, gate_style=gate_style, num_blocks=num_blocks)
    inputs, first = torch.randn(6, 3, 5), torch.zeros(6, 3, dtype=torch.bool)
    first[2, 1] = True
    wanted, _ = core(inputs, None, first)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, state = core(inputs, None, first)
        output, stepped = core.step(inputs[0], core.initial_state(3))
    outputs.sum().backward()
    assert state.dtype == stepped.dtype == output.dtype == torch.float32
    torch.testing.assert_close(outputs, wanted, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_size": 0}, "input_size: wanted a whole number of at least 1, got 0"),
        ({"input_size": (2, 3)}, r"input_size: wanted the number of features, got \(2, 3\)"),
        ({"treat_input_as_matrix": True}, r"input_size: wanted \(rows, features\), got 5"),
        (
            {"treat_input_as_matrix": True, "input_size": (0, 3)},
            "input_size: wanted a whole number of at least 1, got 0",
        ),
        ({"treat_input_as_matrix": True, "input_size": (1, 2, 3)}, r"wanted \(rows, features\), got \(1, 2, 3\)"),
        ({"mem_slots": 0}, "mem_slots: wanted a whole number of at least 1, got 0"),
        ({"head_size": -4}, "head_size: wanted a whole number of at least 1, got -4"),
        ({"head_size": 2.5}, "head_size: wanted a whole number of at least 1, got 2.5"),
        ({"num_heads": 0}, "num_heads: wanted"),
        ({"num_blocks": 0}, "num_blocks: wanted"),
        ({"attention_mlp_layers": 0}, "attention_mlp_layers: wanted"),
        ({"key_size": 0}, "key_size: wanted a whole number of at least 1, got 0"),
        ({"gate_style": "units"}, "gate_style: wanted 'unit', 'memory' or None, got 'units'"),
    ],
)
def test_bad_options(options, message):
    """An option out of its range is refused by name, with what was given and what is wanted."""
    with pytest.raises(ValueError, match=message):
        RelationalMemory(**{"input_size": 5, **options})


def test_bad_inputs():
    """Inputs and states of wrong shapes are refused with the shape that is wanted."""
    core, matrix = SMALL(5), SMALL((2, 5), treat_input_as_matrix=True)
    state = core.initial_state(3)
    with pytest.raises(ValueError, match=r"inputs: wanted \[T B\] and then \[5\], got \[7, 3, 6\]"):
        core(torch.zeros(7, 3, 6))
    with pytest.raises(ValueError, match=r"inputs: wanted \[B\] and then \[5\], got \[3, 6\]"):
        core.step(torch.zeros(3, 6), state)
    with pytest.raises(ValueError, match=r"inputs: wanted \[T B\] and then \[2 5\], got \[7, 3, 5\]"):
        matrix(torch.zeros(7, 3, 5))
    for wrong in (core.initial_state(2), torch.zeros(3, 3, 9), torch.zeros(3, 24)):
        with pytest.raises(ValueError, match=r"state: wanted a memory of the shape \[3, 3, 8\], got"):
            core(torch.zeros(7, 3, 5), wrong)
        with pytest.raises(ValueError, match=r"state: wanted a memory of the shape \[3, 3, 8\], got"):
            core.step(torch.zeros(3, 5), wrong)


def test_plugin():
    """The plugin brings the core by name; its public names are there, and no others."""
    assert seqtoolkit_rmc.cores() == {"rmc": "seqtoolkit_rmc.core:RelationalMemory"}
    assert all(hasattr(seqtoolkit_rmc, name) for name in seqtoolkit_rmc.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = seqtoolkit_rmc.nonsense
