"""Markup: the pieces of HTML that a comparison's page is made of."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Sequence
from html import escape
from typing import Any

from seqtoolkit.compare.drawing import COLORS


def swatch(place: int) -> str:
    """A piece of the line of a group, by the group's number."""
    return f'<span class="swatch c{place % COLORS} d{place // COLORS % 4}"></span>'


def data(identifier: str, value: Any) -> str:
    """Data for the page's script."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{identifier}">{text}</script>'


def card(head: str, note: str, inner: str, extra: str = "") -> str:
    """A box with a heading; texts are HTML."""
    return f'<div class="card"><div class="head"><h2>{head} {note}</h2>{extra}</div>{inner}</div>'


def heads(names: Sequence[str], texts: Container[str] = ()) -> str:
    """The line of column names of a table, each to sort by; `texts` are of columns that are no numbers."""
    found = (
        f'<th data-column="{place}"{" class=text" if each in texts else ""}>{escape(each)}</th>'
        for place, each in enumerate(names)
    )
    return f"<tr>{''.join(found)}</tr>"


def framed(header: str, lines: Sequence[str]) -> str:
    """A table that scrolls where it is wider than the page."""
    return f'<div class="scroll"><table class="sortable"><thead>{header}</thead><tbody>{"".join(lines)}</tbody></table></div>'


def cell(text: str, value: object, *, head: bool = False) -> str:
    """A cell, and what it is sorted by."""
    tag, scope = ("th", ' scope="row"') if head else ("td", "")
    return f'<{tag}{scope} data-value="{"" if value is None else escape(str(value))}">{escape(text)}</{tag}>'


def prose(text: str) -> str:
    """A cell of words."""
    return f'<td class="text long" data-value="{escape(text)}">{escape(text)}</td>'


def listed(lines: Iterable[str]) -> str:
    """A list of sentences."""
    return f'<ul class="notes">{"".join(f"<li>{escape(each)}</li>" for each in lines)}</ul>'


def remark(text: str) -> str:
    """A sentence in the place of what is not there; HTML."""
    return f'<p class="none">{text}</p>'
