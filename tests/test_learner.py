"""The supervised learner: one update, in one part or in many, and where its stream stands."""

import copy

import pytest
import torch

from seqtoolkit.flow.batch import IGNORED
from seqtoolkit.flow.source import LAG


def _gradients(toy, accumulate, batch=None, **options):
    """The gradients of one step in float64, and what the step tells."""
    torch.manual_seed(0)
    graph = toy.graph(size=13)
    graph.model.double()
    learner = toy.learner(graph, accumulate=accumulate, clip=None, **options)
    seen = {}
    for name, each in graph.model.named_parameters():
        each.register_post_accumulate_grad_hook(lambda each, name=name: seen.__setitem__(name, each.grad.clone()))
    told = learner.step(batch or next(graph.node(graph.source)))
    return seen, told


@pytest.mark.parametrize("accumulate", [2, 3, 5, 13, 50])
def test_accumulation_is_the_same_update(toy, accumulate):
    """A batch in parts, uneven ones too, has the gradient, loss and metrics of the whole, to the last digits."""
    whole, told = _gradients(toy, 1)
    parts, also = _gradients(toy, accumulate)
    assert whole.keys() == parts.keys()
    for name, each in whole.items():
        torch.testing.assert_close(parts[name], each, rtol=0, atol=1e-12)
    for name, each in told.items():
        torch.testing.assert_close(torch.as_tensor(also[name]), torch.as_tensor(each), rtol=1e-12, atol=1e-12)


def test_the_gradient_is_that_of_the_mean_loss(toy):
    """The loss of a step is the mean over what is not ignored, and its gradient torch's."""
    found, told = _gradients(toy, 1)
    torch.manual_seed(0)
    graph = toy.graph(size=13)
    model, batch = graph.model.double(), next(graph.node(graph.source))
    predictions, _ = model(batch.inputs, None, batch.first, batch.answers)
    loss = torch.nn.functional.cross_entropy(predictions.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED)
    loss.backward()
    torch.testing.assert_close(told["loss"], loss.detach(), rtol=0, atol=1e-12)
    for name, each in model.named_parameters():
        torch.testing.assert_close(found[name], each.grad, rtol=0, atol=1e-12)
    assert told["accuracy"][1] == batch.mask.sum()
    assert told["sequence_accuracy"][1] == 13


@pytest.mark.parametrize("accumulate", [1, 2])
def test_nothing_to_learn(toy, accumulate):
    """A batch of which everything is ignored has a loss of 0 and moves nothing by its gradient."""
    graph = toy.graph()
    batch = next(graph.node(graph.source))
    batch.targets.fill_(IGNORED)
    batch.mask.fill_(value=False)
    learner = toy.learner(graph, accumulate=accumulate)
    before = copy.deepcopy(graph.model.state_dict())
    told = learner.step(batch)
    assert told["loss"] == told["gradient_norm"] == 0
    assert told["accuracy"].tolist() == [0, 0]
    assert all(torch.equal(each, before[name]) for name, each in graph.model.state_dict().items())


def test_a_step_trains(toy):
    """A step is taken in training mode, whatever the mode before."""
    graph = toy.graph(dropout=0.5)
    learner = toy.learner(graph)
    graph.model.eval()
    learner.step(next(learner.stream()))
    assert graph.model.training


def test_accumulate_is_a_number_of_parts(toy):
    """At least one."""
    with pytest.raises(ValueError, match="accumulate: wanted at least 1, got 0"):
        toy.learner(toy.graph(), accumulate=0)


def test_bf16_learns(toy):
    """At bf16 the model computes in it, and its float32 weights move."""
    graph = toy.graph()
    learner, seen = toy.learner(graph, precision="bf16"), []
    graph.model.head.layers[0].register_forward_hook(lambda *given: seen.append(given[2].dtype))
    before = copy.deepcopy(graph.model.state_dict())
    told = learner.step(next(learner.stream()))
    assert set(seen) == {torch.bfloat16}
    assert torch.isfinite(told["loss"])
    assert {each.dtype for each in graph.model.parameters()} == {torch.float32}
    assert not torch.equal(graph.model.head.layers[0].weight, before["head.layers.0.weight"])


def test_only_a_source_that_listens_is_told(toy):
    """Reading a loss stops a GPU, so that it is done for sources that want it alone; they hear losses in order."""
    deaf = toy.graph()
    learner = toy.learner(deaf)
    stream = learner.stream()
    learner.step(next(stream))
    assert not deaf.source.told
    graph = toy.graph(toy.Rising())
    learner = toy.learner(graph)
    stream = learner.stream()
    losses = [float(learner.step(next(stream))["loss"]) for _ in range(LAG + 5)]
    heard = graph.source.heard
    assert len(heard) >= 6
    assert heard == losses[: len(heard)]


@pytest.mark.parametrize("taken", [0, 1, LAG - 1, LAG, LAG + 1, 11])
def test_a_curriculum_goes_on_where_it_stood(toy, taken):
    """Batches after a resume are those of a run that was not stopped, though they depend on what was heard before."""

    def go(learner, count):
        stream, batches = learner.stream(), []
        for _ in range(count):
            batches.append(next(stream))
            learner.step(batches[-1])
        return [batch.inputs.tolist() for batch in batches]

    torch.manual_seed(0)
    first = toy.learner(toy.graph(toy.Rising()))
    go(first, taken)
    weights, state = copy.deepcopy(first.model.state_dict()), copy.deepcopy(first.state_dict())
    wanted = go(first, 12)
    assert len(wanted[-1]) > len(wanted[0]), "the curriculum has moved"
    second = toy.learner(toy.graph(toy.Rising()))
    second.model.load_state_dict(weights)
    second.load_state_dict(state)
    assert go(second, 12) == wanted
