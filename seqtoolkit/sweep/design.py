"""Design: what a sweep tries: a pipeline, the space of its changes, how to search it, and by what a trial is judged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from seqtoolkit.flow.graph import Graph
from seqtoolkit.host.assemble import make_environment, make_source
from seqtoolkit.host.config import Config, load
from seqtoolkit.host.freezer import AROUND, Freezer
from seqtoolkit.host.plan import Plan
from seqtoolkit.host.problem import ConfigError, one_line, suggest
from seqtoolkit.host.reader import Reader
from seqtoolkit.host.registry import Registry, discover
from seqtoolkit.run import Pipeline
from seqtoolkit.sweep.match import Match
from seqtoolkit.sweep.row import Better
from seqtoolkit.sweep.space import Params, Space, read
from seqtoolkit.train.search import BARE, SweepSettings

MOST = 10_000
"""Trials of a sweep."""
_TRIALS = 20


class Objective(NamedTuple):
    """By what a trial is judged."""

    metric: str
    better: Better
    plan: Plan
    """Of the first trial."""


@dataclass(frozen=True)
class Design:
    """What a sweep tries."""

    source: str | Path | Mapping[str, Any]
    fixed: tuple[str, ...]
    """Overrides that all trials share."""
    space: Space
    settings: SweepSettings
    config: Config
    """The pipeline with these overrides."""
    registry: Registry
    match: Match | None = None
    """What chooses the sizes of cores, where it is asked for."""

    @classmethod
    def load(cls, source: str | Path | Mapping[str, Any], words: Sequence[str], options: Mapping[str, Any]) -> Self:
        """What a pipeline's `sweep` and a command say, the command over the pipeline.

        `words` are `key=value`, `key=value,value` or `key=distribution`; `options` are settings of `sweep` by name, which
        words are too that begin with `sweep.`, or with one of BARE.
        Raises ConfigError that names all that cannot be read.
        """
        registry = discover()
        options = {f"sweep.{name}": value for name, value in options.items() if value is not None}
        own = [f"{key}={json.dumps(value)}" for key, value in options.items()]
        words = [f"sweep.{word}" if word.partition("=")[0] in BARE else word for word in words]
        own += [word for word in words if word.startswith("sweep.")]
        settings = _settings(load(source, own), registry)
        fixed, space = read([word for word in words if word not in own], settings.space)
        problems = []
        if not space.axes:
            problems.append("sweep: wanted a key with several values, such as run.seed=0,1,2")
        if settings.search == "grid" and not space.counted:
            ranges = [f"{key}={text}" for key, text in space.written().items() if "(" in text.split("[")[0]]
            problems.append(f"{', '.join(ranges)}: a grid wants values; choose --search random or optuna")
        if problems:
            raise ConfigError(problems)
        reference = settings.match_parameters
        match = None if reference is None else Match(source, tuple(fixed), space, reference, registry)
        design = cls(source, tuple(fixed), space, settings, load(source, fixed), registry, match)
        if len(design.wanted()) > MOST:
            raise ConfigError([f"sweep: {len(design.wanted()):,} trials, and at most {MOST:,} can be"])
        return design

    @property
    def name(self) -> str:
        """The sweep's: the same for the same pipeline, space and way to search, whatever the number of trials."""
        tree = {key: value for key, value in self.config.tree.items() if key not in AROUND}
        search = {key: value for key, value in asdict(self.settings).items() if key not in ("trials", "space")}
        if search["match_parameters"] is None:
            del search["match_parameters"]  # sweeps that were begun before there was such a setting
        whole = [self.config.name, tree, list(self.space.written().items()), search]
        digest = hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()
        return f"sweep-{self.config.name.replace('/', '-')}-{digest[:8]}"

    def wanted(self) -> list[Params]:
        """The trials to be, in order; {} for one whose values are chosen as it begins."""
        if self.settings.search == "grid":
            return list(self.space.grid())
        return [{}] * (self.settings.trials or _TRIALS)

    def pipeline(self, params: Params) -> Pipeline:
        """The pipeline of a trial, its core of the size that it is matched to.

        What is wrong with its values is said alike for all trials. Raises ConfigError where a size cannot be matched.
        """
        own = self.space.overrides(params)
        return self._pipeline([*own, *(f"{key}={size}" for key, size in self.matched(params).items())])

    def matched(self, params: Params) -> dict[str, int]:
        """The size that the core of a trial is given, by its key; none where none is. Raises ConfigError."""
        if self.match is None:
            return {}
        size = self.match.size(self._pipeline(self.space.overrides(params)).plan, params)
        return {} if size is None else {size.key: size.value}

    def _pipeline(self, own: list[str]) -> Pipeline:
        config = load(self.source, [*self.fixed, *own])
        made = {f"override {one_line(each)}" for each in own}
        origins = {key: "swept" if origin in made else origin for key, origin in config.origins.items()}
        return Pipeline(replace(config, origins=origins), self.registry)

    def check(self) -> Objective:
        """Check every trial of a grid, and each value of other searches, without touching data or a device.

        Raises ConfigError that names everything that is wrong, and with which values.
        """
        found: dict[str, list[Params]] = {}
        objective: Objective | None = None
        candidates = list(self.space.grid() if self.settings.search == "grid" else self.space.probes())
        for params in candidates:
            try:
                pipeline = self.pipeline(params)
                objective = self.judge(pipeline.plan, pipeline.check(), objective)
            except ConfigError as error:
                for problem in error.problems:
                    found.setdefault(problem, []).append(params)
        if found:
            raise ConfigError(_told(problem, where, candidates) for problem, where in found.items())
        assert objective is not None
        return objective

    def judge(self, plan: Plan, graph: Graph, known: Objective | None = None) -> Objective:
        """By what a trial is judged, which is that of the trials before where there are any. Raises ConfigError."""
        values = _metrics(plan, graph)
        if known is None:
            metric = self.settings.metric or next(iter(values))
            known = Objective(metric, values.get(metric, "higher"), plan)
        if known.metric not in values:
            hint = suggest(known.metric, values) or f"; wanted one of {', '.join(values)}"
            raise ConfigError([f"metric: there is no {known.metric}{hint}"])
        return known


