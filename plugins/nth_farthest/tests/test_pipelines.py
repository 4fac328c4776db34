"""The shipped pipelines: the published settings, and the small one that is to be learned from."""

import pytest

from seqtoolkit import Pipeline

CORES = {
    "rmc": {"mem_slots": 8, "num_heads": 1, "head_size": 256, "num_blocks": 1, "gate_style": "unit"},
    "lstm": {"hidden_size": 2048},
    "dnc": {"hidden_size": 512, "num_layers": 2, "memory_size": 8, "word_size": 512, "controller": "lstm"},
}


@pytest.mark.parametrize("core", CORES)
def test_the_published_settings_are_as_published(core):
    """8 vectors of 16, batch 1600, Adam at 1e-4, an MLP of 4 x 256, sizes of the sweep (Santoro et al. 2018, A.1)."""
    plan = Pipeline.load(f"paper/nth_farthest_{core}").plan
    assert (plan.origin.params["vectors"], plan.origin.params["dimensions"]) == (8, 16)
    assert plan.origin.params["order"] == "farthest"
    assert plan.batch.params["size"] == 1600
    assert plan.head.params["sizes"] == [256] * 4
    assert plan.core.use == core
    assert CORES[core].items() <= plan.core.params.items()
    learner = plan.learner.params
    assert (learner["optimizer"].use, learner["optimizer"].params["lr"]) == ("adam", 1e-4)
    assert (learner["schedule"].use, learner["clip"]) == ("constant", None)
    assert plan.sections["run"].steps == 1_000_000
    assert plan.evaluate_origin.params["split"] == "valid"


def test_the_model_reads_40_numbers_and_answers_one_of_8():
    """(x; l; n; m) is 16 + 8 + 8 + 8, at 8 steps, and the answer is said at the last alone."""
    graph = Pipeline.load("paper/nth_farthest_rmc").check()
    flowing = {name: str(spec) for name, spec in graph.flowing.items()}
    assert (flowing["inputs"], flowing["predictions"]) == ("f32[8 B 40]", "f32[1 B 8]")
    assert graph.model.core.output_size == 2048
