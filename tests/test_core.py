"""Core: nests of state, restarts, and the unrolling that every core inherits."""

from typing import NamedTuple

import pytest
import torch
from torch import nn

from seqtoolkit.flow.core import Core, map_state, where_first
from seqtoolkit.flow.spec import Spec


class Pair(NamedTuple):
    """A state with names."""

    hidden: torch.Tensor
    counts: tuple


class Sum(Core):
    """Adds up what it reads, times a parameter; counts its steps beside that."""

    def __init__(self, input_size=2):
        """Nothing to choose but the size."""
        super().__init__()
        self.input_size = self.output_size = input_size
        self.gain = nn.Parameter(torch.ones(()))

    def initial_state(self, batch_size):
        """Zeros, and no steps."""
        return {"sum": torch.zeros(batch_size, self.input_size), "steps": torch.zeros(batch_size, dtype=torch.int64)}

    def step(self, inputs, state):
        """Add."""
        total = state["sum"] + self.gain * inputs
        return total, {"sum": total, "steps": state["steps"] + 1}


def ones(*shape):
    """Inputs that count."""
    return torch.ones(*shape)


def test_map_state_keeps_the_nest():
    """Dicts, lists, tuples and named tuples come back as what they were, each leaf changed by its place in every nest."""
    nest = {"a": [torch.tensor(1), (torch.tensor(2),)], "b": Pair(torch.tensor(3), ())}
    added = map_state(torch.add, nest, map_state(lambda leaf: 10 * leaf, nest))
    assert added == {"a": [torch.tensor(11), (torch.tensor(22),)], "b": Pair(torch.tensor(33), ())}
    assert isinstance(added["b"], Pair)
    assert map_state(torch.neg, torch.tensor(4)) == torch.tensor(-4)


def test_map_state_refuses_nests_that_differ():
    """Nests of different lengths or keys are not silently cut to the shorter one."""
    with pytest.raises(ValueError, match="shorter"):
        map_state(torch.add, (torch.tensor(1), torch.tensor(2)), (torch.tensor(1),))
    with pytest.raises(KeyError):
        map_state(torch.add, {"a": torch.tensor(1)}, {"b": torch.tensor(1)})


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 4)])
def test_where_first_takes_whole_rows(shape):
    """A row that begins anew is fresh in every element, whatever axes a state has; fresh may be one row for all."""
    first, state = torch.tensor([True, False, True]), torch.ones(shape)
    for rows in (3, 1):
        chosen = where_first(first, torch.zeros(rows, *shape[1:]), state)
        assert chosen.flatten(1).sum(1).tolist() == [0, state[0].numel(), 0] if len(shape) > 1 else [0, 1, 0]


def test_unroll_runs_the_steps():
    """Outputs come stacked over time with the last state; a core is called like nn.LSTM."""
    core = Sum()
    outputs, state = core(ones(4, 3, 2))
    assert outputs[:, 0, 0].tolist() == [1, 2, 3, 4]
    assert outputs.shape == (4, 3, 2)
    assert state["steps"].tolist() == [4, 4, 4]
    again, _ = core(ones(1, 3, 2), state)
    assert again[0, 0].tolist() == [5, 5]


def test_unroll_restarts_rows():
    """A row begins anew at each step marked for it, its integer state too, at step 0 whatever state is passed."""
    first = torch.tensor([[True, False, False], [False, False, True], [True, False, True]])
    state = {"sum": 100 * ones(3, 2), "steps": torch.tensor([7, 7, 7])}
    outputs, last = Sum()(ones(3, 3, 2), state, first)
    assert outputs[..., 0].T.tolist() == [[1, 2, 1], [101, 102, 103], [101, 1, 1]]
    assert last["steps"].tolist() == [1, 10, 1]


def test_no_gradient_passes_a_restart():
    """What came before a restart gets no gradient from what came after."""
    inputs = ones(3, 1, 2).requires_grad_()
    outputs, _ = Sum()(inputs, None, torch.tensor([[False], [False], [True]]))
    outputs[2].sum().backward()
    assert inputs.grad.flatten().tolist() == [0, 0, 0, 0, 1, 1]


def test_specs():
    """A core reads vectors and writes its outputs, in the notation of the graph."""
    assert Spec.parse(Sum(5).writes) == Spec("f32", ("T", "B", 5))
    assert Spec.parse(Core.reads) == Spec("f32", ("T", "B", "D"))


def test_core_is_abstract():
    """A core without a step is none."""
    with pytest.raises(TypeError, match="abstract"):
        Core()
