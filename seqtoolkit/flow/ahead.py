"""Ahead: a node made ahead on a thread of its own, whose errors reach the reader as they were raised."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar

from torchdata.nodes import BaseNode, PinMemory, Prefetcher

PREFETCH = 2
"""How many batches are made ahead."""

T = TypeVar("T")


class _Raised(NamedTuple):
    error: Exception


class _Carry(BaseNode[Any]):
    """Hands an error on as an item: torchdata's threads would make a copy of its type with a traceback for a message."""

    def __init__(self, node: BaseNode[Any]) -> None:
        super().__init__()
        self.node = node

    def reset(self, initial_state: dict[str, Any] | None = None) -> None:
        super().reset(initial_state)
        self.node.reset(initial_state)

    def next(self) -> Any:
        try:
            return next(self.node)
        except StopIteration:
            raise
        except Exception as error:  # noqa: BLE001  a plugin's source may raise anything, and the reader gets it
            return _Raised(error)

    def get_state(self) -> dict[str, Any]:
        return self.node.state_dict()


class Ahead(BaseNode[T], Generic[T]):
    """The items of `node`, in order, `PREFETCH` of them made ahead, in page-locked memory where `pin` is set.

    The state is that of `node` after the last item handed out, so that a stream resumes as if nothing was made ahead.
    """

    def __init__(self, node: BaseNode[T], *, pin: bool = False) -> None:
        super().__init__()
        ahead: BaseNode[Any] = Prefetcher(_Carry(node), prefetch_factor=PREFETCH)
        self._node = PinMemory(ahead) if pin else ahead

    def reset(self, initial_state: dict[str, Any] | None = None) -> None:
        """Begin, or go on from a state."""
        super().reset(initial_state)
        self._node.reset(initial_state)

    def next(self) -> T:
        """The next item, or the error that was raised in its place."""
        item = next(self._node)
        if isinstance(item, _Raised):
            raise item.error
        return item

    def get_state(self) -> dict[str, Any]:
        """Where the reader stands."""
        return self._node.state_dict()
