"""`seqtoolkit bench core`: what it counts, what it refuses to time, and what it says."""
# ruff: noqa: D102  the methods are those of the classes they stand in for

import json
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from seqtoolkit.bench.clock import WARM, interleaved
from seqtoolkit.bench.core import Setting, bench, read_core
from seqtoolkit.bench.cost import cost
from seqtoolkit.flow.core import Core
from seqtoolkit.host.plan import Block
from seqtoolkit.host.problem import ConfigError
from seqtoolkit.host.registry import discover
from seqtoolkit.testing import LawBroken

SMALL = ["--steps", "3", "--batch-size", "2", "--input-size", "4", "--hidden-size", "5", "--repeats", "1"]


class Sum(Core):
    """A leaking sum, of two operations a step."""

    def __init__(self, input_size):
        super().__init__()
        self.input_size = self.output_size = input_size
        self.leak = nn.Parameter(torch.full((input_size,), 0.5))

    def initial_state(self, batch_size):
        return self.leak.new_zeros(batch_size, self.output_size)

    def step(self, inputs, state):
        state = inputs + self.leak * state
        return state, state


class Bare(Sum):
    """One with nothing to learn."""

    def __init__(self, input_size):
        super().__init__(input_size)
        self.leak.requires_grad_(requires_grad=False)


class Raises(Sum):
    """One that cannot be made."""

    def __init__(self, input_size):
        raise RuntimeError(f"no memory for {input_size}")


class Drifting(Sum):
    """One whose unrolling has another last state."""

    def unroll(self, inputs, state, first=None):
        outputs, state = super().unroll(inputs, state, first)
        return outputs, state * 1.001


class Detached(Sum):
    """One whose unrolling has the right numbers and a wrong gradient."""

    def unroll(self, inputs, state, first=None):
        outputs, _ = super().unroll(inputs, state, first)
        return outputs, outputs[-1].detach()


class Other(Sum):
    """One whose steps, and so its unrolling, are not those of its reference."""

    def reference_step(self, inputs, state):
        output, state = self.step(inputs, state)
        return 1.01 * output, state


def block(factory):
    """A core as a block that has been read."""
    return Block("core", factory.__name__.lower(), "core", {}, factory)


@pytest.fixture(scope="module")
def setting():
    """Small sizes, each another."""
    return Setting(steps=3, batch_size=2, input_size=4, hidden_size=5, repeats=1)


def test_operations_are_those_that_compute():
    """Views cost nothing; whatever writes numbers counts one, in the backward pass too."""
    leaf = torch.ones(2, 3, requires_grad=True)
    assert cost(lambda: leaf.t().reshape(3, 2)[0].view(-1)) == (0, 0)
    assert cost((leaf * 2).exp).operations == 1
    assert cost(lambda: torch.autograd.grad((leaf * 2).exp(), leaf, torch.ones(2, 3))).operations == 5


def test_memory_is_the_most_that_is_held_at_a_time():
    """What is let go makes room, what is given or looked into again counts nothing, what autograd keeps does."""
    given = torch.ones(8, requires_grad=True)

    def rise_and_fall():
        for _ in range(3):
            given.detach().exp()

    def keep_three():
        risen = given.exp()
        return risen.view(2, 4)[0], (risen * risen).add_(1), given.detach().add_(0)

    assert cost(rise_and_fall).peak == 8 * 4
    assert cost(keep_three).peak == 2 * 8 * 4
    chain = cost(lambda: given.exp().exp().exp())
    loose = cost(lambda: given.detach().exp().exp().exp())
    assert (chain.peak, loose.peak) == (3 * 8 * 4, 2 * 8 * 4)


def test_a_core_and_the_baseline_are_counted(setting):
    """Parameters, operations a step and memory are those that one can work out for a core by hand."""
    base, row = bench([block(Sum)], setting)
    assert base.name == "nn.LSTM"
    assert base.parameters == sum(each.numel() for each in nn.LSTM(4, 5).parameters())
    assert row.parameters == 4
    zeros_and_stack = 2
    assert row.forward_operations == (setting.steps * 2 + zeros_and_stack) / setting.steps
    assert row.memory >= setting.steps * setting.batch_size * 4 * 4  # the states that the leak multiplies
    assert all(value > 0 for each in (base, row) for value in (each.forward, each.train, each.step))