def described(params: Mapping[str, Any]) -> str:
    """The values of a trial in one line."""
    return " ".join(f"{key}={shown(value)}" for key, value in params.items())


def shown(value: Any) -> str:
    """A value of a trial, as short as it can be."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _told(problem: str, where: list[Params], candidates: list[Params]) -> str:
    if len(where) == len(candidates):
        return problem
    count = f"{len(where)} of {len(candidates)} trials, the first " if where[1:] else ""
    return f"{problem}, in {count}{described(where[0])}"


def _settings(config: Config, registry: Registry) -> SweepSettings:
    """The section `sweep`, whatever else of the pipeline is still to come from the space."""
    freezer = Freezer(Reader(registry), {"sweep": SweepSettings})
    freezer.reader.problems += [each for each in config.problems if each[0][0].startswith(("sweep", "override"))]
    made = freezer.settings(freezer.read({"sweep": config.tree.get("sweep")}))
    problems = [each for each in freezer.reader.problems if each[0][0].startswith(("sweep", "override"))]
    if problems:
        raise ConfigError(f"{'.'.join(key)}: {text}{config.located(key)}" for key, text in problems)
    return made["sweep"]


def _metrics(plan: Plan, graph: Graph) -> dict[str, Better]:
    """What an evaluation tells, and which values are better; first that by which the best checkpoint is chosen."""
    evaluate = plan.sections["evaluate"]
    found: dict[str, Better] = dict(graph.better)
    if evaluate.best in found:
        found = {evaluate.best: found[evaluate.best], **found}
    make = make_environment if plan.acting else make_source
    split = make(plan.evaluate_origin, seed=plan.sections["run"].seed).split
    splits = [split, *(["test"] if evaluate.test_examples and split != "test" else [])]
    return {f"{each}/{name}": better for each in splits for name, better in found.items()}
