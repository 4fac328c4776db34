"""Mix: which source an index falls to, and that nothing else changes."""
# ruff: noqa: D102  the methods are those of the classes they stand in for

import copy
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqtoolkit.flow.mix import Mix
from seqtoolkit.flow.source import LAG, Ragged, Source
from seqtoolkit.flow.spec import record


class Named(Source):
    """Each example says which source made it, of which index, with which seed; a field of every kind."""

    def __init__(self, name, seed=0, split="train", bound=9):
        super().__init__(seed, split)
        self.name = name
        self.writes = record(row=f"i64<{bound}>[B 2]", text="i64[B L]", tensor="i64[B]")

    def draw(self, indexes):
        lengths = indexes % 4
        return {
            "row": np.stack([np.full(len(indexes), self.name), indexes], 1),
            "text": Ragged(np.repeat(indexes * 10 + self.name, lengths), lengths),
            "tensor": torch.from_numpy(indexes * 100 + self.name),
        }


def _mix(weights=None, count=3, **given_):
    return Mix([partial(Named, name) for name in range(count)], weights, **given_)


def _choice(mix, count=30_000):
    return mix.draw(np.arange(count))["row"][:, 0]


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=30), st.integers(0, 5))
def test_each_example_is_its_sources_own(indexes, seed):
    """In the order asked for, each field of each example is what the chosen source draws at that index."""
    indexes = np.array(indexes)
    block = _mix(seed=seed).draw(indexes)
    names = block["row"][:, 0]
    assert (block["row"][:, 1] == indexes).all()
    for place, (index, name) in enumerate(zip(indexes, names, strict=True)):
        alone = Named(name).draw(np.array([index]))
        assert block["text"].rows()[place].tolist() == alone["text"].values.tolist()
        assert block["tensor"][place] == alone["tensor"][0]
    assert (_mix(seed=seed).draw(indexes[::-1])["row"] == block["row"][::-1]).all()


@pytest.mark.parametrize("weights", [None, [1.0, 1.0, 1.0], [0.7, 0.2, 0.1], [3, 0, 1], [0, 0, 5], [5, 0, 0]])
def test_proportions(weights):
    """Sources come as often as their weights say, to within chance; a weight of 0 never comes."""
    counts = np.bincount(_choice(_mix(weights)), minlength=3)
    shares = np.array(weights or [1, 1, 1]) / sum(weights or [1, 1, 1])
    assert (abs(counts / 30_000 - shares) <= 5 * np.sqrt(shares * (1 - shares) / 30_000)).all()


def test_choices_differ_by_seed_and_split():
    """Another seed or split mixes in another order, half and half being the same by chance."""
    one = _choice(_mix(count=2))
    for other in (_mix(count=2, seed=1), _mix(count=2, split="test")):
        assert abs((one == _choice(other)).mean() - 0.5) < 0.02


def test_a_mix_in_a_mix_chooses_for_itself():
    """A mix inside a mix draws from its sources by its own weights, at any depth."""
    inner = partial(Mix, [partial(Named, 1), partial(Named, 2)])
    middle = partial(Mix, [inner, partial(Named, 3)])
    shares = np.bincount(_choice(Mix([partial(Named, 0), middle])), minlength=4) / 30_000
    assert abs(shares - [0.5, 0.125, 0.125, 0.25]).max() < 0.02


class Pair(Source):
    """Which source drew, at which index: a tensor on the device told, or an array."""

    writes = record(row="i64[B 2]")

    def __init__(self, name, seed=0, split="train", *, on_device=True):
        super().__init__(seed, split)
        self.name, self.on_device = name, on_device

    def draw(self, indexes):
        row = np.stack([np.full(len(indexes), self.name), indexes], 1)
        return {"row": torch.from_numpy(row).to(self.device) if self.on_device else row}


@pytest.mark.parametrize("second", [True, False])
def test_a_mix_draws_on_a_device_where_all_its_sources_do(second):
    """Then it is told where; where one of them cannot, all draw on the CPU, and tensors and arrays make one field."""
    mix = Mix([partial(Pair, 0), partial(Pair, 1, on_device=second)])
    assert mix.on_device is second
    row = mix.draw(np.arange(40))["row"]
    assert row[:, 1].tolist() == list(range(40))
    assert {0, 1} == set(row[:, 0].tolist())
    if second:
        mix.device = torch.device("meta")
        assert mix.draw(np.arange(40))["row"].device.type == "meta"


