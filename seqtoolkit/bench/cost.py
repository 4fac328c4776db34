"""Cost: what does not move with the load of a machine: operations, and the memory that they take."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Cost(NamedTuple):
    """What a run costs."""

    operations: int
    """Those that compute; views are free."""
    peak: int
    """The most bytes that its own tensors held at a time; those it was given, and what an operation takes while it
    runs, are not counted."""


class _Ledger(TorchDispatchMode):
    """Counts operations, and the bytes of each new storage from when it is made until it is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.held = self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Go on, and enter it."""
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if not function.is_view:
            self.operations += 1
            given = {id(each.untyped_storage()) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
            made = {
                id(s): s for s in (each.untyped_storage() for each in tree_leaves(result) if isinstance(each, Tensor))
            }
            for place, storage in made.items():
                if place not in given:
                    self._enter(storage)
        return result

    def _enter(self, storage: Any) -> None:
        size = storage.nbytes()
        self.held += size
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._leave, size).atexit = False

    def _leave(self, size: int) -> None:
        self.held -= size


def cost(run: Callable[[], Any]) -> Cost:
    """What a run costs, its backward pass included where it makes one."""
    with _Ledger() as ledger:
        run()
    return Cost(ledger.operations, ledger.peak)
