"""The truncated learner: windows of one unroll, gradients of one window alone, and a carry that goes wherever a run goes."""
# ruff: noqa: D102  the methods are those of the class they stand in for

import copy
import random
import signal
from functools import partial
from typing import NamedTuple

import pytest
import torch

from seqtoolkit import Pipeline
from seqtoolkit.flow.core import Core
from seqtoolkit.train.checkpoint import Checkpoints, load_state, load_weights
from seqtoolkit.train.optimize import sgd

ROWS = 3


class Pair(NamedTuple):
    """A state of two parts."""

    hidden: torch.Tensor
    cell: torch.Tensor


KINDS = {
    "tuple": (lambda *parts: parts, tuple),
    "list": (lambda *parts: list(parts), tuple),
    "dict": (lambda hidden, cell: {"hidden": hidden, "cell": cell}, lambda state: (state["hidden"], state["cell"])),
    "named": (Pair, tuple),
    "nested": (lambda hidden, cell: ({"hidden": hidden}, [cell]), lambda state: (state[0]["hidden"], state[1][0])),
}


class Gated(Core):
    """An LSTM by hand, whose state is a nest of any kind, and begins as what is learned."""

    def __init__(self, input_size, kind="tuple", size=6):
        super().__init__()
        self.input_size = self.output_size = size
        self.map = torch.nn.Linear(input_size + size, 4 * size)
        self.begin = torch.nn.Parameter(torch.randn(2, size))
        self.pack, self.unpack = KINDS[kind]

    def initial_state(self, batch_size):
        return self.pack(*(each.expand(batch_size, -1) for each in self.begin))

    def step(self, inputs, state):
        hidden, cell = self.unpack(state)
        gates, forgets, new, out = self.map(torch.cat([inputs, hidden], -1)).chunk(4, -1)
        cell = forgets.sigmoid() * cell + gates.sigmoid() * new.tanh()
        hidden = out.sigmoid() * cell.tanh()
        return hidden, self.pack(hidden, cell)


@pytest.fixture
def learn(toy):
    """A learner over a Song, in float64; `lr` 0 where nothing is said, so that the weights stay as they are."""

    def made(lr=0.0, *, kind="tuple", source=None, size=ROWS, **options):
        torch.manual_seed(0)
        graph = toy.song_graph(source, size=size, make_core=partial(Gated, kind=kind))
        graph.model.double()
        return toy.learner(graph, optimizer=partial(sgd, lr=lr), clip=None, **options)

    return made


def _state(learner):
    """The tensors that are carried."""
    return learner.graph.model.core.unpack(learner.carry)


