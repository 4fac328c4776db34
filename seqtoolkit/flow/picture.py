"""Picture: a graph drawn for people, as Mermaid text or SVG."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

from seqtoolkit.flow.graph import Graph, Stage

_FILLS = {"model": "#dbe9f6", "loss": "#fbe3d6", "metric": "#fbe3d6"}
_WIDTH, _BOX, _GAP, _MARGIN, _ARROW = 560, 46, 44, 20, 100
_LETTER = 7  # the width of a monospaced letter of a label, rounded up


def mermaid(graph: Graph) -> str:
    """The graph as a Mermaid flowchart, which GitHub and many editors draw."""
    lines = ["flowchart TD"]
    for number, stage in enumerate(graph.stages):
        lines.append(f'    s{number}["{_plain(_title(stage))}"]')
    for number in range(1, len(graph.stages)):
        for reader, fields in _sources(graph, number).items():
            lines.append(f'    s{reader} -- "{_plain(fields)}" --> s{number}')
    return "\n".join(lines) + "\n"


def svg(graph: Graph) -> str:
    """The graph as an SVG picture, the stages from top to bottom and what flows between them."""
    labels = ["; ".join(_sources(graph, number).values()) for number in range(len(graph.stages))]
    width = max(_WIDTH, _ARROW + _LETTER * max(map(len, labels), default=0) + 2 * _MARGIN)
    height = 2 * _MARGIN + len(graph.stages) * (_BOX + _GAP) - _GAP
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
            ' font-family="ui-monospace, Menlo, Consolas, monospace" font-size="13">'
        ),
        (
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
            '<path d="M0 0 8 4 0 8z" fill="#555"/></marker></defs>'
        ),
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, stage in enumerate(graph.stages):
        top = _MARGIN + number * (_BOX + _GAP)
        fill = _FILLS.get(stage.key.split(".")[0], "#eef2e2")
        parts.append(
            f'<rect x="{_MARGIN}" y="{top}" width="{width - 2 * _MARGIN}" height="{_BOX}" rx="6" fill="{fill}"'
            f' stroke="#555"/><text x="{width // 2}" y="{top + 28}" text-anchor="middle">{escape(_title(stage))}</text>'
        )
        if number:
            parts.append(
                f'<line x1="{_ARROW}" y1="{top - _GAP}" x2="{_ARROW}" y2="{top - 2}" stroke="#555" marker-end="url(#tip)"/>'
                f'<text x="{_ARROW + 10}" y="{top - _GAP // 2 + 4}" font-size="11" fill="#333">{escape(labels[number])}</text>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _plain(text: str) -> str:
    """Text that Mermaid does not take for HTML."""
    return text.replace("<", "#lt;").replace(">", "#gt;").replace('"', "#quot;")


def _title(stage: Stage) -> str:
    size = f" ({stage.parameters:,} parameters)" if stage.parameters else ""
    return f"{stage.key}: {stage.use}{size}"


def _sources(graph: Graph, number: int) -> dict[int, str]:
    """For a stage, the last stage before it that writes each field it reads, with those fields."""
    found: dict[int, str] = {}
    for name, spec in graph.stages[number].reads.items():
        writer = max(each for each in range(number) if name in graph.stages[each].writes)
        found[writer] = f"{found[writer]}, {name} {spec}" if writer in found else f"{name} {spec}"
    return found


def draw(graph: Graph, path: Path) -> None:
    """Write the picture that the file's ending asks for. Raises ValueError for another ending, or where it cannot."""
    drawers = {".svg": svg, ".mmd": mermaid, ".md": lambda graph: f"```mermaid\n{mermaid(graph)}```\n"}
    if path.suffix not in drawers:
        raise ValueError(f"--graph: wanted a file ending in {', '.join(drawers)}, got {path}")
    try:
        path.write_text(drawers[path.suffix](graph))
    except OSError as error:
        raise ValueError(f"--graph: {path} cannot be written: {error.strerror}") from None
