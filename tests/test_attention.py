"""Attention: what a core shows, on its way through the model, over a task's cases, and while a run is evaluated."""
# ruff: noqa: D102  the methods are those of the classes they stand in for

import signal

import numpy as np
import pytest
import torch
from torch import nn

from seqtoolkit.flow.attention import shown
from seqtoolkit.flow.core import Core, attends, where_first
from seqtoolkit.flow.mix import Mix
from seqtoolkit.flow.source import Case, Sample
from seqtoolkit.flow.view import MOST_CASES, look
from seqtoolkit.host.registry import discover
from seqtoolkit.train.checkpoint import load_state, load_weights
from seqtoolkit.train.evaluate import Evaluation

STYLES = [(decoding, decoder) for decoding in ("parallel", "teacher_forcing") for decoder in ("shared", "separate")]
SLOTS = 3


class Glance(Core):
    """A stranger's core: slots that ask, over two heads, what stands in the slots and in the input."""

    def __init__(self, input_size, size=4):
        super().__init__()
        self.input_size, self.output_size, self.size = input_size, SLOTS * size, size
        self.project = nn.Linear(input_size, size)
        self.ask, self.answer = nn.Linear(size, 2 * size), nn.Linear(size, 2 * size)

    def initial_state(self, batch_size):
        start = torch.arange(SLOTS * self.size, dtype=self.project.weight.dtype).sin()
        return start.reshape(SLOTS, self.size).expand(batch_size, -1, -1)

    def rows(self, inputs, state):
        return torch.cat([state, self.project(inputs)[:, None]], 1)

    def weigh(self, inputs, state):
        """Weights [B heads keys keys], of the input too."""
        asked, kept = (each(self.rows(inputs, state)).unflatten(-1, (2, -1)) for each in (self.ask, self.answer))
        return torch.einsum("bqhd,bkhd->bhqk", asked, kept).softmax(-1)

    def step(self, inputs, state):
        mixed = self.weigh(inputs, state).mean(1)[:, :SLOTS] @ self.rows(inputs, state)
        state = torch.tanh(state + mixed)
        return state.flatten(1), state

    def attention(self, inputs, state=None, first=None):
        fresh, weights = self.initial_state(inputs.shape[1]), []
        state = fresh if state is None else state
        for time, now in enumerate(inputs):
            if first is not None:
                state = where_first(first[time], fresh, state)
            weights.append(self.show(self.weigh(now, state))[:, None])
            _, state = self.step(now, state)
        return torch.stack(weights)

    def show(self, weights):
        """Those of the slots: fewer queries than keys."""
        return weights[:, :, :SLOTS]


class Square(Glance):
    """The same, where the input asks as well."""

    def show(self, weights):
        return weights


def _cased(toy, cases):
    """An Echo with these cases: name, symbols, marked steps."""

    class Cased(toy.Echo):
        def cases(self):
            return [Case(name, toy.block((said, said, [True] * len(said))), marked) for name, said, marked in cases]

    return Cased()


def _by_hand(model, batch):
    """The weights of each step [T B heads slots keys]: read the question, then answer, fed with the own answers."""
    question = len(batch.inputs) - batch.answers
    state, fresh = model.core.initial_state(batch.size), model.core.initial_state(batch.size)
    vectors, weights = model.encoder.table(batch.inputs), []
    last = torch.full((batch.size,), model.feedback.num_embeddings - 1) if model.feedback else None
    for time, vector in enumerate(vectors):
        now, core = vector, model.core if time < question else model.decoder or model.core
        if time < question:
            state = torch.where(batch.first[time][:, None, None], fresh, state)
        elif model.feedback:
            now = now + model.feedback(last)
        weights.append(core.weigh(now, state)[:, :, :SLOTS])
        output, state = core.step(now, state)
        if time >= question:
            last = model.head(output[None])[0].argmax(-1)
    return torch.stack(weights)


