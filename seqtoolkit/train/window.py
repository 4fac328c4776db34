"""Window: the training metrics of the updates since the last log, and what the training has taken so far."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from seqtoolkit.flow.metric import Metric
from seqtoolkit.train.optimize import exact


class Window:
    """Adds up metrics from one log to the next, and examples and seconds over the whole run.

    Args:
        metrics: The pipeline's, by name: those come as sums.
        device: Where the model computes.
        acting: Whether an example is a frame, one action in one world, and is told as `frames` too.
    """

    def __init__(self, metrics: Mapping[str, Metric], device: torch.device, *, acting: bool = False) -> None:
        self.metrics, self.device, self.acting = metrics, device, acting
        self.examples = 0
        """Seen by all updates."""
        self._sums: dict[str, Tensor] = {}
        self._seconds = 0.0
        self._began: float | None = None
        self._since = (0, 0.0)

    @property
    def seconds(self) -> float:
        """Seconds of training, of all the processes that had a part in it; evaluations and other pauses are left out."""
        return self._seconds + (0.0 if self._began is None else time.monotonic() - self._began)

    def begin(self) -> None:
        """The clock runs from now on."""
        self._began = time.monotonic()
        self._since = (self.examples, self.seconds)

    def pause(self) -> None:
        """The clock stands still until `resume`."""
        self._seconds, self._began = self.seconds, None

    def resume(self) -> None:
        """The clock goes on."""
        self._began = time.monotonic()

    def add(self, metrics: Mapping[str, Tensor | float], size: int) -> None:
        """Add what an update of `size` examples tells: [total, count] as such, numbers as [number, 1]."""
        for name, value in metrics.items():
            tensor = torch.as_tensor(value, dtype=exact(self.device))
            pair = tensor if tensor.dim() else torch.stack([tensor, torch.ones_like(tensor)])
            self._sums[name] = pair + self._sums[name].to(pair.device) if name in self._sums else pair
        self.examples += size

    def read(self) -> dict[str, float]:
        """The averages since the last time, under `train/`, how fast it went, and what it has taken; a new window begins."""
        values: dict[str, float] = {}
        for name, pair in self._sums.items():
            total, count = pair.tolist()
            if name in self.metrics:
                values[f"train/{name}"] = self.metrics[name].result(pair)
            elif count:  # of episodes none may have ended
                values[f"train/{name}"] = total / count
        examples, seconds = self._since
        values["examples_per_second"] = (self.examples - examples) / max(self.seconds - seconds, 1e-9)
        values["peak_memory_megabytes"] = self._peak()
        self._sums, self._since = {}, (self.examples, self.seconds)
        return values | self.taken()

    def taken(self) -> dict[str, float]:
        """What the training has taken so far: `examples`, of a policy `frames`, and `seconds`."""
        frames = {"frames": float(self.examples)} if self.acting else {}
        return {"examples": float(self.examples), **frames, "seconds": self.seconds}

    def _peak(self) -> float:
        """The most memory so far: of the device where it is a GPU, else of this process, in units of 10^6 bytes."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e6
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on from."""
        return {"sums": dict(self._sums), "examples": self.examples}

    def load_state_dict(self, state: Mapping[str, Any], seconds: float) -> None:
        """Go on from what `state_dict` returned, after `seconds` of training."""
        self._sums, self.examples, self._seconds = dict(state["sums"]), state["examples"], seconds
