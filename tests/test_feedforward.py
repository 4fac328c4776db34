"""Feedforward: a core like others, but for its memory."""

import re
from functools import partial

import pytest
import torch
from torch import nn

from seqtoolkit.flow.feedforward import Feedforward
from seqtoolkit.host.registry import discover
from seqtoolkit.testing import CORE_LAWS, check_core


@pytest.mark.parametrize(
    "law", [pytest.param(law, marks=pytest.mark.slow if law == "compiled" else ()) for law in CORE_LAWS]
)
def test_laws(law):
    """It keeps the laws of cores, with one layer and with more."""
    check_core(partial(Feedforward, hidden_size=6), law)
    check_core(partial(Feedforward, hidden_size=3, num_layers=3), law, dtype=torch.float32)


def test_it_is_its_layers():
    """Each step's output is that of the layers with ReLU, whatever came before it and however episodes begin."""
    core, inputs = Feedforward(5, 6, 2), torch.randn(4, 3, 5)
    plain = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU())
    plain.load_state_dict({name.removeprefix("layers."): each for name, each in core.state_dict().items()})
    outputs, state = core(inputs, None, torch.rand(4, 3) > 0.5)
    torch.testing.assert_close(outputs, plain(inputs))
    assert state == ()
    changed = inputs.clone()
    changed[:-1] += 1
    assert torch.equal(core(changed)[0][-1], core(inputs)[0][-1])


def test_it_is_a_part():
    """`use: feedforward` finds it, and a sweep may match its parameters by its hidden size."""
    core = discover().resolve("core", "feedforward")
    assert core is Feedforward
    assert core.width == "hidden_size"
    assert sum(each.numel() for each in core(5, 10).parameters()) == 60


@pytest.mark.parametrize("given", [0, 2.5, True, (3, 2)])
@pytest.mark.parametrize("name", ["input_size", "hidden_size", "num_layers"])
def test_a_core_that_cannot_be(name, given):
    """A size below 1, or that of matrices, is refused by name."""
    with pytest.raises(ValueError, match=f"^{name}: wanted a whole number of at least 1, got {re.escape(repr(given))}"):
        Feedforward(**{"input_size": 5, name: given})
