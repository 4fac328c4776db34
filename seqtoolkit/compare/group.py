"""Group: runs that differ in nothing but the seed, and what the groups differ in."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from seqtoolkit.host.problem import suggest
from seqtoolkit.record import Record

_ASIDE = {
    "parameters",
    "track",
    "evaluate.attention",
    "evaluate.samples",
    *(f"run.{each}" for each in ("threads", "log_every", "checkpoint_every", "keep_every", "profile")),
}
_WIDEST = 6
"""How many values of a setting a note shows."""
_MOST = 10
"""How many settings a message names."""


@dataclass(frozen=True)
class Group:
    """Runs of the same settings."""

    name: str
    settings: Mapping[str, str]
    """What tells it from the other groups."""
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Grouping:
    """The groups, and what their runs differ in; settings with their values, as text."""

    by: tuple[str, ...]
    groups: tuple[Group, ...]
    differ: Mapping[str, tuple[str, ...]]
    """Settings that are not the same in all runs: their values group by group, several joined by commas."""
    mixed: tuple[str, ...]
    """Settings that differ within a group."""
    same: Mapping[str, str]
    twins: Mapping[str, str]
    """Runs that are left out for having the settings and the seed of a later one: their ids, each with the other's."""


def is_seed(key: str) -> bool:
    """Whether a setting chooses among runs that are meant to be alike."""
    return key.rpartition(".")[2] == "seed"


def is_aside(key: str) -> bool:
    """Whether a setting is no part of what is compared: seeds, and what changes no number."""
    return is_seed(key) or key in _ASIDE or key.startswith("track.")


def seed_of(record: Record) -> str:
    """What tells a run from others of its group; the run's id where it has no seed."""
    return ", ".join(value for key, value in sorted(record.config.items()) if is_seed(key)) or record.run_id


def grouped(records: Sequence[Record], by: Sequence[str] = ()) -> Grouping:
    """Put runs, the latest first, into groups, by these settings or else by all that differ.

    Of settings that follow from others, as `model.core.mem_slots` may from `model.core`, the groups' names say nothing.
    Of runs with the same settings and seed the latest counts. Raises ValueError where no run has one of `by`.
    """
    keys = _ordered({key for record in records for key in record.config})
    for key in by:
        if key not in keys:
            varied = [each for each in keys if len({_value(record, each) for record in records}) > 1]
            there = f"; those that differ: {', '.join(varied[:_MOST]) or 'none'}"
            raise ValueError(f"--by: no run has a setting {key!r}{suggest(key, keys) or there}")
    records, twins = _distinct(records)
    differing = [key for key in keys if not is_aside(key) and len({_value(each, key) for each in records}) > 1]
    chosen = tuple(by) or _separating(records, differing)
    parts = {key for key in chosen if any(each.startswith(f"{key}.") for each in keys)}
    found: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in records:
        found[tuple(_value(record, key) for key in chosen)].append(record)
    groups = tuple(
        Group(
            _name(dict(zip(chosen, values, strict=True)), parts), dict(zip(chosen, values, strict=True)), tuple(members)
        )
        for values, members in sorted(found.items(), key=lambda each: [_natural(value) for value in each[0]])
    )
    return Grouping(
        by=chosen,
        groups=groups,
        differ={key: tuple(_values(group.records, key) for group in groups) for key in differing},
        mixed=tuple(key for key in differing if any(len(_all(group.records, key)) > 1 for group in groups)),
        same={key: _value(records[0], key) for key in keys if not is_aside(key) and key not in differing},
        twins=twins,
    )


def _distinct(records: Sequence[Record]) -> tuple[list[Record], dict[str, str]]:
    """The runs without those that say the same again, and the ids of those."""
    first: dict[tuple[tuple[str, str], ...], Record] = {}
    twins = {}
    for record in records:
        key = tuple(sorted(each for each in record.config.items() if is_seed(each[0]) or not is_aside(each[0])))
        known = first.setdefault(key, record) if any(is_seed(name) for name, _ in key) else record
        if known is not record:
            twins[record.run_id] = known.run_id
    return [record for record in records if record.run_id not in twins], twins


def _separating(records: Sequence[Record], keys: Sequence[str]) -> tuple[str, ...]:
    """The first of `keys` that tell apart what all of them tell apart."""
    chosen: list[str] = []
    for key in keys:
        known: dict[tuple[str, ...], str] = {}
        follows = all(
            known.setdefault(tuple(_value(each, one) for one in chosen), _value(each, key)) == _value(each, key)
            for each in records
        )
        if not follows:
            chosen.append(key)
    return tuple(chosen)


def _ordered(keys: set[str]) -> list[str]:
    """Parts before numbers, the outer before the inner."""
    parts = {key.rpartition(".")[0] for key in keys}
    return sorted(keys, key=lambda key: (key not in parts, key.count("."), key))


def _name(settings: Mapping[str, str], parts: set[str]) -> str:
    """The values, those of numbers with the last words of their keys, as many as tell them apart."""
    words = []
    for key, value in settings.items():
        steps = key.split(".")
        short = next(
            ".".join(steps[-size:])
            for size in range(1, len(steps) + 1)
            if size == len(steps)
            or not any(f".{each}".endswith("." + ".".join(steps[-size:])) for each in settings if each != key)
        )
        if value != ABSENT:
            words.append(value if key in parts else f"{short}={value}")
    return ", ".join(words) or ("all runs" if not settings else f"no {next(iter(settings))}")


ABSENT = "-"
"""What stands for a setting that a run does not have."""


def _value(record: Record, key: str) -> str:
    return record.config.get(key, ABSENT)


def _all(records: Iterable[Record], key: str) -> list[str]:
    return sorted({_value(each, key) for each in records}, key=_natural)


def _values(records: Iterable[Record], key: str) -> str:
    found = _all(records, key)
    return ", ".join(found[:_WIDEST]) + (f", ... ({len(found)} values)" if len(found) > _WIDEST else "")


def _natural(text: str) -> tuple[float, list[tuple[int, float, str]]]:
    """For sorting: numbers by their size, and before words; numbers in words by their size too."""
    try:
        return float(text), []
    except ValueError:
        pieces = re.split(r"(\d+)", text)
        return float("inf"), [(0, float(each), "") if each.isdecimal() else (1, 0.0, each) for each in pieces]
