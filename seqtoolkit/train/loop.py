"""Loop: fit(), the one outer loop of every run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from seqtoolkit.flow.replay import Replay
from seqtoolkit.flow.source import Sample
from seqtoolkit.flow.view import View
from seqtoolkit.train.checkpoint import CheckpointError, Checkpoints
from seqtoolkit.train.episode import Episodes
from seqtoolkit.train.evaluate import Evaluated, EvaluateSettings, Evaluation
from seqtoolkit.train.learner import Learner
from seqtoolkit.train.optimize import Precision
from seqtoolkit.train.stop import Status, Stop
from seqtoolkit.train.window import Window


@dataclass(frozen=True)
class RunSettings:
    """How long and on what a run trains.

    Args:
        steps: How many updates.
        time_limit: After how many seconds of training it ends all the same; evaluations are not counted. null: none.
        log_every: After how many updates the training metrics, averaged since, are recorded.
        checkpoint_every: After how many updates a checkpoint is saved; 0 is after the last only.
        keep_every: Besides the last and the best checkpoint, keep one each so many updates; 0 keeps no other.
        seed: From which all randomness of the run comes.
        device: auto (a GPU where there is one), cpu, cuda, cuda:1, mps.
        precision: auto (bf16 on a GPU that has it, f32 elsewhere), f32, bf16, f16.
        threads: How many CPU threads torch computes with; 0 leaves its own choice.
        profile: Whether some updates, after the first ones, are measured stage by stage and traced.
    """

    steps: int = 1000
    time_limit: float | None = None
    log_every: int = 10
    checkpoint_every: int = 500
    keep_every: int = 0
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"
    threads: int = 0
    profile: bool = False


class Relay(Protocol):
    """Whom the loop tells what happens; none of these may raise. `Run` is one."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Training metrics, averaged since the last time."""

    def evaluated(
        self,
        step: int,
        metrics: Mapping[str, float],
        samples: list[Sample],
        views: list[View],
        replays: Sequence[Replay] = (),
    ) -> None:
        """An evaluation is done; `views` are what the core attends to, where a run was asked to show it."""

    def saved(self, step: int, path: Path, *, best: bool) -> None:
        """A checkpoint is on the disk."""

    def note(self, text: str) -> None:
        """Something went wrong that does not end the run."""


