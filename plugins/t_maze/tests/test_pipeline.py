"""The shipped pipeline: who remembers turns the right way, and who does not cannot."""

import pytest

from seqtoolkit import Pipeline

HALF = 0.58
"""Above half of 500 episodes by more than three standard deviations."""


@pytest.mark.slow
def test_memory_beats_none(tmp_path):
    """As shipped, with nothing but the core changed: the LSTM turns right nearly always, a policy without memory half of the time."""
    rights = {
        core: Pipeline.load("t_maze", [f"model.core={core}", "track=none"]).run(tmp_path / core).metrics["test/right"]
        for core in ("lstm", "feedforward")
    }
    assert rights["lstm"] > 0.95
    assert rights["feedforward"] < HALF


def test_a_run_that_goes_on_is_the_same(tmp_path):
    """From a checkpoint of the shipped pipeline, the worlds and the memory of the policy in it, the numbers are those of a run at once."""
    small = [
        "environment.num_envs=4",
        "evaluate.examples=4",
        "evaluate.test_examples=0",
        "evaluate.every=4",
        "track=none",
    ]
    small += [
        "run.log_every=2",
        "evaluate.baselines=false",
        "model.core.hidden_size=4",
        "model.encoder.size=4",
        "learner.unroll=5",
        "evaluate.samples=0",
    ]
    whole = Pipeline.load("t_maze", [*small, "run.steps=8"]).run(tmp_path)
    half = Pipeline.load("t_maze", [*small, "run.steps=4"]).run(tmp_path)
    later = Pipeline.resume(half.folder, ["run.steps=8"], tmp_path)
    assert later.metrics == whole.metrics
    for name, weight in whole.model.state_dict().items():
        assert weight.equal(later.model.state_dict()[name]), name
