"""The stream of vectors and questions: right to the last bit, drawn as the paper says, on whatever device."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from seqtoolkit import Pipeline
from seqtoolkit.testing import SOURCE_LAWS, TASK_LAWS, check_source, check_task
from seqtoolkit_nth_farthest import NthFarthest
from seqtoolkit_nth_farthest.source import GRID, MOST_DIMENSIONS, find

ORDERS = ("farthest", "nearest")
MANY = 20_000


def parts(source, block):
    """Vectors [B k D], labels [B k], n [B k] and m [B k] of a block; each of the last three was one-hot."""
    inputs, k = block["inputs"].numpy(), source.vectors
    vectors, *codes = np.split(inputs, source.dimensions + np.arange(3) * k, axis=2)
    for code in codes:
        assert ((code == 0) | (code == 1)).all()
        assert (code.sum(2) == 1).all()
    return vectors, *(code.argmax(2) for code in codes)


def ranked(points, reference, order):
    """Steps by their distance from the one at `reference`, in fractions, one by one: the earlier first where two tie."""
    exact = [[Fraction(float(each)) for each in point] for point in points]

    def distance(step):
        return sum((one - other) ** 2 for one, other in zip(exact[step], exact[reference], strict=True))

    return sorted(
        range(len(points)), key=lambda step: (-distance(step) if order == "farthest" else distance(step), step)
    )


@given(st.integers(2, 9), st.integers(1, 5), st.sampled_from(ORDERS), st.integers(0, 2**40), st.integers(-9, 9))
def test_the_target_is_the_label_of_the_nth(vectors, dimensions, order, index, seed):
    """What the inputs ask, answered in exact arithmetic by going through it step by step, is the target."""
    source = NthFarthest(vectors, dimensions, order, seed=seed, split="valid")
    block = source.draw(np.arange(index, index + 6))
    for points, labels, n, m, target in zip(*parts(source, block), block["targets"].tolist(), strict=True):
        assert len(set(n)) == len(set(m)) == 1
        (reference,) = np.flatnonzero(labels == m[0])
        assert [labels[ranked(points, reference, order)[n[0]]]] == target


@given(st.integers(1, 3), st.integers(2, 12), st.sampled_from(ORDERS), st.data())
def test_of_two_equally_far_the_earlier_counts_first(dimensions, count, order, data):
    """On a grid so coarse that many distances tie, and vectors are the same, every rank falls to the step it should."""
    row = st.lists(st.integers(-1, 1), min_size=dimensions, max_size=dimensions)
    points = data.draw(st.lists(row, min_size=count, max_size=count))
    reference = data.draw(st.integers(0, count - 1))
    every = torch.tensor(points, dtype=torch.int32).expand(count, -1, -1)
    when = torch.full((count, 1), reference)
    found = find(every, when, torch.arange(count)[:, None], order)
    assert found.flatten().tolist() == ranked(points, reference, order)


def test_distances_that_a_float_cannot_tell_apart():
    """Two distances that differ in the last of 49 bits are told apart, in the greatest number of dimensions as well."""
    points = torch.full((1, 4, MOST_DIMENSIONS), GRID - 1, dtype=torch.int32)
    points[0, 0] = -GRID
    points[0, 1, 1:] = points[0, 3, 1:] = -GRID
    points[0, 1, 0], points[0, 3, 0] = -GRID + 2, -GRID + 1
    when = torch.tensor([[2]])
    assert [find(points, when, torch.tensor([[rank]]), "farthest").item() for rank in range(4)] == [0, 3, 1, 2]
    assert [find(points, when, torch.tensor([[rank]]), "nearest").item() for rank in range(4)] == [2, 1, 3, 0]


def test_an_example_is_frozen():
    """A change here changes every result ever measured. On purpose only."""
    source = NthFarthest(3, 2)
    block = source.draw(np.array([0, 1]))
    vectors, labels, n, m = parts(source, block)
    found = [(vectors * GRID).astype(int).tolist(), labels.tolist(), n[:, 0].tolist(), m[:, 0].tolist()]
    assert [*found, block["targets"].tolist()] == FROZEN


FROZEN = [
    [
        [[-2030021, 6193176], [7413877, 1727223], [7397446, -4280039]],
        [[-701382, -5436791], [4387898, -3520443], [-573077, 7640362]],
    ],
    [[2, 0, 1], [2, 0, 1]],
    [1, 0],
    [2, 2],
    [[0], [1]],
]


def close(counts, total, shares):
    """Whether counts are those of their shares of the total, to within five standard deviations each."""
    shares = np.broadcast_to(shares, counts.shape)
    return (abs(counts - total * shares) <= 5 * np.sqrt(total * shares * (1 - shares))).all()


@pytest.mark.parametrize("vectors", [2, 5, 8])
def test_ranks_and_references_are_uniform_and_independent(vectors):
    """Every pair of n and m is as likely as any other, the reference itself as the answer included."""
    source = NthFarthest(vectors, 2)
    _, _, n, m = parts(source, source.draw(np.arange(MANY)))
    pairs = np.bincount(n[:, 0] * vectors + m[:, 0], minlength=vectors**2)
    assert close(pairs, MANY, 1 / vectors**2)


@pytest.mark.parametrize("vectors", [2, 3, 8])
def test_labels_are_a_permutation_whatever_the_time(vectors):
    """No label comes twice; each comes at each step equally often; of three vectors, all six orders do."""
    source = NthFarthest(vectors, 1)
    _, labels, _, m = parts(source, source.draw(np.arange(MANY)))
    assert (np.sort(labels, 1) == np.arange(vectors)).all()
    for step in range(vectors):
        assert close(np.bincount(labels[:, step], minlength=vectors), MANY, 1 / vectors)
    assert close((labels == m).sum(0), MANY, 1 / vectors)
    if vectors == 3:
        orders = np.bincount(labels @ [9, 3, 1])
        assert close(orders[orders > 0], MANY, 1 / 6)
        assert (orders > 0).sum() == 6


def test_numbers_are_uniform_and_independent():
    """Tenths of [-1, 1) are equally full in every place, no place goes with another, and float32 holds each exactly."""
    source = NthFarthest(3, 3)
    vectors, labels, n, m = parts(source, source.draw(np.arange(MANY)))
    numbers = vectors.reshape(MANY, 9)
    assert numbers.min() >= -1
    assert numbers.max() < 1
    assert (numbers * GRID == np.round(numbers * GRID)).all()
    for place in numbers.T:
        assert close(np.histogram(place, 10, (-1, 1))[0], MANY, 0.1)
    together = np.corrcoef(np.concatenate([numbers, labels[:, :1], n[:, :1], m[:, :1]], 1).T)
    assert abs(together - np.eye(len(together))).max() < 5 / np.sqrt(MANY)


def test_answers_fall_to_no_label_and_no_step():
    """A model that has not looked at the vectors knows nothing of the answer but where the reference is it."""
    source = NthFarthest(4, 2)
    block = source.draw(np.arange(MANY))
    _, labels, n, m = parts(source, block)
    target = block["targets"].numpy()
    assert close(np.bincount(target[:, 0], minlength=4), MANY, 0.25)
    assert close((labels == target).sum(0), MANY, 0.25)
    itself = n[:, 0] == 3
    assert (target[itself] == m[itself, :1]).all()
    others = np.bincount((target[~itself, 0] - m[~itself, 0]) % 4, minlength=4)
    assert others[0] == 0
    assert close(others[1:], (~itself).sum(), 1 / 3)


def test_the_orders_are_mirrors():
    """The n-th farthest is the (k + 1 - n)-th nearest; the sequences are the same."""
    far, near = (NthFarthest(6, 3, order) for order in ORDERS)
    ranks = torch.arange(6)[:, None]
    points = (far.draw(np.arange(1))["inputs"][:, :, :3] * GRID).int().expand(6, -1, -1)
    when = torch.full((6, 1), 2)
    assert find(points, when, ranks, "farthest").tolist() == find(points, when, 5 - ranks, "nearest").tolist()
    one, other = far.draw(np.arange(50)), near.draw(np.arange(50))
    assert torch.equal(one["inputs"], other["inputs"])
    assert not torch.equal(one["targets"], other["targets"])


@pytest.mark.parametrize("law", SOURCE_LAWS)
@pytest.mark.parametrize("settings", [{}, {"vectors": 3, "dimensions": 1, "order": "nearest"}])
def test_the_laws_of_sources_hold(law, settings):
    """Pure, in any order and company, on any device, sharded over ranks, resumed at any block."""
    check_source(lambda seed, split: NthFarthest(**settings, seed=seed, split=split), law)


@pytest.mark.parametrize("law", TASK_LAWS)
def test_the_laws_of_tasks_hold(law):
    """Batches, loss, metrics and samples are what the pipeline says, and a small model learns from them."""
    check_task("nth_farthest", law, overrides=["model.core=gru"])


class Work(TorchDispatchMode):
    """Counts what a GPU would be asked to do, views left out, and what is moved between devices."""

    VIEWS = frozenset({"view", "slice", "select", "unsqueeze", "expand", "transpose", "permute", "detach", "alias"})
    MOVES = frozenset({"_to_copy", "copy_", "_local_scalar_dense", "item"})

    def __init__(self):
        super().__init__()
        self.launched, self.moved, self.sorts = [], [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if name not in self.VIEWS and name != "empty":
            self.launched.append(name)
        if name == "sort":
            self.sorts.append(function)
        given = [each.device for each in args if isinstance(each, torch.Tensor)]
        if name in self.MOVES and any(device != made.device for device in given):
            self.moved.append(name)
        return made


def test_a_batch_is_made_where_it_is_wanted():
    """Nothing is made elsewhere and moved, nothing is looked at, and the batch is where the source draws, in so many calls."""
    graph = Pipeline.load("paper/nth_farthest_rmc").check()
    graph.source.device = torch.device("meta")
    with Work() as work:
        batch = graph.collate(graph.source.draw(np.arange(1600)))
    assert {each.device.type for each in (batch.inputs, batch.targets, batch.mask)} == {"meta"}
    assert not work.moved
    assert len(work.launched) == 59, work.launched
    assert len(work.sorts) == 2
    assert torch.ops.aten.sort.stable in work.sorts  # the only sort that promises the earlier first on every device


def test_batches_need_no_copy():
    """The inputs lie time-major in memory already, as a batch wants them."""
    graph = Pipeline.load("paper/nth_farthest_rmc").check()
    block = graph.source.draw(np.arange(5))
    batch = graph.collate(block)
    assert batch.inputs.data_ptr() == block["inputs"].data_ptr()
    assert batch.inputs.shape == (8, 5, 40)
    assert batch.targets.shape == batch.mask.shape == (1, 5)


def test_an_example_is_shown_as_a_question():
    """The rank, the reference and every distance in order of time can be read, labels counted from 1."""
    source = NthFarthest(3, 2)
    inputs = np.zeros((3, 11), np.float32)
    inputs[:, :2] = [[0, 0], [0.3, 0.4], [-1, 0]]
    inputs[[0, 1, 2], [4, 2, 3]] = 1  # labels 3, 1, 2
    inputs[:, 6] = inputs[:, 10] = 1  # the second, from the third
    shown = source.show(inputs, np.array([0]), np.array([2]))
    assert shown == ("2nd farthest from 3? 3 at 0, 1 at 0.5, 2 at 1", "1", "3")
    inputs[:, 5:8] = [1, 0, 0]
    assert (
        NthFarthest(3, 2, "nearest")
        .show(inputs, np.array([2]), np.array([2]))
        .question.startswith("1st nearest from 3?")
    )


@pytest.mark.parametrize(
    ("rank", "word"), [(3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (21, "21st"), (22, "22nd")]
)
def test_ranks_are_written_as_words_are(rank, word):
    """English ordinals."""
    inputs = np.eye(30, 91, 1, dtype=np.float32)
    inputs[:, 30 + rank] = inputs[:, 61] = 1
    assert NthFarthest(30, 1).show(inputs, np.array([0]), np.array([0])).question.startswith(f"{word} farthest from 1?")


@pytest.mark.parametrize(("vectors", "order"), [(8, "farthest"), (3, "nearest")])
def test_the_cases_of_figure_3(vectors, order):
    """The reference comes last, first and in the middle, its step is marked, and the answer is right all the same."""
    source = NthFarthest(vectors, 4, order, seed=3)
    cases = source.cases()
    assert [case.name for case in cases] == ["reference last", "reference first", "reference in the middle"]
    assert [case.marked for case in cases] == [(vectors - 1,), (0,), (vectors // 2,)]
    for case, again in zip(cases, source.cases(), strict=True):
        (points,), (labels,), (n,), (m,) = parts(source, case.block)
        (step,) = case.marked
        assert labels[step] == m[0]
        assert case.block["targets"].tolist() == [[labels[ranked(points, step, order)[n[0]]]]]
        assert torch.equal(case.block["inputs"], again.block["inputs"])


def test_two_vectors_have_two_cases():
    """There is no middle."""
    assert [(case.name, case.marked) for case in NthFarthest(2, 1).cases()] == [
        ("reference last", (1,)),
        ("reference first", (0,)),
    ]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"vectors": 1}, "vectors: wanted a whole number of at least 2, got 1"),
        ({"vectors": 2.0}, "vectors: wanted a whole number of at least 2, got 2.0"),
        ({"vectors": True}, "vectors: wanted a whole number of at least 2, got True"),
        ({"dimensions": 0}, "dimensions: wanted a whole number of at least 1 and at most 32,768, got 0"),
        ({"dimensions": 32_769}, "dimensions: wanted .* at most 32,768, got 32769"),
        ({"order": "closest"}, "order: wanted farthest or nearest, got 'closest'"),
        ({"split": "dev"}, "split: wanted one of train, valid, test, got 'dev'"),
    ],
)
def test_settings_that_cannot_be(settings, says):
    """The setting is named, with what is wanted and what was given."""
    with pytest.raises(ValueError, match=says):
        NthFarthest(**settings)
