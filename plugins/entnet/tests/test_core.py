"""EntNet keeps the laws of cores, starts as its page says, and says what is wrong with what it is given."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import seqtoolkit_entnet
from seqtoolkit.sdk import Core
from seqtoolkit.testing import CORE_LAWS, check_core
from seqtoolkit_entnet import EntNet

SMALL = partial(EntNet, num_cells=3, cell_size=4)
CORES = {
    "bank": SMALL,
    "bank, no biases": partial(SMALL, bias=False),
    "bank, one cell": partial(SMALL, num_cells=1),
    "bank, one cell of one unit": partial(SMALL, num_cells=1, cell_size=1),
    "keyed": partial(SMALL, mode="keyed"),
    "keyed, one cell of one unit": partial(SMALL, mode="keyed", num_cells=1, cell_size=1),
    "henaff": partial(SMALL, mode="henaff"),
    "henaff, size of the inputs": partial(SMALL, mode="henaff", cell_size=5),
    "henaff, identity": partial(SMALL, mode="henaff", activation="identity"),
    "henaff, as the paper": partial(SMALL, mode="henaff", activation="identity", bias=False, num_cells=7, cell_size=5),
    "henaff, one cell": partial(SMALL, mode="henaff", num_cells=1),
}
MODES = {
    "bank": {},
    "keyed": {"mode": "keyed"},
    "henaff": {"mode": "henaff"},
    "identity": {"mode": "henaff", "activation": "identity", "bias": False},
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("core", CORES.values(), ids=CORES)
@pytest.mark.parametrize("law", CORE_LAWS)
def test_laws(law, core, dtype):
    """Every law of cores holds, in each mode, for each option and for odd sizes."""
    check_core(core, law, dtype=dtype)


@pytest.mark.parametrize("law", [law for law in CORE_LAWS if law not in ("gradient_through_state", "parameters")])
def test_laws_of_one_unit(law):
    """A normalized cell of one unit keeps the laws, but for those that its memory, 1 or -1, would have to learn for."""
    check_core(partial(SMALL, mode="henaff", cell_size=1), law)


@pytest.mark.parametrize("core", CORES.values(), ids=CORES)
def test_unrolling_is_stepping_to_the_last_digits(core):
    """Outputs, states and all gradients agree to 1e-12 in longer sequences too, with restarts at any steps."""
    torch.manual_seed(1)
    core, inputs = core(5).double(), torch.randn(9, 6, 5, dtype=torch.float64)
    for share in (0.0, 0.1, 0.5):
        first = torch.rand(9, 6) < share
        found = []
        for unroll in (Core.unroll, type(core).unroll):
            leaf = inputs.clone().requires_grad_()
            outputs, last = unroll(core, leaf, core.initial_state(6), first)
            parts = [outputs, *(last if isinstance(last, tuple) else (last,))]
            total = sum((part * torch.linspace(-1, 2, part.numel()).view_as(part)).sum() for part in parts)
            found.append([*parts, *torch.autograd.grad(total, [leaf, *core.parameters()])])
        torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


def counted(**options):
    """What the README's block makes of the constructor's parameters."""
    page = (Path(__file__).parents[1] / "README.md").read_text()
    block = re.search(r"<!-- parameter count: entnet -->\n```python\n(.*?)```", page, re.DOTALL)
    names = {"mode": "bank", "num_cells": 4, "cell_size": 256, "activation": None, "bias": True, **options}
    exec(block[1], names)
    return names["count"]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["bank", "keyed", "henaff"]),
    st.sampled_from(["prelu", "identity", None]),
    st.booleans(),
    *[st.integers(1, 9)] * 3,
)
def test_parameter_count(mode, activation, bias, input_size, num_cells, cell_size):
    """A core has as many parameters as the page's formula says."""
    options = {"input_size": input_size, "mode": mode, "num_cells": num_cells, "cell_size": cell_size, "bias": bias}
    options["activation"] = activation if mode == "henaff" else None
    assert sum(each.numel() for each in EntNet(**options).parameters()) == counted(**options)


def test_state_dict_names():
    """Checkpoints and everyone's tools know the parameters by these names."""
    lstm = {"from_input", "from_hidden", "bias"}
    entity = {"keys", "encoder", "from_memory", "from_key", "from_input", "from_read", "gate_bias", "bias", "slope"}
    for mode, wanted in {"bank": lstm, "keyed": lstm | {"keys", "from_key"}, "henaff": entity}.items():
        assert SMALL(5, mode).state_dict().keys() == {f"cells.{name}" for name in wanted}
    bare = EntNet(5, "henaff", 3, 5, activation="identity", bias=False)
    assert {f"cells.{name}" for name in entity - {"encoder", "gate_bias", "bias", "slope"}} == bare.state_dict().keys()


@pytest.mark.parametrize("mode", ["bank", "keyed"])
def test_start_of_the_lstms(mode):
    """Weights start as nn.LSTM's do, the forget gates' biases 1 higher, keys about as long as 1."""
    torch.manual_seed(0)
    cells, bound = EntNet(50, mode, num_cells=20, cell_size=64).cells, 64**-0.5
    bias = cells.bias.detach().clone()
    assert (bias[:, 64:128] >= 1 - bound).all()
    bias[:, 64:128] -= 1
    for weight in (cells.from_input, cells.from_hidden, bias):
        assert weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
    if mode == "keyed":
        assert cells.keys.norm(dim=1).mean().item() == pytest.approx(1, rel=0.1)