@pytest.mark.parametrize("make_core", [Glance, Square])
@pytest.mark.parametrize(("decoding", "decoder"), STYLES)
def test_attention_is_that_on_the_way_to_the_answer(toy, decoding, decoder, make_core):
    """The weights are those of each step by hand, padding, restarts, decoder and own answers included; rows add to 1."""
    graph = toy.graph(decoding=decoding, decoder=decoder, dropout=0.5, make_core=make_core)
    torch.manual_seed(0)
    for each in graph.model.parameters():
        nn.init.normal_(each)
    model, batch = graph.model.eval(), next(graph.node(graph.source))
    weights, rows = model.attention(batch.inputs, batch.first, batch.answers)
    assert (rows, weights.shape[2:]) == (1, (1, 2, SLOTS, SLOTS + 1))
    assert not weights.requires_grad
    torch.testing.assert_close(weights[:, :, 0], _by_hand(model, batch))
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


def test_a_whole_sequence_without_a_question(toy):
    """Where every step is answered, attention is the core's own over all of them."""
    model = toy.graph(make_core=Glance).model.eval()
    inputs, first = torch.randint(0, 6, (5, 2)), torch.tensor([[False, True]] * 5)
    weights, _ = model.attention(inputs, first)
    assert torch.equal(weights, model.core.attention(model.encoder(inputs), None, first))


def test_rows_of_an_input_that_is_a_matrix():
    """With inputs of n rows the last n keys are theirs, and their queries are left out."""
    core = discover().resolve("core", "rmc")((2, 5), mem_slots=3, head_size=4, treat_input_as_matrix=True)
    inputs = torch.randn(4, 1, 2, 5)
    weights, rows = shown(core, inputs, None, None)
    assert (rows, weights.shape[-2:]) == (2, (3, 5))
    assert torch.equal(weights, core.attention(inputs)[..., :3, :])


def test_a_core_without(toy):
    """A core has attention by a method of its class; a submodule of that name is none. To ask for it is an error."""
    graph = toy.graph()
    graph.model.core.attention = nn.MultiheadAttention(4, 1)
    assert not attends(graph.model.core)
    assert not attends(toy.Plain)
    assert attends(Glance)
    assert attends(Glance(2))
    with pytest.raises(ValueError, match="Plain has no attention to show"):
        look(graph, graph.source)


@pytest.mark.parametrize("shape", [(4, 2, 1, 2, 3), (3, 2, 1, 2, 3, 4), (4, 2, 1, 2, 3, 1), (4, 2, 1, 2, 5, 4)])
def test_a_shape_that_cannot_be_is_refused(shape):
    """A stranger's attention of another shape is one line with both shapes: axes, steps, no slot, queries beyond keys."""
    core = type("Odd", (Glance,), {"attention": lambda *_: torch.zeros(shape)})(2)
    with pytest.raises(
        ValueError, match=r"^Odd\.attention: wanted \[4 2 blocks .*, got \[" + ", ".join(map(str, shape))
    ):
        shown(core, torch.zeros(4, 2, 2), None, None)


def test_a_view_is_a_case_without_its_padding(toy):
    """Cases come in order under their names, with their marks, from where they begin: padding changes nothing."""
    source = _cased(toy, [("one,\n two", [1, 2], (0, 3)), ("", [3], ()), ("x" * 99, [4, 5, 1], (5,))])
    torch.manual_seed(1)
    graph = toy.graph(source, make_core=Glance)
    graph.model.eval()
    plain = look(graph, source)
    assert [view.name for view in plain] == ["one, two", "example 2", "x" * 57 + "..."]
    assert [view.marked for view in plain] == [(0, 3), (), (5,)]
    assert [view.weights.shape[:3] for view in plain] == [(steps, 1, 2) for steps in (4, 2, 6)]
    batch = graph.batch(source.cases()[2].block)
    assert np.array_equal(plain[2].weights, graph.model.attention(batch.inputs, batch.first, 3).weights[:, 0].numpy())
    graph.collate.multiple = 7
    for view, padded in zip(plain, look(graph, source), strict=True):
        assert padded.marked == view.marked
        np.testing.assert_allclose(padded.weights, view.weights, atol=1e-6)


def test_names_are_what_the_source_says(toy):
    """A case without a name is called by its question, where the source shows it; by its number, where it does not."""

    class Spoken(toy.Echo):
        def show(self, inputs, targets, predictions):
            assert (targets != -100).any()
            assert (predictions >= 0).all()
            return Sample("say " + " ".join(map(str, targets)), "", "")

    graph = toy.graph(Spoken(), make_core=Glance)
    blocks = [Spoken().draw(np.array([index])) for index in range(3)]
    assert [view.name for view in look(graph, Spoken())] == [
        "say " + " ".join(map(str, block["answer"].values)) for block in blocks
    ]
    assert [view.name for view in look(graph, toy.Echo())] == ["example 1", "example 2", "example 3"]


