"""Drawing: curves and intervals as SVG for a page whose style sheet gives the colors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from seqtoolkit.compare.curve import Axis, Band
from seqtoolkit.compare.group import Group, seed_of
from seqtoolkit.compare.metric import final
from seqtoolkit.compare.statistic import Summary
from seqtoolkit.compare.table import number

WIDTH, HEIGHT = 960, 380
LABELS: Mapping[Axis, str] = {"step": "step", "examples": "examples", "seconds": "seconds of training"}
COLORS = 8
"""How many colors the style sheet has; groups beyond these have dashed lines of the same."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 18, 14, 46
_LINE, _LETTER, _LONGEST = 34, 7.5, 42
_LOG = 50
"""From which ratio of the greatest to the least value, both positive, an axis is logarithmic."""


class Scale(NamedTuple):
    """From values to pixels."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Where values are, in pixels."""
        low, high = self.low, self.high
        if self.log:
            values, low, high = np.log(values), math.log(low), math.log(high)
        return self.start + (values - low) / (high - low) * (self.stop - self.start)

    def at(self, value: float) -> float:
        """Where one value is."""
        return float(self(np.array(value)))


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from `low` to `high`, about `most` of them: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= rough * (1 - 1e-9))
    return [each * step for each in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def decades(low: float, high: float) -> list[float]:
    """Powers of ten from `low` to `high`, their double and fivefold where there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(powers) <= 4 else (1,)
    found = [factor * 10.0**power for power in powers for factor in factors]
    return [each for each in found if low <= each <= high]


def _marks(scale: Scale, most: int) -> list[float]:
    return decades(scale.low, scale.high) if scale.log else ticks(scale.low, scale.high, most)


def tick(value: float) -> str:
    """A number at an axis, short."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):g}{letter}"
    return f"{value:.6g}"


def chart(bands: Mapping[str, Band], places: Mapping[str, int], axis: Axis, name: str) -> str:
    """The mean lines of groups with their bands; `places` are the groups' numbers, which give the colors."""
    stop = max(float(each.x[-1]) for each in bands.values())
    start = min(float(each.x[0]) for each in bands.values())
    across = Scale(start, stop if stop > start else start + 1, _LEFT, WIDTH - _RIGHT)
    up = _upright(bands, name)
    parts = [
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{up.at(each):.1f}" y2="{up.at(each):.1f}"/>'
        f'<text class="tick" x="{_LEFT - 9}" y="{up.at(each) + 4:.1f}" text-anchor="end">{tick(each)}</text>'
        for each in _marks(up, 8)
    ]
    parts += _foot(across, _marks(across, 8), HEIGHT - _BOTTOM, LABELS[axis])
    for key, each in bands.items():
        color, dash = _style(places[key])
        x, low, high, mean = across(each.x), up(each.low), up(each.high), up(each.mean)
        parts.append(f'<g class="series {color}" data-group="{places[key]}"><title>{escape(key)}</title>')
        if each.runs > 1:
            parts.append(f'<path class="band" d="{_path(np.append(x, x[::-1]), np.append(high, low[::-1]))}Z"/>')
        parts.append(f'<path class="mean"{dash} d="{_path(x, mean)}"/>')
        if len(x) <= 12:
            parts += [f'<circle r="3" cx="{a:.1f}" cy="{b:.1f}"/>' for a, b in zip(x, mean, strict=True)]
        parts.append("</g>")
    scales = f'data-x="{across.low!r} {across.high!r}" data-y="{up.low!r} {up.high!r}" data-log="{int(up.log)}"'
    frame = f'data-frame="{_LEFT} {WIDTH - _RIGHT} {_TOP} {HEIGHT - _BOTTOM}"'
    return _picture("chart", HEIGHT, f"{name} by {LABELS[axis]}", parts, f"{scales} {frame}")


def forest(name: str, found: Mapping[str, Summary | None], groups: Sequence[Group]) -> str:
    """The final values of each group's runs, their mean and its interval; a line a group."""
    values = np.array([value for each in found.values() if each is not None for value in each.values])
    if not len(values):
        return ""
    low, high = float(values.min()), float(values.max())
    start = 30 + _LETTER * min(_LONGEST, max(len(group.name) for group in groups))
    if low > 0 and high > _LOG * low:
        across = Scale(low / 1.15, high * 1.15, start, WIDTH - _RIGHT, log=True)
    else:
        pad = 0.06 * (high - low) or 0.05 * abs(low) or 0.5
        across = Scale(low - pad, high + pad, start, WIDTH - _RIGHT)
    bottom = _LINE * len(groups) + 8
    parts = _foot(across, _marks(across, 7), bottom, name, top=4)
    for place, group in enumerate(groups):
        parts.append(_entry(place, group, found[group.name], across, name))
    return _picture("forest", bottom + _BOTTOM - 4, f"final {name}: each run, mean and interval of each group", parts)


def _picture(kind: str, height: int, label: str, parts: Sequence[str], more: str = "") -> str:
    head = f'class="{kind}" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}" {more}'
    return f'<div class="wide"><svg {head}>{"".join(parts)}</svg></div>'


def _entry(place: int, group: Group, summary: Summary | None, across: Scale, name: str) -> str:
    y = _LINE * place + _LINE // 2 + 6
    short = group.name if len(group.name) <= _LONGEST else f"{group.name[: _LONGEST - 1]}…"
    color, _ = _style(place)
    anchor = f'class="name" x="{across.start - 16}" y="{y + 4}" text-anchor="end"'
    parts = [
        f'<g class="series {color}" data-group="{place}">',
        f"<text {anchor}>{escape(short)}<title>{escape(group.name)}</title></text>",
    ]
    if summary is not None and summary.interval is not None:
        low, high = across.at(summary.interval.low), across.at(summary.interval.high)
        parts.append(
            f'<rect class="interval" x="{low - 1:.1f}" y="{y - 7}" width="{high - low + 2:.1f}" height="14" rx="4"/>'
        )
    for record in group.records:
        value = final(record, name)
        if math.isfinite(value):
            told = escape(f"{record.name}, seed {seed_of(record)}: {number(value)}")
            parts.append(
                f'<a href="#run-{escape(record.run_id)}"><circle class="run" r="4" cx="{across.at(value):.1f}" cy="{y}">'
                f"<title>{told}</title></circle></a>"
            )
    if summary is not None:
        x = across.at(summary.mean)
        parts.append(f'<line class="center" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 10}" y2="{y + 10}"/>')
    return "".join([*parts, "</g>"])


def _foot(across: Scale, marks: Sequence[float], bottom: float, label: str, top: float = _TOP) -> list[str]:
    """The horizontal axis."""
    found = []
    for each in marks:
        x = across.at(each)
        found.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
            f'<text class="tick" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{tick(each)}</text>'
        )
    middle = (across.start + across.stop) / 2
    found.append(f'<line class="axis" x1="{across.start}" x2="{across.stop}" y1="{bottom}" y2="{bottom}"/>')
    return [*found, f'<text class="label" x="{middle}" y="{bottom + 38}" text-anchor="middle">{escape(label)}</text>']


