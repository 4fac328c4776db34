"""Ours as Gymnasium's: importing this registers every environment that is installed, as `seqtoolkit/MiniPacman-v0`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from seqtoolkit.flow.environment import Environment, Step
from seqtoolkit.flow.spec import Spec
from seqtoolkit.host.offer import offer_environments
from seqtoolkit.host.plan import Block
from seqtoolkit.host.problem import ConfigError
from seqtoolkit.host.reader import Reader
from seqtoolkit.host.registry import discover

__all__ = ["World", "Worlds"]

_PICTURE = "rgb_array"
_FPS = 8
_SEEDS = 2**31


class World(gymnasium.Env):
    """One world of an environment, for gymnasium.make.

    `reset(seed=...)` begins world 0 of that seed; `reset()` after the end of an episode begins the next one there, and in
    the midst of an episode a world of a seed that is drawn from `np_random`. `info` has the environment's measures where an
    episode ends. A picture that is asked for after the end of an episode is the first of the next one.

    Args:
        use: the environment, by the name of its part
        render_mode: rgb_array, or null for no pictures
        settings: the parameters that a pipeline gives it, but `num_envs` and `seed`
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": [_PICTURE], "render_fps": _FPS}  # type: ignore[misc]  # Gymnasium's is no ClassVar

    def __init__(self, use: str, render_mode: str | None = None, **settings: Any) -> None:
        self._block = _block(use, settings, 1)
        self._environment = _make(self._block, 0, render_mode)
        self.metadata = _metadata(self._environment, self.metadata)  # type: ignore[misc]  # as Gymnasium's own do
        self.render_mode = render_mode
        self.observation_space = _space(self._environment.observation)
        self.action_space = spaces.Discrete(self._environment.actions)
        self._observation: Any = None
        self._ended = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The first observation of an episode. Raises ValueError for options: there are none."""
        super().reset(seed=seed)
        _no_options(options)
        if seed is not None or not self._ended:
            self._environment = _anew(self._environment, self._block, seed, self)
            self._observation = self._environment.reset()[0].copy()
        self._ended = False
        return self._observation.copy(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take an action. Raises ResetNeeded where no episode goes on, ValueError where the action is none."""
        if self._ended or self._observation is None:
            raise ResetNeeded("Cannot call env.step() here: no episode goes on, call env.reset() first")
        step = self._environment.step(_actions([action], 1))
        shown, self._observation = self._observation, step.observations[0].copy()
        terminated, truncated = bool(step.terminated[0]), bool(step.truncated[0])
        self._ended = terminated or truncated
        if not self._ended:
            return self._observation.copy(), float(step.rewards[0]), False, False, {}
        shown = next(iter(_finals(step).values()), shown)
        facts = {name: float(values[0]) for name, values in step.facts.items()}
        return shown.copy(), float(step.rewards[0]), terminated, truncated, facts

    def render(self) -> Any:
        """What a person would see: [H W 3] uint8; None without a render_mode."""
        return None if self.render_mode is None else self._environment.render()

    def close(self) -> None:
        """Let go of what it holds."""
        self._environment.close()