def test_sources_are_told_seed_split_and_block():
    """All share the mix's seed and split, and count blocks as it does."""
    mix = _mix(seed=4, split="valid")
    mix.block, mix.world = 5, 2
    next(mix)
    assert {(each.seed, each.split, each.block, each.world) for each in mix.sources} == {(4, "valid", 5, 2)}


def test_memory_of_every_source(toy):
    """What each source heard is in the state of the mix, and comes back with it."""
    mix = Mix([toy.Rising, toy.Rising])
    for update in range(LAG + 3):
        next(mix)
        mix.tell({"loss": float(update)})
    assert [each.heard for each in mix.sources] == [[0.0, 1.0, 2.0]] * 2
    state = copy.deepcopy(mix.state_dict())
    other = Mix([toy.Rising, toy.Rising])
    other.reset(state)
    other.told.extend(mix.told)
    assert [each.heard for each in other.sources] == [[0.0, 1.0, 2.0]] * 2
    for _ in range(3):
        left, right = next(mix), next(other)
        assert (left["question"].values == right["question"].values).all()


def test_who_listens(toy):
    """A mix listens where one of its sources does."""
    assert not Mix([toy.Echo, toy.Echo]).listens
    assert Mix([toy.Echo, partial(toy.Rising, length=4)]).listens


@pytest.mark.parametrize(
    ("sources", "weights", "says"),
    [
        ([], None, "sources: wanted at least one, got none"),
        ([partial(Named, 0)], [1, 1], r"weights: wanted 1 numbers .* got \[1, 1\]"),
        ([partial(Named, 0), partial(Named, 1)], [1, -1], "weights: wanted 2 numbers"),
        ([partial(Named, 0)], [0], "not all 0"),
        ([partial(Named, 0)], [float("nan")], "got .nan."),
        ([partial(Named, 0)], [float("inf")], "got .inf."),
        ([partial(Named, 0)], [], "weights: wanted 1 numbers"),
        ([partial(Named, 0), partial(Named, 1, bound=8)], None, r"sources.1: wanted the fields of sources.0, \{row: i64<9>.* got \{row: i64<8>"),
    ],
)  # fmt: skip
def test_a_mix_that_cannot_be(sources, weights, says):
    """No sources, weights that are none, and sources of different fields are refused in one line."""
    with pytest.raises(ValueError, match=says) as caught:
        Mix(sources, weights)
    assert "\n" not in str(caught.value)


def test_show_is_the_first_sources(toy):
    """An answer is shown as the first source shows it."""
    shown = Mix([toy.Echo, toy.Echo]).show(np.array([0, 3]), np.array([3, -100]), np.array([2, 1]))
    assert shown == ("[0, 3]", "[3]", "[2]")


class Keeping(Named):
    """Prepares, keeps its name in a file, and goes by one that it adopts."""

    def prepare(self, report):
        report(f"source {self.name}", 1.0)

    def keep(self, folder):
        folder.mkdir(parents=True)
        (folder / "name").write_text(str(self.name))

    def adopt(self, folder):
        self.name = int((folder / "name").read_text())


def test_what_sources_keep(tmp_path):
    """Each source prepares, keeps in a folder of its own, and adopts that again; those that keep nothing are left out."""
    told = []
    mix = Mix([partial(Named, 0), partial(Keeping, 1), partial(Keeping, 2)])
    mix.prepare(lambda *each: told.append(each))
    assert told == [("source 1", 1.0), ("source 2", 1.0)]
    mix.keep(tmp_path / "kept")
    other = Mix([partial(Named, 6), partial(Keeping, 7), partial(Keeping, 8)])
    other.adopt(tmp_path / "kept")
    assert [each.name for each in other.sources] == [6, 1, 2]
    Mix([partial(Named, 0)]).keep(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_what_goes_on_is_not_mixed(toy):
    """A source whose batches go on from one another is refused, by its place."""
    with pytest.raises(ValueError, match=r"^sources\.1: what goes on from batch to batch cannot be mixed, as Song$"):
        Mix([partial(Named, 0), toy.Song])
