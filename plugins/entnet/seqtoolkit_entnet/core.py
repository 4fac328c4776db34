"""EntNet: a bank of memory cells as a core, its options, and what it refuses."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from seqtoolkit.sdk import Core, State
from seqtoolkit_entnet.bank import Bank
from seqtoolkit_entnet.entity import EntityCells

Mode = Literal["bank", "keyed", "henaff"]
Activation = Literal["prelu", "identity"] | None


class EntNet(Core):
    """A bank of memory cells that read the same input: the paper's bank of LSTMs, or the recurrent entity network.

    Santoro et al. 2018, "Relational recurrent neural networks" (arXiv 1806.01822), appendix A.2, compare with a bank of
    LSTMs whose states are summed (mode 'bank'). Henaff et al. 2017, "Tracking the world state with recurrent entity
    networks" (arXiv 1612.03969), is the network that the bank resembles (mode 'henaff'); 'keyed' stands between. The
    state is (h, c), each [B N W], or in mode 'henaff' the memory [B N W], with N = num_cells and W = cell_size; the
    output is [B W].

    Args:
        input_size: features of an input (D).
        mode: LSTMs with weights of their own ('bank'), LSTMs that share weights and have a key each ('keyed'), or the
            gated, normalized cells of Henaff et al. ('henaff').
        num_cells: memory cells (N).
        cell_size: units of one cell (W); the bank has num_cells * cell_size.
        activation: phi of mode 'henaff', 'prelu' where None; the other modes have none.
        bias: add learned biases to gates and candidates, as the published code does.

    Raises:
        ValueError: an option is out of its range, or is one that the mode does not have.
    """

    width = "cell_size"

    def __init__(
        self,
        input_size: int,
        mode: Mode = "bank",
        num_cells: int = 4,
        cell_size: int = 256,
        activation: Activation = None,
        bias: bool = True,  # noqa: FBT001, FBT002 - the name and meaning that torch's layers give it
    ) -> None:
        super().__init__()
        for name, value in {"input_size": input_size, "num_cells": num_cells, "cell_size": cell_size}.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: wanted a whole number of at least 1, got {value!r}")
        if mode not in ("bank", "keyed", "henaff"):
            raise ValueError(f"mode: wanted 'bank', 'keyed' or 'henaff', got {mode!r}")
        if activation not in ("prelu", "identity", None):
            raise ValueError(f"activation: wanted 'prelu', 'identity' or None, got {activation!r}")
        if activation is not None and mode != "henaff":
            raise ValueError(
                f"activation: only mode 'henaff' has one; leave it out in mode {mode!r}, got {activation!r}"
            )
        self.mode, self.num_cells = mode, num_cells
        self.input_size, self.output_size = input_size, cell_size
        self.cells: Bank | EntityCells
        if mode == "henaff":
            self.cells = EntityCells(input_size, num_cells, cell_size, prelu=activation != "identity", bias=bias)
        else:
            self.cells = Bank(input_size, num_cells, cell_size, keyed=mode == "keyed", bias=bias)

    def initial_state(self, batch_size: int) -> State:
        """Zeros in mode 'bank'; the keys for h, or for the memory, in the others."""
        return self.cells.initial_state(batch_size)

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """One step by the reference: inputs [B D] and a state to outputs [B W] and the next state."""
        self._check(inputs, "B", state)
        return self.cells.step(inputs, state)

    def unroll(self, inputs: Tensor, state: State, first: Tensor | None = None) -> tuple[Tensor, State]:
        """All steps: inputs [T B D] to outputs [T B W] and the last state."""
        self._check(inputs, "T B", state)
        return self.cells.unroll(inputs, state, first)

    def _check(self, inputs: Tensor, axes: str, state: State) -> None:
        if inputs.dim() != len(axes.split()) + 1 or inputs.shape[-1] != self.input_size:
            raise ValueError(f"inputs: wanted [{axes} {self.input_size}], got {list(inputs.shape)}")
        names = ("the memory",) if self.mode == "henaff" else ("h", "c")
        parts = (state,) if isinstance(state, Tensor) else state
        wanted = (inputs.shape[-2], self.num_cells, self.output_size)
        if len(parts) != len(names) or any(part.shape != wanted for part in parts):
            got = " and ".join(str(list(part.shape)) for part in parts)
            raise ValueError(f"state: wanted {' and '.join(names)} of the shape {list(wanted)}, got {got}")
