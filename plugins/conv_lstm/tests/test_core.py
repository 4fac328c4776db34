"""ConvLSTM keeps the laws of cores, starts as its page says, and says what is wrong with what it is given."""

import re
from functools import partial

import pytest
import torch

import seqtoolkit_conv_lstm
from seqtoolkit.testing import CORE_LAWS, check_core
from seqtoolkit_conv_lstm import ConvLSTM

MAPS = {
    "kernel 2": ((3, 4, 5), {}),
    "kernel 3": ((1, 3, 2), {"kernel_size": 3}),
    "kernel 5, larger than the map": ((2, 2, 3), {"kernel_size": 5}),
    "one channel, kernel 1": ((2, 2, 2), {"kernel_size": 1, "channels": 1}),
}


@pytest.mark.parametrize(("shape", "options"), MAPS.values(), ids=MAPS)
@pytest.mark.parametrize("law", CORE_LAWS)
def test_laws(law, shape, options):
    """Every law of cores holds over maps, for kernels that are even, odd, and larger than the map."""
    options = {"channels": 2, **options}
    check_core(lambda _: ConvLSTM(shape, **options), law, input_size=shape[0], input_shape=shape)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("law", CORE_LAWS)
def test_laws_of_vectors(law, dtype):
    """Every law of cores holds where inputs are vectors, in both dtypes."""
    check_core(partial(ConvLSTM, channels=3), law, dtype=dtype)


def test_shapes():
    """Maps keep their size in the state, the output is h flattened, and the specs say so."""
    core = ConvLSTM((24, 5, 6), channels=7)
    outputs, (hidden, cell) = core(torch.randn(2, 3, 24, 5, 6))
    assert (core.reads, core.writes) == ("f32[T B 24 5 6]", "f32[T B 210]")
    assert outputs.shape == (2, 3, 210)
    assert hidden.shape == cell.shape == (3, 7, 5, 6)
    assert torch.equal(outputs[-1], hidden.flatten(1))
    assert (ConvLSTM(24).reads, ConvLSTM(24).writes) == ("f32[T B D]", "f32[T B 64]")


def test_names():
    """Checkpoints know the parameters by these names and shapes."""
    shapes = {name: list(each.shape) for name, each in ConvLSTM((3, 4, 5), 2, 3).state_dict().items()}
    assert shapes == {"from_input": [8, 3, 3, 3], "from_hidden": [8, 2, 3, 3], "bias": [8]}


def test_start():
    """Kernels start uniform within 1 / sqrt(fan in), biases at 0, those of the forget gates at what is asked for."""
    torch.manual_seed(0)
    core = ConvLSTM((8, 5, 5), channels=16, kernel_size=3, forget_bias=1.5)
    for kernel, fan_in in ((core.from_input, 72), (core.from_hidden, 144)):
        bound = fan_in**-0.5
        assert 0.99 * bound < kernel.abs().max() <= bound
        assert kernel.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert core.bias.tolist() == [0.0] * 16 + [1.5] * 16 + [0.0] * 32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"channels": value}, f"channels: wanted a whole number of at least 1, got {value}") for value in (0, 2.0)),
        *(
            ({"kernel_size": value}, f"kernel_size: wanted a whole number of at least 1, got {value}")
            for value in (-1, True)
        ),
        *(
            ({"forget_bias": value}, f"forget_bias: wanted a finite number, got {value!r}")
            for value in (float("nan"), "1", True)
        ),
        *(({"input_size": value}, f"got {value!r}") for value in (0, (3, 4), (3, 4, 0), (3, 4, 5, 6), (3, 4, 5.0))),
    ],
)
def test_bad_options(options, message):
    """A value that will not do is refused in one line that starts with its name."""
    with pytest.raises(ValueError, match=f"^{next(iter(options))}: wanted .*{re.escape(message)[-20:]}$"):
        ConvLSTM(**{"input_size": (3, 4, 5), **options})


def test_bad_inputs():
    """Inputs, states and restarts that will not do are refused with what is wanted."""
    core = ConvLSTM((3, 4, 5), channels=2)
    maps, state = torch.zeros(7, 6, 3, 4, 5), core.initial_state(6)
    for inputs, wanted, call in (
        (torch.zeros(7, 6, 60), r"\[T B 3 4 5\], got \[7, 6, 60\]", core),
        (torch.zeros(7, 6, 5, 4, 3), r"\[T B 3 4 5\], got \[7, 6, 5, 4, 3\]", core),
        (maps, r"\[B 3 4 5\], got \[7, 6, 3, 4, 5\]", core.step),
        (maps[:0], r"at least one step, got none", core),
    ):
        with pytest.raises(ValueError, match=f"^inputs: wanted {wanted}$"):
            call(inputs, state)
    with pytest.raises(ValueError, match=r"^inputs: wanted \[T B 3\], got \[7, 6, 3, 1, 1\]$"):
        ConvLSTM(3)(torch.zeros(7, 6, 3, 1, 1))
    for bad in (state[0], state[:1], (*state, state[0]), "hc", {}):
        with pytest.raises(ValueError, match=r"^state: wanted h and c, got \w+$"):
            core(maps, bad)
    with pytest.raises(ValueError, match=r"^state: wanted c of the shape \[6, 2, 4, 5\], got \[5, 2, 4, 5\]$"):
        core(maps, (state[0], state[1][1:]))
    for first in (torch.ones(6, 7, dtype=torch.bool), torch.ones(7, 6)):
        with pytest.raises(ValueError, match=r"^first: wanted bool \[7, 6\], got "):
            core(maps, state, first)


def test_plugin():
    """The plugin brings the core by name; its public name is there, and no other."""
    assert seqtoolkit_conv_lstm.cores() == {"conv_lstm": "seqtoolkit_conv_lstm.core:ConvLSTM"}
    assert seqtoolkit_conv_lstm.ConvLSTM is ConvLSTM
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = seqtoolkit_conv_lstm.nonsense
