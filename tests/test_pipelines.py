"""Every shipped pipeline runs: a few updates of each, with the settings that it ships with but for their number."""

import pytest

from seqtoolkit import Pipeline
from seqtoolkit.host.registry import discover
from seqtoolkit.host.resource import shipped

SHIPPED = {name: Pipeline.load(name).plan for name in sorted(shipped("pipelines"))}
ACTING = [name for name, plan in SHIPPED.items() if plan.acting]
GENERATED = [name for name, plan in SHIPPED.items() if not plan.acting and "train" not in plan.origin.params]
"""Those that make their examples; a plugin whose pipelines read a text tries them on one of its own."""
FEW = ["run.steps=3", "batch.size=8", "evaluate.examples=8", "evaluate.test_examples=8", "track=none"]


@pytest.mark.parametrize("name", GENERATED)
def test_a_few_updates_of_every_pipeline(name, tmp_path):
    """It trains, is evaluated on both splits, and leaves a checkpoint."""
    result = Pipeline.load(name, FEW).run(tmp_path)
    assert result.status == "FINISHED"
    assert 0 <= result.metrics["test/accuracy"] <= 1
    assert (result.checkpoint / "model.safetensors").is_file()


@pytest.mark.parametrize("name", ACTING)
def test_a_few_updates_of_every_pipeline_that_acts(name, tmp_path):
    """It acts, learns, plays whole episodes of both splits beside the players by rule, and leaves a checkpoint."""
    published = name.startswith("paper/")  # whose worlds, and so whose baselines, are those of the others
    few = [
        "run.steps=2",
        f"evaluate.baselines={not published}",
        "environment.num_envs=2",
        "evaluate.examples=2",
        "evaluate.test_examples=2",
        "track=none",
    ]
    result = Pipeline.load(name, [*few, "learner.unroll=5", "evaluate.samples=1"]).run(tmp_path)
    assert result.status == "FINISHED"
    assert result.metrics["test/episode_length"] >= 1
    assert "valid/episode_return" in result.metrics
    assert published or {"valid/random_return", "test/random_return"} <= result.metrics.keys()
    assert (result.checkpoint / "model.safetensors").is_file()


@pytest.mark.parametrize("core", discover().names("core"))
def test_a_few_updates_of_every_core(core, tmp_path):
    """Each core that is installed takes the place of the default pipeline's by its bare name, and trains."""
    result = Pipeline.load("program_eval", [*FEW, f"model.core={core}"]).run(tmp_path)
    assert result.status == "FINISHED"
    assert all(parameter.isfinite().all() for parameter in result.model.parameters())


@pytest.mark.parametrize("problem", ["add", "control", "program", "copy", "reverse", "double"])
def test_the_published_settings_are_as_published(problem):
    """Batch 128, Adam at 1e-3, 200,000 updates, length 5, nesting 2 (1 for memorisation), mix (Santoro et al. 2018, A.2)."""
    plan = Pipeline.load(f"paper/program_eval_{problem}").plan
    source, learner = plan.origin.params, plan.learner.params
    nesting = 1 if problem in ("copy", "reverse", "double") else 2
    assert (source["problem"], source["length"], source["nesting"], source["curriculum"]) == (
        problem,
        5,
        nesting,
        "mix",
    )
    assert plan.batch.params["size"] == 128
    assert (learner["optimizer"].use, learner["optimizer"].params["lr"]) == ("adam", 1e-3)
    assert plan.sections["run"].steps == 200_000
    assert plan.evaluate_origin.params["curriculum"] == "baseline"
    assert plan.sections["evaluate"].examples == 12_800


@pytest.mark.parametrize("name", [name for name in ACTING if name.startswith("paper/")])
def test_the_published_settings_of_acting_are_as_published(name):
    """Unroll 40, batch 32, entropy cost 0.005, discount 0.99; 4 memories, 4 heads of 64, gates for memories (Santoro et al. 2018, A.3)."""
    plan = SHIPPED[name]
    environment, learner, core = plan.origin.params, plan.learner.params, plan.core
    assert (environment["num_envs"], environment["view"], learner["unroll"]) == (32, 5, 40)
    assert (learner["entropy_cost"], learner["discount"], learner["returns"]) == (0.005, 0.99, "vtrace")
    assert (plan.encoder.params["channels"], plan.encoder.params["kernel_size"]) == ([12, 24], 2)
    sizes = {
        "rmc": {"mem_slots": 4, "num_heads": 4, "head_size": 64, "num_blocks": 1, "gate_style": "memory"},
        "conv_lstm": {"channels": 64, "kernel_size": 2},
        "lstm": {},
    }[core.use]
    assert {name: core.params[name] for name in sizes} == sizes
