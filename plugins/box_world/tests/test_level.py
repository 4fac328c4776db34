"""Levels: drawn as the rules of the published generator say, spaced, and solvable."""

import random
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqtoolkit.sdk import Arrays
from seqtoolkit_box_world import BoxWorld
from seqtoolkit_box_world.level import Box, Generator, Level
from seqtoolkit_box_world.palette import BACKGROUND, DISTRACTOR
from seqtoolkit_box_world.rule import Rule
from seqtoolkit_box_world.solution import solution

PAPER = Rule(12, (1, 2, 3, 4, 5), (0, 1, 2, 3, 4, 5), (0,), 1, 120, 20, "paper")
CROWDED = replace(PAPER, size=9)
BRANCHES = Rule(12, (2, 3), (0, 2), (0, 1), 3, 120, 9, "released")


def problem(rng, rule):
    """A length, and pairs of a lock and a key as colors from 1 (no lock 0, the gem 0), by the rules, one draw at a time."""
    length = rng.choice(rule.solution_length)
    forward, backward = rng.choice(rule.num_forward), rng.choice(rule.num_backward)
    last = rule.num_colours - (rule.dynamics == "released")
    pairs = [(lock, lock + 1 if lock < length else 0) for lock in range(length + 1)]
    for _ in range(forward):
        lock = rng.randint(1, length)
        for _ in range(rule.branch_length):
            key = lock
            while key == lock:
                key = rng.randint(length + 1, last)
            pairs.append((lock, key))
            lock = key
    pairs += [(rng.randint(length + 1, last), rng.randint(1, length)) for _ in range(backward)]
    return length, pairs


def tried(rng, rule):
    """A level placed by trying squares until they are free, or None where more than 200 tries have failed in it."""
    length, pairs = problem(rng, rule)
    colors = rng.sample(range(rule.num_colours), rule.num_colours)
    inner = range(1, rule.size + 1)
    full, boxes, failed = set(), [], 0

    def free(squares):
        return all(y in inner and x in inner and (y, x) not in full for y, x in squares)

    for lock, key in pairs:
        while True:
            if failed > 200:
                return None
            x, y = rng.randint(1, rule.size - 3), rng.randint(2, rule.size - 1)
            if free(product(range(y - 1, y + 2), range(x - 1, x + 3))):
                break
            failed += 1
        wrong = len(boxes) > length
        boxes.append(Box(y, x, colors[key - 1] if key else None, colors[lock - 1] if lock else None, wrong))
        full |= {(y, x), (y, x + 1)} if lock else {(y, x)}
    while failed <= 200:
        player = rng.randint(2, rule.size - 1), rng.randint(1, rule.size - 1)
        if player not in full:
            return Level(rule.size, player, tuple(boxes), length)
        failed += 1
    return None


def numbers(level):
    """What is compared of a level."""
    wrong = level.boxes[level.length + 1 :]
    first, last, player = level.boxes[0], level.boxes[-1], level.player
    path = [box.content for box in level.boxes[: level.length]]
    found = [
        level.length, len(wrong), *player, first.y, first.x, last.y, last.x, abs(first.y - last.y), abs(first.x - last.x),
        abs(player[0] - first.y) + abs(player[1] - first.x), len({box.lock for box in wrong}),
        len({box.content for box in wrong}), sum(box.lock == path[0] for box in wrong), sum(box.content in path for box in wrong),
        first.content, last.lock, last.lock == first.content, sum(one.content == two.lock for one, two in pairwise(wrong)),
        sum(abs(one.y - two.y) < 3 and abs(one.x - two.x) < 5 for one in level.boxes for two in level.boxes),
    ]  # fmt: skip
    return found + [each * each for each in found]


