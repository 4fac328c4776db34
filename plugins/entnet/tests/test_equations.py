"""Every mode and option against a second writing of the equations: numpy, float64, one row, one cell at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqtoolkit_entnet import EntNet

CASES = {
    "bank": {},
    "bank, no biases": {"bias": False},
    "bank, one cell": {"num_cells": 1},
    "bank, one unit": {"cell_size": 1},
    "keyed": {"mode": "keyed"},
    "keyed, no biases": {"mode": "keyed", "bias": False},
    "keyed, one cell": {"mode": "keyed", "num_cells": 1},
    "henaff": {"mode": "henaff"},
    "henaff, prelu": {"mode": "henaff", "activation": "prelu"},
    "henaff, identity": {"mode": "henaff", "activation": "identity"},
    "henaff, no biases": {"mode": "henaff", "bias": False},
    "henaff, size of the inputs": {"mode": "henaff", "cell_size": 5},
    "henaff, the paper's equations": {"mode": "henaff", "cell_size": 5, "activation": "identity", "bias": False},
    "henaff, one cell": {"mode": "henaff", "num_cells": 1},
    "henaff, one unit": {"mode": "henaff", "cell_size": 1},
}


def sigmoid(x):
    """1 / (1 + e^-x)."""
    return 1 / (1 + np.exp(-x))


class Naive:
    """Both banks by their equations; a state is a list of cells, each (h, c) or h."""

    def __init__(self, core):
        self.w = {name.removeprefix("cells."): each.numpy() for name, each in core.state_dict().items()}
        self.mode, self.cells, self.size = core.mode, core.num_cells, core.output_size

    def start(self):
        """The state of a fresh row."""
        zero = np.zeros(self.size)
        heads = [zero] * self.cells if self.mode == "bank" else list(self.w["keys"])
        return heads if self.mode == "henaff" else [(head, zero) for head in heads]

    def step(self, x, state):
        """One row's output and next state."""
        return self.entities(x, state) if self.mode == "henaff" else self.lstms(x, state)

    def lstms(self, x, state):
        """nn.LSTM's equations for each cell, and the sum of all h."""
        after = []
        for j, (h, c) in enumerate(state):
            own = 0 if self.mode == "keyed" else j
            before = self.w["from_input"][own] @ x + self.w["from_hidden"][own] @ h
            if "bias" in self.w:
                before = before + self.w["bias"][own]
            if self.mode == "keyed":
                before = before + self.w["from_key"] @ self.w["keys"][j]
            i, f, g, o = np.split(before, 4)
            cell = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            after.append((sigmoid(o) * np.tanh(cell), cell))
        return sum(h for h, _ in after), after

    def phi(self, x):
        """PReLU, or nothing."""
        return np.array([v if v > 0 or "slope" not in self.w else a * v for v, a in zip(x, self.slopes(), strict=True)])

    def slopes(self):
        """A slope for each unit."""
        return self.w.get("slope", np.ones(self.size))

    def entities(self, x, state):
        """Eqs. 2 to 6 of Henaff et al. 2017, with the biases of the published code."""
        s = self.w["encoder"] @ x if "encoder" in self.w else x
        after = []
        for j, h in enumerate(state):
            w = self.w["keys"][j]
            g = sigmoid(s @ h + s @ w + (self.w["gate_bias"][j] if "gate_bias" in self.w else 0))
            new = self.w["from_memory"] @ h + self.w["from_key"] @ w + self.w["from_input"] @ s + self.w.get("bias", 0)
            changed = h + g * self.phi(new)
            after.append(changed / np.sqrt((changed**2).sum()))
        p = np.exp([s @ h for h in after])
        u = sum(weight * h for weight, h in zip(p / p.sum(), after, strict=True))
        return self.phi(s + self.w["from_read"] @ u), after


def compare(options, seed=0, steps=4, rows=3, restarts=0.3):
    """Unrolling and stepping against the second writing, restarts included."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    core = EntNet(5, **{"num_cells": 3, "cell_size": 4, **options}).double()
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    inputs = torch.randn(steps, rows, 5, generator=generator, dtype=torch.float64)
    first = torch.rand(steps, rows, generator=generator) < restarts
    naive, outputs, ends = Naive(core), [], []
    for row in range(rows):
        state, kept = naive.start(), []
        for now, fresh in zip(inputs[:, row].numpy(), first[:, row], strict=True):
            output, state = naive.step(now, naive.start() if fresh else state)
            kept.append(output)
        outputs.append(kept)
        ends.append(state)
    wanted = torch.from_numpy(np.array(outputs)).transpose(0, 1)
    last = torch.from_numpy(np.array(ends))
    if core.mode != "henaff":
        last = tuple(last.unbind(2))
    close = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(core(inputs, None, first), (wanted, last), **close)
    if not first[1:].any():
        state = core.initial_state(rows)
        for now, output in zip(inputs, wanted, strict=True):
            got, state = core.step(now, state)
            torch.testing.assert_close(got, output, **close)
        torch.testing.assert_close(state, last, **close)


@pytest.mark.parametrize("restarts", [0.0, 0.4])
@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_options(options, restarts):
    """Each option computes what the equations say, stepped and unrolled, with restarts and without."""
    compare(options, restarts=restarts)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(list(CASES.values())),
    st.fixed_dictionaries({"num_cells": st.integers(1, 5), "cell_size": st.integers(2, 6)}),
    st.integers(0, 2**31),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_any_sizes(options, sizes, seed, steps, rows):
    """Options hold together with any sizes."""
    compare({**options, **sizes}, seed, steps, rows)
