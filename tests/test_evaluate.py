"""Evaluations: exact over their examples, the same every time, and without a trace in the training."""

import numpy as np
import pytest
import torch

from seqtoolkit.flow.batch import IGNORED
from seqtoolkit.flow.source import Ragged, Sample
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


def _likelihoods(graph, source, rows):
    """The log-likelihood of every token of a Song, by one unroll over each of its tracks."""
    found = []
    for track in np.array_split(source.tokens, rows):
        targets = torch.from_numpy(track)[:, None]
        inputs = torch.cat([torch.zeros(1, 1, dtype=torch.long), targets[:-1]])
        with torch.no_grad():
            outputs, _ = graph.model.core(graph.model.encoder(inputs))
            logits = graph.model.head(outputs, None, graph.model.encoder.table.weight)
        found += logits.log_softmax(-1).gather(-1, targets[..., None]).flatten().tolist()
    return found


@pytest.mark.parametrize("rows", [1, 3, 7])
@pytest.mark.parametrize("steps", [1, 4, 60])
def test_a_whole_text_is_evaluated_exactly(toy, rows, steps):
    """The state goes from batch to batch: perplexity is that of one unroll over each track, with every token counted once.

    Where a batch has one row, it is that of the whole text.
    """
    graph = toy.song_graph(size=rows)
    graph.model.double().eval()
    learner, song = toy.learner(graph), toy.Song(0, "valid", length=50, steps=steps)
    seen = []
    graph.metrics["perplexity"].measure, measure = (
        lambda predictions, batch: seen.append(batch.mask.sum().item()) or measure(predictions, batch),
        graph.metrics["perplexity"].measure,
    )
    found = Evaluation(graph, song, None)(learner.update).metrics
    logs = _likelihoods(graph, song, rows)
    assert sum(seen) == len(logs) == 50
    assert found["valid/perplexity"] == pytest.approx(np.exp(-np.mean(logs)), rel=1e-12)
    assert found["valid/loss"] == pytest.approx(-np.mean(logs), rel=1e-12)


def test_at_most_what_there_is(toy):
    """More examples than a split has are all that it has; fewer are whole batches, for a state is of all rows."""
    graph = toy.song_graph(size=3)
    learner, evaluations = toy.learner(graph), []
    for examples in (None, 10**6, 5):
        song = toy.Song(0, "valid", length=50)
        evaluations.append(Evaluation(graph, song, examples))
        drawn, draw = [], song.draw
        song.draw = lambda indexes, drawn=drawn, draw=draw: drawn.extend(indexes) or draw(indexes)
        evaluations[-1](learner.update)
        assert drawn == list(range(song.size if examples != 5 else 6))
    assert [each.count() for each in evaluations] == [15, 15, 5]
    fresh = Evaluation(graph, toy.Song(0, "valid", length=50), None)
    assert fresh.count() == 15, "before any batch was made"


def test_a_whole_split_wants_an_end(toy):
    """Of an endless source a number of examples is wanted."""
    with pytest.raises(ValueError, match=r"^examples: wanted a number, for Echo has no end, got null$"):
        Evaluation(toy.graph(), toy.Echo(), None)


def test_the_carry_of_training_is_left_alone(toy):
    """Training goes on to the same numbers whether it was evaluated meanwhile or not, on its own source too."""
    told = []
    for evaluated in (False, True):
        torch.manual_seed(0)
        graph = toy.song_graph(dropout=0.3)
        learner = toy.learner(graph)
        torch.manual_seed(1)
        told.append([])
        for _, batch in zip(range(9), learner.stream(), strict=False):
            if evaluated:
                Evaluation(graph, toy.Song(0, "valid"), None, 2)(learner.update)
            told[-1].append(learner.step(batch)["loss"].item())
    assert told[0] == told[1]


def test_samples_of_text(toy):
    """Rows of text are shown by how the model goes on with their beginning, where the source can say what that is."""

    class Sung(toy.Song):
        end = 0

        def encode(self, text):
            return np.array([int(each) for each in text], np.int64)

        def decode(self, ids):
            return "".join(str(each) for each in np.asarray(ids).tolist())

        def show(self, inputs, targets, predictions):
            return Sample(self.decode(inputs), self.decode(targets), self.decode(predictions))

    graph = toy.song_graph(Sung(steps=12), size=3)
    learner = toy.learner(graph)
    source = Sung(0, "valid", length=72, steps=12)
    samples = Evaluation(graph, source, None, 2)(learner.update).samples
    text = source.decode(source.tokens)
    assert len(samples) == 2
    for row, sample in enumerate(samples):
        track = text[24 * row : 24 * row + 24]
        assert sample.question == "0" + track[:5]
        assert sample.expected == ""  # nobody says that another text would be wrong
        assert len(sample.answer) == len(track[5:12])
    assert Evaluation(graph, toy.Song(0, "valid"), None, 2)(learner.update).samples == []