@pytest.mark.parametrize("rule", [PAPER, CROWDED, BRANCHES], ids=["paper", "crowded", "branches"])
def test_levels_are_distributed_as_by_trying(rule):
    """Means and squares of what is in a level, and how many levels are given up, agree with draws one try at a time."""
    rng, count = random.Random(1), 600
    slow = [tried(rng, rule) for _ in range(count)]
    generator = Generator(Arrays(), 1, "train", rule)
    _, good = generator.attempt(np.arange(4000), 0)
    kept = [level for level in slow if level]
    share = len(kept) / count
    assert abs(share - good.mean()) < 4 * (share * (1 - share) / count) ** 0.5 + 0.005
    levels = generator.draw(np.arange(2000), np.zeros(2000, np.int64))
    one = np.array([numbers(level) for level in kept], float)
    two = np.array([numbers(generator.level(levels, which)) for which in range(2000)], float)
    spread = (one.var(0) / len(one) + two.var(0) / len(two)) ** 0.5
    assert (abs(one.mean(0) - two.mean(0)) <= 4 * spread + 1e-9).all()


def test_a_crowded_board_gives_levels_up():
    """The comparison above is of levels of which many were given up."""
    _, good = Generator(Arrays(), 1, "train", CROWDED).attempt(np.arange(4000), 0)
    assert 0.5 < good.mean() < 0.95


