"""EntityCells: the parameters of a recurrent entity network, and its time loop with all but the recurrence taken out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqtoolkit_entnet import reference
from seqtoolkit_entnet.reference import Entities


class EntityCells(nn.Module):
    """Cells that share their weights and are told apart by a learned key; the state is their memory, [B N W]."""

    def __init__(self, input_size: int, num_cells: int, cell_size: int, *, prelu: bool, bias: bool) -> None:
        super().__init__()
        square = (cell_size, cell_size)
        self.keys = nn.Parameter(torch.empty(num_cells, cell_size))
        self.encoder = None if input_size == cell_size else nn.Parameter(torch.empty(cell_size, input_size))
        self.from_memory = nn.Parameter(torch.empty(square))
        self.from_key = nn.Parameter(torch.empty(square))
        self.from_input = nn.Parameter(torch.empty(square))
        self.from_read = nn.Parameter(torch.empty(square))
        self.gate_bias = nn.Parameter(torch.empty(num_cells)) if bias else None
        self.bias = nn.Parameter(torch.empty(cell_size)) if bias else None
        self.slope = nn.Parameter(torch.empty(cell_size)) if prelu else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """A normal of std 1/sqrt(W), the published 0.1 where W is the published 100; slopes of 1, a PReLU that is none yet."""
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=self.keys.shape[1] ** -0.5)
        if self.encoder is not None:
            nn.init.normal_(self.encoder, std=self.encoder.shape[1] ** -0.5)
        if self.slope is not None:
            nn.init.ones_(self.slope)

    def initial_state(self, batch_size: int) -> Tensor:
        """The keys, h_j = w_j."""
        return self.keys.expand(batch_size, -1, -1).clone()

    def step(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step by the reference: write, then read."""
        entities = self.entities()
        encoded = reference.encode(entities, inputs)
        memory = reference.entity_step(entities, encoded, state)
        return reference.answer(entities, encoded, memory), memory

    def unroll(self, inputs: Tensor, state: Tensor, first: Tensor | None) -> tuple[Tensor, Tensor]:
        """All steps: what inputs and keys add is computed for all of them before the loop, what is read after it."""
        entities = self.entities()
        encoded = reference.encode(entities, inputs)
        memories = write(entities, encoded, state, first)
        return reference.answer(entities, encoded, memories), memories[-1]

    def entities(self) -> Entities:
        """The parameters in the reference's form."""
        return Entities(**{name: getattr(self, name) for name in Entities._fields})


def write(entities: Entities, encoded: Tensor, memory: Tensor, first: Tensor | None) -> Tensor:
    """All memories [T B N W], of s [T B W] from `memory`, and from the keys in the rows that `first` [T B] marks."""
    reached = F.linear(encoded, entities.keys, entities.gate_bias).unsqueeze(-1)
    drive = F.linear(encoded, entities.from_input).unsqueeze(2) + F.linear(
        entities.keys, entities.from_key, entities.bias
    )
    turned, restarts = entities.from_memory.t(), [False] * len(encoded) if first is None else first.any(1).tolist()
    memories = []
    steps = zip(reached.unbind(), encoded.unsqueeze(-1).unbind(), drive.flatten(1, 2).unbind(), strict=True)
    for time, (near, now, driven) in enumerate(steps):
        if first is not None and restarts[time]:
            memory = torch.where(first[time, :, None, None], entities.keys, memory)
        gate = torch.sigmoid(torch.baddbmm(near, memory, now))
        candidate = torch.addmm(driven, memory.flatten(0, 1), turned)
        if entities.slope is not None:
            candidate = F.prelu(candidate, entities.slope)
        memory = reference.normalize(torch.addcmul(memory, gate, candidate.view_as(memory)))
        memories.append(memory)
    return torch.stack(memories)
