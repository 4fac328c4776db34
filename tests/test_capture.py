"""Captured updates: on a CPU with a tape that bakes in what a CUDA graph bakes in, on a GPU with the graphs themselves."""
# ruff: noqa: D102  the methods are those of what they stand in for

import contextlib
import copy
import logging
import re
import warnings
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seqtoolkit.flow.batch import Pad
from seqtoolkit.train.capture import MOST, WARM, CaptureError, Captures, CudaGraphs
from seqtoolkit.train.checkpoint import load_state, load_weights
from seqtoolkit.train.learner import Supervised
from seqtoolkit.train.optimize import adam, sgd
from seqtoolkit.train.schedule import cosine

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a GPU")
CPU = torch.device("cpu")
STEPS = 30


class Tape(TorchDispatchMode):
    """A CUDA graph in small: what torch computes is recorded, and computed again on the same memory.

    All that Python did meanwhile, its numbers included, stays as it was then, and to read a number is an error. Random
    numbers are drawn anew. The first replay does nothing: here, other than on a GPU, recording has done it.
    """

    def __init__(self):
        super().__init__()
        self.calls, self.fresh = [], True

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        result = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self):
        if self.fresh:
            self.fresh = False
            return
        for function, args, kwargs, result in self.calls:
            again = function(*args, **kwargs)
            for kept, now in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(kept, torch.Tensor) and kept.data_ptr() != now.data_ptr():
                    kept.copy_(now)


class Lookout(TorchDispatchMode):
    """Sees numbers read, and lets them be read."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            self.found.append(function)
        return function(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def _reading_as_on_a_gpu(monkeypatch):
    """A question is read as on a GPU: on a CPU steps are left out, by looking at where rows begin."""
    monkeypatch.setattr("seqtoolkit.flow.model.read", lambda core, inputs, state, first: core(inputs, state, first)[1])


class Tapes:
    """A capturer of tapes that keeps a diary."""

    def __init__(self, blind=False):
        self.aside_count, self.tapes, self.besides, self.abandoned, self.blind = 0, [], [], 0, blind

    @contextlib.contextmanager
    def aside(self):
        self.aside_count += 1
        yield

    def watch(self, work):
        with self.aside(), self.watching() as found:
            told = work()
        return told, "a line waits" if found else None

    @contextlib.contextmanager
    def watching(self):
        """The calls that a capture cannot hold, without a capture; none are seen where `blind`."""
        with Lookout() as lookout:
            yield [] if self.blind else lookout.found

    def capture(self, work, beside):
        tape = Tape()
        with tape:
            work()
        self.tapes.append(tape)
        self.besides.append(beside)
        return tape

    def abandon(self):
        self.abandoned += 1


def hold_rates(update):
    """Rates in tensors as on a GPU, but of 64 bits, which a CPU can, so that numbers are equal."""
    for group, rate in zip(update.optimizer.param_groups, update.rates, strict=True):
        group["lr"] = torch.tensor(rate, dtype=torch.float64)


def pair(toy, **options):
    """Two learners of the same weights and stream, the second with tapes."""
    learners, graph = (
        [],
        {name: options.pop(name) for name in ("source", "size", "dropout", "make_core") if name in options},
    )
    source = graph.pop("source", toy.Echo)
    captured = {"warm": 1} | {name: options.pop(name) for name in ("warm", "most", "strict") if name in options}
    for _ in range(2):
        torch.manual_seed(0)
        learners.append(toy.learner(toy.graph(source(), **graph), STEPS, **options))
    hold_rates(learners[1].update)
    learners[1].captures = Captures(learners[1]._learn, Tapes(), learners[1].update.clear, **captured)
    return learners


def run(learner, steps, seed=1):
    """What the learner tells at each update, from a seed of torch's generator."""
    torch.manual_seed(seed)
    return [learner.step(batch) for _, batch in zip(range(steps), learner.stream(), strict=False)]


def same(plain, captured, told, also):
    """Both have told the same, and are left with the same weights and the same state, to the bit."""
    for one, other in zip(told, also, strict=True):
        assert list(one) == list(other)
        for name, value in one.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(other[name])), name
    for name, each in plain.model.state_dict().items():
        assert torch.equal(each, captured.model.state_dict()[name]), name
    states = [tree_leaves(each.update.optimizer.state_dict()["state"]) for each in (plain, captured)]
    assert all(torch.equal(*each) for each in zip(*states, strict=True))


