"""Pictures of a graph: whole, well-formed, and refused where they cannot be written."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from seqtoolkit.flow.graph import Graph
from seqtoolkit.flow.picture import draw, mermaid, svg
from seqtoolkit.flow.spec import record

NAMESPACE = "{http://www.w3.org/2000/svg}"


def test_mermaid(toy):
    """A box for each stage, an arrow from the last stage that writes a field to each that reads it."""
    graph = toy.graph()
    text = mermaid(graph)
    lines = text.splitlines()
    keys = [stage.key for stage in graph.stages]
    assert lines[0] == "flowchart TD"
    boxes = re.findall(r'^    s(\d+)\["(.*)"\]$', text, re.MULTILINE)
    assert [title.split(":")[0] for _, title in boxes] == keys
    arrows = {(keys[int(a)], keys[int(b)]): what for a, what, b in re.findall(r's(\d+) -- "(.*)" --> s(\d+)', text)}
    assert len(lines) == 1 + len(boxes) + len(arrows)
    assert set(arrows) == {
        ("source", "batch"),
        ("batch", "model.encoder"),
        ("model.encoder", "model.core"),
        ("model.core", "model.head"),
        ("model.head", "loss"),
        ("batch", "loss"),
        *(("model.head", f"metric.{name}") for name in graph.metrics),
        *(("batch", f"metric.{name}") for name in graph.metrics),
    }
    assert arrows["batch", "model.encoder"] == "inputs i64#lt;6#gt;[T B]"
    assert arrows["batch", "metric.accuracy"] == "targets i64#lt;6#gt;[U B], mask bool[U B]"


def test_a_field_comes_from_its_last_writer():
    """Where a field is written anew, who reads it is joined to the last stage that wrote it."""
    graph = Graph()
    graph.join("source", "s", None, {}, record(x="f32[B]"))
    graph.join("model.encoder", "e", None, {}, record(x="f32[B]"))
    graph.join("loss", "l", None, record(x="f32[B]"), {})
    assert [line for line in mermaid(graph).splitlines() if "--" in line] == ['    s1 -- "x f32[B]" --> s2']


def test_mermaid_takes_no_text_for_code():
    """Angles and quotes in names are written as Mermaid's entities."""
    graph = Graph()
    graph.join("source", '"<b>', None, {}, record(x="i64<V>[B]"))
    assert mermaid(graph) == 'flowchart TD\n    s0["source: #quot;#lt;b#gt;"]\n'


def test_svg(toy):
    """Well-formed, a box for each stage inside the picture and below the one before, its title and fields in text."""
    graph = toy.graph()
    root = ET.fromstring(svg(graph))
    boxes = list(root.iter(f"{NAMESPACE}rect"))[1:]
    tops = [int(each.get("y")) for each in boxes]
    assert len(boxes) == len(graph.stages)
    assert tops == sorted(set(tops))
    assert tops[-1] + int(boxes[-1].get("height")) < int(root.get("height"))
    texts = [each.text for each in root.iter(f"{NAMESPACE}text")]
    assert f"model.encoder: embed ({graph.stages[2].parameters:,} parameters)" in texts
    assert "inputs i64<6>[T B]" in texts


@pytest.mark.parametrize("ending", [".svg", ".mmd", ".md"])
def test_draw(toy, tmp_path, ending):
    """The file's ending says what is drawn."""
    graph, path = toy.graph(), tmp_path / f"graph{ending}"
    draw(graph, path)
    wanted = {".svg": svg(graph), ".mmd": mermaid(graph), ".md": f"```mermaid\n{mermaid(graph)}```\n"}
    assert path.read_text() == wanted[ending]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("graph.png", "wanted a file ending in .svg, .mmd, .md, got"),
        ("graph", "wanted a file ending in"),
        ("nowhere/graph.svg", "cannot be written: No such file or directory"),
        ("folder.svg", "cannot be written: Is a directory"),
        ("file/graph.svg", "cannot be written: Not a directory"),
    ],
)
def test_a_picture_that_cannot_be(toy, tmp_path, name, says):
    """Another ending, or a place that cannot be written, is one line that names the option."""
    Path(tmp_path / "folder.svg").mkdir()
    Path(tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=f"^--graph: .*{says}"):
        draw(toy.graph(), tmp_path / name)


def test_svg_is_wide_enough():
    """No label runs out of the picture, however many fields flow along an edge."""
    graph = Graph()
    fields = record(**{f"field_{number}": "f32[T B 128]" for number in range(9)})
    graph.join("source", "many", None, {}, fields)
    graph.join("loss", "all", None, fields, {})
    root = ET.fromstring(svg(graph))
    labels = [text for text in root.iter(f"{NAMESPACE}text") if text.get("text-anchor") is None]
    assert labels
    assert all(int(text.get("x")) + 6.7 * len(text.text) < int(root.get("width")) for text in labels)
