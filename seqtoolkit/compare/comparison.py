"""Comparison: runs in groups, with the statistics over their seeds, their curves, and what may be said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import comb
from pathlib import Path
from typing import Literal

from seqtoolkit.compare.curve import AXES, Axis, Band, band, line
from seqtoolkit.compare.group import Group, Grouping, grouped, is_aside, seed_of
from seqtoolkit.compare.metric import best, better, final
from seqtoolkit.compare.selection import Left, Selection
from seqtoolkit.compare.statistic import ENOUGH, Better, Summary, Verdict, judge, summarize
from seqtoolkit.record import Record
from seqtoolkit.train.measure import MEASURED

Kind = Literal["final", "best"]


@dataclass(frozen=True)
class Measured:
    """One metric in all groups, by their names."""

    name: str
    better: Better
    final: Mapping[str, Summary | None]
    """The last values of the runs."""
    best: Mapping[str, Summary | None]
    """The best values that the runs ever had; None where no direction is known."""
    verdict: Verdict
    """Of the final values."""
    curves: Mapping[Axis, Mapping[str, Band]]
    """By axis, then by group; groups that have no values in common there are absent."""

    @property
    def values(self) -> dict[Kind, Mapping[str, Summary | None]]:
        """The final values, and the best ones of a metric that was measured more than once and has a direction."""
        best: dict[Kind, Mapping[str, Summary | None]] = {"best": self.best} if self.better and self.curves else {}
        return {"final": self.final, **best}


@dataclass(frozen=True)
class Comparison:
    """Runs in groups, and what may be said of these."""

    name: str
    origin: str
    grouping: Grouping
    metrics: tuple[Measured, ...]
    """The one that matters most first."""
    costs: Mapping[str, Mapping[str, Summary | None]]
    """What the runs have taken: by `seconds`, `examples_per_second`, `peak_memory_megabytes`, then by group."""
    left: tuple[Left, ...]
    """Runs that are not counted."""
    notes: tuple[str, ...]
    """What has to be known to read the numbers right, a sentence or two each."""
    selection: Selection = field(repr=False, compare=False)

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups in their order."""
        return self.grouping.groups

    def write(self, folder: Path) -> list[Path]:
        """Write the page, the tables and the pictures to a folder. Raises ValueError where that cannot be done."""
        from seqtoolkit.compare.output import write

        return write(self, folder)

    def publish(self, paths: Sequence[Path]) -> str | None:
        """Log files among the artifacts of the runs' parent; why the store does not have them, or None."""
        from seqtoolkit.compare.output import publish

        return publish(self.selection, paths)


def compare(
    experiment: str | Path,
    by: Sequence[str] = (),
    metrics: Sequence[str] = (),
    store: str | None = None,
    folder: str | Path = "runs",
) -> Comparison:
    """Compare the finished runs of an experiment or a sweep in groups that differ in nothing but the seed.

    Args:
        experiment: An MLflow experiment's name or id, a sweep's name or its parent run's id, or a folder of runs.
        by: Settings that make the groups, as `model.core`; all that differ where none are named.
        metrics: As `valid/accuracy`; those of the evaluations and the training's loss where none are named.
        store: The address of the MLflow store; that of MLflow's own settings where None.
        folder: Where runs are kept: a sweep that is in no store is looked for there.

    Raises:
        ValueError: there is no such experiment, setting or metric, no run is finished, the store cannot be read.
    """
    return _compared(Selection.find(experiment, metrics, store, Path(folder)), by)


def _compared(selection: Selection, by: Sequence[str]) -> Comparison:
    grouping = grouped(selection.records, by)
    names = {record.run_id: record.name for record in selection.records}
    twins = [
        Left(run, names[run], f"the same settings and seed as {names[later]}, which is later")
        for run, later in grouping.twins.items()
    ]
    left = (*selection.left, *twins)
    measured = tuple(_measured(name, grouping.groups) for name in selection.metrics)
    costs = {name: {group.name: _finals(group, name) for group in grouping.groups} for name in MEASURED}
    costs = {name: found for name, found in costs.items() if any(found.values())}
    notes = tuple(_notes(grouping, measured, left, selection.records))
    return Comparison(selection.name, selection.origin, grouping, measured, costs, left, notes, selection)


def _measured(name: str, groups: Sequence[Group]) -> Measured:
    direction = better(name)
    finals = {group.name: _finals(group, name) for group in groups}
    bests = {
        group.name: summarize([best(each, name, direction) for each in group.records], _seeds(group))
        for group in groups
    }
    curves: dict[Axis, dict[str, Band]] = {}
    for axis in AXES:
        lines = {group.name: [line(each, name, axis) for each in group.records] for group in groups}
        bands = {key: band([each for each in found if each is not None]) for key, found in lines.items()}
        if any(found is not None and len(found.x) > 1 for found in bands.values()):
            curves[axis] = {key: found for key, found in bands.items() if found is not None}
    return Measured(name, direction, finals, bests, judge(finals, direction), curves)


def _finals(group: Group, name: str) -> Summary | None:
    return summarize([final(each, name) for each in group.records], _seeds(group))


def _seeds(group: Group) -> list[str]:
    return [seed_of(each) for each in group.records]


def _notes(
    grouping: Grouping, metrics: Sequence[Measured], left: Sequence[Left], records: Sequence[Record]
) -> list[str]:
    """What has to be known to read the numbers right."""
    notes = []
    if left:
        notes.append(f"{len(left)} {'run is' if len(left) == 1 else 'runs are'} left out.")
    if grouping.mixed:
        notes.append(
            f"Groups mix runs that differ in {', '.join(grouping.mixed)}: their spread is not that of seeds alone."
        )
    aside = sorted({key for each in records for key in each.config if is_aside(key)})
    varied = [key for key in aside if key != "parameters" and len({each.config.get(key) for each in records}) > 1]
    if varied:
        notes.append(f"Not compared, though different between runs: {', '.join(varied)}.")
    sizes = sorted({len(group.records) for group in grouping.groups})
    notes += [_small(n) for n in sizes if n < ENOUGH]
    for each in metrics:
        notes += _lacking(each)
    return [*notes, *_ends(metrics)]


def _small(n: int) -> str:
    if n == 1:
        return "A group of one run has no interval: nothing is known of what another seed would give."
    held, apart = 100 * (1 - 0.5 ** (n - 1)), 200 / comb(2 * n, n)
    return (
        f"With {n} runs in a group an interval reaches from the least to the greatest value: it holds the true mean in"
        f" about {held:.0f} of 100 cases, not 95, and lies apart from that of an equal group in about {apart:.0f} of 100."
        f" {ENOUGH} seeds or more make it honest."
    )


def _lacking(metric: Measured) -> list[str]:
    found = metric.final.items()
    lost = [f"{each.lacking} of {each.lacking + each.n} of {name}" for name, each in found if each and each.lacking]
    lost += [f"all of {name}" for name, each in found if each is None]
    return (
        [f"{metric.name}: runs without a finite final value are not in its statistics: {', '.join(lost)}."]
        if lost
        else []
    )


def _ends(metrics: Sequence[Measured]) -> list[str]:
    """Where lines end before their longest run does, by step."""
    ends: dict[str, tuple[float, float]] = {}
    for metric in metrics:
        for name, each in metric.curves.get("step", {}).items():
            if each.x[-1] < each.last:
                ends.setdefault(name, (each.x[-1], each.last))
    return [
        f"The runs of {name} end between step {first:,.0f} and step {last:,.0f}: its curves end with the shortest."
        for name, (first, last) in ends.items()
    ]