def logarithmic(bands: Mapping[str, Band]) -> bool:
    """Whether values are positive and differ so much that only a logarithmic axis shows them."""
    low, high = _reach(bands)
    return low > 0 and high > _LOG * low


def _reach(bands: Mapping[str, Band]) -> tuple[float, float]:
    return min(float(each.low.min()) for each in bands.values()), max(float(each.high.max()) for each in bands.values())


def _upright(bands: Mapping[str, Band], name: str) -> Scale:
    """The scale of values; an accuracy stays within 0 and 1."""
    low, high = _reach(bands)
    if logarithmic(bands):
        return Scale(low / 1.15, high * 1.15, HEIGHT - _BOTTOM, _TOP, log=True)
    pad = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    bottom = max(low - pad, 0.0) if low >= 0 else low - pad
    top = min(high + pad, 1.0) if "accuracy" in name and high <= 1 else high + pad
    return Scale(bottom if bottom < top else top - pad, top, HEIGHT - _BOTTOM, _TOP)


def _style(place: int) -> tuple[str, str]:
    """The class of a group's color, and the dashes of its line."""
    dashes = ["", "7 4", "2 4", "10 3 2 3"][place // COLORS % 4]
    return f"c{place % COLORS}", f' stroke-dasharray="{dashes}"' if dashes else ""


def _path(x: np.ndarray, y: np.ndarray) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