def _whole(learner, windows):
    """One unroll over all windows, with its predictions, inputs and targets, [T B]."""
    batches = [batch for _, batch in zip(range(windows), learner.graph.node(learner.graph.source), strict=False)]
    learner.graph.source.reset()
    inputs, targets = (torch.cat([getattr(each, name) for each in batches]) for name in ("inputs", "targets"))
    predictions, state = learner.model(inputs, None, None, None, targets)
    return predictions, state, targets


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_windows_are_one_unroll(learn, kind, accumulate):
    """With weights that stay, the losses over the windows are those of one unroll over the whole tracks, and so is the end."""
    learner = learn(kind=kind, accumulate=accumulate)
    windows, steps = learner.graph.source.windows, learner.graph.source.steps
    with torch.no_grad():
        predictions, state, targets = _whole(learner, windows)
    told = [float(learner.step(batch)["loss"]) for _, batch in zip(range(windows), learner.stream(), strict=False)]
    for number, (values, asked) in enumerate(zip(predictions.split(steps), targets.split(steps), strict=True)):
        assert told[number] == pytest.approx(-values.sum().item() / (asked >= 0).sum().item(), rel=1e-12), number
    for found, wanted in zip(_state(learner), learner.model.core.unpack(state), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    assert type(learner.carry) is type(state)


class Late(Core):
    """What was read `steps` ago, as a line of states in which each moves on by one place."""

    def __init__(self, input_size, steps=6):
        super().__init__()
        self.input_size = self.output_size = input_size
        self.steps, self.map = steps, torch.nn.Linear(input_size, input_size)

    def initial_state(self, batch_size):
        return [self.map.weight.new_zeros(batch_size, self.output_size) for _ in range(self.steps)]

    def step(self, inputs, state):
        return self.map(state[-1]), [inputs, *state[:-1]]


def test_what_moves_from_one_place_of_a_state_to_another_is_carried_as_it_was(toy):
    """A state that hands on a part of the one before, in another place, is carried whole: nothing is written over first."""
    graph = toy.song_graph(make_core=Late)
    learner = toy.learner(graph, optimizer=partial(sgd, lr=0.0))
    batches = [batch for _, batch in zip(range(3), learner.stream(), strict=False)]
    for batch in batches:
        learner.step(batch)
    read = graph.model.encoder(torch.cat([batch.inputs for batch in batches])).detach()
    for ago, carried in enumerate(learner.carry, 1):
        assert (carried == read[-ago]).all(), ago


class Forgetful(Core):
    """Remembers nothing."""

    def __init__(self, input_size):
        super().__init__()
        self.input_size = self.output_size = input_size
        self.map = torch.nn.Linear(input_size, input_size)

    def initial_state(self, batch_size):
        return ()

    def step(self, inputs, state):
        return self.map(inputs), state


def test_a_core_without_a_state(toy):
    """What looks at one token alone learns from a text as well, and goes on."""
    learners = [toy.learner(toy.song_graph(make_core=Forgetful)) for _ in range(2)]
    for learner in learners:
        for _, batch in zip(range(2), learner.stream(), strict=False):
            assert learner.step(batch)["loss"].isfinite()
        learners[1].load_state_dict(learners[0].state_dict())


def test_a_gradient_is_that_of_a_window_alone(learn):
    """The state in which a window begins is a constant: the gradient is that of the window from numbers that stay so.

    The first window alone begins in what is learned.
    """
    learner = learn()
    model = learner.model
    kept = {}
    for name, each in model.named_parameters():
        each.register_post_accumulate_grad_hook(lambda each, name=name: kept.__setitem__(name, each.grad.clone()))
    state = None
    for number, batch in zip(range(4), learner.stream(), strict=False):
        kept.clear()
        learner.step(batch)
        predictions, end = model(batch.inputs, state, batch.first, None, batch.targets)
        loss = -predictions.sum() / (batch.targets >= 0).sum()
        names, parameters = zip(*model.named_parameters(), strict=True)
        for name, wanted in zip(names, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
            found = kept.get(name)
            if wanted is None or (name == "core.begin" and number):
                assert found is None or not found.any()
            else:
                torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
        state = tuple(each.detach() for each in end)


@pytest.mark.parametrize("accumulate", [2, 3, 5, 9])
def test_parts_of_a_batch_are_the_same_update(learn, accumulate):
    """In parts, uneven ones too, a batch of five rows leaves the weights and the carry of the whole."""
    one, other = (learn(lr=0.5, size=5, accumulate=each) for each in (1, accumulate))
    for _ in range(2):
        for learner in (one, other):
            for _, batch in zip(range(5), learner.stream(), strict=False):
                learner.step(batch)
    for found, wanted in zip(other.model.parameters(), one.model.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    for found, wanted in zip(_state(other), _state(one), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_first_begins_anew(toy, learn):
    """Where a row begins anew, what was carried to it does not matter."""
    learner = learn(source=toy.Song(every=4))
    stream = learner.stream()
    learner.step(next(stream))
    before, batch = copy.deepcopy(_state(learner)), next(stream)
    assert batch.first[0].all()
    told = learner.step(batch)
    for each in _state(learner):
        each.fill_(9.0)
    again = learner.step(batch)
    assert torch.equal(told["loss"], again["loss"])
    learner = learn()
    stream = learner.stream()
    learner.step(next(stream))
    batch = next(stream)
    assert batch.first is None
    assert all(torch.equal(*each) for each in zip(_state(learner), before, strict=True))
    told = learner.step(batch)
    for each in _state(learner):
        each.fill_(9.0)
    assert not torch.equal(told["loss"], learner.step(batch)["loss"])


def test_the_carry_stays_where_it_is(learn):
    """Every update writes to the same memory, without a gradient, and starts nowhere else."""
    learner = learn(lr=0.5)
    places = set()
    for _, batch in zip(range(5), learner.stream(), strict=False):
        learner.step(batch)
        places.add(tuple(each.data_ptr() for each in _state(learner)))
        assert not any(each.requires_grad for each in _state(learner))
    assert len(places) == 1


@pytest.mark.parametrize("taken", [0, 1, 3, 7])
def test_goes_on_elsewhere(learn, taken):
    """A learner with the weights and the state of another goes on to the same numbers, to the bit; the other one too."""

    def go(learner, count=9):
        return [learner.step(batch)["loss"].item() for _, batch in zip(range(count), learner.stream(), strict=False)]

    first = learn(lr=0.5)
    go(first, taken)
    weights, state = copy.deepcopy(first.model.state_dict()), first.state_dict()
    wanted = go(first)
    second = learn(lr=0.5)
    go(second, 2)
    second.model.load_state_dict(weights)
    second.load_state_dict(state)
    assert go(second) == wanted
    second.model.load_state_dict(weights)
    second.load_state_dict(state)
    assert go(second) == wanted, "a state is the caller's own"


def _stop_at(fit, step, *, evaluating):
    """Ask a run to stop, as Ctrl-C does, while it takes an update, or while it evaluates after that."""
    take, look = fit.learner.step, fit.evaluation.graph.metrics["perplexity"].measure

    def asked(work, *given):
        if fit.step + (not evaluating) == step and fit.learner.model.training is not evaluating:
            signal.raise_signal(signal.SIGINT)
        return work(*given)

    if evaluating:
        fit.evaluation.graph.metrics["perplexity"].measure = lambda *given: asked(look, *given)
    else:
        fit.learner.step = lambda batch: asked(take, batch)
    return fit


def _same(left, right):
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(_same, left, right))
    return left == right


@pytest.mark.parametrize("evaluating", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_stopped_run_ends_as_one_that_was_not(toy, tmp_path, accumulate, evaluating):
    """Stopped in the middle of a pass, or of an evaluation, and resumed: weights, carry and metrics are equal to the bit."""

    def make(folder):
        options = {"make_core": Gated, "dropout": 0.2, "learner": {"accumulate": accumulate}}
        return toy.fit(tmp_path / folder, source=toy.Song(0), evaluate={"every": 3, "examples": None}, **options)

    whole = make("whole")
    assert whole() == "FINISHED"
    stops = [3, 12] if evaluating else sorted(random.Random(0).sample(range(1, 20), 2))
    for stop in (*stops, 20):
        fit = make("parts")
        last = fit.checkpoints.find("last")
        if last is not None:
            fit.learner.model.load_state_dict(load_weights(last))
            fit.load_state_dict(load_state(last))
        status = _stop_at(fit, stop, evaluating=evaluating)() if stop < 20 else fit()
        assert (status, fit.step) == ("KILLED" if stop < 20 else "FINISHED", stop)
    ends = [Checkpoints(tmp_path / name).find("last") for name in ("whole", "parts")]
    assert _same(*map(load_weights, ends))
    assert _same(*({**load_state(each), "clock": 0} for each in ends))
    assert fit.latest == whole.latest
    assert load_state(ends[0])["learner"]["carry"]


def test_as_many_rows_as_before(toy, learn):
    """Another size of batch is one line that says so, in a step and in a state that is loaded."""
    says = "truncated goes on from a batch of 3 rows, and got one of 2: batch.size has to stay as it was"
    learner = learn()
    learner.step(next(learner.stream()))
    with pytest.raises(ValueError, match=f"^{says}$"):
        learn(size=2).load_state_dict(learner.state_dict())
    with pytest.raises(ValueError, match=f"^{says}$"):
        learner.step(next(learn(size=2).stream()))


def test_the_carry_of_another_core(toy, learn):
    """Shapes that do not fit are one line."""
    learner = learn()
    learner.step(next(learner.stream()))
    state = learner.state_dict()
    for carry in (state["carry"][:1], [each[:, :2] for each in state["carry"]]):
        with pytest.raises(ValueError, match=r"^the state that is carried over is of another core: wanted .*, got \["):
            learn().load_state_dict({**state, "carry": carry})


def test_a_source_that_is_not_contiguous(tiny):
    """It is refused under the learner's key, before anything is trained."""
    with pytest.raises(
        ValueError, match=r"^learner: the state is carried from .*contiguous source, .*: use supervised$"
    ):
        Pipeline.load("program_eval", [*tiny, "learner=truncated"]).run()
