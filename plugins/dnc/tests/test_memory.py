"""The memory's equations: laws that hold whatever the numbers are, and what a DNC can be made to do by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqtoolkit_dnc import DNC, access, reference
from seqtoolkit_dnc.access import Plan
from seqtoolkit_dnc.reference import Affine

ROUNDING = 1e-12

usages = st.lists(
    st.sampled_from([0.0, 1.0, 0.5, 0.25, 1e-9, 1 - 1e-9]) | st.floats(0, 1).map(lambda value: round(value, 9)),
    min_size=1,
    max_size=9,
).map(lambda values: torch.tensor([values], dtype=torch.float64))
"""Equal, or apart by far more than rounding: what lies between is told apart by no rule that a test could repeat."""


def fast_allocation(usage):
    """The allocation without a sort."""
    empty = usage.new_zeros(1, 1)
    return access.allocate(Plan.of(Affine(empty, empty[0]), usage.shape[1]), usage).weights


def naive_allocation(usage):
    """The paper's equation, one slot at a time, in Python's numbers."""
    usage = [1e-6 + (1 - 1e-6) * each for each in usage[0].tolist()]
    weights, full = [0.0] * len(usage), 1.0
    for slot in sorted(range(len(usage)), key=lambda slot: (usage[slot], slot)):
        weights[slot] = (1 - usage[slot]) * full
        full *= usage[slot]
    return torch.tensor([weights], dtype=torch.float64)


@settings(max_examples=200, deadline=None)
@given(usages)
def test_allocation(usage):
    """Without a sort the allocation and its gradient are those of the sort, with ties, empty and full slots."""
    torch.testing.assert_close(reference.allocate(usage), naive_allocation(usage), rtol=0, atol=ROUNDING)
    weight = torch.arange(usage.shape[1], dtype=torch.float64).add(1).cos()
    results = []
    for allocate in (reference.allocate, fast_allocation):
        given_usage = usage.clone().requires_grad_()
        allocation = allocate(given_usage)
        (gradient,) = torch.autograd.grad((allocation * weight).sum(), given_usage)
        assert allocation.isfinite().all()
        assert gradient.isfinite().all()
        results.append((allocation, gradient))
    (wanted, wanted_gradient), (got, gradient) = results
    torch.testing.assert_close(got, wanted, rtol=0, atol=ROUNDING)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("allocate", [reference.allocate, fast_allocation])
def test_allocation_in_words(allocate, dtype):
    """The free slot is taken, the first of several; full memory allocates nothing; near ties go by index."""
    noise = torch.finfo(dtype).eps
    for usage, wanted in (
        ([1, 1, 0, 1], [0, 0, 1, 0]),
        ([1, 0, 0, 0], [0, 1, 0, 0]),
        ([1, 1, 1, 1], [0, 0, 0, 0]),
        ([0.5, 1, 1, 1], [0.5, 0, 0, 0]),
        ([1, 3 * noise, 0, noise], [0, 1, 0, 0]),
        ([0.5, 0.25, 1, 1], [0.125, 0.75, 0, 0]),
    ):
        got = allocate(torch.tensor([usage], dtype=dtype))
        torch.testing.assert_close(got, torch.tensor([wanted], dtype=dtype), rtol=0, atol=2e-6)


def make(std=1.5, **options):
    """A core in float64 with random parameters, loud ones: gates that saturate, weights that are sharp."""
    core = DNC(3, **{"hidden_size": 4, "memory_size": 5, "word_size": 3, "num_reads": 2, **options}).double()
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.normal_(std=std)
    return core


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from(["published", "paper"]), st.integers(0, 2**31))
def test_ranges(reads, writes, dialect, seed):
    """Weights are parts of at most a whole, usage is between 0 and 1, links have no loops and are parts of a whole."""
    torch.manual_seed(seed)
    core = make(num_reads=reads, num_writes=writes, dialect=dialect)
    state = core.initial_state(2)
    for now in 3 * torch.randn(12, 2, 3, dtype=torch.float64):
        _, state = core.step(now, state)
        parts = [state.write_weights, state.precedence, state.link, state.link.mT]
        for each in (*parts, state.read_weights, state.usage):
            assert each.min() >= -ROUNDING
        for each in (*parts, state.read_weights):
            assert each.sum(-1).max() <= 1 + ROUNDING
        assert state.usage.max() <= 1 + ROUNDING
        assert not state.link.diagonal(dim1=2, dim2=3).count_nonzero()
        assert fast_allocation(state.usage[:1]).sum() <= 1 + ROUNDING


def obedient():
    """A core of one read head that does as its input says: each input is an interface vector, to the letter.

    The input is squashed by the controller's tanh; the interface undoes it by a factor that makes gates decided.
    """
    core = DNC(20, 20, memory_size=4, word_size=3, num_reads=1, output_size=3, controller="feed_forward").double()
    assert sum(core.settings.sections) == 20
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.zero_()
        core.controller[0].weight[:, :20] = 1e-3 * torch.eye(20)
        core.interface.weight.copy_(1e3 * torch.eye(20))
        core.output.weight[:, 20:] = torch.eye(3)
    return core


SURE = 40.0


def command(*, write=None, key=None, mode="content", free=False):
    """An input for the obedient core: write a word to a free slot, and read by a key or along the links."""
    vector = torch.zeros(20, dtype=torch.float64)
    read_key, _, strengths, value, erase, gates, modes = vector.split([3, 3, 2, 3, 3, 3, 3])
    strengths += 100.0
    erase -= SURE
    gates += torch.tensor([SURE if free else -SURE, SURE, -SURE if write is None else SURE], dtype=torch.float64)
    modes[["backward", "forward", "content"].index(mode)] = SURE
    if write is not None:
        value += torch.tensor(write, dtype=torch.float64)
    if key is not None:
        read_key += torch.tensor(key, dtype=torch.float64)
    return vector


WORDS = ([1.0, 0.0, 0.2], [0.0, 1.0, 0.1], [0.3, 0.1, 1.0])


def say(*commands):
    """What an obedient core reads at each command."""
    outputs, _ = obedient()(torch.stack(commands).unsqueeze(1))
    return outputs[:, 0]


def same_word(got, word):
    """Within what the tanh bends."""
    torch.testing.assert_close(got, torch.tensor(word, dtype=torch.float64), rtol=0, atol=0.02)


def test_reads_by_content():
    """Words written one after another are each found by a key that is nearest to them."""
    write = [command(write=word) for word in WORDS]
    read = say(*write, *(command(key=word) for word in reversed(WORDS)))[3:]
    for got, word in zip(read, reversed(WORDS), strict=True):
        same_word(got, word)


def test_reads_in_the_order_of_writing():
    """From a word found by content, the links lead to the one written next, and back again."""
    write = [command(write=word) for word in WORDS]
    forward, backward = command(mode="forward"), command(mode="backward")
    read = say(*write, command(key=WORDS[0]), forward, forward, backward, backward)[3:]
    for got, word in zip(read, (WORDS[0], WORDS[1], WORDS[2], WORDS[1], WORDS[0]), strict=True):
        same_word(got, word)


def test_freed_slots_are_written_again():
    """In a full memory nothing is written, until a slot that was read is freed."""
    full = [command(write=word) for word in (*WORDS, [-1.0, 0.5, 0.0])]
    late, find, free = command(write=[0.0, -1.0, 1.0]), command(key=[0.0, -1.0, 1.0]), command(key=[9, 9, 9], free=True)
    assert (say(*full, late, find)[-1] - torch.tensor([0.0, -1.0, 1.0])).abs().max() > 0.5
    before, after = (
        obedient()(torch.stack([*full, command(key=WORDS[1]), free, *more]).unsqueeze(1))[1].memory[0]
        for more in ([], [late])
    )
    slot = (before - torch.tensor(WORDS[1])).abs().sum(1).argmin()
    wanted = before.clone()
    wanted[slot] += torch.tensor([0.0, -1.0, 1.0])  # added to what was there: no command erases
    torch.testing.assert_close(after, wanted, rtol=0, atol=0.02)


def test_several_write_heads_write_to_several_slots():
    """The first head's writing adds to the usage that the second sees: it takes the slot that is then the freest.

    That is the last: an epsilon of the first allocation went to each slot, and the least of it to the last.
    """
    core = DNC(3, 4, memory_size=4, word_size=2, num_reads=1, num_writes=2).double()
    reads, writes, word = 1, 2, 2
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.zero_()
        *_, vectors, gates, _ = core.interface.bias.split(core.settings.sections)
        vectors.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        gates[writes * word + reads :] = SURE
    _, state = core.step(torch.zeros(1, 3, dtype=torch.float64), core.initial_state(1))
    wanted = torch.tensor([[[1.0, 2.0], [0.0, 0.0], [0.0, 0.0], [3.0, 4.0]]], dtype=torch.float64)
    torch.testing.assert_close(state.memory, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("controller", ["lstm", "feed_forward"])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_read_vectors_reach_the_controller(controller, num_layers):
    """What was read is read by the controller at the next step, with its gradient: stepped and unrolled."""
    torch.manual_seed(0)
    core = make(controller=controller, num_layers=num_layers, std=0.5)
    with torch.no_grad():
        core.output.weight[:, num_layers * 4 :] = 0  # nothing read now gets out directly
    inputs, state = torch.randn(1, 2, 3, dtype=torch.float64), core.initial_state(2)
    for run in (core.unroll, lambda given, start: core.step(given[0], start)):
        vectors = torch.randn_like(state.read_vectors).requires_grad_()
        output, _ = run(inputs, state._replace(read_vectors=vectors))
        other, _ = run(inputs, state)
        assert (output - other).abs().max() > 1e-3
        (gradient,) = torch.autograd.grad(output.sum(), vectors)
        assert gradient.abs().min() > 0


def test_reads_of_a_sequence_reach_the_controller():
    """With the outputs' own way to the reads cut, what a step reads changes the outputs after it, and none before."""
    torch.manual_seed(0)
    core = make(std=0.5)
    with torch.no_grad():
        core.output.weight[:, 4:] = 0
    inputs, state = torch.randn(4, 2, 3, dtype=torch.float64), core.initial_state(2)
    memory = torch.randn_like(state.memory).requires_grad_()
    outputs, _ = core(inputs, state._replace(memory=memory))
    other, _ = core(inputs, state)
    assert torch.equal(outputs[0], other[0])
    assert (outputs[1] - other[1]).abs().max() > 1e-3
    for time in range(2):
        (gradient,) = torch.autograd.grad(outputs[time].sum(), memory, retain_graph=True)
        assert bool(gradient.count_nonzero()) == (time == 1)


@pytest.mark.parametrize("dialect", ["published", "paper"])
def test_gradient_of_usage(dialect):
    """The published code passes no gradient from the usage to what was written before; the paper's text does."""
    torch.manual_seed(0)
    core = make(dialect=dialect)
    state = core.initial_state(2)
    written = torch.full_like(state.write_weights, 0.1).requires_grad_()
    for run in (core.unroll, lambda given, start: core.step(given[0], start)):
        _, last = run(torch.randn(1, 2, 3, dtype=torch.float64), state._replace(write_weights=written))
        (gradient,) = torch.autograd.grad(last.usage.sum(), written, allow_unused=True, materialize_grads=True)
        assert bool(gradient.count_nonzero()) == (dialect == "paper")


def test_strengths():
    """A strength is softplus in the published code, 1 + softplus in the paper."""
    vector = torch.zeros(1, sum(make().settings.sections), dtype=torch.float64)
    for dialect, wanted in (("published", math.log(2)), ("paper", 1 + math.log(2))):
        interface = reference.interpret(make(dialect=dialect).settings, vector)
        assert interface.read_strengths.unique().tolist() == pytest.approx([wanted])
        assert interface.write_strengths.unique().tolist() == pytest.approx([wanted])
