"""MLflow's pages in a browser, as `seqtoolkit ui` opens them: what people see of runs of two cores."""

import os
import re
import signal
import subprocess

import pytest

RUNS = [f"{core} seed {seed}" for core in ("rmc", "lstm") for seed in (0, 1)]


@pytest.fixture(scope="module")
def pages(learned, tool):
    """`seqtoolkit ui` at work on runs of two cores."""
    with tool.pages(learned) as at_work:
        yield at_work


@pytest.fixture
def view(pages, visit):
    """Open a saved view of the experiment, as a table or as charts, without MLflow's assistant and banners."""

    def viewed(mode, key="runs"):
        page = visit(f"{pages.address.replace('-runs', f'-{key}')}&compareRunsMode={mode}")
        page.get_by_text("4 matching runs").wait_for()
        for part in ("assistant.chat_panel.close", "experiment_page.shared_view.dismiss"):
            page.locator(f"[data-component-id='mlflow.{part}']").click()
        return page

    return viewed


def lines(page, axis):
    """How many lines are drawn in the first chart over this axis."""
    card = page.get_by_test_id("experiment-view-compare-runs-card").filter(has_text=axis).first
    card.locator(".scatterlayer .js-line").first.wait_for(state="attached")
    return card.locator(".scatterlayer .js-line").count()


def test_the_table_tells_cores_apart(view):
    """The experiment of the latest run opens as one of model training: names, cores, seeds and results at once."""
    page = view("TABLE")
    for run in RUNS:
        page.get_by_role("link", name=re.compile(f"^{run}")).wait_for()
    for name in ("params.`model.core`", "params.`run.seed`", "metrics.`test/accuracy`", "metrics.`test/loss`"):
        page.locator(f'[role=columnheader][col-id="{name}"]').wait_for()
    cores = page.locator('[role=gridcell][col-id="params.`model.core`"]').all_inner_texts()
    assert sorted(cores) == ["lstm", "lstm", "rmc", "rmc"]
    losses = page.locator('[role=gridcell][col-id="metrics.`test/loss`"]').all_inner_texts()
    assert all(float(loss.rstrip("…")) > 0 for loss in losses)
    page.shot("table")


def test_charts_show_the_curves_of_several_runs(view):
    """The charts have each run's accuracy by step, by examples and by seconds, and parallel coordinates of all."""
    page = view("CHART")
    assert all(lines(page, axis) >= len(RUNS) for axis in ("Step", "examples", "seconds"))
    page.shot("curves")
    page.locator(".parcoords").first.scroll_into_view_if_needed()
    page.get_by_text("model.core", exact=True).first.wait_for()
    page.shot("parallel")


@pytest.mark.slow
def test_charts_show_the_mean_of_a_core(view):
    """The second view has a line for each core, the mean over its runs."""
    page = view("CHART", "cores")
    page.get_by_text("Group: rmc").wait_for()
    page.get_by_text("Group: lstm").wait_for()
    assert lines(page, "Step") >= 2
    page.shot("cores")


def test_chosen_runs_are_compared(view):
    """Runs that are ticked in the table are compared: parallel coordinates that begin with the core."""
    page = view("TABLE")
    page.get_by_role("checkbox", name="Select all runs").check()
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("Comparing 4 Runs from 1 Experiment").wait_for()
    page.get_by_text("Parallel Coordinates Plot").wait_for()
    page.locator(".parcoords").first.wait_for(state="attached")
    page.get_by_text("model.core", exact=True).first.wait_for()
    page.shot("compare")


def test_a_run_says_what_it_is(view):
    """A run's page has its description: sizes, what was changed, how to have it again; and its artifacts."""
    page = view("TABLE")
    page.get_by_role("link", name=re.compile("^rmc seed 1")).click()
    page.get_by_text("Changed in the pipeline").wait_for()
    page.get_by_text("seqtoolkit runs reproduce").first.wait_for()
    page.shot("run")
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("config.yaml").first.wait_for()
    page.get_by_text("curves.png").first.click()
    page.get_by_role("img", name="curves.png").first.wait_for()
    page.shot("artifacts")


def test_it_ends_with_ctrl_c(pages):
    """After Ctrl-C none of its processes is left."""
    group = {pages.process.pid, *children(pages.process.pid)}
    assert len(group) > 2
    pages.process.send_signal(signal.SIGINT)
    assert pages.process.wait(60) == 0
    assert not [number for number in group if alive(number)]


def children(number):
    """The processes that a process has started, and those that these have."""
    said = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = dict(map(int, line.split()) for line in said.splitlines())
    return {each for each in parents if number in ancestors(each, parents)}


def ancestors(number, parents):
    """The process that started a process, the one that started that, and so on."""
    while number := parents.get(number, 0):
        yield number


def alive(number):
    """Whether a process is there."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True