def test_a_core_with_nothing_to_learn_is_timed(setting):
    """Its backward pass is that to the inputs."""
    _, row = bench([block(Bare)], setting)
    assert row.train_operations > row.forward_operations


def test_a_core_that_cannot_be_made_is_named(setting):
    """Whatever its constructor raises is one line with the core's name."""
    with pytest.raises(ConfigError, match=r"^core raises: RuntimeError: no memory for 4$"):
        bench([block(Raises)], setting)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("factory", "where"), [(Drifting, "outputs"), (Detached, "gradient of"), (Other, "outputs")])
def test_a_core_whose_unrolling_is_wrong_is_not_timed(setting, factory, where, dtype, monkeypatch):
    """An unrolling that is not what its reference's steps are is named with what is off, and no clock is started."""
    setting = replace(setting, dtype=dtype)
    monkeypatch.setattr("seqtoolkit.bench.core.interleaved", lambda *_: pytest.fail("timed"))
    with pytest.raises(LawBroken, match=rf"^{factory.__name__.lower()}: .*nothing was timed.*{where}"):
        bench([block(Sum), block(factory)], setting)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("name", discover().names("core"))
def test_every_core_passes_in_other_dtypes(name, dtype, setting):
    """Each installed core is held against its reference in float64 and bfloat16 too, and timed."""
    _, row = bench([read_core(discover(), name)], replace(setting, dtype=dtype, steps=4))
    assert row.name == name


def test_runs_take_turns():
    """Every repeat has each run once, in order, and those that warm up are not counted."""
    called = []
    times = interleaved([lambda: called.append("a"), lambda: called.append("b")], 3)
    assert called == ["a", "b"] * (WARM + 3)
    assert [len(each) for each in times] == [3, 3]


def test_a_core_is_named_as_in_a_pipeline():
    """A bare name or a block with settings; every mistake is a line with its key."""
    read = read_core(discover(), "{use: rmc, mem_slots: 8}")
    assert (read.use, read.params["mem_slots"]) == ("rmc", 8)
    with pytest.raises(ConfigError, match=r"core\.mem_slot: .*did you mean mem_slots"):
        read_core(discover(), "{use: rmc, mem_slot: 8}")


def test_the_command_prints_a_table(type_in, monkeypatch):
    """A row for each core in the order given, each with what it has been changed in and its ratios to nn.LSTM, however narrow."""
    monkeypatch.setenv("COLUMNS", "60")
    code, out, _ = type_in("bench", "core", "lstm", "{use: rmc, mem_slots: 2, head_size: 3}", *SMALL)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("T 3, B 2, D 4, float32, cpu")
    rows = [line for line in lines[2:] if "(" in line]
    assert [re.match(r"[\w.]+", row)[0] for row in rows] == ["nn.LSTM", "lstm", "rmc"]
    assert rows[0].count("(1.0)") == 3
    assert all(name in out for name in ("mem_slots=2", "parameters", "forward ms", "operations"))


def test_the_command_prints_json(type_in):
    """All that the table says, and the setting and the machine, for programs."""
    code, out, _ = type_in("bench", "core", "{use: lstm, hidden_size: 3}", "--json", *SMALL)
    found = json.loads(out)
    assert code == 0
    assert found["setting"]["steps"] == 3
    assert found["machine"]["threads"] == 1
    base, row = found["cores"]
    assert row["settings"]["hidden_size"] == 3
    assert row["ratio"]["train"] == row["train"] / base["train"]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["rcm"], r"no core 'rcm'; did you mean rmc"),
        (["{use: rmc"], r"\{use: rmc:1:\d+"),
        (["{use: rmc, mem_slots: 0}"], r"mem_slots: wanted .*at least 1, got 0"),
        (["{use: rmc, treat_input_as_matrix: true}"], r"input_size: wanted \(rows, features\), got 64"),
        (["rmc", "--steps", "0"], r"steps: wanted at least 1, got 0"),
        (["rmc", "--threads", "0"], r"threads: wanted at least 1, got 0"),
        (["rmc", "--device", "abacus"], r"device: wanted auto or a device of this machine, got 'abacus'"),
    ],
)
def test_a_mistake_is_a_line(type_in, words, wanted):
    """Wrong input is one line on stderr and exit code 2."""
    code, out, err = type_in("bench", "core", *words)
    assert (code, out) == (2, "")
    assert re.search(wanted, err), err
    assert len(err.splitlines()) == 1
