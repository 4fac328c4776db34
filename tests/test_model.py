"""Models: what they read, how they answer, and sizes that are not known."""

import pytest
import torch
from torch import nn

from seqtoolkit.flow.batch import IGNORED
from seqtoolkit.flow.encoder import Embed, Project
from seqtoolkit.flow.head import MLP
from seqtoolkit.flow.model import Model
from seqtoolkit.flow.spec import Spec

STYLES = [(decoding, decoder) for decoding in ("parallel", "teacher_forcing") for decoder in ("shared", "separate")]


def _batch(graph):
    torch.manual_seed(0)
    return next(graph.node(graph.source))


def _by_hand(model, batch, said=None):
    """Step by step: read the question, then answer; fed with `said`, or with the own answers where None is given."""
    question = len(batch.inputs) - batch.answers
    state, fresh = model.core.initial_state(batch.size), model.core.initial_state(batch.size)
    vectors = model.encoder.table(batch.inputs)
    for time in range(question):
        state = torch.where(batch.first[time][:, None], fresh, state)
        _, state = model.core.step(vectors[time], state)
    core, predictions = model.decoder or model.core, []
    last = torch.full((batch.size,), model.feedback.num_embeddings - 1) if model.feedback else None
    for time in range(batch.answers):
        now = vectors[question + time]
        if model.feedback:
            now = now + model.feedback(last)
        output, state = core.step(now, state)
        predictions.append(model.head(output[None])[0])
        last = predictions[-1].argmax(-1) if said is None else said[time]
    return torch.stack(predictions), state


@pytest.mark.parametrize(("decoding", "decoder"), STYLES)
def test_evaluation_is_greedy_decoding(toy, decoding, decoder):
    """In evaluation a model answers as it does by hand, step by step, fed with its own answers alone."""
    graph = toy.graph(decoding=decoding, decoder=decoder, dropout=0.5)
    model, batch = graph.model.eval(), _batch(graph)
    with torch.no_grad():
        wanted, state = _by_hand(model, batch)
        for targets in (None, batch.targets):
            predictions, last = model(batch.inputs, None, batch.first, batch.answers, targets)
            torch.testing.assert_close(predictions, wanted)
            torch.testing.assert_close(last, state)


@pytest.mark.parametrize("decoder", ["shared", "separate"])
def test_training_is_fed_with_the_truth(toy, decoder):
    """In training each step of the answer sees the true character before it, and id 0 after the end."""
    graph = toy.graph(decoding="teacher_forcing", decoder=decoder)
    model, batch = graph.model.train(), _batch(graph)
    assert (batch.targets == IGNORED).any()
    wanted, _ = _by_hand(model, batch, batch.targets.masked_fill(batch.targets == IGNORED, 0))
    predictions, _ = model(batch.inputs, None, batch.first, batch.answers, batch.targets)
    torch.testing.assert_close(predictions, wanted)
    changed = batch.targets.clone()
    changed[-1] = 1
    again, _ = model(batch.inputs, None, batch.first, batch.answers, changed)
    assert torch.equal(again, predictions), "the last target is fed to nothing"
    changed[0] = 1 + changed[0] % 5
    again, _ = model(batch.inputs, None, batch.first, batch.answers, changed)
    assert torch.equal(again[0], predictions[0])
    assert not torch.equal(again[1], predictions[1])


@pytest.mark.parametrize(("decoding", "decoder"), STYLES)
def test_every_parameter_learns(toy, decoding, decoder):
    """No way of answering leaves a parameter without a gradient."""
    graph = toy.graph(decoding=decoding, decoder=decoder)
    batch = _batch(graph)
    predictions, _ = graph.model(batch.inputs, None, batch.first, batch.answers, batch.targets)
    graph.loss.total(predictions, batch).backward()
    for name, each in graph.model.named_parameters():
        assert each.grad is not None, name
        assert each.grad.abs().sum() > 0, name


def test_a_separate_decoder_has_parameters_of_its_own(toy):
    """The second core is of the same kind, and not the first."""
    shared, separate = toy.graph().model, toy.graph(decoder="separate").model
    assert separate.decoder is not separate.core
    assert type(separate.decoder) is type(separate.core)
    more = sum(each.numel() for each in separate.parameters()) - sum(each.numel() for each in shared.parameters())
    assert more == sum(each.numel() for each in separate.core.parameters())


def test_answers_everywhere(toy):
    """Where no answers are named every step is one, and a state may be handed in and on."""
    model = toy.graph().model.eval()
    inputs = torch.tensor([[1, 2], [3, 4], [5, 0]])
    with torch.no_grad():
        whole, state = model(inputs)
        begin, middle = model(inputs[:2])
        end, last = model(inputs[2:], middle)
    assert whole.shape == (3, 2, 6)
    torch.testing.assert_close(torch.cat([begin, end]), whole)
    torch.testing.assert_close(last, state)


