"""Match: the size of a core with which a trial's model has as many parameters as with the core it is compared with."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from seqtoolkit.host.assemble import assemble
from seqtoolkit.host.config import Plan, load
from seqtoolkit.host.override import Override, override
from seqtoolkit.host.problem import ConfigError, show
from seqtoolkit.host.reader import complete
from seqtoolkit.host.registry import PartError, Registry
from seqtoolkit.host.schema import SchemaError
from seqtoolkit.run import Pipeline
from seqtoolkit.sweep.space import Choice, Params, Space

CORE = ("model", "core")
LARGEST = 1 << 20
"""The largest size that is tried."""
CLOSE = 0.01
"""The share of the parameters by which a model may differ without a word."""
LOGGER = logging.getLogger("seqtoolkit.sweep")
_SETTING = "sweep.match_parameters"
_COUNTED = ("environment", "source", "transform", "batch", "model")


class Size(NamedTuple):
    """A size that was found."""

    key: str
    value: int
    parameters: int
    wanted: int


@dataclass(frozen=True)
class Match:
    """Has every trial of a sweep whose core is another than `reference` be as large as the same trial with that core.

    The reference's block is the one that the sweep goes through; where it goes through none, the pipeline's if that is of
    this core, else the core's defaults, and of what all trials or this one change inside of the core, whatever
    the reference takes too.
    """

    source: str | Path | Mapping[str, Any]
    fixed: tuple[str, ...]
    """Overrides that all trials share."""
    space: Space
    reference: str
    registry: Registry
    _found: dict[str, Size] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Raises ConfigError where there is no such core, or the sweep goes through several blocks of it."""
        try:
            self.registry.schema("core", self.reference)
        except (PartError, SchemaError) as error:
            raise ConfigError([f"{_SETTING}: {error}"]) from None
        blocks = [f"{key}={self.space.axes[key].texts[name]}" for key, name in self._swept()]  # type: ignore[union-attr]  # choices
        if len(blocks) > 1:
            told = f"the sweep goes through {len(blocks)} blocks of {self.reference} ({', '.join(blocks)})"
            raise ConfigError([f"{_SETTING}: {told}, and the others can only be matched to one; take a sweep for each"])

    def size(self, plan: Plan, params: Params) -> Size | None:
        """The size of the core of a trial; None where it is the reference itself.

        Trials that differ in nothing that a model is made of are searched once. Raises ConfigError, one line, for a core
        that does not say which parameter is its size, a trial that sets it, and a size that cannot be.
        """
        if plan.core.use == self.reference:
            return None
        name = self._width(plan, params)
        reference = self._plan(params)
        key = json.dumps([[each.resolved.get(part) for part in _COUNTED] for each in (plan, reference)], default=str)
        if key not in self._found:
            self._found[key] = self._search(plan, name, reference)
        return self._found[key]

    def _width(self, plan: Plan, params: Params) -> str:
        """The parameter that is the size of a trial's core."""
        use, name = plan.core.use, getattr(plan.core.factory, "width", "")
        key = ".".join((*CORE, name))
        if not name:
            told = f"core {use} names no parameter as its size (`width` of its class)"
            raise ConfigError([f"{_SETTING}: {told}, so it cannot be made as large as {self.reference}"])
        if name not in self.registry.schema("core", use).fields:
            raise ConfigError([f"{_SETTING}: core {use} names {show(name)} as its size, and takes no such parameter"])
        said: dict[str, Any] = {}
        override(said, [*self.fixed, *self.space.overrides(params)], {})
        model = said.get("model")
        block = complete(model.get("core")) if isinstance(model, Mapping) else None
        if isinstance(block, Mapping) and name in block:
            raise ConfigError([f"{key}: is {show(block[name])}, and {_SETTING} chooses it; leave one of them out"])
        return name

    def _plan(self, params: Params) -> Plan:
        """The same trial with the reference as its core."""
        swept = next(self._swept(), None)
        if swept is not None:
            words = [*self.fixed, *self.space.overrides({**params, swept[0]: swept[1]})]
        else:
            words = [word for word in (*self.fixed, *self.space.overrides(params)) if self._shared(word)]
            words.append(f"model.core.use={self.reference}")
        try:
            return Pipeline(load(self.source, words), self.registry).plan
        except ConfigError as error:
            raise self._failed(error) from None

    def _swept(self) -> Iterator[tuple[str, Any]]:
        """The keys and values by which the sweep makes the reference the core."""
        for key in (".".join(CORE), ".".join((*CORE, "use"))):
            axis = self.space.axes.get(key)
            for name, text in axis.texts.items() if isinstance(axis, Choice) else ():
                block = complete(Override.parse(f"{key}={text}").value)
                if isinstance(block, Mapping) and block.get("use") == self.reference:
                    yield key, name

    def _shared(self, word: str) -> bool:
        """Whether an override is the reference's as well: any outside of the core, and a parameter that it takes."""
        each = Override.parse(word)
        if each.key[:2] != CORE:
            return True
        return (
            not each.removes
            and each.key[2:3] != ()
            and each.key[2] in self.registry.schema("core", self.reference).fields
        )

    def _search(self, plan: Plan, name: str, reference: Plan) -> Size:
        try:
            wanted = _counter(reference)(reference.core.params)
        except ConfigError as error:
            raise self._failed(error) from None
        count, key = _counter(plan), f"{plan.core.key}.{name}"

        refused: dict[int, ConfigError] = {}

        def parameters(size: int) -> int:
            try:
                return count({**plan.core.params, name: size})
            except ConfigError as error:  # too small for what reads the core, unless none is right
                refused[size] = ConfigError(f"{_SETTING}: {key}={size}: {each}" for each in error.problems)
                return 0

        value, found = closest(parameters, wanted)
        if refused and not found:
            raise refused[max(refused)]
        off = found / wanted - 1
        if off < -CLOSE and (most := parameters(LARGEST)) < wanted:
            raise ConfigError([f"{_SETTING}: {key}={LARGEST} makes {most:,} parameters, too few for {wanted:,}"])
        if abs(off) > CLOSE:
            LOGGER.warning(
                "%s=%d (%s) makes %s parameters, %.1f %% %s than %s with its %s; no other size comes closer",
                *(key, value, plan.core.use, f"{found:,}", 100 * abs(off), "more" if off > 0 else "fewer"),
                *(self.reference, f"{wanted:,}"),
            )
        return Size(key, value, found, wanted)

    def _failed(self, error: ConfigError) -> ConfigError:
        return ConfigError(f"{_SETTING}: with {self.reference} as the core: {each}" for each in error.problems)


