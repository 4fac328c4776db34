"""Evaluation: a trained model evaluated on a grid of settings, in the arithmetic of its training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from seqtoolkit.assess.assessment import Assessment, Cell
from seqtoolkit.assess.grid import Grid
from seqtoolkit.assess.interval import normal, wilson
from seqtoolkit.flow.graph import Graph
from seqtoolkit.flow.source import Source
from seqtoolkit.flow.spec import Record, Spec, SpecError, unify
from seqtoolkit.host.config import Block, ConfigError, Plan
from seqtoolkit.host.plan import written
from seqtoolkit.host.problem import one_line
from seqtoolkit.play import changed, worlds
from seqtoolkit.requirement import under
from seqtoolkit.run import Pipeline
from seqtoolkit.train.episode import Episodes
from seqtoolkit.train.evaluate import Evaluation
from seqtoolkit.train.optimize import Update
from seqtoolkit.trained import Trained

Heard = Callable[[int, int, Cell], None]
"""Hears of each cell that is done: how many are, of how many, and this one."""


def evaluate(
    trained: Trained, settings: Sequence[str] = (), *, device: str = "auto", heard: Heard | None = None
) -> Assessment:
    """The loss and the metrics of a trained model on some settings of its task, or on a grid of them; or how its episodes go.

    Without settings it is evaluated as in its training, and the numbers are those that were recorded then.

    Args:
        trained: The model.
        settings: Keys of the pipeline's `evaluate:` block: `examples=5000`, `source.split=test`, `source.length=7`.
            Several values, `source.length=1..5` or `source.nesting=1,2,4`, make an axis. Of the test split as many
            examples as the run took are taken, where `examples` is not given.
        device: auto, cpu, cuda, ...
        heard: Hears of each cell.

    Raises:
        ConfigError: a setting is wrong, a line for each, or gives examples that the model cannot read.
        CheckpointError: the weights are not of this model.
        ValueError: the task has no example at all of these settings; no such device.
    """
    kind = trained.pipeline.plan.origin.kind
    grid = Grid.parse(settings, kind)
    trials = _trials(trained, grid)
    graph, cells = trained.graph, []
    measure = _played if graph.acting else _cell
    with trained.computing(device) as update:
        for trial in trials:
            cells.append(measure(graph, trial, update))
            if heard is not None:
                heard(len(cells), len(trials), cells[-1])
    if all(cell.error for cell in cells):
        raise ValueError(cells[0].error)
    axes = {each.key: each.values for each in grid.axes}
    block = trials[0].block
    fixed = {
        "use": block.use,
        **{name: each for name, each in written(block.params).items() if f"{kind}.{name}" not in axes},
    }
    return Assessment(
        run=trained.place.path.name,
        run_id=trained.place.run_id,
        step=trained.step,
        settings=tuple(settings),
        kind=kind,
        origin=fixed,
        axes=axes,
        metrics=graph.better,
        cells=tuple(cells),
    )


@dataclass(frozen=True)
class _Trial:
    """An evaluation to be made."""

    at: Mapping[str, Any]
    plan: Plan
    origin: Any
    """the source, or the environment"""
    examples: int | None
    trained: bool

    @property
    def block(self) -> Block:
        """What the task is evaluated by."""
        return self.plan.evaluate_origin


def _trials(trained: Trained, grid: Grid) -> list[_Trial]:
    """Those of all cells. Raises ConfigError, with a line for each problem, where one cannot be made."""
    trials, problems = [], []
    for at, overrides in grid.cells():
        try:
            pipeline = changed(trained, overrides)
            plan, examples = pipeline.plan, _examples(pipeline.plan, grid)
            origin = worlds(trained, plan, examples) if plan.acting else _readable(trained, pipeline)
            trials.append(_Trial(at, plan, origin, examples, _trains(trained, plan, grid)))
        except ConfigError as error:
            problems += error.problems
        except SpecError as error:
            settings = [each for each in overrides if each.startswith("evaluate.source.")]
            problems.append(f"{' '.join(settings) or 'evaluate.source'}: {error}")
    if problems:
        raise ConfigError(dict.fromkeys(problems))
    return trials


def _readable(trained: Trained, pipeline: Pipeline) -> Source:
    """The source that evaluates a pipeline. Raises SpecError where the model cannot read its examples."""
    source = pipeline.evaluated()
    _fit(trained.graph.source.writes, source.writes)
    return source


def _fit(reads: Record, writes: Record) -> None:
    """Raises SpecError where a model for the examples `reads` has no use for those that are `writes`: it may have fewer ids."""
    for name, wanted in reads.items():
        if name not in writes:
            raise SpecError(f"the model was trained on examples with {name}, these have {', '.join(writes)}")
        given = writes[name]
        fewer = isinstance(given.bound, int) and isinstance(wanted.bound, int) and given.bound <= wanted.bound
        try:
            unify(Spec(wanted.dtype, wanted.axes), given) if fewer else unify(wanted, given)
        except SpecError:
            raise SpecError(f"the model was trained on {name} {wanted}, and cannot read {given}") from None


def _examples(plan: Plan, grid: Grid) -> int | None:
    """How many examples: of the test split as many as a run takes at its end, where nothing else is said."""
    settings = plan.sections["evaluate"]
    given = any(each.key == "examples" for each in grid.settings)
    test = plan.evaluate_origin.params.get("split") == "test" and not given
    if settings.examples is not None and settings.examples < 1:
        raise ConfigError([f"evaluate.examples: wanted at least 1, got {settings.examples}"])
    return settings.examples if not test or settings.test_examples == 0 else settings.test_examples


def _trains(trained: Trained, plan: Plan, grid: Grid) -> bool:
    """Whether training had examples like these: as hard as the source says that it has, else of the same settings."""
    taught, asked = trained.pipeline.plan.origin, plan.evaluate_origin
    covers = {} if plan.acting else trained.graph.source.covers
    if taught.use != asked.use:
        return False
    if covers:
        return all(_within(asked.params.get(key), *limits) for key, limits in covers.items())
    keys = {each.key.partition(".")[2] for each in grid.settings} - {"", "split", "num_envs"}
    return all(asked.params.get(key) == taught.params.get(key) for key in keys)


def _within(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and low <= value <= high


def _cell(graph: Graph, trial: _Trial, update: Update) -> Cell:
    at = trial.at
    try:
        with under(trial.block.key, trial.block.factory):
            trial.origin.prepare(lambda *_: None)
        evaluation = Evaluation(graph, trial.origin, trial.examples)
        found = evaluation(update)
    except ValueError as error:
        return Cell(at, trial.examples or 0, trained=trial.trained, error=one_line(error))
    examples = evaluation.count()
    assert found is not None  # nobody stops it
    values = {name.rpartition("/")[2]: value for name, value in found.metrics.items()}
    shares = [name for name, each in graph.metrics.items() if each.share and math.isfinite(values[name])]
    return Cell(at, examples, values, {name: wilson(values[name], examples) for name in shares}, trained=trial.trained)


def _played(graph: Graph, trial: _Trial, update: Update) -> Cell:
    """The means of what is known of episodes; nan where the worlds do not tell it."""
    at, settings = trial.at, trial.plan.sections["evaluate"]
    try:
        episodes = Episodes(graph, trial.origin, trial.examples, greedy=settings.greedy).played(update)
    except ValueError as error:
        return Cell(at, trial.examples or 0, trained=trial.trained, error=one_line(error))
    finally:
        trial.origin.close()
    assert episodes is not None  # nobody stops it
    facts = {name: [each.facts.get(name, math.nan) for each in episodes] for name in graph.better}
    values = {name: fmean(each) for name, each in facts.items()}
    spread = {name: each for name, each in facts.items() if len(each) > 1 and math.isfinite(values[name])}
    intervals = {
        name: wilson(values[name], len(each)) if {*each} == {0.0, 1.0} else normal(each)
        for name, each in spread.items()
    }
    return Cell(at, len(episodes), values, intervals, trained=trial.trained)
