"""Heads that say how likely the targets are: against torch's full logits, in float64, and in memory."""
# ruff: noqa: D102  the methods are those of the classes they stand in for

from contextlib import contextmanager
from copy import deepcopy
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from seqtoolkit.bench import cost
from seqtoolkit.experiment import SECTIONS
from seqtoolkit.flow import likelihood
from seqtoolkit.flow.batch import IGNORED, Batch
from seqtoolkit.flow.encoder import Embed, Project
from seqtoolkit.flow.likelihood import log_likelihood
from seqtoolkit.flow.loss import NegativeLogLikelihood
from seqtoolkit.flow.metric import Perplexity
from seqtoolkit.flow.model import Model
from seqtoolkit.flow.softmax import AdaptiveSoftmax, Softmax
from seqtoolkit.flow.spec import Spec
from seqtoolkit.host.assemble import assemble
from seqtoolkit.host.config import ConfigError, freeze, load
from seqtoolkit.host.registry import discover
from seqtoolkit.testing import TASK_LAWS, check_task

CLOSE = {"rtol": 1e-12, "atol": 1e-12}
SIZES = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.integers(2, 40), st.integers(0, 2**32))
VOCABULARY = Spec.parse("i64<30>[U B]")


@contextmanager
def cut(numbers, columns):
    """A MiB is so many numbers, and a tile has so many columns: little work is cut often."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"MEBI": numbers * 8, "FEWEST": 1, "NARROWEST": columns, "TILE": 0}.items():
            patch.setattr(likelihood, name, value)
        yield


def _case(size, dtype=torch.float64):
    """Leaves: hidden, table, bias; and targets of which some are ignored."""
    steps, rows, width, classes, seed = size
    torch.manual_seed(seed)
    leaves = [torch.randn(*shape, dtype=dtype) for shape in ((steps, rows, width), (classes, width), (classes,))]
    targets = torch.randint(classes, (steps, rows))
    targets[torch.rand(steps, rows) < 0.3] = IGNORED
    return [each.requires_grad_() for each in leaves], targets


def _plain(hidden, table, bias, targets):
    """The definition, by torch, on all logits."""
    logits = F.linear(hidden, table, bias)
    flat = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
    return -flat.view(targets.shape)


def _same_gradients(one, other, leaves):
    for got, wanted in zip(*(torch.autograd.grad(each, leaves) for each in (one, other)), strict=True):
        torch.testing.assert_close(got, wanted, **CLOSE)


@settings(max_examples=25)
@given(SIZES, st.sampled_from([1, 50, 90, 1000]), st.sampled_from([1, 3, 7, 256]), st.booleans(), st.booleans())
def test_against_all_logits(size, numbers, columns, biased, uniform):
    """Values and every gradient are torch's, however rows and classes are cut, for a sum and for any weights on rows."""
    (hidden, table, bias), targets = _case(size)
    leaves = [hidden, table, bias] if biased else [hidden, table]
    bias = bias if biased else None
    weights = torch.tensor(1.7) if uniform else torch.randn(targets.shape, dtype=torch.float64)
    with cut(numbers, columns):
        got, wanted = log_likelihood(hidden, table, bias, targets, 1), _plain(hidden, table, bias, targets)
        torch.testing.assert_close(got, wanted, **CLOSE)
        total = got.sum() * weights if uniform else (got * weights).sum()
        _same_gradients(total, (wanted * weights).sum(), leaves)
    assert not got[targets == IGNORED].any()


def test_rows_alone():
    """Of some rows only: 0 at the others, and gradients of those alone, for a sum and for any weights."""
    (hidden, table, bias), targets = _case((3, 4, 5, 9, 0))
    targets = targets.clamp(min=0)
    rows = torch.tensor([1, 2, 7, 11])
    for weights in (torch.tensor(-3.0), torch.randn(3, 4)):
        wanted = torch.zeros(12, dtype=torch.float64)
        wanted = wanted.index_copy(0, rows, _plain(hidden, table, bias, targets).flatten()[rows]).view(3, 4)
        got = log_likelihood(hidden.flatten(0, 1)[rows], table, bias, targets, 1, rows)
        torch.testing.assert_close(got, wanted, **CLOSE)
        total = got.sum() * weights if weights.dim() == 0 else (got * weights).sum()
        _same_gradients(total, (wanted * weights).sum(), [hidden, table, bias])