@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"dropout": 0.3}], ids=str)
def test_the_carry_is_read_and_written_in_place(toy, options):
    """Replayed updates of a truncated learner go on from one another as updates do, and after a state is loaded too.

    There are two shapes, for where nothing begins anew a batch does not say so; both read and write the same carry.
    """
    learners = []
    for _ in range(2):
        torch.manual_seed(0)
        graph = toy.song_graph(toy.Song(length=40, steps=4), dropout=options.get("dropout", 0.0))
        learners.append(toy.learner(graph, STEPS, accumulate=options.get("accumulate", 1)))
    plain, captured = learners
    hold_rates(captured.update)
    captured.captures = Captures(captured._learn, Tapes(), captured.update.clear, warm=1)
    for _ in range(2):
        same(plain, captured, run(plain, STEPS), run(captured, STEPS))
        assert torch.equal(plain.carry, captured.carry)
        assert len(captured.captures) == 2
        assert not captured.captures.failed
        for learner in learners:
            learner.load_state_dict(copy.deepcopy(learner.state_dict()))
        hold_rates(captured.update)
        assert len(captured.captures) == 0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accumulate": 3},
        {"dropout": 0.3},
        {"precision": "bf16"},
        {"clip": None},
        {"optimizer": partial(sgd, lr=0.1, momentum=0.9)},
        {"most": 2},
        {"warm": 0, "optimizer": partial(sgd, lr=0.1)},
        {"warm": WARM, "size": 3},
    ],
    ids=", ".join,
)
def test_captured_updates_are_the_updates(toy, options):
    """Thirty updates over batches of several shapes tell the same and leave the same, whether replayed or not."""
    plain, captured = pair(toy, **options)
    same(plain, captured, run(plain, STEPS), run(captured, STEPS))
    captures = captured.captures
    replays = STEPS - captures.capturer.aside_count
    assert replays > len(captures.capturer.tapes) > 1, "shapes were captured, and replayed"
    assert not captures.failed


def test_a_source_that_listens_hears_the_same(toy):
    """A curriculum that goes by the losses gets those of replays too."""
    plain, captured = pair(toy, source=toy.Rising)
    same(plain, captured, run(plain, STEPS), run(captured, STEPS))
    assert plain.graph.source.heard == captured.graph.source.heard
    assert captured.captures.capturer.tapes


def test_the_tape_bakes_numbers_in(toy):
    """A learning rate that is a number of Python's would stay that of the capture: the oracle here sees it."""
    plain, captured = pair(toy)
    for group in captured.update.optimizer.param_groups:
        group["lr"] = 0.01
    told, also = run(plain, STEPS), run(captured, STEPS)
    with pytest.raises(AssertionError):
        same(plain, captured, told, also)


class Two(torch.nn.Module):
    """Work on a batch that adds up what it is given."""

    def __init__(self):
        super().__init__()
        self.register_buffer("sum", torch.zeros(()))

    def __call__(self, batch):
        self.sum += batch.inputs.sum()
        return {"sum": self.sum, "twice": batch.inputs * 2}


def batches(toy, *lengths):
    """Batches of questions of given lengths, each with other ids."""
    pad = Pad(toy.Echo().writes, size=1)
    return [pad(toy.block(([1 + place % 5] * length, [1], [True]))) for place, length in enumerate(lengths)]


def test_what_is_told_is_the_callers_own(toy):
    """Neither later updates nor the batch's owner change what an update has told, nor is the batch written to."""
    work = Two()
    captures = Captures(work, Tapes(), lambda: None, warm=0)
    given = batches(toy, 2, 2, 2)
    before = copy.deepcopy(given)
    told = [captures(batch) for batch in given]
    sums = torch.stack([each.inputs.sum() for each in before]).cumsum(0)
    assert [each["sum"].item() for each in told] == sums.tolist()
    assert all(torch.equal(each["twice"], 2 * batch.inputs) for each, batch in zip(told, before, strict=True))
    assert all(torch.equal(one.inputs, other.inputs) for one, other in zip(given, before, strict=True))
    given[0].inputs.fill_(99)
    captures(given[1])
    assert torch.equal(told[0]["twice"], 2 * before[0].inputs)


