"""Evaluations: exact over their examples, the same every time, and without a trace in the training."""

import numpy as np
import pytest
import torch

from seqtoolkit.flow.batch import IGNORED
from seqtoolkit.flow.source import Ragged
from seqtoolkit.train.evaluate import Evaluation


def _by_hand(toy, graph, examples):
    """Metrics over single examples, added up in plain Python."""
    model = graph.model.eval()
    total = count = right = counted = whole = 0
    source = toy.Echo(0, "valid")
    for index in range(examples):
        batch = graph.collate(source.draw(np.array([index])))
        with torch.no_grad():
            predictions, _ = model(batch.inputs, None, batch.first, batch.answers)
        logs = predictions.log_softmax(-1)[:, 0]
        targets = batch.targets[:, 0]
        total -= sum(logs[step, target].item() for step, target in enumerate(targets.tolist()))
        hits = (predictions.argmax(-1)[:, 0] == targets).tolist()
        count, right, counted, whole = count + len(hits), right + sum(hits), counted + len(hits), whole + all(hits)
    return {"loss": total / count, "accuracy": right / counted, "sequence_accuracy": whole / examples}


@pytest.mark.parametrize("examples", [1, 7, 8, 16, 21])
def test_exact_over_its_examples(toy, examples):
    """Metrics are those of the first examples of the stream, one by one, whatever the size of a batch."""
    graph = toy.graph(size=8, dropout=0.5)
    learner = toy.learner(graph)
    evaluation = Evaluation(graph, toy.Echo(0, "valid"), examples)
    for _ in range(2):  # the same ones every time
        found = evaluation(learner.update)
        wanted = {f"valid/{name}": value for name, value in _by_hand(toy, graph, examples).items()}
        assert found.metrics == pytest.approx(wanted, rel=1e-5)
        assert found.samples == []


def test_nothing_is_disturbed(toy):
    """Mode, random numbers and training stream are as if no evaluation had been, even if the model draws at random."""
    graph = toy.graph(dropout=0.5)
    graph.model.core.register_forward_pre_hook(lambda *_: torch.rand(1) and None)
    learner, evaluation = toy.learner(graph), Evaluation(graph, toy.Echo(1, "valid"), 20)
    for mode in (True, False):
        graph.model.train(mode)
        before, state = torch.get_rng_state(), learner.state_dict()
        evaluation(learner.update)
        assert graph.model.training is mode
        assert torch.equal(torch.get_rng_state(), before)
        assert learner.state_dict() == state
    assert all(each.grad is None for each in graph.model.parameters())


def test_an_error_leaves_the_mode(toy):
    """Whatever goes wrong, the model is left in the mode in which it was found."""

    class Broken(toy.Echo):
        def draw(self, indexes):
            raise OSError("the disk is gone")

    graph = toy.graph()
    graph.model.train()
    with pytest.raises(OSError, match=r"^the disk is gone$"):
        Evaluation(graph, Broken(), 4)(toy.learner(graph).update)
    assert graph.model.training


def test_it_can_be_stopped(toy):
    """Once asked it ends after the batch at hand, without a result."""
    graph = toy.graph(size=4)
    learner, batches = toy.learner(graph), []
    evaluation = Evaluation(graph, toy.Echo(0, "valid"), 40)
    stopped = lambda: batches.append(1) or len(batches) == 3  # noqa: E731  a wish that comes with the third batch
    assert evaluation(learner.update, stopped) is None
    assert len(batches) == 3


def test_samples(toy):
    """The first examples with the model's answers, as the source shows them, from as many batches as it takes."""
    graph = toy.graph(size=4)
    learner = toy.learner(graph)
    samples = Evaluation(graph, toy.Echo(0, "test"), 20, 6)(learner.update).samples
    block = toy.Echo(0, "test").draw(np.arange(6))
    assert [each.expected for each in samples] == [str(row.tolist()) for row in block["answer"].rows()]
    assert all(
        str(row.tolist())[1:-1] in each.question for row, each in zip(block["question"].rows(), samples, strict=True)
    )
    batch = graph.collate(block)
    with torch.no_grad():
        said = graph.model.eval()(batch.inputs, None, batch.first, batch.answers)[0].argmax(-1)
    lengths = block["answer"].lengths
    assert [each.answer for each in samples] == [str(said[:n, row].tolist()) for row, n in enumerate(lengths)]
    assert len(Evaluation(graph, toy.Echo(0, "test"), 3, 6)(learner.update).samples) == 3


def test_metrics_carry_the_name_of_the_split(toy):
    """`test/accuracy` for the test split."""
    graph = toy.graph()
    found = Evaluation(graph, toy.Echo(split="test"), 4)(toy.learner(graph).update)
    assert set(found.metrics) == {"test/loss", "test/accuracy", "test/sequence_accuracy"}


def test_nothing_counted(toy):
    """Where a whole split has nothing to count, loss and accuracy are nan, not an error."""

    class Silent(toy.Echo):
        def draw(self, indexes):
            block = super().draw(indexes)
            values, lengths = block["answer"]
            answer, counted = Ragged(np.full_like(values, IGNORED), lengths), Ragged(values < 0, lengths)
            return block | {"answer": answer, "counted": counted}

    graph = toy.graph()
    metrics = Evaluation(graph, Silent(split="valid"), 20)(toy.learner(graph).update).metrics
    assert np.isnan([metrics["valid/loss"], metrics["valid/accuracy"]]).all()


def test_at_least_one_example(toy):
    """An evaluation on nothing is refused by name."""
    with pytest.raises(ValueError, match="examples: wanted at least 1, got 0"):
        Evaluation(toy.graph(), toy.Echo(), 0)