def test_numerical_gradient():
    """Numerical gradients agree, and a second derivative is refused."""
    leaves, targets = _case((2, 3, 3, 5, 1))
    assert torch.autograd.gradcheck(lambda *each: log_likelihood(*each, targets), leaves)
    (first,) = torch.autograd.grad(log_likelihood(*leaves, targets).square().sum(), leaves[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_backward_again():
    """A graph may be gone back through again and again, whole and row by row, and gradients add up."""
    leaves, targets = _case((3, 4, 5, 9, 2))
    got, wanted = log_likelihood(*leaves, targets), _plain(*leaves, targets)
    founds = []
    for values in (got, wanted):
        for total in (values.sum() * 2, values.sum(), -values[1:].sum()):
            total.backward(retain_graph=True)
        founds.append([leaf.grad for leaf in leaves])
        for leaf in leaves:
            leaf.grad = None
    for one, other in zip(*founds, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


def test_products_are_made_once():
    """The gradient of a sum costs as many products as the plain way: the forward pass has made them."""
    leaves, targets = _case((4, 4, 5, 9, 3), torch.float32)
    products = []

    class Counting(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            products.append("mm" in function.__name__)
            return function(*args, **(kwargs or {}))

    def count(run):
        products.clear()
        with Counting():
            run()
        return sum(products)

    assert count(lambda: log_likelihood(*leaves, targets).sum().backward()) == 3
    assert count(lambda: log_likelihood(leaves[0], leaves[1].detach(), None, targets).sum().backward()) == 2
    assert count(lambda: log_likelihood(leaves[0].detach(), leaves[1], None, targets).sum().backward()) == 2
    with torch.no_grad():
        assert count(lambda: log_likelihood(*leaves, targets)) == 1


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_frozen(frozen):
    """What wants no gradient gets none, and the others the same; under no_grad values are the same."""
    leaves, targets = _case((3, 4, 5, 9, 4))
    leaves[frozen].requires_grad_(False)
    got, wanted = log_likelihood(*leaves, targets), _plain(*leaves, targets)
    _same_gradients(got.sum(), wanted.sum(), [leaf for leaf in leaves if leaf.requires_grad])
    with torch.no_grad():
        alone = log_likelihood(*leaves, targets)
    assert not alone.requires_grad
    torch.testing.assert_close(alone, got.detach(), **CLOSE)


def test_extreme_logits():
    """Logits of many hundreds neither overflow nor lose the gradient, in whatever tile the greatest is."""
    table = torch.tensor([[900.0], [-900.0], [0.0], [899.0]], requires_grad=True)
    for sign, target in product((1.0, -1.0), range(4)):
        hidden, targets = torch.full((1, 1, 1), sign, requires_grad=True), torch.tensor([[target]])
        with cut(8, 1):
            got, wanted = log_likelihood(hidden, table, None, targets, 1), _plain(hidden, table, None, targets)
            torch.testing.assert_close(got, wanted)
            for one, other in zip(*(torch.autograd.grad(e.sum(), (hidden, table)) for e in (got, wanted)), strict=True):
                torch.testing.assert_close(one, other)


def test_autocast():
    """Under autocast products are bfloat16 and the rest float32: as near to the truth as the plain way, f64 untouched."""
    (hidden, table, bias), targets = _case((8, 8, 32, 300, 5), torch.float32)
    leaves = [hidden, table, bias]
    truth = [each.detach().double().requires_grad_() for each in leaves]
    exact = _plain(*truth, targets)
    exacts = torch.autograd.grad(exact.sum(), truth)
    offs = []
    for way in (log_likelihood, _plain):
        with torch.autocast("cpu", torch.bfloat16):
            values = way(*leaves, targets)
        founds = [values, *torch.autograd.grad(values.sum(), leaves)]
        assert {each.dtype for each in founds} == {torch.float32}
        offs.append(
            [
                float((one - other).detach().norm() / other.norm())
                for one, other in zip(founds, (exact.detach(), *exacts), strict=True)
            ]
        )
    assert all(1e-5 < ours <= 1.2 * theirs for ours, theirs in zip(*offs, strict=True)), offs
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(log_likelihood(*truth, targets), exact, **CLOSE)


def test_memory():
    """50,000 classes and 2,048 rows are learned from in a fraction of what their logits take, and read in less."""
    numbers = 2048 * 50_000 * 4
    hidden, table = torch.empty(2048, 1, 2), torch.empty(50_000, 2)
    hidden.requires_grad_(), table.requires_grad_()
    hidden.data.fill_(0.1), table.data.fill_(0.1)
    targets = torch.zeros(2048, 1, dtype=torch.int64)
    learned = cost(lambda: log_likelihood(hidden, table, None, targets, 16).sum().backward())
    with torch.no_grad():
        read = cost(lambda: log_likelihood(hidden, table, None, targets, 16))
    assert learned.peak < numbers / 15
    assert read.peak < numbers / 50


def _target(ids):
    return torch.tensor(ids)[:, None]


def _tied(width=6, size=6, classes=30, **options):
    """A model that reads ids and says which comes next, and the core's stand-in."""
    encoder = Embed(Spec.parse(f"i64<{classes}>[T B]"), size)
    return encoder, Softmax(width, Spec.parse(f"i64<{classes}>[U B]"), encoder, **options)


class Same(nn.Module):
    """A core that has no memory."""

    def __init__(self, before, after):
        super().__init__()
        self.map = nn.Linear(before, after)

    def forward(self, inputs, state=None, first=None):
        return self.map(inputs), state


@pytest.mark.parametrize("width", [6, 4])
def test_tied_end_to_end(width):
    """Through a Model: the shared table has one gradient, of both uses, and the map before it has its own."""
    torch.manual_seed(0)
    encoder, head = _tied(width)
    model = Model(encoder, Same(6, width), head).double()
    assert [name for name, _ in model.named_parameters() if "table" in name] == ["encoder.table.weight"]
    assert isinstance(head.map, nn.Linear) == (width != 6)
    inputs, targets = torch.randint(30, (5, 3)), torch.randint(30, (5, 3))
    targets[0, 0] = IGNORED
    got, _ = model(inputs, targets=targets)
    hidden = head.map(model.core(encoder(inputs))[0])
    wanted = _plain(hidden, encoder.table.weight, head.bias, targets)
    torch.testing.assert_close(got, wanted, **CLOSE)
    _same_gradients(got.sum(), wanted.sum(), list(model.parameters()))
    torch.testing.assert_close(got, _picked(model(inputs)[0], targets), **CLOSE)


def _picked(chances, targets):
    """Of log-probabilities [U B V] those of the targets; 0 where ignored."""
    picked = chances.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return picked.masked_fill(targets == IGNORED, 0)


def test_table_begins_small():
    """A table begins as N(0, 1/sqrt(E)), also the encoder's where it is shared, and a bias as 0."""
    torch.manual_seed(0)
    encoder, head = _tied(64, 64, 1000)
    alone = Softmax(64, Spec.parse("i64<1000>[U B]"), tied=False)
    for table in (encoder.table.weight, alone.table):
        assert table.shape == (1000, 64)
        assert float(table.detach().std()) == pytest.approx(1 / 8, rel=0.02)
    assert not head.bias.any()
    assert _tied(bias=False)[1].bias is None


def test_as_a_module():
    """A head is copied, saved, loaded, and made without memory like any module."""
    encoder, head = _tied(4)
    model = Model(encoder, Same(6, 4), head).eval()
    inputs, targets = torch.randint(30, (5, 3)), torch.randint(30, (5, 3))
    wanted = model(inputs, targets=targets)[0]
    other = deepcopy(model)
    with torch.no_grad():
        encoder.table.weight.zero_()
    torch.testing.assert_close(other(inputs, targets=targets)[0], wanted)
    assert set(head.state_dict()) == {"map.weight", "bias"}
    model.load_state_dict(other.state_dict())
    torch.testing.assert_close(model(inputs, targets=targets)[0], wanted)
    with torch.device("meta"):
        _, shapes = _tied(4, classes=10**9)
        assert shapes.bias.is_meta
        assert AdaptiveSoftmax(16, Spec.parse("i64<1000000>[U B]"), [1000]).softmax.head.weight.is_meta


@pytest.mark.parametrize("head", ["softmax", "adaptive_softmax"])
def test_dropout(head):
    """Dropout changes what reaches the softmax in training alone."""
    made = {
        "softmax": lambda: Softmax(8, VOCABULARY, tied=False, dropout=0.5),
        "adaptive_softmax": lambda: AdaptiveSoftmax(8, VOCABULARY, [10], dropout=0.5),
    }[head]()
    outputs, targets = torch.randn(3, 2, 8), torch.randint(30, (3, 2))
    assert not torch.equal(made(outputs, targets), made(outputs, targets))
    made.eval()
    assert torch.equal(made(outputs, targets), made(outputs, targets))


@settings(max_examples=15)
@given(
    st.lists(st.integers(1, 29), min_size=1, max_size=3, unique=True),
    st.sampled_from([1, 60, 1000]),
    st.integers(0, 2**32),
)
def test_adaptive_against_torch(cutoffs, numbers, seed):
    """Values and every gradient are those of torch's module, uncut; ignored targets give 0 and no gradient."""
    torch.manual_seed(seed)
    head = AdaptiveSoftmax(9, VOCABULARY, sorted(cutoffs), div_value=2.0, chunk=1).double()
    outputs, targets = torch.randn(4, 3, 9, dtype=torch.float64, requires_grad=True), torch.randint(30, (4, 3))
    keep = torch.rand(4, 3) < 0.7
    given = targets.masked_fill(~keep, IGNORED)
    wanted = head.softmax(outputs.flatten(0, 1), targets.flatten()).output.view(4, 3) * keep
    leaves = [outputs, *head.parameters()]
    with cut(numbers, 5):
        for weights in (torch.tensor(2.0), torch.randn(4, 3)):
            got = head(outputs, given)
            torch.testing.assert_close(got, wanted, **CLOSE)
            total = got.sum() * weights if weights.dim() == 0 else (got * weights).sum()
            asked = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
            ways = (torch.autograd.grad(each, leaves, **asked) for each in (total, (wanted * weights).sum()))
            for one, other in zip(*ways, strict=True):
                torch.testing.assert_close(one, other, **CLOSE)
    torch.testing.assert_close(_picked(head(outputs), given), wanted, **CLOSE)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("wrong", [30, -1])
def test_targets_are_classes(adaptive, wrong):
    """A target that is no class is an error that names it."""
    head = AdaptiveSoftmax(8, VOCABULARY, [10]) if adaptive else Softmax(8, VOCABULARY, tied=False)
    with pytest.raises(ValueError, match=f"targets: wanted ids from 0 to 29, got {wrong}$"):
        head(torch.zeros(2, 1, 8), _target([3, wrong]))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Softmax(8, VOCABULARY), "tied: wanted an encoder with a table, such as embed, got none; or set tied"),
        (lambda: Softmax(8, VOCABULARY, Project(Spec.parse("f32[T B 4]"), 3)), "tied: wanted an encoder with a table"),
        (
            lambda: Softmax(8, VOCABULARY, Embed(Spec.parse("i64<31>[T B]"))),
            "tied: wanted as many vectors .* 30, got 31",
        ),
        (lambda: Softmax(8, VOCABULARY, tied=False, chunk=0), "chunk: wanted at least 1 MiB, got 0"),
        (lambda: Softmax(8, Spec.parse("i64<C>[U B]"), tied=False), "the number of classes is not known"),
        (lambda: _tied()[1](torch.zeros(1, 1, 6)), "tied: wanted the encoder's table with each call"),
        *(
            (
                lambda cutoffs=cutoffs: AdaptiveSoftmax(8, VOCABULARY, cutoffs),
                "cutoffs: wanted rising ids from 1 to 29, got",
            )
            for cutoffs in ([], [0, 5], [5, 5], [7, 3], [30], [-1])
        ),
        (
            lambda: AdaptiveSoftmax(8, VOCABULARY, [4, 9]),
            "div_value: wanted vectors of at least 1 .* of 2 clusters, got 4.0",
        ),
        (lambda: AdaptiveSoftmax(8, VOCABULARY, [4], div_value=0.0), "div_value: wanted"),
        (lambda: AdaptiveSoftmax(8, VOCABULARY, [4], chunk=-1), "chunk: wanted at least 1 MiB"),
    ],
)
def test_bad_settings(make, said):
    """What a head cannot be made of is one line that says what is wanted."""
    with pytest.raises(ValueError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_teacher_forcing():
    """In evaluation a model is fed with what is likeliest, whatever the targets, and says how likely those are."""
    torch.manual_seed(0)
    encoder = Embed(Spec.parse("i64<30>[T B]"), 6)
    core = PlainCore(6)
    model = Model(encoder, core, Softmax(6, VOCABULARY, encoder), "teacher_forcing").eval().double()
    assert model.feedback.num_embeddings == 31
    inputs, targets = torch.randint(30, (7, 2)), torch.randint(30, (3, 2))
    chances, _ = model(inputs, answers=3)
    torch.testing.assert_close(model(inputs, answers=3, targets=targets)[0], _picked(chances, targets), **CLOSE)


class PlainCore(nn.Module):
    """A core of one layer."""

    def __init__(self, size):
        super().__init__()
        self.map = nn.Linear(2 * size, size)

    def step(self, inputs, state):
        state = torch.tanh(self.map(torch.cat([inputs, state], -1)))
        return state, state

    def forward(self, inputs, state=None, first=None):
        state = inputs.new_zeros(inputs.shape[1:]) if state is None else state
        outputs = []
        for now in inputs:
            _, state = self.step(now, state)
            outputs.append(state)
        return torch.stack(outputs), state


def _batch(seed=0):
    torch.manual_seed(seed)
    targets = torch.randint(30, (6, 5))
    targets[torch.rand(6, 5) < 0.2] = IGNORED
    return Batch(targets.clamp(min=0), targets, torch.rand(6, 5) < 0.7)


def test_loss_and_perplexity():
    """The loss is the mean over what is learned; perplexity is exact over all that is counted, not a mean of batches'."""
    batches = [_batch(0), _batch(1).part(0, 2)]
    predictions = [-(torch.rand(each.targets.shape) * 5).masked_fill(each.targets == IGNORED, 0) for each in batches]
    loss, metric = NegativeLogLikelihood(), Perplexity()
    total = sum(-float(each.double().sum()) for each in predictions)
    assert sum(float(loss.total(*each)) for each in zip(predictions, batches, strict=True)) == pytest.approx(total)
    assert sum(int(loss.count(each)) for each in batches) == sum(
        int((each.targets != IGNORED).sum()) for each in batches
    )
    sums = sum(metric.measure(*each) for each in zip(predictions, batches, strict=True))
    assert sums.dtype == torch.float64
    counted = [each[(b.targets != IGNORED) & b.mask] for each, b in zip(predictions, batches, strict=True)]
    assert metric.result(sums) == pytest.approx(float(torch.cat(counted).double().mean().neg().exp()), rel=1e-12)
    assert metric.better == "lower"
    assert metric.result(torch.tensor([0.0, 0.0])) != metric.result(torch.tensor([0.0, 0.0]))  # nan
    assert metric.result(torch.tensor([-1e6, 1.0])) == float("inf")


LIKELY = ["model.head=softmax", "model.head.tied=false", "loss=negative_log_likelihood", "metric=[perplexity]"]
SMALL = ["source.length=2", "model.core.mem_slots=2", "model.core.head_size=8", "model.encoder.size=8"]


@pytest.mark.parametrize(
    "law", [law for law in TASK_LAWS if law in {"answers", "ignored", "sums", "rows", "asked", "trains"}]
)
def test_laws(law):
    """A sound task with such a head keeps the laws of tasks."""
    check_task("program_eval", law, overrides=[*LIKELY, *SMALL])


def _assembled(*overrides):
    return assemble(freeze(load("program_eval", [*LIKELY, *SMALL, *overrides]), discover(), SECTIONS), build=False)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("metric=[accuracy]", r"metric\.0: predictions: wants f32\[U B C\], gets f32\[U B\]: 2 axes, not 3"),
        ("loss=cross_entropy", r"loss: predictions: wants f32\[U B C\], gets f32\[U B\]"),
        ("model.head.tied=true", r"model\.head\.tied: wanted as many vectors"),
        ("metric=[perplexity,perplexity]", r"metric\.1: wanted one metric of a name, got perplexity twice"),
    ],
)
def test_refused(override, said):
    """What does not go with such a head, or a second metric of one name, is one line under its key."""
    with pytest.raises(ConfigError, match=said):
        _assembled(override)


def test_a_metric_has_a_name(monkeypatch):
    """A metric is reported by its own name where it has one, else by that of its part."""
    assert list(_assembled().metrics) == ["perplexity"]
    monkeypatch.setattr(Perplexity, "name", "surprise")
    assert list(_assembled().metrics) == ["surprise"]
