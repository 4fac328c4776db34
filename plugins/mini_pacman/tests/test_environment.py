"""The environment: its laws, what is conserved, what is drawn, how the scripted players play, and what it refuses."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqtoolkit.testing import ENVIRONMENT_LAWS, check_environment
from seqtoolkit_mini_pacman import MiniPacman, maze
from seqtoolkit_mini_pacman.picture import COLORS, FOOD, GHOST, PACMAN, WALL
from seqtoolkit_mini_pacman.player import FAR, ways
from seqtoolkit_mini_pacman.rule import MODES, POWER

VARIANTS = {
    "paper": {"mode": "hunt", "dynamics": "paper", "frame_cap": 30},
    "released": {"mode": "regular", "dynamics": "released", "view": 5, "frame_cap": 40},
}


@pytest.mark.parametrize("law", ENVIRONMENT_LAWS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_laws(variant, law):
    """It keeps the laws of environments: a function of its seed, apart from other worlds, resumed exactly, by torch as by numpy."""
    check_environment(partial(MiniPacman, **VARIANTS[variant]), law, steps=70)


def alive(environment):
    """How many ghosts live in each world [B]."""
    return (environment.worlds.ghosts != maze.GONE).sum(1)


@settings(max_examples=15, deadline=None)
@given(
    mode=st.sampled_from(sorted(MODES)),
    dynamics=st.sampled_from(["paper", "released"]),
    seed=st.integers(0, 2**40),
    level=st.integers(1, 12),
)
def test_nothing_comes_of_nothing(mode, dynamics, seed, level):
    """Within a level: rewards are those of what was eaten and met, food never comes back, power counts down, walls are walls."""
    e = MiniPacman(16, seed, mode=mode, dynamics=dynamics, frame_cap=0)
    e.reset()
    e._level(np.arange(16), np.full(16, level), 1)
    rule, chance = MODES[mode], np.random.default_rng(seed)
    for _ in range(40):
        before, ghosts = e.worlds.picked(slice(None)), alive(e)
        step = e.step(chance.integers(0, 5, 16))
        now = e.worlds
        same = ~step.terminated & (now.timer == before.timer + 1)
        eaten, pills = before.food - now.food, (before.pills < now.pills).sum(1)
        points = rule.step + rule.food * eaten + rule.pill * pills + rule.ghost * (ghosts - alive(e))
        assert np.allclose(step.rewards[same], points[same] / 10, atol=1e-5)
        assert (eaten[same] >= 0).all()
        assert (now.food == (now.board[:, e.cells[:-1]] == FOOD).sum(1)).all()
        assert (now.power == np.where(pills > 0, POWER, np.maximum(before.power - 1, 0)))[same].all()
        assert ((now.pacman >= 0) & (now.pacman < maze.SQUARES)).all()
        assert ((now.ghosts >= 0) & (now.ghosts < maze.CODES)).all()
        assert (alive(e) <= 1 + (now.level - 1) // 2).all()
        assert ((now.board == WALL) == (e.fresh == WALL)).all()


@pytest.mark.parametrize("dynamics", ["paper", "released"])
def test_a_score_is_what_was_eaten(dynamics):
    """Over episodes played greedily, the return of regular is the food eaten, twice the pills and five times the ghosts."""
    e = MiniPacman(64, dynamics=dynamics, observe="ids")
    e.reset()
    greedy, returns, checked = e.scripted()["greedy"], np.zeros(64), 0
    for _ in range(150):
        step = e.step(greedy())
        returns += step.rewards
        over = step.terminated | step.truncated
        levels, rest = step.facts["level"][over], returns[over] - step.facts["food"][over]
        assert (rest >= 0).all()
        assert (rest <= (2 * 2 + 5 * (1 + levels / 2)) * levels).all()
        checked, returns[over] = checked + over.sum(), 0
    assert checked > 50


def test_the_maze():
    """138 squares in one piece, alike from the left and from above, no dead end; no ghost begins near Pacman."""
    steps, first = ways()
    assert maze.SQUARES == 138
    assert steps.max() < FAR
    assert (steps == steps.T).all()
    assert all(row == row[::-1] for row in maze.PLAN)
    assert maze.PLAN[:1] + maze.PLAN[2:6] == maze.PLAN[:-2:-1] + maze.PLAN[-3:-7:-1]
    assert {sum(maze.moved(s, a) != s for a in range(1, 5)) for s in range(maze.SQUARES)} == {2, 3, 4}
    assert (first[steps == 1].reshape(-1) > 0).all()
    table, counts = maze.starts()
    for pacman, (row, column) in enumerate(maze.PLACES):
        for square in table.reshape(maze.SQUARES, -1)[pacman, : counts[pacman]]:
            assert max(abs(maze.PLACES[square][0] - row), abs(maze.PLACES[square][1] - column)) >= maze.SAFE


def test_levels_get_harder():
    """A level that is cleared is followed by the next, with 1 + floor((k - 1) / 2) ghosts, in worlds of any width."""
    e = MiniPacman(4, mode="rush", dynamics="paper", frame_cap=0)
    e.reset()
    for level in range(1, 9):
        assert (e.worlds.level == level).all()
        assert (alive(e) == 1 + (level - 1) // 2).all()
        e._advance(np.ones(4, bool))


def test_windows_are_cut_from_the_board():
    """A window shows the squares around Pacman as the whole board shows them, and walls beyond its edge; numbers are colours."""
    boards, windows, ids = (
        MiniPacman(32, 3, dynamics="released", **kind) for kind in ({}, {"view": 7}, {"observe": "ids"})
    )
    seen = [boards.reset(), windows.reset(), ids.reset()]
    chance = np.random.default_rng(0)
    for _ in range(30):
        padded = np.pad(seen[0], ((0, 0), (3, 3), (3, 3), (0, 0)), constant_values=255)
        for world in range(32):
            row, column = np.argwhere(seen[2][world, ..., 0] == PACMAN)[0]
            assert (padded[world, row : row + 7, column : column + 7] == seen[1][world]).all()
        assert (np.array(COLORS)[seen[2][..., 0]] == seen[0]).all()
        actions = chance.integers(0, 5, 32)
        seen = [e.step(actions).observations for e in (boards, windows, ids)]


def test_power_is_seen():
    """Ghosts turn from yellow to red as power ends, and in the paper's dynamics a bar on the bottom wall gets shorter."""
    for dynamics in ("paper", "released"):
        e = MiniPacman(2, dynamics=dynamics, observe="ids")
        e.reset()
        e.worlds.power[:] = 9, 0
        ids = e._paint(e.worlds)[..., 0]
        assert [set(each[each >= GHOST]) for each in ids] == [{GHOST + 9}, {GHOST}]
        assert (ids[:, -1] != WALL).sum(1).tolist() == [9 if dynamics == "paper" else 0, 0]