def test_the_captures_used_last_are_kept(toy):
    """Beyond `most` the one used least recently goes, and has to warm up anew; the others share their memory with one."""
    capturer = Tapes()
    captures = Captures(Two(), capturer, lambda: None, warm=1, most=2)
    first, second, third = batches(toy, 1, 2, 3)
    for batch in (first, first, second, second, first, third, third):
        captures(batch)
    assert (len(captures), len(capturer.tapes), capturer.aside_count) == (2, 3, 3)
    assert capturer.besides == [None, capturer.tapes[0], capturer.tapes[1]]
    captures(first)
    assert (len(capturer.tapes), capturer.aside_count) == (3, 3), "the first was used later than the second"
    captures(second)
    assert (len(capturer.tapes), capturer.aside_count) == (3, 4)
    captures(second)
    assert (len(captures), len(capturer.tapes)) == (2, 4)


def test_a_shape_is_all_that_a_graph_depends_on(toy):
    """Batches with and without `first`, or of another dtype, have captures of their own."""
    captures = Captures(Two(), Tapes(), lambda: None, warm=0)
    (batch,) = batches(toy, 2)
    for each in (batch, batch.to(CPU), type(batch)(batch.inputs, batch.targets, batch.mask)):
        captures(each)
    assert len(captures) == 2
    captures(type(batch)(batch.inputs.int(), batch.targets, batch.mask))
    assert len(captures) == 3
    assert MOST > WARM > 0


class Reader(torch.autograd.Function):
    """A function that reads a number in its backward pass."""

    @staticmethod
    def forward(context, inputs):
        return inputs * 1

    @staticmethod
    def backward(context, gradient):
        float(gradient.sum())
        return gradient


def reading(toy, where):
    """A core that reads a number of the device's: in its step, or going back."""

    class Looks(toy.Plain):
        def step(self, inputs, state):
            if where == "forward":
                float(inputs.detach().sum())
            output, state = super().step(Reader.apply(inputs) if where == "backward" else inputs, state)
            return output, state

    return Looks


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_what_cannot_be_captured_runs_by_itself(toy, where, blind, caplog):
    """A core that waits for the device: one warning of one line that says what to do, and the same updates.

    What is seen to wait is not captured; where it is not seen, the capture fails and is cleared away.
    """
    plain, captured = pair(toy, make_core=reading(toy, where), warm=2)
    captured.captures.capturer.blind = blind
    with caplog.at_level(logging.WARNING):
        same(plain, captured, run(plain, STEPS), run(captured, STEPS))
    (line,) = [each.getMessage() for each in caplog.records]
    assert ("RuntimeError: operation not permitted when stream is capturing" if blind else "a line waits") in line
    assert "learner.capture=never" in line
    assert "\n" not in line
    captures = captured.captures
    assert (captures.failed, len(captures), captures.capturer.abandoned) == (True, 0, int(blind))
    assert captures.capturer.aside_count == STEPS


def test_what_has_to_be_captured_and_cannot(toy):
    """With `always` it is an error of one line, and no gradient is left of the attempt."""
    _, captured = pair(toy, make_core=reading(toy, "backward"), strict=True)
    with pytest.raises(
        CaptureError, match=r"^learner.capture: wanted always, but .*; use auto or never, or a core"
    ) as e:
        run(captured, STEPS)
    assert "\n" not in str(e.value)
    assert all(each.grad is None for each in captured.model.parameters())


