"""Loop: fit(), the one outer loop of every run."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal, Protocol, Self

import torch
from torch import Tensor

from seqtoolkit.flow.source import Sample
from seqtoolkit.flow.view import View
from seqtoolkit.train.checkpoint import CheckpointError, Checkpoints
from seqtoolkit.train.evaluate import Evaluated, EvaluateSettings, Evaluation
from seqtoolkit.train.learner import Learner
from seqtoolkit.train.optimize import Precision, exact

Status = Literal["FINISHED", "KILLED"]


@dataclass(frozen=True)
class RunSettings:
    """How long and on what a run trains.

    Args:
        steps: How many updates.
        log_every: After how many updates the training metrics, averaged since, are recorded.
        checkpoint_every: After how many updates a checkpoint is saved; 0 is after the last only.
        keep_every: Besides the last and the best checkpoint, keep one each so many updates; 0 keeps no other.
        seed: From which all randomness of the run comes.
        device: auto (a GPU where there is one), cpu, cuda, cuda:1, mps.
        precision: auto (bf16 on a GPU that has it, f32 elsewhere), f32, bf16, f16.
        threads: How many CPU threads torch computes with; 0 leaves its own choice.
    """

    steps: int = 1000
    log_every: int = 10
    checkpoint_every: int = 500
    keep_every: int = 0
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"
    threads: int = 0


class Relay(Protocol):
    """Whom the loop tells what happens; none of these may raise."""

    def logged(self, step: int, metrics: Mapping[str, float]) -> None:
        """Training metrics, averaged since the last time."""

    def evaluated(self, step: int, metrics: Mapping[str, float], samples: list[Sample]) -> None:
        """An evaluation is done."""

    def looked(self, step: int, views: list[View]) -> None:
        """What the core attends to, where a run was asked to show it, after an evaluation."""

    def saved(self, step: int, path: Path, *, best: bool) -> None:
        """A checkpoint is on the disk."""

    def warned(self, message: str) -> None:
        """Something went wrong that does not end the run."""


class Stop:
    """Turns Ctrl-C and SIGTERM into a wish that the loop reads between two updates; a second Ctrl-C is at once."""

    def __init__(self) -> None:
        self.asked = False
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._former[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)

    def _ask(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  a handler's signature
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class Fit:
    """One run of a learner: updates, logs, evaluations and checkpoints, resumable between any two updates.

    Args:
        learner: What learns.
        run: How long.
        evaluate: How often it is evaluated.
        evaluation: What evaluates it.
        checkpoints: Where it is saved.
        relay: Whom to tell.
    """

    def __init__(
        self,
        learner: Learner,
        run: RunSettings,
        evaluate: EvaluateSettings,
        evaluation: Evaluation,
        checkpoints: Checkpoints,
        relay: Relay,
    ) -> None:
        self.learner, self.run, self.evaluate = learner, run, evaluate
        self.evaluation, self.checkpoints, self.relay = evaluation, checkpoints, relay
        self.step = 0
        self.best: float | None = None
        self.latest: dict[str, float] = {}
        self._window: dict[str, Tensor] = {}
        self._owed = False
        self._saved: int | None = None
        self._since = (time.monotonic(), 0)

    def __call__(self) -> Status:
        """Train from where the run stands to its last step, or until asked to stop; the end is always saved."""
        with Stop() as stop:
            self._since = (time.monotonic(), 0)
            score = self._settle(stop) if self._owed else None
            if self.step < self.run.steps and not stop.asked:
                for batch in self.learner.stream():
                    self._gather(self.learner.step(batch), batch.size)
                    self.step += 1
                    last = self.step == self.run.steps
                    if self.step % self.run.log_every == 0 or last:
                        self._log()
                    self._owed = last or _due(self.step, self.evaluate.every)
                    score = self._settle(stop)
                    if last or stop.asked:
                        break
            if self._saved != self.step:
                self._save(score, final=True)
            return "KILLED" if stop.asked else "FINISHED"

    def _gather(self, metrics: Mapping[str, Tensor | float], size: int) -> None:
        """Add up [total, count] metrics as such, numbers as [number, 1]."""
        for name, value in metrics.items():
            tensor = torch.as_tensor(value, dtype=exact(self.learner.device))
            pair = tensor if tensor.dim() else torch.stack([tensor, torch.ones_like(tensor)])
            self._window[name] = pair + self._window[name].to(pair.device) if name in self._window else pair
        self._since = (self._since[0], self._since[1] + size)

    def _log(self) -> None:
        metrics = self.learner.graph.metrics
        values: dict[str, float] = {}
        for name, pair in self._window.items():
            total, count = pair.tolist()
            values[f"train/{name}"] = metrics[name].result(pair) if name in metrics else total / count
        began, examples = self._since
        now = time.monotonic()
        values["examples_per_second"] = examples / max(now - began, 1e-9)
        self._window, self._since = {}, (now, 0)
        self.relay.logged(self.step, values)
        if not math.isfinite(values["train/loss"]):
            self.relay.warned(
                f"step {self.step}: the loss is {values['train/loss']}; try a smaller lr, or learner.clip"
            )

    def _settle(self, stop: Stop) -> float | None:
        """Evaluate and save where that is due after this update; the score, if it is the best so far."""
        score = self._evaluate(stop) if self._owed else None
        if score is not None or _due(self.step, self.run.checkpoint_every):
            self._save(score)
        return score

    def _evaluate(self, stop: Stop) -> float | None:
        """Evaluate; the score, if it is the best so far. A stop cuts it short: it is owed until the run goes on."""
        began = time.monotonic()
        found = self.evaluation(self.learner.update, lambda: stop.asked)
        if found is not None:
            self._owed, self._saved = False, None
            self.latest.update(found.metrics)
            self.relay.evaluated(self.step, found.metrics, found.samples)
            if found.views:
                self.relay.looked(self.step, found.views)
        self._since = (self._since[0] + time.monotonic() - began, self._since[1])
        return None if found is None else self._score(found)

    def _score(self, found: Evaluated) -> float | None:
        metrics = self.learner.graph.metrics
        name = self.evaluate.best or next(iter(metrics), "loss")
        value = found.metrics[f"{self.evaluation.source.split}/{name}"]
        sign = 1 if name in metrics and metrics[name].better == "higher" else -1
        if math.isnan(value) or (self.best is not None and sign * value <= sign * self.best):
            return None
        return value

    def _save(self, score: float | None, *, final: bool = False) -> None:
        former, best = self.best, score is not None
        self.best = score if best else former
        try:
            path = self.checkpoints.save(self.step, self.learner.model.state_dict(), self.state_dict(), best=best)
        except CheckpointError as error:
            self.best = former
            if final:
                raise
            self.relay.warned(f"{error}; training goes on, earlier checkpoints are whole")
            return
        self._saved = self.step
        self.relay.saved(self.step, path, best=best)

    def state_dict(self) -> dict[str, Any]:
        """Everything that moves, but for the model's weights."""
        device = self.learner.device
        on_gpu = device.type == "cuda"
        return {
            "learner": self.learner.state_dict(),
            "loop": {
                "step": self.step,
                "best": self.best,
                "latest": dict(self.latest),
                "window": dict(self._window),
                "owed": self._owed,
            },
            "random": {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state(device) if on_gpu else None},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.learner.load_state_dict(state["learner"])
        loop = state["loop"]
        self.step, self.best, self._saved = loop["step"], loop["best"], loop["step"]
        self.latest, self._window, self._owed = dict(loop["latest"]), dict(loop["window"]), loop["owed"]
        torch.set_rng_state(state["random"]["cpu"])
        if self.learner.device.type == "cuda" and state["random"]["cuda"] is not None:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.learner.device)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
