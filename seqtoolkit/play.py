"""Play: the episodes that a trained model plays, in the worlds by which its run is evaluated or in others like them."""

from __future__ import annotations

from collections.abc import Sequence

from seqtoolkit.flow.environment import Environment
from seqtoolkit.flow.spec import SpecError, unify
from seqtoolkit.host.assemble import make_environment
from seqtoolkit.host.config import ConfigError, Plan, load
from seqtoolkit.requirement import under
from seqtoolkit.run import Pipeline
from seqtoolkit.train.episode import Episode, Episodes
from seqtoolkit.trained import Trained


def play(
    trained: Trained,
    settings: Sequence[str] = (),
    episodes: int = 4,
    *,
    seed: int | None = None,
    watched: int = 0,
    device: str = "auto",
) -> list[Episode]:
    """The first episodes that a trained model plays, in order.

    Args:
        trained: The model.
        settings: Keys of the pipeline's `evaluate:` block: `environment.split=test`, `greedy=true`.
        episodes: How many.
        seed: Of the worlds and of the draws; that of the run where None.
        watched: How many have a replay, where the environment draws pictures.
        device: auto, cpu, cuda, ...

    Raises:
        ConfigError: a setting is wrong, a line for each, or gives worlds in which the model cannot act.
        ValueError: the run has no environment, a world fails, no such device, `episodes` below 1.
    """
    if not trained.pipeline.plan.acting:
        raise ValueError(f"{trained.place.path.name} has no environment to play in: seqtoolkit evaluate, or predict")
    if episodes < 1:
        raise ValueError(f"episodes: wanted at least 1, got {episodes}")
    plan = changed(trained, [f"evaluate.{each.removeprefix('evaluate.')}" for each in settings]).plan
    environment = worlds(trained, plan, episodes, seed)
    try:
        playing = Episodes(trained.graph, environment, episodes, watched, greedy=plan.sections["evaluate"].greedy)
        with trained.computing(device) as update:
            return playing.played(update) or []
    finally:
        environment.close()


def changed(trained: Trained, overrides: Sequence[str]) -> Pipeline:
    """The pipeline of a trained model with changes."""
    pipeline = trained.pipeline
    return Pipeline(load(pipeline.plan.resolved, overrides), pipeline.registry, pipeline.kept)


def worlds(trained: Trained, plan: Plan, episodes: int | None, seed: int | None = None) -> Environment:
    """The worlds by which a plan is evaluated, ready for so many episodes; raises ConfigError where the model cannot act there."""
    block = plan.evaluate_origin
    seed = plan.sections["run"].seed if seed is None else seed
    made = make_environment(block, seed=seed, kept=trained.pipeline.kept, worlds=episodes)
    try:
        _fit(trained.graph.environment, made)
        with under(block.key, block.factory):
            made.prepare(lambda *_: None)
    except SpecError as error:
        made.close()
        raise ConfigError([f"{block.key}: {error}"]) from None
    return made


def _fit(learned: Environment, given: Environment) -> None:
    """Raises SpecError where a model for one environment cannot act in another."""
    if given.actions != learned.actions:
        raise SpecError(f"the model was trained for {learned.actions} actions, here are {given.actions}")
    try:
        unify(learned.observation, given.observation)
    except SpecError:
        told = f"the model was trained on observations {learned.observation}"
        raise SpecError(f"{told}, and cannot read {given.observation}") from None