@pytest.mark.parametrize("stop", [1, 9, 17])
@pytest.mark.parametrize("way", ["captured", "to plain", "to captured"])
def test_a_run_goes_on_where_it_stood(toy, stop, way):
    """Saved and loaded into new learners or back into the same one, captured or not, it is as if never stopped."""
    plain, _ = pair(toy)
    told = run(plain, STEPS)
    first = pair(toy)[0 if way == "to captured" else 1]
    second = pair(toy)[0 if way == "to plain" else 1]
    run(first, stop)
    weights, state = copy.deepcopy(first.model.state_dict()), copy.deepcopy(first.state_dict())
    assert not any(isinstance(group["lr"], torch.Tensor) for group in state["update"]["optimizer"]["param_groups"])
    run(first, 3)
    for learner in (second, first):
        learner.model.load_state_dict(weights)
        learner.load_state_dict(copy.deepcopy(state))
        same(plain, learner, told[stop:], run(learner, STEPS - stop))


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_without_a_gpu(toy, precision):
    """On a CPU nothing is captured unless it is asked for, which is refused in a line."""
    for capture in ("auto", "never"):
        assert toy.learner(toy.graph(), precision=precision, capture=capture).captures is None
    with pytest.raises(
        ValueError, match=r"^capture: always wants a CUDA device, got the device cpu; use auto or never$"
    ):
        toy.learner(toy.graph(), capture="always")


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_whole_run_goes_on_from_a_checkpoint(toy, tmp_path, monkeypatch, dropout):
    """Logs, evaluations and checkpoints between captured updates: a run from its seventh update ends as the whole one."""
    monkeypatch.setattr("seqtoolkit.train.learner.CudaGraphs", lambda _: Tapes())
    monkeypatch.setattr("seqtoolkit.train.optimize.Update.uncapturable", lambda _: None)

    def fit(name):
        made = toy.fit(tmp_path / name, dropout=dropout, size=3)
        made.learner.captures.warm = 1
        return made

    whole, part = fit("whole"), fit("part")
    whole.checkpoints.keep_every = 7
    whole()
    checkpoint = tmp_path / "whole" / "step_00000007"
    part.learner.model.load_state_dict(load_weights(checkpoint))
    part.load_state_dict(load_state(checkpoint))
    part()
    assert part.step == whole.step == 20
    assert len(part.learner.captures) > 1
    for name, each in whole.learner.model.state_dict().items():
        assert torch.equal(each, part.learner.model.state_dict()[name]), name
    assert part.latest == whole.latest


@pytest.fixture
def paper(monkeypatch):
    """A torch.cuda of paper, and the diary of what was asked of it."""
    diary, mode = [], ["default"]

    class Stream:
        device = torch.device("cuda:0")

        def __init__(self, *_):
            self.name = f"stream {id(self) % 97}"

        def wait_stream(self, other):
            diary.append("wait")

    @contextlib.contextmanager
    def entered(name):
        diary.append(name)
        try:
            yield
        finally:
            diary.append(f"end of {name}")

    def set_mode(now):
        warnings.warn("Synchronization debug mode is a prototype feature", stacklevel=1)
        mode[0] = now

    def graph(made, **options):
        diary.append({name: options[name] for name in ("pool", "capture_error_mode")})
        return entered("graph")

    for name, each in {
        "Stream": Stream,
        "CUDAGraph": lambda: "a graph",
        "current_stream": Stream,
        "stream": lambda _: entered("stream"),
        "get_sync_debug_mode": lambda: mode[0],
        "set_sync_debug_mode": set_mode,
        "graph": graph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, each)
    monkeypatch.setattr(torch, "clear_autocast_cache", lambda: diary.append("no weight is cast"))
    return diary, mode


def test_what_waits_is_named_by_its_line(paper, recwarn):
    """The line that torch warns of, and no other warning, is the reason; the others are passed on, and the mode is restored."""
    graphs, (_, mode) = CudaGraphs(torch.device("cuda")), paper

    def work():
        assert mode == ["warn"]
        warnings.warn("of something else", stacklevel=1)
        return {"told": 1}

    assert graphs.watch(work) == ({"told": 1}, None)

    def waiting():
        warnings.warn("called a synchronizing CUDA operation (Triggered internally at somewhere)", stacklevel=1)
        return work()

    told, reason = graphs.watch(waiting)
    assert told == {"told": 1}
    assert re.fullmatch(r".*test_capture\.py:\d+ waits for the GPU", reason)
    assert {str(each.message) for each in recwarn} == {"of something else"}
    assert mode == ["default"]
    with pytest.raises(ZeroDivisionError):
        graphs.watch(lambda: 1 / 0)
    assert mode == ["default"]


def test_a_graph_is_captured_on_the_side(paper):
    """On a stream of its own that waits for the current one and is waited for, in the pool of another graph, by thread.

    Casts that autocast has made before would not be in the graph, so that it forgets them first.
    """
    graphs, (diary, _) = CudaGraphs(torch.device("cuda")), paper
    assert graphs.capture(lambda: diary.append("work"), None) == "a graph"
    options = {"pool": None, "capture_error_mode": "thread_local"}
    inside = ["no weight is cast", "wait", "stream", options, "graph", "work", "end of graph", "end of stream", "wait"]
    assert diary == inside
    diary.clear()
    graphs.capture(lambda: None, SimpleNamespace(pool=lambda: 7))
    assert diary[3]["pool"] == 7
    diary.clear()
    with pytest.raises(ZeroDivisionError):
        graphs.capture(lambda: 1 / 0, None)
    assert diary[-2:] == ["end of stream", "wait"]