def test_start_of_henaff():
    """At the published size all starts from a normal of std 0.1 as published, and the PReLU as the identity."""
    torch.manual_seed(0)
    for name, parameter in EntNet(100, "henaff", num_cells=100, cell_size=100).named_parameters():
        if name == "cells.slope":
            assert (parameter == 1).all()
        else:
            assert parameter.std().item() == pytest.approx(0.1, rel=0.3), name
            assert abs(parameter.mean().item()) < 0.04, name


@pytest.mark.parametrize("mode", ["bank", "keyed", "henaff"])
def test_initial_state(mode):
    """The bank starts at zero, the others at their keys, which a gradient reaches, in every row alike."""
    core = SMALL(5, mode)
    state = core.initial_state(2)
    memory, rest = (state, ()) if mode == "henaff" else (state[0], state[1:])
    assert memory.shape == (2, 3, 4)
    assert all(each.shape == (2, 3, 4) and not each.count_nonzero() for each in rest)
    if mode == "bank":
        assert not memory.count_nonzero()
    else:
        assert torch.equal(memory[0], core.cells.keys)
        assert torch.equal(memory[1], core.cells.keys)
        (gradient,) = torch.autograd.grad(memory.sum(), core.cells.keys)
        assert torch.equal(gradient, torch.full((3, 4), 2.0))


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
def test_compiled_step(options):
    """A step compiles as one graph, and gives the same outputs, states and gradients."""
    torch._dynamo.reset()
    core = SMALL(5, **options)
    compiled = torch.compile(core.step, fullgraph=True, backend="aot_eager")
    inputs, state = torch.randn(3, 5), core.initial_state(3)
    found = []
    for step in (core.step, compiled):
        output, last = step(inputs, state)
        parts = [output, *(last if isinstance(last, tuple) else (last,))]
        total = sum((part * torch.linspace(-1, 2, part.numel()).view_as(part)).sum() for part in parts)
        found.append([*parts, *torch.autograd.grad(total, list(core.parameters()), retain_graph=True)])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
def test_autocast(options, restarts):
    """Under autocast to bfloat16 the state stays float32, so do an LSTM's outputs, and all outputs are near those of float32."""
    torch.manual_seed(0)
    core, inputs, first = SMALL(5, **options), torch.randn(6, 3, 5), torch.zeros(6, 3, dtype=torch.bool)
    first[2, 1] = restarts
    wanted, _ = core(inputs, None, first)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, state = core(inputs, None, first)
        _, stepped = core.step(inputs[0], core.initial_state(3))
    outputs.sum().backward()
    for each in (state, stepped):
        assert all(part.dtype == torch.float32 for part in (each if isinstance(each, tuple) else (each,)))
    assert outputs.dtype == torch.float32 or core.mode == "henaff"
    torch.testing.assert_close(outputs.float(), wanted, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_size": 0}, "input_size: wanted a whole number of at least 1, got 0"),
        ({"input_size": (2, 3)}, r"input_size: wanted a whole number of at least 1, got \(2, 3\)"),
        ({"num_cells": 0}, "num_cells: wanted a whole number of at least 1, got 0"),
        ({"num_cells": 2.5}, "num_cells: wanted a whole number of at least 1, got 2.5"),
        ({"cell_size": -4}, "cell_size: wanted a whole number of at least 1, got -4"),
        ({"mode": "banks"}, "mode: wanted 'bank', 'keyed' or 'henaff', got 'banks'"),
        ({"mode": "henaff", "activation": "relu"}, "activation: wanted 'prelu', 'identity' or None, got 'relu'"),
        ({"activation": "prelu"}, "activation: only mode 'henaff' has one; leave it out in mode 'bank', got 'prelu'"),
        ({"mode": "keyed", "activation": "identity"}, "leave it out in mode 'keyed', got 'identity'"),
    ],
)
def test_bad_options(options, message):
    """An option out of its range is refused by name, with what was given and what is wanted."""
    with pytest.raises(ValueError, match=f"{message}$"):
        EntNet(**{"input_size": 5, **options})


@pytest.mark.parametrize("mode", ["bank", "keyed", "henaff"])
def test_bad_inputs(mode):
    """Inputs and states of wrong shapes are refused with the shape that is wanted."""
    core, other = SMALL(5, mode), SMALL(5, "bank" if mode == "henaff" else "henaff")
    state = core.initial_state(3)
    for wrong in (torch.zeros(7, 3, 6), torch.zeros(3, 5)):
        with pytest.raises(ValueError, match=re.escape(f"inputs: wanted [T B 5], got {list(wrong.shape)}")):
            core(wrong, state)
    for wrong in (torch.zeros(3, 6), torch.zeros(7, 3, 5)):
        with pytest.raises(ValueError, match=re.escape(f"inputs: wanted [B 5], got {list(wrong.shape)}")):
            core.step(wrong, state)
    names = "the memory" if mode == "henaff" else "h and c"
    for wrong in (core.initial_state(2), SMALL(5, mode, cell_size=6).initial_state(3), other.initial_state(3)):
        with pytest.raises(ValueError, match=rf"state: wanted {names} of the shape \[3, 3, 4\], got \["):
            core(torch.zeros(7, 3, 5), wrong)
        with pytest.raises(ValueError, match=rf"state: wanted {names} of the shape \[3, 3, 4\], got \["):
            core.step(torch.zeros(3, 5), wrong)


def test_plugin():
    """The plugin brings the core by name; its public names are there, and no others."""
    assert seqtoolkit_entnet.cores() == {"entnet": "seqtoolkit_entnet.core:EntNet"}
    assert all(hasattr(seqtoolkit_entnet, name) for name in seqtoolkit_entnet.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = seqtoolkit_entnet.nonsense