class Worlds(VectorEnv):
    """Many worlds of an environment, computed together, for gymnasium.make_vec.

    An episode that ends is followed by the next one in the same step; `final_obs` and `final_info` of the infos are
    those of Gymnasium's SyncVectorEnv, and `final_info` has the environment's measures. `reset(seed=...)` seeds all
    worlds: what happens in world i is a function of the seed, i, and the actions there. `reset()` draws a seed from `np_random`.

    Args:
        use: the environment, by the name of its part
        num_envs: how many worlds there are
        render_mode: rgb_array, or null for no pictures
        settings: the parameters that a pipeline gives it, but `seed`
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  as Gymnasium's own class has it
        "render_modes": [_PICTURE],
        "render_fps": _FPS,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(self, use: str, num_envs: int = 1, render_mode: str | None = None, **settings: Any) -> None:
        self._block = _block(use, settings, num_envs)
        self._environment = _make(self._block, 0, render_mode)
        self.metadata = _metadata(self._environment, self.metadata)
        self.num_envs, self.render_mode = num_envs, render_mode
        self.single_observation_space = _space(self._environment.observation)
        self.single_action_space = spaces.Discrete(self._environment.actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._begun = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The first observations [B ...] of every world anew. Raises ValueError for options: there are none."""
        super().reset(seed=seed)
        _no_options(options)
        self._environment = _anew(self._environment, self._block, seed, self)
        self._begun = True
        return np.array(self._environment.reset()), {}

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take an action in each world. Raises ResetNeeded before the first reset, ValueError where an action is none."""
        if not self._begun:
            raise ResetNeeded("Cannot call env.step() before calling env.reset()")
        step = self._environment.step(_actions(actions, self.num_envs))
        rewards = np.asarray(step.rewards, np.float64)
        return np.array(step.observations), rewards, np.array(step.terminated), np.array(step.truncated), _infos(step)

    def render(self) -> tuple[Any, ...] | None:
        """What a person would see of each world: [H W 3] uint8; None without a render_mode."""
        return None if self.render_mode is None else tuple(map(self._environment.render, range(self.num_envs)))

    def close_extras(self, **_: Any) -> None:
        """Let go of what the worlds hold."""
        self._environment.close()


def _block(use: str, settings: Mapping[str, Any], num_envs: int) -> Block:
    for name, place in {"seed": "reset(seed=...)", "num_envs": "gymnasium.make_vec"}.items():
        if name in settings:
            raise ValueError(f"{name}: give it to {place}")
    reader = Reader(discover())
    block = reader.block("environment", {"use": use, "num_envs": num_envs, **settings}, ())
    if reader.problems or not isinstance(block, Block):
        raise ConfigError(f"{'.'.join(key)}: {problem}" for key, problem in reader.problems)
    return block


def _make(block: Block, seed: int, render_mode: str | None) -> Environment:
    environment: Environment = block.maker()(seed=seed)
    environment.finals_of = "ended"
    modes = _metadata(environment, {"render_modes": [_PICTURE]})["render_modes"]
    if render_mode is not None and render_mode not in modes:
        raise ValueError(f"render_mode: wanted {' or '.join([*modes, 'None'])}, got {render_mode!r}")
    return environment


def _anew(environment: Environment, block: Block, seed: int | None, asked: gymnasium.Env | VectorEnv) -> Environment:
    """An environment of this seed, or of one drawn: another object, for it may have made much of its seed."""
    environment.close()
    return _make(block, int(asked.np_random.integers(_SEEDS)) if seed is None else seed, asked.render_mode)


def _metadata(environment: Environment, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Without modes of rendering where an environment has no pictures."""
    return {**metadata, "render_modes": metadata["render_modes"] if environment.renders else []}


def _space(spec: Spec) -> spaces.Space:
    """What one world shows of `u8[B Y X C]`, `f32[B n]` or `i64<n>[B]`."""
    shape = tuple(size for size in spec.axes[1:] if isinstance(size, int))
    if len(shape) == len(spec.axes) - 1:
        if spec.dtype == "u8":
            return spaces.Box(0, 255, shape, np.uint8)
        if spec.dtype == "f32":
            return spaces.Box(-np.inf, np.inf, shape, np.float32)
        if spec.dtype == "i64" and isinstance(spec.bound, int) and not shape:
            return spaces.Discrete(spec.bound)
    raise ValueError(f"observation: Gymnasium is given u8[B Y X C], f32[B n] or i64<n>[B], and this one is {spec}")


def _no_options(options: Mapping[str, Any] | None) -> None:
    if options:
        raise ValueError(f"options: these worlds take none, got {', '.join(map(repr, options))}")


def _actions(given: Any, count: int) -> np.ndarray:
    actions = np.asarray(given)
    if actions.shape != (count,) or actions.dtype.kind not in "iu":
        raise ValueError(f"actions: wanted {count} integers, got {actions.dtype} of shape {actions.shape}")
    return actions.astype(np.int64)


def _finals(step: Step) -> dict[int, Any]:
    """The last observations of the episodes that have ended, by their worlds; an environment may leave out terminated ones."""
    finals = [] if step.finals is None else step.finals
    ended = np.flatnonzero(step.terminated | step.truncated)
    return dict(zip(ended if len(finals) == len(ended) else np.flatnonzero(step.truncated), finals, strict=True))


def _infos(step: Step) -> dict[str, Any]:
    ended = step.terminated | step.truncated
    if not ended.any():
        return {}
    last, has = np.full(len(ended), None, object), np.zeros(len(ended), np.bool_)
    for world, observation in _finals(step).items():
        last[world], has[world] = observation.copy(), True
    facts: dict[str, Any] = {}
    for name, values in step.facts.items():
        facts |= {name: np.where(ended, values, 0).astype(np.float64), f"_{name}": ended.copy()}
    return {"final_obs": last, "_final_obs": has, "final_info": facts, "_final_info": ended}


offer_environments(discover().names("environment"))