@pytest.mark.parametrize(("decoding", "decoder"), STYLES[1:])
def test_a_decoder_wants_a_question(toy, decoding, decoder):
    """A decoder that has nothing to read says so."""
    model = toy.graph(decoding=decoding, decoder=decoder).model
    with pytest.raises(ValueError, match="a decoder wants a question before the answer"):
        model(torch.zeros(2, 3, dtype=torch.int64), answers=2)
    with pytest.raises(ValueError, match="answers: wanted at most the 2 steps of the inputs, got 3"):
        model(torch.zeros(2, 3, dtype=torch.int64), answers=3)


def test_teacher_forcing_wants_targets(toy):
    """Training without the truth is refused, with what to do instead."""
    model = toy.graph(decoding="teacher_forcing").model.train()
    with pytest.raises(ValueError, match=r"wants the targets in training; call model.eval\(\)"):
        model(torch.zeros(4, 3, dtype=torch.int64), answers=2)


def test_dropout_is_of_training_alone(toy):
    """Dropout changes training at random, by encoder and by head, and evaluation not at all."""
    for part in ("encoder", "head"):
        graph = toy.graph(dropout=0.5)
        other = "head" if part == "encoder" else "encoder"
        for each in getattr(graph.model, other).modules():
            if isinstance(each, nn.Dropout):
                each.p = 0.0
        batch = _batch(graph)
        runs = [graph.model.train()(batch.inputs, None, batch.first, batch.answers)[0] for _ in range(2)]
        assert not torch.equal(*runs), part
        runs = [graph.model.eval()(batch.inputs, None, batch.first, batch.answers)[0] for _ in range(2)]
        assert torch.equal(*runs), part


def test_project():
    """A linear map where a size is given, the inputs themselves where it is 0."""
    inputs = torch.randn(4, 2, 3)
    wide, same = Project(Spec.parse("f32[T B 3]"), 5), Project(Spec.parse("f32[T B 3]"))
    torch.testing.assert_close(wide(inputs), inputs @ wide.map.weight.T + wide.map.bias)
    assert same(inputs) is inputs
    assert (wide.writes, same.writes) == ("f32[T B 5]", "f32[T B 3]")


def test_mlp_layers():
    """ReLU after each hidden layer, none after the last; no hidden layers make a linear head."""
    head = MLP(3, Spec.parse("i64<4>[U B]"), sizes=[5, 6])
    first, second, last = (each for each in head.layers if isinstance(each, nn.Linear))
    outputs = torch.randn(2, 3, 3)
    torch.testing.assert_close(head(outputs), last(second(first(outputs).relu()).relu()))
    assert [type(each) for each in MLP(3, Spec.parse("i64<4>[U B]"), sizes=[]).layers] == [nn.Linear]
    assert head.writes == "f32[U B 4]"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Embed(Spec.parse("i64<V>[T B]")), "the number of input ids is not known here: the stage before it"),
        (lambda: Embed(Spec.parse("i64[T B]")), "how many classes the ids have is not known"),
        (lambda: Embed(Spec.parse("f32[T B 3]")), "the dtype is f32, not i64"),
        (lambda: Embed(Spec.parse("i64<5>[T B]"), size=0), "size: wanted at least 1, got 0"),
        (lambda: Embed(Spec.parse("i64<5>[T B]"), dropout=1.5), "dropout"),
        (lambda: Project(Spec.parse("f32[T B D]")), "the size of the inputs is not known here"),
        (lambda: Project(Spec.parse("f32[T B 3]"), -1), "size: wanted at least 0, got -1"),
        (lambda: MLP(3, Spec.parse("i64<C>[U B]")), "the number of classes is not known here"),
        (lambda: MLP(3, Spec.parse("i64<4>[U B]"), sizes=[8, 0]), "sizes: wanted at least 1, got 0"),
        (lambda: MLP(3, Spec.parse("i64<4>[U B]"), dropout=-0.5), "dropout"),
    ],
)
def test_a_part_that_cannot_be(make, says):
    """Sizes that are not known or cannot be are named."""
    with pytest.raises(ValueError, match=says):
        make()


def test_feedback_wants_known_sizes(toy):
    """Teacher forcing embeds classes: a head that does not say how many there are is refused in plain words."""
    graph = toy.graph()
    head = graph.model.head
    head.writes = "f32[U B C]"
    with pytest.raises(ValueError, match="the number of classes is not known here"):
        Model(graph.model.encoder, graph.model.core, head, "teacher_forcing")
