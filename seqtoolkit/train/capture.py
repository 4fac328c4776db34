"""Capture: an update recorded once for each shape of batch and then replayed, on a GPU as one CUDA graph.

An update of a recurrent model is thousands of small kernels; to start one from Python takes longer than it runs. A
replay starts all of them at once, with the same numbers: they read and write the memory that they had when captured.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from seqtoolkit.flow.batch import Batch

logger = logging.getLogger(__name__)

Told = dict[str, Tensor]
Work = Callable[[Batch], Told]
"""An update. Between the batch and what it tells there is nothing that waits for the device, and no number of Python's
that changes from one update to the next."""

WARM = 3
"""Updates of a shape before it is captured: kernels are loaded, plans made and the optimizer's state allocated by then."""
MOST = 32
"""Captures that are kept: those used last."""


class CaptureError(ValueError):
    """An update cannot be captured."""


class Capture(Protocol):
    """Work that was captured; torch.cuda.CUDAGraph is one."""

    def replay(self) -> None:
        """Do it again, on whatever the same memory holds now."""


class Capturer(Protocol):
    """What captures."""

    def aside(self) -> AbstractContextManager[None]:
        """Where updates run that are not replayed."""

    def watch(self, work: Callable[[], Told]) -> tuple[Told, str | None]:
        """Do `work` aside, and say what in it no capture can hold, in a few words, or None."""

    def capture(self, work: Callable[[], None], beside: Any) -> Capture:
        """Record what `work` would do; `beside` is a capture that is still in use, None where there is none."""

    def abandon(self) -> None:
        """Put in order what a capture that failed has left."""


class CudaGraphs:
    """Captures as CUDA graphs, all in one pool of memory.

    That is safe in any order, although torch promises it for one: between two replays nothing stays in the pool,
    because inputs are allocated outside of it and what an update tells is copied out at once. Torch's own generator
    (dropout) moves on at a replay as it does in an update that is not captured; torch arranges that by itself.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """On the stream that captures are made on: autograd and cuBLAS keep to the stream that they saw first."""
        now = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(now)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            now.wait_stream(self._stream)

    def watch(self, work: Callable[[], Told]) -> tuple[Told, str | None]:
        """Do `work` aside; the line of it that waits for the GPU, as torch warns of it, or None.

        A capture that fails may leave torch's allocator in disorder, so that what is bound to fail is not tried.
        """
        mode = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as caught, self.aside():
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                told = work()
            finally:
                torch.cuda.set_sync_debug_mode(mode)
        waits = [each for each in caught if "called a synchronizing" in str(each.message)]
        for each in caught:
            if each not in waits and "Synchronization debug mode" not in str(each.message):  # the mode warns of itself
                warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
        return told, f"{waits[0].filename}:{waits[0].lineno} waits for the GPU" if waits else None

    def capture(self, work: Callable[[], None], beside: torch.cuda.CUDAGraph | None) -> torch.cuda.CUDAGraph:
        """Record what `work` would do. Threads that make batches go on meanwhile: only this one must not wait."""
        graph = torch.cuda.CUDAGraph()
        pool = None if beside is None else beside.pool()
        torch.clear_autocast_cache()  # a weight that was cast before would not be cast anew at a replay
        with (
            self.aside(),
            torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"),
        ):
            work()
        return graph

    def abandon(self) -> None:
        """Give torch's generator a state that belongs to no capture; the former may wait for the end of one for ever."""
        torch.cuda.synchronize(self.device)
        generator = torch.cuda.default_generators[self._stream.device.index]
        generator.graphsafe_set_state(generator.clone_state())


@dataclass(frozen=True)
class _Held:
    """A capture with the memory that it reads and writes."""

    graph: Capture
    batch: Batch
    told: Told

    def __call__(self, batch: Batch) -> Told:
        own = self.batch.tensors()
        for name, given in batch.tensors().items():
            own[name].copy_(given, non_blocking=True)
        self.graph.replay()
        return {name: each.clone() for name, each in self.told.items()}


class Captures:
    """Updates that run by themselves until their shape is captured, and are replayed from then on.

    Args:
        work: The update.
        capturer: What captures it.
        undo: Clears what an update that broke off has left behind.
        strict: Whether a capture that fails is a CaptureError; else it is a warning, and nothing is captured any more.
        warm: Updates of a shape before it is captured.
        most: Captures that are kept.
    """

    def __init__(
        self,
        work: Work,
        capturer: Capturer,
        undo: Callable[[], None],
        *,
        strict: bool = False,
        warm: int = WARM,
        most: int = MOST,
    ) -> None:
        self.work, self.capturer, self.undo = work, capturer, undo
        self.strict, self.warm, self.most = strict, warm, most
        self.failed = False
        self.paused = False
        """Whether updates run by themselves for a while, on the stream of the others."""
        self._held: OrderedDict[Hashable, _Held] = OrderedDict()
        self._seen: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return len(self._held)

    def __call__(self, batch: Batch) -> Told:
        """One update; what it tells is the caller's own. Raises CaptureError where `strict`."""
        if self.paused:
            with self.capturer.aside():
                return self.work(batch)
        shape = _shape(batch)
        if shape not in self._held and not self.failed and self._seen[shape] >= self.warm:
            self._capture(shape, batch)
        if shape in self._held:
            self._held.move_to_end(shape)
            return self._held[shape](batch)
        self._seen[shape] += 1
        if self._seen[shape] == self.warm and not self.failed and not self.strict:
            told, reason = self.capturer.watch(partial(self.work, batch))
            if reason is not None:
                self._give_up(reason)
            return told
        with self.capturer.aside():
            return self.work(batch)

    def resume(self) -> None:
        """Replay again."""
        self.paused = False

    def clear(self) -> None:
        """Forget every capture: what they wrote to, such as an optimizer's state, has been replaced."""
        self._held.clear()
        self._seen.clear()

    def _capture(self, shape: Hashable, batch: Batch) -> None:
        own = batch.map(Tensor.clone)
        told: Told = {}
        first: list[Exception] = []  # the end of a capture that was broken off complains as well

        def update() -> None:
            try:
                told.update(self.work(own))
            except Exception as error:
                first.append(error)
                raise

        try:
            beside = next(iter(self._held.values())).graph if self._held else None
            graph = self.capturer.capture(update, beside)
        except Exception as error:  # noqa: BLE001  a stranger's core may do anything that cannot be captured
            self.undo()
            self.clear()
            self.capturer.abandon()
            cause = (*first, error)[0]
            self._give_up(f"{type(cause).__name__}: {(str(cause).splitlines() or ['without a reason'])[0]}")
            return
        self._held[shape] = _Held(graph, own, told)
        if len(self._held) > self.most:  # after the capture, so that the pool has never been without an owner
            oldest, _ = self._held.popitem(last=False)
            del self._seen[oldest]

    def _give_up(self, reason: str) -> None:
        self.failed = True
        if self.strict:
            raise CaptureError(
                f"learner.capture: wanted always, but the update cannot be captured as a CUDA graph: {reason}; "
                "use auto or never, or a core and metrics that do not wait for the GPU"
            )
        logger.warning(
            "the update cannot be captured as a CUDA graph, so each runs by itself, which is slower: %s; "
            "learner.capture=never leaves out the attempt",
            reason,
        )


def _shape(batch: Batch) -> Hashable:
    return tuple((name, tuple(each.shape), each.dtype) for name, each in batch.tensors().items())
