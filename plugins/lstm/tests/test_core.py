"""LSTM and GRU keep the laws of cores, are nn.LSTM and nn.GRU, and wire their layers as asked."""

from functools import partial

import pytest
import torch
from torch import nn

import seqtoolkit_lstm
from seqtoolkit.testing import CORE_LAWS, check_core
from seqtoolkit_lstm import GRU, LSTM

THEIRS = {LSTM: nn.LSTM, GRU: nn.GRU}
KINDS = pytest.mark.parametrize("kind", [LSTM, GRU])
WIRED = {"skip_connections": True, "concatenate_outputs": True}


def tensors(state):
    """The tensors of a state: h and c, or h."""
    return [state] if isinstance(state, torch.Tensor) else list(state)


def gradients(outputs, states, sources):
    """Gradients of a sum in which no two outputs can stand for each other."""
    total = (outputs * torch.linspace(-1, 1, outputs.numel(), dtype=outputs.dtype).view_as(outputs)).sum()
    return torch.autograd.grad(total + sum((each * each.cos()).sum() for each in states), sources)


def same(got, wanted, tolerance=1e-12):
    """Two lists of tensors are the same to a tolerance."""
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("options", [{}, {"num_layers": 3}, {"num_layers": 2, **WIRED}], ids=str)
@pytest.mark.parametrize("law", CORE_LAWS)
@KINDS
def test_laws(kind, law, options, dtype):
    """Every law of cores holds, with one layer, with several, and with every connection."""
    check_core(partial(kind, hidden_size=6, **options), law, dtype=dtype)


@pytest.mark.parametrize("options", [{"hidden_size": 1}, {"num_layers": 2, "skip_connections": True, "hidden_size": 1}])
@KINDS
def test_laws_of_one_unit(kind, options):
    """The laws hold for a single unit that reads a single feature."""
    check_core(partial(kind, **options), input_size=1)


@pytest.mark.parametrize("layers", [1, 3])
@KINDS
def test_is_torchs(kind, layers):
    """With the weights of nn.LSTM or nn.GRU a core gives its outputs, states and gradients, and gives the weights back."""
    theirs = THEIRS[kind](5, 6, layers).double()
    core = kind(5, 6, layers).double()
    core.weights.load_state_dict(theirs.state_dict())
    inputs = torch.randn(7, 3, 5, dtype=torch.float64, requires_grad=True)
    start = [torch.randn(3, layers, 6, dtype=torch.float64, requires_grad=True) for _ in core.names]
    turned = [each.transpose(0, 1).contiguous() for each in start]
    wanted, last = theirs(inputs, turned[0] if kind is GRU else tuple(turned))
    last = [each.transpose(0, 1) for each in tensors(last)]
    outputs, state = core(inputs, start[0] if kind is GRU else tuple(start))
    same([outputs, *tensors(state)], [wanted, *last], 0.0)
    names = [name for name, _ in theirs.named_parameters()]
    assert [name for name, _ in core.named_parameters()] == [f"{kind.__name__.lower()}.{name}" for name in names]
    got = gradients(outputs, tensors(state), [inputs, *start, *core.parameters()])
    same(got, gradients(wanted, last, [inputs, *start, *theirs.parameters()]))
    THEIRS[kind](5, 6, layers).load_state_dict(core.weights.state_dict())


@KINDS
def test_starts_as_torchs(kind):
    """From one seed a core's weights are those of nn.LSTM or nn.GRU; the wider ones of skips lie within the same bound."""
    torch.manual_seed(0)
    wanted = THEIRS[kind](5, 6, 2).state_dict()
    torch.manual_seed(0)
    same(kind(5, 6, 2).weights.state_dict().values(), wanted.values(), 0.0)
    wide = kind(50, 64, 2, skip_connections=True).weights.weight_ih_l1
    assert 0.12 < wide.abs().max() <= 64**-0.5
    assert abs(wide.mean()) < 0.01


@pytest.mark.parametrize("first", [None, torch.rand(7, 3, generator=torch.Generator().manual_seed(0)) < 0.3])
@pytest.mark.parametrize("concatenate", [False, True])
@pytest.mark.parametrize("skip", [False, True])
@KINDS
def test_wiring(kind, skip, concatenate, first):
    """Layers read and give what PyTorch's own cells do, wired by hand, step by step; gradients too."""
    core = kind(5, 6, 3, skip_connections=skip, concatenate_outputs=concatenate).double()
    cells = []
    for layer, weights in enumerate(core.weights.all_weights):
        reads = 5 if layer == 0 else 6 + 5 * skip
        cells.append((nn.LSTMCell if kind is LSTM else nn.GRUCell)(reads, 6).double())
        cells[-1].load_state_dict(dict(zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), weights, strict=True)))
    inputs = torch.randn(7, 3, 5, dtype=torch.float64, requires_grad=True)
    states = [[torch.zeros(3, 6, dtype=torch.float64) for _ in core.names] for _ in cells]
    wanted = []
    for time, now in enumerate(inputs):
        below = []
        for layer, cell in enumerate(cells):
            if first is not None:
                states[layer] = [each * ~first[time, :, None] for each in states[layer]]
            read = now if layer == 0 else torch.cat([now, below[-1]], 1) if skip else below[-1]
            states[layer] = tensors(cell(read, states[layer][0] if kind is GRU else tuple(states[layer])))
            below.append(states[layer][0])
        wanted.append(torch.cat(below, 1) if concatenate else below[-1])
    wanted, last = torch.stack(wanted), [torch.stack(parts, 1) for parts in zip(*states, strict=True)]
    outputs, state = core(inputs, None, first)
    assert outputs.shape[-1] == core.output_size == (18 if concatenate else 6)
    same([outputs, *tensors(state)], [wanted, *last])
    theirs = [parameter for cell in cells for parameter in cell.parameters()]
    got = gradients(outputs, tensors(state), [inputs, *core.parameters()])
    same(got, gradients(wanted, last, [inputs, *theirs]))


