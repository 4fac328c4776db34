"""Overrides: what key=value and ~key do to a pipeline."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqtoolkit.host.override import override

TREE = {"model": {"core": {"use": "rmc", "slots": 4}, "head": "mlp"}, "metric": ["accuracy", {"use": "errors"}], "n": 3}


def laid(*overrides, tree=TREE):
    """The tree with overrides; every one of them has to be right."""
    tree = copy.deepcopy(tree)
    assert override(tree, overrides, {}) == []
    return tree


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("model.core.slots=8", "core", {"use": "rmc", "slots": 8}),
        ("model.core.gate=unit", "core", {"use": "rmc", "slots": 4, "gate": "unit"}),
        ("model.core=lstm", "core", "lstm"),
        ("model.core.use=lstm", "core", {"use": "lstm"}),
        ("model.core.use=rmc", "core", {"use": "rmc", "slots": 4}),
        ("model.core={use: lstm, lr: 1e-3}", "core", {"use": "lstm", "lr": 0.001}),
        ("model.head.sizes=[1, 2]", "head", {"use": "mlp", "sizes": [1, 2]}),
        ("model.head.use=linear", "head", {"use": "linear"}),
        ("model.encoder.size=3", "encoder", {"size": 3}),
        ("model.core.a.b=null", "core", {"use": "rmc", "slots": 4, "a": {"b": None}}),
        ("model.core.a[0]=1", "core", {"use": "rmc", "slots": 4, "a": [1]}),
        ("~model.core.slots", "core", {"use": "rmc"}),
        ("model.core.note='a=b'", "core", {"use": "rmc", "slots": 4, "note": "a=b"}),
        ("model.core.note=${n}", "core", {"use": "rmc", "slots": 4, "note": "${n}"}),
        ("model.core.note=''", "core", {"use": "rmc", "slots": 4, "note": ""}),
        (" model.core.slots = 8 ", "core", {"use": "rmc", "slots": 8}),
    ],
)
def test_override_does_what_it_says(text, key, value):
    """A value replaces what was there, a bare name becomes a block, another `use` drops the old block's parameters."""
    assert laid(text)["model"][key] == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("metric.0=errors", ["errors", {"use": "errors"}]),
        ("metric[0].top=3", [{"use": "accuracy", "top": 3}, {"use": "errors"}]),
        ("metric.2=accuracy", ["accuracy", {"use": "errors"}, "accuracy"]),
        ("metric.2.use=accuracy", ["accuracy", {"use": "errors"}, {"use": "accuracy"}]),
        ("metric.1.use=accuracy", ["accuracy", {"use": "accuracy"}]),
        ("~metric[0]", [{"use": "errors"}]),
        ("metric=[]", []),
    ],
)
def test_override_of_a_list(text, value):
    """Items are counted from 0, in either notation; one after the last is added."""
    assert laid(text)["metric"] == value


def test_single_block_becomes_a_list_where_an_item_is_named():
    """Where one block stands for a list of one, its items can still be overridden by number."""
    assert laid("metric.0.top=3", tree={"metric": "accuracy"})["metric"] == [{"use": "accuracy", "top": 3}]
    assert laid("metric.1=errors", tree={"metric": {"use": "a"}})["metric"] == [{"use": "a"}, "errors"]


ORDERS = st.permutations(
    ["model.core.size=2", "model.core=lstm", "model.core.layers=3", "metric.0=errors", "metric.0.top=1"]
)


@given(ORDERS)
def test_order_of_overrides_does_not_matter(overrides):
    """A block changes before what is inside it, whatever the order on the command line."""
    found = laid(*overrides)
    assert found["model"]["core"] == {"use": "lstm", "size": 2, "layers": 3}
    assert found["metric"][0] == {"use": "errors", "top": 1}


@given(st.permutations(["model.core.use=lstm", "model.core.size=2"]))
def test_order_does_not_matter_for_use(overrides):
    """`use` stands for the block: it goes before the parameters too."""
    assert laid(*overrides)["model"]["core"] == {"use": "lstm", "size": 2}


def test_last_of_equal_keys_wins():
    """Said twice, the later one holds."""
    assert laid("n=1", "n=2")["n"] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model.core", "override 'model.core': wanted key=value, or ~key to remove a key"),
        ("", "override '': wanted key=value"),
        ("=3", "override '=3': wanted key=value"),
        ("+a=3", "a new key needs no +"),
        ("~a=3", "wanted key=value, or ~key"),
        ("a b=3", "wanted key=value"),
        ("a..b=3", "wanted key=value"),
        ("a[x]=3", "wanted key=value"),
        ("a=", "no value; write a=null for none"),
        ("a=[1", "override 'a=[1': value:1:3:"),
        ("a=!!python/name:os.system", "is not allowed"),
        ("~model.cor", "there is no model.cor to remove; did you mean core?"),
        ("~n.x", "there is no n.x to remove"),
        ("n.x=1", "n is 7, which has nothing inside"),
        ("metric.5=x", "item 5 of a list of 2"),
        ("metric.99999999999999999999=x", "item 999999999 of a list of 2"),
        ("metric.first=x", "'first' inside a list: wanted the number of one of its 2 items"),
        ("~metric.2", "item 2 of a list of 2"),
    ],
)
def test_bad_override_is_a_problem_like_others(text, message):
    """What is wrong with an override is said in one line that quotes it; the others are laid all the same."""
    tree = copy.deepcopy(TREE)
    (((where,), what),) = override(tree, [text, "n=7"], {})
    problem = f"{where}: {what}"
    assert message in problem
    assert problem.startswith("override ")
    assert tree == {**TREE, "n": 7}


def test_origin_of_an_overridden_key_is_the_override():
    """Where a key comes from follows what the overrides do, and what they replace is forgotten."""
    origins = {("model", "core"): "x:1", ("model", "core", "slots"): "x:2", ("n",): "x:3"}
    override(copy.deepcopy(TREE), ["model.core=lstm", "~n"], origins)
    assert origins == {("model", "core"): "override model.core=lstm"}


@given(st.lists(st.text(st.sampled_from("~+.=[]0123ametricodlus "), max_size=12), max_size=3))
def test_any_override_is_laid_or_refused(overrides):
    """No override makes it fail in another way."""
    assert len(override(copy.deepcopy(TREE), overrides, {})) <= len(overrides)