def test_a_world_is_rendered():
    """Eight pixels a square; a frame where the window is, which is cut at the edge of the board."""
    whole, window = MiniPacman(2, view=0, dynamics="released"), MiniPacman(2, view=5, dynamics="released")
    seen = whole.reset()
    window.reset()
    assert (whole.render(1)[::8, ::8] == seen[1]).all()
    picture, frame = window.render(1), np.array([255, 128, 0])
    row, column = maze.PLACES[window.worlds.pacman[1]]
    rows, columns = np.nonzero((picture == frame).all(2))
    assert (rows.min(), columns.min()) == (max(0, row - 2) * 8, max(0, column - 2) * 8)
    assert (rows.max(), columns.max()) == (min(15, row + 3) * 8 - 1, min(19, column + 3) * 8 - 1)
    assert (picture[(picture != frame).any(2)] == whole.render(1)[(picture != frame).any(2)]).all()


def test_players_do_what_they_say():
    """Greedy is one step nearer to the nearest food; a wanderer never stands, never turns back, and reaches most of the maze."""
    e = MiniPacman(32, mode="rush", dynamics="released", frame_cap=0)
    e.reset()
    steps, _ = ways()
    for name, player in e.scripted().items():
        visited, last = set(), np.zeros(32, int)
        for _ in range(100):
            before = e.worlds.picked(slice(None))
            food = before.board[:, e.cells[:-1]] == FOOD
            actions = player()
            there = e.moves[before.pacman * 5 + actions]
            visited |= set(there.tolist())
            if name == "greedy":
                near = np.where(food, steps[before.pacman], FAR).min(1)
                assert (np.where(food, steps[there], FAR).min(1) == near - 1)[near > 0].all()
            else:
                assert (there != before.pacman).all()
                going = before.timer > 0
                assert (abs(actions - last) != 2)[going & (last > 0)].all()
            over = e.step(actions).terminated | (e.worlds.timer == 0)
            last = np.where(over, 0, actions)
        assert len(visited) > 100


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"mode": "chase"}, "mode: wanted one of regular, avoid, hunt, ambush, rush, got 'chase'"),
        ({"dynamics": "new"}, "dynamics: wanted one of paper, released, got 'new'"),
        ({"observe": "none"}, "observe: wanted one of rgb, ids, got 'none'"),
        ({"view": 4}, "view: wanted 0, the whole board, or an odd number from 3 to 37, got 4"),
        ({"view": -5}, "view: wanted 0.*got -5"),
        ({"view": 39}, "view: wanted 0.*got 39"),
        ({"frame_cap": -1}, "frame_cap: wanted at least 0, which is no cap, got -1"),
        ({"num_envs": 0}, "num_envs"),
        ({"split": "best"}, "split"),
    ],
)
def test_wrong_parameters_are_named(wrong, told):
    """What cannot be is said in a line that begins with the parameter."""
    with pytest.raises(ValueError, match=f"^{told}") as raised:
        MiniPacman(**wrong)
    assert "\n" not in str(raised.value)


def test_what_is_not_its_own_is_refused():
    """An action that is none, and a state of other worlds, are named."""
    e = MiniPacman(3)
    e.reset()
    with pytest.raises(ValueError, match=r"^action: wanted 0 to 4, got 7 in world 1"):
        e.step(np.array([0, 7, 0]))
    other = MiniPacman(3, mode="hunt")
    other.reset()
    with pytest.raises(ValueError, match=r"^mode: wanted 'regular' as here, got a state of 'hunt'"):
        e.load_state_dict(other.state_dict())
