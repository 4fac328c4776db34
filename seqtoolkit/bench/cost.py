"""Cost: what does not move with the load of a machine: operations, and bytes kept for the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Count(TorchDispatchMode):
    """Counts the operations that compute; views are free. Use it as a context, then read `total`."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count, and go on."""
        self.total += not function.is_view
        return function(*args, **(kwargs or {}))


def operations(run: Callable[[], Any]) -> int:
    """Operations that compute, views not among them, in a run."""
    with Count() as count:
        run()
    return count.total


def kept(run: Callable[[], Any], given: Iterable[Tensor] = ()) -> int:
    """Bytes that a forward pass keeps for its backward pass, but for those that were `given` to it.

    A storage counts once, in whole, however many tensors look into it.
    """
    known = {each.untyped_storage().data_ptr() for each in given}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = run()
    del result
    return sum(found.values())
