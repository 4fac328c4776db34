"""Fuzz: whatever is done to a pipeline, the answer is a graph or lines for people."""

import copy
import random

import pytest
from omegaconf import OmegaConf

from seqtoolkit import ConfigError, Pipeline
from seqtoolkit.host.resource import shipped

VALUES = [
    None, True, False, 0, 1, -1, 3, 10**12, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "rmc", "lstm", "adam", "add",
    "no such thing", "${run.steps}", "${nowhere}", "${", "\x00", "ünï", [], [1], ["accuracy", "accuracy"], [[[]]], {},
    {"use": "lstm"}, {"use": None}, {"use": {"use": "rmc"}}, {"a": {"b": 1}}, {1: 2},
]  # fmt: skip
KEYS = [
    "use",
    "size",
    "seed",
    "split",
    "steps",
    "",
    "sizes",
    "lr",
    "source",
    "model",
    "no_such_key",
    "a.b",
    "${x}",
    7,
    None,
]
OVERRIDES = [
    "", "=", "a", "a=", "=1", "model.core=lstm", "~model", "~nothing", "metric.0=accuracy", "metric[7]=x", "metric.-1=x",
    "run.steps=[", "run.steps=1e3", "run.steps={a: 1}", "source.use", "model.core.use=lstm", "x.y.z=1", "..=1", "run=null",
    "learner.optimizer=sgd", "learner.optimizer.lr=x", "evaluate.source.use=mix", "model..core=lstm", "batch.size=${run.steps}",
]  # fmt: skip


def places(tree, path=()):
    """Every key of nested mappings and lists."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        yield (*path, key)
        yield from places(value, (*path, key))


def mutate(tree, chance):
    """The pipeline with one key dropped, replaced, renamed, added or doubled."""
    *path, key = chance.choice(list(places(tree)))
    inside = tree
    for each in path:
        inside = inside[each]
    match chance.randrange(5):
        case 0:
            del inside[key]
        case 1 | 2:
            inside[key] = copy.deepcopy(chance.choice(VALUES))
        case 3:
            inside[key] = {
                chance.choice(KEYS): copy.deepcopy(chance.choice(VALUES)),
                "use": chance.choice(["rmc", "pad", 1]),
            }
        case 4 if isinstance(inside, dict):
            inside[chance.choice(KEYS)] = copy.deepcopy(inside[key])
    return tree


@pytest.fixture(scope="module")
def trees():
    """Every shipped pipeline as plain data."""
    return [OmegaConf.to_container(OmegaConf.load(path)) for path, _ in shipped("pipelines").values()]


@pytest.mark.parametrize("seed", range(8))
def test_two_thousand_mutated_pipelines_end_in_a_graph_or_in_lines(seed, trees):
    """A mutated pipeline is checked to its end, or refused with one line a problem, never with another exception."""
    chance = random.Random(seed)
    refused = []
    for _ in range(260):
        tree = copy.deepcopy(chance.choice(trees))
        for _ in range(chance.randrange(1, 4)):
            if list(places(tree)):
                tree = mutate(tree, chance)
        overrides = chance.sample(OVERRIDES, chance.choice([0, 0, 1, 2]))
        try:
            Pipeline.from_config(tree, overrides).check()
        except ConfigError as error:
            refused.append(error.problems)
    assert all(problems for problems in refused)
    assert all(line.strip() and "\n" not in line for problems in refused for line in problems)
    assert 40 < len(refused) < 260, "the mutations have to reach both answers"