@KINDS
def test_step_compiles(kind):
    """A step compiles as one graph, with the outputs and gradients of the plain one."""
    core = kind(5, 6, 2, **WIRED).double()
    inputs, state = torch.randn(3, 5, dtype=torch.float64, requires_grad=True), core.initial_state(3)
    sources = [inputs, *core.parameters()]
    outputs, last = core.step(inputs, state)
    wanted = [outputs, *tensors(last), *gradients(outputs, tensors(last), sources)]
    outputs, last = torch.compile(core.step, fullgraph=True, backend="aot_eager")(inputs, state)
    same([outputs, *tensors(last), *gradients(outputs, tensors(last), sources)], wanted)


def test_forget_bias():
    """The forget gates' biases, and nothing else, start higher by what is asked for."""
    torch.manual_seed(0)
    plain = LSTM(3, 4, 2).state_dict()
    torch.manual_seed(0)
    raised = LSTM(3, 4, 2, forget_bias=1.5).state_dict()
    for name, parameter in raised.items():
        wanted = plain[name].clone()
        if "bias_ih" in name:
            wanted[4:8] += 1.5
        assert torch.equal(parameter, wanted), name


@KINDS
def test_skips_widen(kind):
    """With skips every layer above the first has D more columns of inputs; names stay."""
    plain, wide = kind(5, 6, 3).state_dict(), kind(5, 6, 3, **WIRED).state_dict()
    assert plain.keys() == wide.keys()
    for name, each in wide.items():
        more = 5 if "weight_ih" in name and not name.endswith("l0") else 0
        assert each.shape[-1] == plain[name].shape[-1] + more, name


@pytest.mark.parametrize(
    ("key", "wanted", "values"),
    [
        *(
            (key, "a whole number of at least 1", (0, -1, 2.0, True))
            for key in ("input_size", "hidden_size", "num_layers")
        ),
        *((key, "true or false", (1, "no")) for key in ("skip_connections", "concatenate_outputs")),
    ],
)
@KINDS
def test_bad_options(kind, key, wanted, values):
    """A value that will not do is refused in one line that starts with its name."""
    for value in values:
        with pytest.raises(ValueError, match=f"^{key}: wanted {wanted}, got {value!r}$"):
            kind(**{"input_size": 5, key: value})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", True])
def test_bad_forget_bias(value):
    """A forget bias that is no finite number is refused."""
    with pytest.raises(ValueError, match=f"^forget_bias: wanted a finite number, got {value!r}"):
        LSTM(5, forget_bias=value)


@pytest.mark.parametrize("first", [None, torch.ones(7, 3, dtype=torch.bool)])
@KINDS
def test_bad_inputs(kind, first):
    """Inputs, states and restarts that will not do are refused with what is wanted."""
    core = kind(5, 6, 2)
    state = core.initial_state(3)
    with pytest.raises(ValueError, match=r"inputs: wanted \[T B 5\], got \[7, 3, 4\]"):
        core(torch.zeros(7, 3, 4), None, first)
    with pytest.raises(ValueError, match=r"inputs: wanted \[B 5\], got \[7, 3, 5\]"):
        core.step(torch.zeros(7, 3, 5), state)
    other = state[1:] if kind is GRU else (state[0], state[1][1:])
    with pytest.raises(ValueError, match=rf"state: wanted {core.names[-1]} of the shape \[3, 2, 6\], got \[2, 2, 6\]"):
        core(torch.zeros(7, 3, 5), other, first)
    foreign = (LSTM if kind is GRU else GRU)(5, 6, 2).initial_state(3)
    with pytest.raises(ValueError, match=r"^state: wanted [hc]"):
        core(torch.zeros(7, 3, 5), foreign, first)
    with pytest.raises(ValueError, match=r"first: wanted bool \[8, 3\], got torch.bool \[7, 3\]"):
        core(torch.zeros(8, 3, 5), None, torch.ones(7, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"first: wanted bool \[7, 3\], got torch.int64 \[7, 3\]"):
        core(torch.zeros(7, 3, 5), None, torch.ones(7, 3, dtype=torch.int64))


def test_plugin():
    """The plugin brings the cores by name; its public names are there, and no others."""
    assert seqtoolkit_lstm.cores() == {"gru": "seqtoolkit_lstm.core:GRU", "lstm": "seqtoolkit_lstm.core:LSTM"}
    assert (seqtoolkit_lstm.LSTM, seqtoolkit_lstm.GRU) == (LSTM, GRU)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = seqtoolkit_lstm.nonsense
