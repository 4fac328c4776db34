"""DNC keeps the laws of cores, starts as documented, and says what is wrong with what it is given."""

import inspect
import re
from functools import partial
from pathlib import Path

import pytest
import torch

import seqtoolkit_dnc
from seqtoolkit.sdk import map_state
from seqtoolkit.testing import CORE_LAWS, check_core
from seqtoolkit_dnc import DNC

SMALL = partial(DNC, hidden_size=6, memory_size=5, word_size=3, num_reads=2, output_size=4)
CORES = {
    "defaults": DNC,
    "small": SMALL,
    "one slot": partial(SMALL, memory_size=1),
    "one of each": partial(SMALL, memory_size=3, word_size=1, num_reads=1, hidden_size=1),
    "two write heads": partial(SMALL, num_writes=2),
    "three write heads, two layers, not clipped": partial(SMALL, num_writes=3, num_layers=2, clip_value=None),
    "feed forward": partial(SMALL, controller="feed_forward"),
    "feed forward, two layers": partial(SMALL, controller="feed_forward", num_layers=2, num_writes=2, clip_value=0.3),
    "clipped": partial(SMALL, clip_value=0.3),
}
DTYPES = (torch.float64, torch.float32)
DIALECTS = ("published", "paper")


@pytest.mark.parametrize(("number", "core"), enumerate(CORES.values()), ids=CORES)
def test_laws(number, core):
    """Every law of cores holds; dialects and dtypes take turns."""
    check_core(partial(core, dialect=DIALECTS[number % 2]), dtype=DTYPES[number // 2 % 2])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("core", CORES.values(), ids=CORES)
@pytest.mark.parametrize("law", CORE_LAWS)
def test_all_laws(law, core, dialect, dtype, seed):
    """Every law holds in every style, dialect and dtype, for several seeds."""
    check_core(partial(core, dialect=dialect), law, dtype=dtype, seed=seed)


def leaves(nest):
    """The tensors of a nest."""
    found = []
    map_state(lambda leaf: found.append(leaf) or leaf, nest)
    return found


@pytest.mark.parametrize(
    "options", [{}, {"num_writes": 2, "num_layers": 2, "dialect": "paper"}, {"controller": "feed_forward"}]
)
def test_compile(options):
    """A compiled step gives the same outputs, states and gradients."""
    torch.manual_seed(0)
    core, inputs = SMALL(5, **options), torch.randn(3, 5)
    with torch.no_grad():
        _, state = core.step(inputs, core.initial_state(3))
    compiled = torch.compile(core.step, fullgraph=True, backend="aot_eager")
    outcomes = []
    for step in (core.step, compiled):
        output, last = step(inputs, state)
        total = sum(leaf.sin().sum() for leaf in [output, *leaves(last)])
        outcomes.append([output, *leaves(last), *torch.autograd.grad(total, list(core.parameters()))])
    for got, wanted in zip(*outcomes, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def test_autocast():
    """Under autocast to bfloat16 the core computes in its own dtype, inputs of bfloat16 too; gradients arrive."""
    core, inputs = SMALL(5), torch.randn(6, 3, 5).bfloat16()
    wanted, _ = core(inputs.float())
    with torch.autocast("cpu", torch.bfloat16):
        outputs, state = core(inputs)
        output, _ = core.step(inputs[0], core.initial_state(3))
    outputs.sum().backward()
    assert outputs.dtype == output.dtype == state.memory.dtype == torch.float32
    torch.testing.assert_close(outputs, wanted)
    torch.testing.assert_close(output, wanted[0])


def test_without_gradient_nothing_is_kept():
    """Without gradients a sequence gives the same numbers, and no graph."""
    core, inputs = SMALL(5), torch.randn(6, 3, 5)
    wanted, _ = core(inputs)
    with torch.no_grad():
        got, state = core(inputs)
    assert torch.equal(got, wanted)
    assert not any(leaf.requires_grad for leaf in [got, *leaves(state)])


def test_backward_twice():
    """A sequence may be differentiated again while its graph is kept."""
    core = SMALL(5)
    outputs, _ = core(torch.randn(6, 3, 5))
    first = torch.autograd.grad(outputs.sum(), list(core.parameters()), retain_graph=True)
    again = torch.autograd.grad(outputs.sum(), list(core.parameters()))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


README = Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_layers": 3, "num_writes": 2, "output_size": 9},
        {"controller": "feed_forward"},
        {"controller": "feed_forward", "num_layers": 2, "num_reads": 1, "hidden_size": 3, "word_size": 1},
    ],
)
def test_parameter_count(options):
    """A core has as many parameters as the README's formula says, however many slots it has."""
    block = re.search(r"<!-- parameter count: dnc -->\n```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    names = {name: each.default for name, each in inspect.signature(DNC).parameters.items()}
    names |= {"input_size": 7, **options}
    exec(block[1], names)
    for slots in (1, 30):
        core = DNC(7, memory_size=slots, **options)
        assert sum(each.numel() for each in core.parameters()) == names["count"]


def test_state_dict_names():
    """Checkpoints and everyone's tools know the parameters by these names."""
    modules = ["controller.0", "controller.1", "interface", "output"]
    wanted = {f"{each}.{part}" for each in modules for part in ("weight", "bias")}
    assert SMALL(5, num_layers=2).state_dict().keys() == wanted


def test_start():
    """Weights are drawn from a normal of std 1/sqrt(fan in) cut at two std; biases are 0, forget gates' 1."""
    torch.manual_seed(0)
    core = DNC(100, hidden_size=64, num_layers=2)
    for name, parameter in core.named_parameters():
        if name.endswith("weight"):
            std = parameter.shape[1] ** -0.5
            assert parameter.abs().max() <= 2 * std, name
            assert parameter.std().item() == pytest.approx(0.8796 * std, rel=0.02), name  # what cutting leaves of it
        else:
            forget = torch.zeros_like(parameter)
            if name.startswith("controller"):
                forget[128:192] = 1
            assert torch.equal(parameter, forget), name
    feed_forward = DNC(5, controller="feed_forward")
    assert not any(each.bias.count_nonzero() for each in feed_forward.controller)


def test_initial_state():
    """All is zero; a feed-forward controller has no state of its own; the output is as wide as asked for."""
    core, other = SMALL(5, num_layers=2), DNC(5, hidden_size=7, controller="feed_forward")
    assert not any(leaf.count_nonzero() for leaf in leaves(core.initial_state(3)))
    assert len(core.initial_state(3).controller) == 2
    assert other.initial_state(3).controller == ()
    assert (core.output_size, other.output_size) == (4, 7)


COUNTS = (
    "input_size",
    "hidden_size",
    "memory_size",
    "word_size",
    "num_reads",
    "num_writes",
    "output_size",
    "num_layers",
)


@pytest.mark.parametrize("value", [0, -1, 2.0, "3", True])
@pytest.mark.parametrize("name", COUNTS)
def test_bad_counts(name, value):
    """A size or a number that is none is refused by name, with what was given."""
    with pytest.raises(ValueError, match=f"^{name}: wanted a whole number of at least 1, got {value!r}$"):
        DNC(**{"input_size": 5, name: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"controller": "gru"}, "^controller: wanted 'lstm' or 'feed_forward', got 'gru'$"),
        ({"dialect": None}, "^dialect: wanted 'published' or 'paper', got None$"),
        ({"clip_value": 0.0}, "^clip_value: wanted a number above 0, or None, got 0.0$"),
        ({"clip_value": -20}, "^clip_value: wanted a number above 0, or None, got -20$"),
        ({"clip_value": float("nan")}, "^clip_value: wanted a number above 0, or None, got nan$"),
        ({"clip_value": float("inf")}, "^clip_value: wanted a number above 0, or None, got inf$"),
        ({"clip_value": "20"}, "^clip_value: wanted a number above 0, or None, got '20'$"),
        ({"clip_value": True}, "^clip_value: wanted a number above 0, or None, got True$"),
    ],
)
def test_bad_options(options, message):
    """An option out of its range is refused by name, with what was given and what is wanted."""
    with pytest.raises(ValueError, match=message):
        DNC(5, **options)