class Fit:
    """One run of a learner: updates, logs, evaluations and checkpoints, resumable between any two updates.

    Args:
        learner: What learns.
        run: How long.
        evaluate: How often it is evaluated.
        evaluation: What evaluates it.
        checkpoints: Where it is saved.
        relay: Whom to tell.
        stop: The wish to end it early.
    """

    def __init__(
        self,
        learner: Learner,
        run: RunSettings,
        evaluate: EvaluateSettings,
        evaluation: Evaluation | Episodes,
        checkpoints: Checkpoints,
        relay: Relay,
        stop: Stop | None = None,
    ) -> None:
        self.learner, self.run, self.evaluate = learner, run, evaluate
        self.evaluation, self.checkpoints, self.relay = evaluation, checkpoints, relay
        self.stop = stop or Stop()
        self.step = 0
        self.best: float | None = None
        self.latest: dict[str, float] = {}
        self.stale = 0
        """How many evaluations in a row were no better than the best before them."""
        self.window = Window(learner.graph.metrics, learner.device, acting=learner.acts)
        self._owed = False
        self._saved: int | None = None
        self._evaluated: int | None = None

    def __call__(self) -> Status:
        """Train from where the run stands to its last step, or until asked to stop; the end is always saved."""
        with self.stop:
            self.window.begin()
            score = self._settle() if self._owed else None
            if self.step < self.run.steps and not self.stop.asked:
                for batch in self.learner.stream():
                    score = self._update(batch)
                    if self._ending or self.stop.asked:
                        break
                if self._ending and self._evaluated != self.step:  # asked for after the evaluation was due
                    self._owed = True
                    score = self._settle()
            if self._saved != self.step:
                self._save(score, final=True)
            return "KILLED" if self.stop.killed else "FINISHED"

    def _update(self, batch: Any) -> float | None:
        """One update and what is due after it; the score, if it is the best so far."""
        self.window.add(self.learner.step(batch), batch.size)
        self.step += 1
        limit = self.run.time_limit
        if limit is not None and self.window.seconds >= limit and self.step < self.run.steps:
            self.stop.ask(f"run.time_limit: {limit:g} seconds of training are over")
        if _due(self.step, self.run.log_every) or self._ending:
            self._log()
        self._owed = self._ending or _due(self.step, self.evaluate.every)
        return self._settle()

    @property
    def _ending(self) -> bool:
        """Whether this update was the last, other than by being killed."""
        return self.step == self.run.steps or (self.stop.asked and not self.stop.killed)

    def _log(self) -> None:
        values = self.window.read()
        self.relay.log(values, self.step)
        if not math.isfinite(values["train/loss"]):
            self.relay.note(f"step {self.step}: the loss is {values['train/loss']}; try a smaller lr, or learner.clip")

    def _settle(self) -> float | None:
        """Evaluate and save where that is due after this update; the score, if it is the best so far."""
        score = self._evaluate() if self._owed else None
        if score is not None or _due(self.step, self.run.checkpoint_every):
            self._save(score)
        return score

    def _evaluate(self) -> float | None:
        """Evaluate; the score, if it is the best so far. A kill cuts it short: it is owed until the run goes on."""
        self.window.pause()
        try:
            found = self.evaluation(self.learner.update, lambda: self.stop.killed)
        except Exception:  # such as a world that fails: what was learned is kept, and the evaluation still owed
            self._save(None)
            raise
        score = None
        if found is not None:
            self._owed, self._saved, self._evaluated = False, None, self.step
            self.latest.update(found.metrics)
            score = self._score(found)
            metrics = found.metrics | self.window.taken()
            self.relay.evaluated(self.step, metrics, found.samples, found.views, found.replays)
        self.window.resume()
        return score

    def _score(self, found: Evaluated) -> float | None:
        better = self.learner.graph.better
        name = self.evaluate.best or next(iter(better))
        full = f"{self.evaluation.origin.split}/{name}"
        value = found.metrics[full]
        sign = 1 if better[name] == "higher" else -1
        if not math.isnan(value) and (self.best is None or sign * value > sign * self.best):
            self.stale = 0
            return value
        self.stale += 1
        if 0 < self.evaluate.patience <= self.stale and self.step < self.run.steps:
            what = f"was no better than {self.best}" if self.best is not None else "was no number"
            self.stop.ask(f"evaluate.patience: {full} {what} in {self.stale} evaluations")
        return None

    def _save(self, score: float | None, *, final: bool = False) -> None:
        former, best = self.best, score is not None
        self.best = score if best else former
        try:
            path = self.checkpoints.save(self.step, self.learner.model.state_dict(), self.state_dict(), best=best)
        except CheckpointError as error:
            self.best = former
            if final:
                raise
            self.relay.note(f"{error}; training goes on, earlier checkpoints are whole")
            return
        self._saved = self.step
        self.relay.saved(self.step, path, best=best)

    def state_dict(self) -> dict[str, Any]:
        """Everything that moves, but for the model's weights; `clock` is the seconds of training."""
        device = self.learner.device
        on_gpu = device.type == "cuda"
        return {
            "learner": self.learner.state_dict(),
            "loop": {
                "step": self.step,
                "best": self.best,
                "stale": self.stale,
                "latest": dict(self.latest),
                "window": self.window.state_dict(),
                "owed": self._owed,
            },
            "clock": self.window.seconds,
            "random": {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state(device) if on_gpu else None},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.learner.load_state_dict(state["learner"])
        loop = state["loop"]
        self.step, self.best, self.stale, self._saved = loop["step"], loop["best"], loop["stale"], loop["step"]
        self.latest, self._owed = dict(loop["latest"]), loop["owed"]
        self.window.load_state_dict(loop["window"], state["clock"])
        torch.set_rng_state(state["random"]["cpu"])
        if self.learner.device.type == "cuda" and state["random"]["cuda"] is not None:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.learner.device)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
