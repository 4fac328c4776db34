"""RelationalMemory keeps the laws of cores, starts as published, and says what is wrong with what it is given."""

from functools import partial

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
    "many slots": partial(SMALL, mem_slots=9, num_heads=1),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("core", CORES.values(), ids=CORES)
@pytest.mark.parametrize("law", CORE_LAWS)
def test_laws(law, core, dtype):
    """Every law of cores holds, in each style."""
    check_core(core, law, dtype=dtype)


@pytest.mark.parametrize("gate_style", ["unit", "memory", None])
@pytest.mark.parametrize("law", CORE_LAWS)
def test_laws_of_matrices(law, gate_style):
    """Every law holds where an input is a matrix."""

    def core(_):
        return SMALL((2, 5), treat_input_as_matrix=True, gate_style=gate_style, num_blocks=2)

    check_core(core, law, input_shape=(2, 5))


def parameter_count(features, slots, head, heads, blocks, gates, layers, key, rows):
    """The formula of the README."""
    memory, qkv = head * heads, heads * (2 * key + head)
    count = features * memory + memory
    count += blocks * (memory * qkv + 3 * qkv + 4 * memory)
    count += layers * (memory * memory + memory)
    return count + gates * ((rows + 1) * memory + 2)


@pytest.mark.parametrize(
    ("options", "counted"),
    [
        ({}, (7, 4, 32, 4, 1, 256, 2, 32, 1)),
        ({"gate_style": "memory", "num_blocks": 3, "key_size": 5}, (7, 4, 32, 4, 3, 2, 2, 5, 1)),
        ({"gate_style": None, "attention_mlp_layers": 5, "mem_slots": 9}, (7, 9, 32, 4, 1, 0, 5, 32, 1)),
        ({"input_size": (3, 7), "treat_input_as_matrix": True, "head_size": 8}, (7, 4, 8, 4, 1, 64, 2, 8, 3)),
    ],
)
def test_parameter_count(options, counted):
    """A core has as many parameters as the README's formula says, however many slots it has."""
    core = RelationalMemory(**{"input_size": 7, **options})
    assert sum(parameter.numel() for parameter in core.parameters()) == parameter_count(*counted)


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