def closest(count: Callable[[int], int], wanted: int) -> tuple[int, int]:
    """The size from 1 to LARGEST whose count comes closest to `wanted`, the smaller of two, and its count.

    Counts rise with sizes but for single ones that have fewer, as where a head needs no map to the encoder's table; a size
    that cannot be counts as 0. About twice the logarithm of the size are asked for.
    """
    seen: dict[int, int] = {}

    def below(size: int) -> bool:
        if size not in seen:
            seen[size] = count(size)
        return seen[size] < wanted

    low, high = 0, 1
    while below(high) and high < LARGEST:
        low, high = high, 2 * high
    while True:
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if below(middle) else (low, middle)
        if low < 2 or below(low - 1):
            break
        low, high = 0, low - 1  # `low` is such a single one, and has led upwards
    return min(seen.items(), key=lambda each: (abs(each[1] - wanted), each[0]))


def _counter(plan: Plan) -> Callable[[Mapping[str, Any]], int]:
    """How many parameters the model of a plan has with such a core: models of shapes only, over one source or environment.

    Raises ConfigError where the plan itself is no pipeline that fits.
    """
    origin = assemble(plan, build=False).origin
    block = replace(plan.origin, params={}, factory=lambda: origin)

    def count(params: Mapping[str, Any]) -> int:
        made = replace(plan, origin=block, core=replace(plan.core, params=params))
        return assemble(made, build=False).parameters

    return count