@given(st.integers(0, 2**62), st.sampled_from([PAPER, CROWDED, BRANCHES]))
@settings(max_examples=20, deadline=None)
def test_a_level_is_spaced_and_leads_to_the_gem(seed, rule):
    """Each box has free squares around it, each key of the path opens the next lock, and the gem is behind the last."""
    generator = Generator(Arrays(), seed, "valid", rule)
    levels = generator.draw(np.arange(8), np.zeros(8, np.int64))
    for which in range(8):
        level = generator.level(levels, which)
        path = level.boxes[: level.length + 1]
        assert [box.lock for box in path[1:]] == [box.content for box in path[:-1]]
        assert (path[0].lock, path[-1].content) == (None, None)
        assert len({box.content for box in path}) == level.length + 1
        assert [box.distractor for box in level.boxes] == [False] * len(path) + [True] * (len(level.boxes) - len(path))
        full = [(box.y, box.x) for box in level.boxes]
        full += [(box.y, box.x + 1) for box in level.boxes if box.lock is not None]
        assert len(set(full)) == len(full)
        for box in level.boxes:
            width = 1 + (box.lock is not None)
            around = set(product(range(box.y - 1, box.y + 2), range(box.x - 1, box.x + width + 1)))
            assert len(around & set(full)) == width
            assert all(1 <= each <= rule.size for square in around for each in square)
        assert level.player not in full
        assert all(box.content != box.lock for box in level.boxes)
        chains = level.boxes[level.length + 1 :] if rule is BRANCHES else ()
        for place, box in enumerate(chains[: len(chains) // 3 * 3]):
            on_path = {each.content for each in path[:-1]}
            assert box.lock == chains[place - 1].content if place % 3 else box.lock in on_path
        assert len(solution(level)) >= 2 * level.length + 1


def test_places_are_those_of_the_published_generator():
    """A free square around each box inside of the room; the player anywhere but in the first and last row and the last column."""
    generator = Generator(Arrays(), 0, "train", PAPER)
    levels = generator.draw(np.arange(1500), np.zeros(1500, np.int64))
    drawn = [generator.level(levels, which) for which in range(1500)]
    assert {level.player for level in drawn} == set(product(range(2, 12), range(1, 12)))
    assert {(box.y, box.x) for level in drawn for box in level.boxes} == set(product(range(2, 12), range(2, 10)))


@pytest.mark.parametrize(("dynamics", "most"), [("released", 1), ("paper", 2)])
def test_the_released_code_never_deals_the_last_color_to_a_distractor(dynamics, most):
    """Of three colors, one on the path, distractors get one in the released code, and both of the others in the paper's."""
    rule = replace(PAPER, solution_length=(1,), num_forward=(3,), num_colours=3, dynamics=dynamics)
    generator = Generator(Arrays(), 0, "train", rule)
    levels = generator.draw(np.arange(60), np.zeros(60, np.int64))
    drawn = [generator.level(levels, which) for which in range(60)]
    assert max(len({box.content for box in level.boxes if box.distractor}) for level in drawn) == most
    assert {box.content for level in drawn for box in level.boxes if box.distractor} == {0, 1, 2}


@pytest.mark.parametrize("room", [1, 7, 40, 80])
def test_as_many_places_fail_as_in_trying(room):
    """With this many of 90 places free, the failures before a free one are geometric: as likely as they should be, to a part in 10^4."""
    generator = Generator(Arrays(), 0, "train", PAPER)
    luck = (np.arange(100_000) * 2**31 + 2**30) // 100_000
    failures = generator._failures(np.full(100_000, room), luck)
    for count in (1, 2, 3, 10, 60, 200, 201):
        assert abs((failures >= count).mean() - (1 - room / 90) ** count) < 1e-4


def test_boxes_come_as_close_as_they_may():
    """One free square between two in a row, also right of the loose key, which has no lock, and never less."""
    generator = Generator(Arrays(), 0, "train", CROWDED)
    levels = generator.draw(np.arange(300), np.zeros(300, np.int64))
    found = {"left": set(), "key": set(), "box": set()}
    for which in range(300):
        boxes = generator.level(levels, which).boxes
        for one, two in product(boxes, boxes[1:]):
            if one is not two and abs(one.y - two.y) <= 1:
                right = "key" if one is boxes[0] else "box"
                found[right if two.x > one.x else "left"].add(abs(two.x - one.x))
    assert {name: min(gaps) for name, gaps in found.items()} == {"left": 3, "key": 2, "box": 3}


def test_a_level_is_its_worlds_and_episodes_own():
    """Drawn alone or with others, a level is the same, redrawn ones too; those of other episodes and worlds differ."""
    generator = Generator(Arrays(), 3, "test", CROWDED)
    worlds, episodes = np.arange(60) % 20, np.arange(60) // 20
    together = generator.draw(worlds, episodes)
    many = [generator.level(together, which) for which in range(60)]
    alone = [
        generator.level(generator.draw(worlds[which : which + 1], episodes[which : which + 1]), 0)
        for which in range(60)
    ]
    assert many == alone
    assert len(set(many)) == 60


def test_a_level_that_cannot_be_solved_is_seen():
    """With a lock of the path walled in, the proof fails, and so does the search for a solution; a walled-in distractor is fine."""
    rule = replace(PAPER, solution_length=(2,), num_forward=(1,))
    generator = Generator(Arrays(), 0, "train", rule)
    levels = generator.draw(np.arange(40), np.zeros(40, np.int64))
    side = generator.side
    assert generator._solvable(levels).all()
    for box in range(4):
        boards = levels.boards.copy()
        lock = levels.boxes[:, box] + (box > 0)
        for shift in (-side, side, 1, *([-1] if box == 0 else [])):
            boards[np.arange(40), lock + shift] = DISTRACTOR
        apart = boards[np.arange(40), levels.players] == BACKGROUND
        solvable = generator._solvable(levels._replace(boards=boards))[apart]
        assert solvable.all() if box == 3 else not solvable.any()
    level = generator.level(levels, 0)
    walls = [Box(level.boxes[1].y + down, level.boxes[1].x, 1, 1, True) for down in (-1, 1)]
    walls.append(Box(level.boxes[1].y, level.boxes[1].x + 2, 1, 1, True))
    with pytest.raises(ValueError, match=r"^level: no way leads from"):
        solution(replace(level, boxes=(*level.boxes, *walls)))


def test_boxes_that_fit_are_drawn_and_others_are_refused_at_once():
    """Of a small board with one lock and a large one with many boxes, both can be had; a full board is refused, not tried for ever."""
    for size, locks in ((6, 1), (30, 15)):
        world = BoxWorld(4, size=size, solution_length=[locks], num_forward=[0])
        world.reset()
        assert len(world.level(3).boxes) == locks + 1
    with pytest.raises(ValueError, match=r"^size: wanted room for 60 boxes"):
        BoxWorld(size=14, solution_length=[1], num_forward=[58])