@pytest.mark.parametrize(
    ("case", "line"),
    [
        (("far", [1, 2], (4,)), "the case 'far' of Cased marks step 4, and has 4 steps"),
        (("far", [1, 2], (-1,)), "the case 'far' of Cased marks step -1"),
    ],
)
def test_marks_that_are_not_there(toy, case, line):
    """A mark before or behind a case's steps is one line that names the case."""
    source = _cased(toy, [case])
    with pytest.raises(ValueError, match=f"^{line}"):
        look(toy.graph(source, make_core=Glance), source)


def test_a_case_is_one_example(toy):
    """A block of two examples is no case; and of many cases the first few are shown."""

    class Two(toy.Echo):
        def cases(self):
            return [Case("pair", self.draw(np.arange(2)))]

    with pytest.raises(ValueError, match="the case 'pair' of Two: wanted one example, got 2"):
        look(toy.graph(make_core=Glance), Two())
    many = _cased(toy, [(str(number), [1], ()) for number in range(MOST_CASES + 3)])
    assert [view.name for view in look(toy.graph(make_core=Glance), many)] == list(map(str, range(MOST_CASES)))


def test_the_cases_of_a_mix_take_turns(toy):
    """A mix shows the first case of each of its sources before the second of any."""
    one, two = (lambda seed, split, names=names: _cased(toy, [(n, [1], ()) for n in names]) for names in ("abc", "de"))
    assert [case.name for case in Mix([one, two]).cases()] == ["a", "d", "b", "e", "c"]


def _fit(toy, folder, *, attention):
    fit = toy.fit(folder, make_core=Glance)
    fit.evaluation = Evaluation(fit.learner.graph, fit.evaluation.origin, 20, 2, attention=attention)
    return fit


def _ends(fit):
    """Everything that a run leaves: weights, random numbers, evaluations, what was saved."""
    state = fit.state_dict()
    weights = {name: each.tolist() for name, each in fit.learner.model.state_dict().items()}
    return weights, state["random"]["cpu"].tolist(), fit.best, fit.latest, state["loop"]["step"]


def test_evaluations_look_without_a_trace(toy, tmp_path):
    """A run that shows its attention learns, evaluates and saves the same, bit for bit, as one that does not."""
    blind = _fit(toy, tmp_path / "blind", attention=False)
    blind()
    looking = _fit(toy, tmp_path / "looking", attention=True)
    looking()
    assert _ends(looking) == _ends(blind)
    assert looking.relay.evaluations == blind.relay.evaluations
    assert looking.relay.saves == blind.relay.saves
    assert looking.learner.model.training
    assert not blind.relay.views
    assert list(looking.relay.views) == [step for step, _ in looking.relay.evaluations] == [6, 12, 18, 20]
    looking.learner.model.eval()
    for view, kept in zip(look(looking.learner.graph, looking.evaluation.origin), looking.relay.views[20], strict=True):
        assert np.array_equal(view.weights, kept.weights)


def test_a_stopped_run_looks_again(toy, tmp_path):
    """Stopped while it is evaluated and resumed, a run ends the same, bit for bit, and shows the same."""
    whole = _fit(toy, tmp_path / "whole", attention=True)
    whole()
    part = _fit(toy, tmp_path / "parts", attention=True)
    take = part.learner.step
    part.learner.step = lambda batch: (part.step == 11 and signal.raise_signal(signal.SIGINT), take(batch))[1]
    assert part() == "KILLED"
    assert list(part.relay.views) == [6]
    again = _fit(toy, tmp_path / "parts", attention=True)
    last = again.checkpoints.find("last")
    again.learner.model.load_state_dict(load_weights(last))
    again.load_state_dict(load_state(last))
    assert again() == "FINISHED"
    assert _ends(again) == _ends(whole)
    assert list(again.relay.views) == [12, 18, 20]
    for step, views in again.relay.views.items():
        for view, kept in zip(views, whole.relay.views[step], strict=True):
            assert np.array_equal(view.weights, kept.weights)
