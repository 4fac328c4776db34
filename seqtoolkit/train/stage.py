"""Stages: what an update is made of, from the source, or the environment, to the step, and what each of them takes."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial, wraps
from typing import Any

import torch

from seqtoolkit.train.learner import Learner

Around = Callable[[str], AbstractContextManager[Any]]
"""What is entered when a stage begins and left when it ends, on the thread that it runs on."""


def stages(learner: Learner) -> Iterator[tuple[str, object, tuple[str, ...]]]:
    """Each stage of an update in the order in which it is reached: its name, the part, the part's methods that are it."""
    graph, model = learner.graph, learner.graph.model
    if graph.acting:
        yield "environment", graph.environment, ("step",)
    else:
        yield "source", graph.source, ("draw",)
        for number, transform in enumerate(graph.transforms):
            yield f"transform.{number}", transform, ("__call__",)
        yield "batch", graph.collate, ("__call__",)
    yield "model.encoder", model.encoder, ("forward",)
    yield "model.core", model.core, ("forward", "unroll")
    if model.decoder is not None:
        yield "model.decoder", model.decoder, ("forward", "unroll")
    yield "model.head", model.head, ("forward",)
    if not graph.acting:
        yield "loss", graph.loss, ("total",)
    for name, metric in graph.metrics.items():
        yield f"metric.{name}", metric, ("measure",)
    yield "backward", learner.update, ("backward",)
    yield "step", learner.update, ("apply",)


@contextmanager
def watch(learner: Learner, around: Around) -> Iterator[None]:
    """Inside, each stage of the learner's updates runs within `around(name)`; outside there is no trace of it."""
    with ExitStack() as undo:
        for stage, part, methods in stages(learner):
            undo.enter_context(wrap(part, methods, partial(around, stage)))
        yield


@contextmanager
def wrap(part: object, methods: tuple[str, ...], around: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
    """Inside, the methods of `part` run within `around()`, but for one that another of them calls.

    The part is of a class of its own meanwhile, for Python looks up `__call__` in the class alone.
    """
    former = type(part)
    inside = threading.local()

    def around_it(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def called(*given: Any, **named: Any) -> Any:
            if getattr(inside, "now", False):
                return method(*given, **named)
            inside.now = True
            try:
                with around():
                    return method(*given, **named)
            finally:
                inside.now = False

        return called

    body = {name: around_it(getattr(former, name)) for name in methods}
    object.__setattr__(part, "__class__", type(former.__name__, (former,), {"__slots__": (), **body}))
    try:
        yield
    finally:
        object.__setattr__(part, "__class__", former)


class Clock:
    """Seconds and calls by stage; what a GPU does on behalf of a stage is waited for, so that it counts as its own."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self.calls: Counter[str] = Counter()
        self._thread = threading.get_ident()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time what is inside as `stage`."""
        self.wait()
        began = time.perf_counter()
        try:
            yield
        finally:
            self.wait()
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began
            self.calls[stage] += 1

    def wait(self) -> None:
        """Wait for a GPU to do what it has been given; threads that make batches ahead do not, for they give it nothing."""
        if self.device.type == "cuda" and threading.get_ident() == self._thread:
            torch.cuda.synchronize(self.device)
