"""Inputs that are matrices, from a pipeline to a core that reads them: a plugin's source and batch, the rest as ever."""
# ruff: noqa: D102  the methods are those of the classes they stand in for

import sys
from importlib.metadata import EntryPoint, entry_points

import numpy as np
import pytest
import torch

from seqtoolkit import ConfigError, Pipeline
from seqtoolkit.flow.batch import Batch, Collate
from seqtoolkit.flow.counter import counter_bits
from seqtoolkit.flow.source import Source
from seqtoolkit.flow.spec import record, unify
from seqtoolkit.host.config import load
from seqtoolkit.host.hooks import hookimpl
from seqtoolkit.host.registry import discover

STEPS, ROWS, FEATURES = 3, 2, 4


class Grids(Source):
    """Sequences of matrices of bits; the answer is the first bit of the first."""

    def __init__(self, seed=0, split="train"):
        super().__init__(seed, split)
        self.writes = record(grid=f"f32[B L {ROWS} {FEATURES}]", label="i64<2>[B]")

    def draw(self, indexes):
        bits = counter_bits(self.seed, self.split, indexes, STEPS * ROWS * FEATURES) & np.uint64(1)
        grid = bits.astype(np.float32).reshape(len(indexes), STEPS, ROWS, FEATURES)
        return {"grid": grid, "label": bits[:, 0].astype(np.int64)}


class Stack(Collate):
    """Examples of one length, answered at the last step."""

    def __init__(self, input_spec, size=8):
        super().__init__(size)
        self.reads = record(grid="f32[B L n D]", label="i64<C>[B]")
        sizes = unify(self.reads["grid"], input_spec["grid"])
        self.writes = record(
            inputs=f"f32[T B {sizes['n']} {sizes['D']}]", targets="i64<2>[U B]", mask="bool[U B]", first="bool[T B]"
        )

    def __call__(self, block):
        inputs, targets = torch.from_numpy(block["grid"]).transpose(0, 1), torch.from_numpy(block["label"])[None]
        return Batch(inputs, targets, torch.ones_like(targets, dtype=torch.bool), None)


@hookimpl
def sources():
    """The source."""
    return {"grids": f"{__name__}:Grids"}


@hookimpl
def batches():
    """The batch."""
    return {"pile": f"{__name__}:Stack"}


@pytest.fixture
def pipeline(monkeypatch):
    """A pipeline over the parts of this module, with changes."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Grids.__module__])
    registry = discover([*entry_points(group="seqtoolkit"), EntryPoint("grids", __name__, "seqtoolkit")])
    base = {
        "source": "grids",
        "batch": "pile",
        "model": {
            "encoder": {"use": "linear", "size": 6},
            "core": {"use": "rmc", "mem_slots": 2, "head_size": 3, "num_heads": 2, "treat_input_as_matrix": True},
            "head": {"use": "mlp", "sizes": [8]},
        },
        "evaluate": {"every": 2, "examples": 8, "test_examples": 8},
        "run": {"steps": 2, "checkpoint_every": 0},
        "track": "none",
    }
    return lambda *changes: Pipeline(load(base, changes), registry)


@pytest.mark.parametrize("size", [6, 0])
def test_a_core_reads_matrices_from_a_pipeline(pipeline, tmp_path, size):
    """The core is told the rows and features that reach it, encoded or as they are, and trains on them."""
    built = pipeline(f"model.encoder.size={size}")
    core = built.build().model.core
    assert (core.input_rows, core.input_size) == (ROWS, size or FEATURES)
    result = built.run(tmp_path)
    assert result.status == "FINISHED"
    assert np.isfinite(result.metrics["test/loss"])


def test_the_encoder_maps_each_row_alone(pipeline):
    """A linear encoder maps the rows of a matrix by one map."""
    encoder = pipeline().build().model.encoder
    inputs = torch.randn(3, 5, ROWS, FEATURES)
    rows = torch.stack([encoder(inputs)[:, :, row] for row in range(ROWS)], 2)
    torch.testing.assert_close(rows, inputs @ encoder.map.weight.T + encoder.map.bias)


@pytest.mark.parametrize("core", ["lstm", "{use: rmc, treat_input_as_matrix: false}"])
def test_a_core_of_vectors_refuses_matrices_by_its_key(pipeline, core):
    """A core that reads vectors says so under its key, with the sizes that reach it."""
    with pytest.raises(ConfigError, match=r"^model\.core.*\(2, 6\)"):
        pipeline(f"model.core={core}").check()