# What follows wants a GPU.


def graphs(toy, capture, dropout=0.0, make_core=None, **options):
    """A learner on the GPU, from the same weights each time."""
    torch.manual_seed(0)
    graph = toy.graph(size=3, dropout=dropout, make_core=make_core or toy.Plain)
    options = {"optimizer": partial(adam, lr=0.01), "schedule": partial(cosine, warmup=3), "clip": 1.0, **options}
    return Supervised(graph, torch.device("cuda"), STEPS, options.pop("precision", "f32"), capture=capture, **options)


def close(one, other, told, also):
    """Both have told the same, and have the same weights, but for the order in which a GPU adds up."""
    for before, after in zip(told, also, strict=True):
        for name, value in before.items():
            left, right = torch.as_tensor(value).double().cpu(), torch.as_tensor(after[name]).double().cpu()
            torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(one.model.state_dict(), other.model.state_dict(), rtol=1e-3, atol=1e-4)


@GPU
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accumulate": 3},
        {"dropout": 0.3},
        {"precision": "bf16"},
        {"clip": None},
        {"optimizer": partial(sgd, lr=0.1, momentum=0.9)},
        {"optimizer": lambda parameters: torch.optim.Adam(parameters, lr=0.01, fused=False)},
    ],
    ids=", ".join,
)
def test_graphs_are_the_updates(toy, options):
    """On a GPU thirty updates over several shapes are those of the learner that captures nothing, dropout included."""
    plain, captured = graphs(toy, "never", **options), graphs(toy, "always", **options)
    close(plain, captured, run(plain, STEPS), run(captured, STEPS))
    assert len(captured.captures) > 1


@GPU
def test_graphs_of_few_shapes_share_their_memory(toy):
    """Beyond `most`, graphs come and go, and the numbers stay."""
    plain, captured = graphs(toy, "never"), graphs(toy, "always")
    captured.captures.most = captured.captures.warm = 1
    close(plain, captured, run(plain, STEPS), run(captured, STEPS))
    assert len(captured.captures) == 1


@GPU
def test_a_core_that_waits_for_the_gpu(toy, caplog):
    """A failed capture leaves a learner that goes on by itself, dropout included, and is an error where asked for."""
    make_core = reading(toy, "forward")
    plain, captured = graphs(toy, "never", 0.3, make_core), graphs(toy, "auto", 0.3, make_core)
    with caplog.at_level(logging.WARNING):
        close(plain, captured, run(plain, STEPS), run(captured, STEPS))
    assert len([each for each in caplog.records if "learner.capture=never" in each.getMessage()]) == 1
    with pytest.raises(CaptureError, match=r"learner\.capture: wanted always"):
        run(graphs(toy, "always", 0.3, make_core), STEPS)
    assert torch.zeros(3, device="cuda").sum().item() == 0


@GPU
def test_from_a_gpu_to_a_cpu_and_back(toy):
    """What a captured run saves goes on on a CPU, and what that saves on a GPU."""
    whole = graphs(toy, "never")
    told = run(whole, STEPS)
    learner = graphs(toy, "always")
    run(learner, 11)
    for place, steps in (("cpu", 8), ("cuda", 11)):
        weights, state = copy.deepcopy(learner.model.state_dict()), copy.deepcopy(learner.state_dict())
        learner = toy.learner(toy.graph(size=3), STEPS) if place == "cpu" else graphs(toy, "always")
        learner.model.load_state_dict(weights)
        learner.load_state_dict(state)
        also = run(learner, steps)
    close(whole, learner, told[19:], also)


@GPU
def test_f16_is_not_captured(toy):
    """Its scale is looked up at each update: never by itself, and refused where asked for."""
    assert graphs(toy, "auto", precision="f16").captures is None
    with pytest.raises(ValueError, match="capture: always wants the precision bf16 or f32, got f16"):
        graphs(toy, "always", precision="f16")
