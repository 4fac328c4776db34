"""Curricula: how lengths and nestings are spread, and that levels rise by the loss and resume exactly."""

import json

import numpy as np
import pytest

from seqtoolkit_program_eval import ProgramEval
from seqtoolkit_program_eval.curriculum import LAG, Curriculum


def spread(source, block=0, count=3000):
    """Which (length, nesting) the programs of a block of an add problem have, and how many of each."""
    source.block = count
    texts, _ = source.programs(np.arange(block * count, (block + 1) * count))
    pairs = [(len(text.lstrip("(").split("+")[0]), text.count("+")) for text in texts]
    return {pair: pairs.count(pair) for pair in set(pairs)}


def test_baseline_is_the_maximum():
    """Every program has the full length and nesting."""
    assert set(spread(ProgramEval("add", 3, 2, "baseline"))) == {(3, 2)}


def test_mix_is_uniform():
    """Length and nesting are each uniform from 1, for each example."""
    found = spread(ProgramEval("add", 3, 2, "mix"))
    assert set(found) == {(length, nesting) for length in (1, 2, 3) for nesting in (1, 2)}
    assert all(400 < count < 600 for count in found.values())


@pytest.mark.parametrize("name", ["naive", "combine"])
def test_levels_rise_to_the_maximum(name):
    """With a loss that stays, the length rises to its maximum, then the nesting; naive at the level, combine up to it."""
    source = ProgramEval("add", 3, 2, name)
    seen = []
    for block in range(90):
        found = set(spread(source, block, 60))
        seen += [] if seen and seen[-1] == found else [found]
        source.observe({"loss": 1.0})
    if name == "naive":
        assert seen == [{(1, 1)}, {(2, 1)}, {(3, 1)}, {(3, 2)}]
    else:
        assert seen == [{(length, nesting) for length in range(1, top + 1) for nesting in range(1, deep + 1)} for top, deep in ((1, 1), (2, 1), (3, 1), (3, 2))]  # fmt: skip


def test_a_level_is_left_when_the_loss_stays():
    """A loss that changes by over a tenth of its mean at each update holds the level; ten updates of rest leave it."""
    curriculum = Curriculum("naive", 5, 2)
    for update in range(50):
        curriculum.observe(0.7**update)
    assert curriculum.advances == []
    for _ in range(9):
        curriculum.observe(0.5)
    rested = len(curriculum.advances)
    curriculum.observe(0.5)
    curriculum.observe(0.5)
    assert (rested, len(curriculum.advances)) == (0, 1)


def test_a_level_takes_effect_a_fixed_time_later():
    """The tenth loss ends the first level; blocks drawn ahead of it keep theirs, and the next level waits for its own."""
    curriculum = Curriculum("naive", 5, 2)
    for _ in range(10):
        curriculum.observe(1.0)
    assert curriculum.advances == [9 + LAG]
    lengths, _ = curriculum.difficulty(np.arange(9 + LAG + 2), None)
    assert lengths.tolist() == [1] * (9 + LAG) + [2, 2]
    for _ in range(LAG - 1 + 10):
        curriculum.observe(1.0)
    assert curriculum.advances == [9 + LAG, 9 + LAG + 9 + LAG]


def test_no_loss_moves_a_curriculum_without_levels():
    """Baseline and mix hear nothing, and say so."""
    for name in ("baseline", "mix"):
        source = ProgramEval("add", curriculum=name)
        assert not source.listens
        for _ in range(40):
            source.observe({"loss": 1.0})
        assert source.memory()["advances"] == []
    assert ProgramEval("add", curriculum="combine").listens


def test_a_loss_that_is_no_number_leaves_the_level():
    """Losses that are not finite never end a level."""
    curriculum = Curriculum("combine", 5, 2)
    for _ in range(100):
        curriculum.observe(float("nan"))
    assert curriculum.advances == []


def test_memory_goes_through_json():
    """What is remembered survives a checkpoint as text, at any moment, and the levels go on as if nothing had been."""
    losses = np.random.default_rng(0).uniform(0.5, 1.5, 300).tolist()
    straight = Curriculum("combine", 4, 3)
    for cut in (0, 7, 55, 140):
        first, second = Curriculum("combine", 4, 3), Curriculum("combine", 4, 3)
        for loss in losses[:cut]:
            first.observe(loss)
        second.recall(json.loads(json.dumps(first.memory())))
        for loss in losses[cut:]:
            second.observe(loss)
        straight = Curriculum("combine", 4, 3)
        for loss in losses:
            straight.observe(loss)
        assert second.memory() == straight.memory()
    assert len(straight.advances) == straight.levels
