"""Graphs: stages that fit, stages that do not, and the table of them."""

import pytest

from seqtoolkit.flow.graph import Graph
from seqtoolkit.flow.spec import SpecError, record


def test_sizes_flow(toy):
    """What a stage writes is shown with the sizes that reached it."""
    graph = toy.graph()
    stages = {stage.key: stage for stage in graph.stages}
    assert str(stages["batch"].writes["inputs"]) == "i64<6>[T B]"
    assert str(stages["model.head"].reads["outputs"]) == "f32[U B 7]"
    assert str(stages["model.head"].writes["predictions"]) == "f32[U B 6]"
    assert stages["source"].parameters == stages["loss"].parameters == 0
    counted = sum(stages[f"model.{part}"].parameters for part in ("encoder", "core", "head"))
    assert counted == graph.parameters == sum(each.numel() for each in graph.model.parameters())


def test_names_are_bound_along_a_stage():
    """A name in what a stage writes is replaced by what it stood for in what the stage reads."""
    graph = Graph()
    graph.join("source", "s", None, {}, record(x="f32[T B 5]", y="i64<9>[T B]"))
    graph.join("model.core", "c", None, record(x="f32[T B D]", y="i64<V>[T B]"), record(z="f32[T B D]", w="i64<V>[B]"))
    assert {name: str(spec) for name, spec in graph.flowing.items()} == {
        "x": "f32[T B 5]", "y": "i64<9>[T B]", "z": "f32[T B 5]", "w": "i64<9>[B]",
    }  # fmt: skip


@pytest.mark.parametrize("key", ["batch", "transform.0"])
def test_a_changed_block_flows_as_nothing_else(key):
    """Behind a transform or a batch only what it writes is there; behind other stages everything before it is, too."""
    graph = Graph()
    graph.join("source", "s", None, {}, record(x="f32[B]"))
    graph.join("model.core", "c", None, {}, record(y="f32[B]"))
    assert set(graph.flowing) == {"x", "y"}
    graph.join(key, "t", None, record(x="f32[B]"), record(z="f32[B]"))
    assert set(graph.flowing) == {"z"}
    with pytest.raises(SpecError, match=r"reads x f32\[B\], which no stage before it writes"):
        graph.join("loss", "l", None, record(x="f32[B]"), {})


def test_a_stage_that_does_not_fit_changes_nothing():
    """The field that does not fit is named, and the graph is as it was."""
    graph = Graph()
    graph.join("source", "s", None, {}, record(x="f32[T B 5]", y="f32[T B 6]"))
    before = (list(graph.stages), dict(graph.flowing))
    with pytest.raises(SpecError, match=r"y: wants f32\[T B 5\], gets f32\[T B 6\]: D is 5, not 6"):
        graph.join("batch", "c", None, record(x="f32[T B D]", y="f32[T B D]"), {})
    assert (graph.stages, graph.flowing) == before


def test_the_table(toy):
    """One line a stage under a head, columns aligned, nothing after the last cell, the parameters at the end."""
    graph = toy.graph()
    lines = graph.describe().splitlines()
    assert lines[0].split() == ["stage", "part", "reads", "writes", "parameters"]
    assert set(lines[1]) == {"-"}
    assert len(lines[1]) == max(map(len, lines))
    assert len(lines) == 3 + len(graph.stages)
    assert lines[-1] == f"{graph.parameters:,} parameters"
    column = lines[0].index("reads")
    assert [line[column - 1] for line in lines[2:-1]] == [" "] * len(graph.stages)
    assert "inputs i64<6>[T B], targets i64<6>[U B], mask bool[U B], first bool[T B]" in lines[3]
    assert all(line == line.rstrip() for line in lines)


def test_the_size_of_a_batch(toy):
    """A batch is as large as the pipeline says."""
    graph = toy.graph(size=8)
    assert next(graph.node(graph.source)).size == 8