def test_bad_inputs():
    """Inputs, marks and states of wrong shapes are refused with the shape that is wanted."""
    core = SMALL(5)
    state = core.initial_state(3)
    with pytest.raises(ValueError, match=r"inputs: wanted \[T B 5\], got \[7, 3, 6\]"):
        core(torch.zeros(7, 3, 6))
    with pytest.raises(ValueError, match=r"inputs: wanted \[B 5\], got \[7, 3, 5\]"):
        core.step(torch.zeros(7, 3, 5), state)
    with pytest.raises(ValueError, match=r"inputs: wanted \[T B 5\] of at least one step, got \[0, 3, 5\]"):
        core(torch.zeros(0, 3, 5))
    with pytest.raises(ValueError, match=r"first: wanted \[7, 3\], got \[3\]"):
        core(torch.zeros(7, 3, 5), None, torch.ones(3, dtype=torch.bool))
    wrong = (core.initial_state(2), state._replace(link=state.link[:, 0]), state._replace(controller=()))
    for each in wrong:
        with pytest.raises(ValueError, match=r"state: wanted tensors of the shapes \[\(3, 2, 3\), .*, got"):
            core(torch.zeros(7, 3, 5), each)
        with pytest.raises(ValueError, match=r"state: wanted tensors of the shapes \[\(3, 2, 3\), .*, got"):
            core.step(torch.zeros(3, 5), each)


def test_plugin():
    """The plugin brings the core by name; its public names are there, and no others."""
    assert seqtoolkit_dnc.cores() == {"dnc": "seqtoolkit_dnc.core:DNC"}
    assert all(hasattr(seqtoolkit_dnc, name) for name in seqtoolkit_dnc.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = seqtoolkit_dnc.nonsense
