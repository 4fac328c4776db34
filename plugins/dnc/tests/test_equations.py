"""Every option against a second writing of the equations: numpy, float64, one row, one slot, one head at a time."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqtoolkit.sdk import Core, map_state
from seqtoolkit_dnc import DNC, reference

EPSILON = 1e-6


def sigmoid(x):
    """1 / (1 + e^-x)."""
    return 1 / (1 + np.exp(-x))


def content(memory, key, strength):
    """C(M, k, beta)."""
    size = np.sqrt(key @ key + EPSILON)
    scores = [strength * (key @ slot) / (size * np.sqrt(slot @ slot + EPSILON) + EPSILON) for slot in memory]
    return np.exp(scores) / sum(np.exp(scores))


def allocation(usage):
    """a_t: the slots in the order of their usage."""
    usage = EPSILON + (1 - EPSILON) * usage
    weights, full = np.zeros_like(usage), 1.0
    for slot in sorted(range(len(usage)), key=lambda slot: (usage[slot], slot)):
        weights[slot] = (1 - usage[slot]) * full
        full *= usage[slot]
    return weights


def control(core, params, inputs, state):
    """The controller's h of each layer, and the new (h, s) of each."""
    bound = np.inf if core.settings.clip_value is None else core.settings.clip_value
    hiddens, cells = [], []
    for layer in range(len(core.controller)):
        read = [inputs, state["read_vectors"].ravel()]
        if core.settings.lstm:
            read.append(state["controller"][layer][0])
        read += hiddens[-1:]
        drive = params[f"controller.{layer}.weight"] @ np.concatenate(read) + params[f"controller.{layer}.bias"]
        if core.settings.lstm:
            new, entered, forgot, out = np.split(drive, 4)
            cell = sigmoid(forgot) * state["controller"][layer][1] + sigmoid(entered) * np.tanh(new)
            hiddens.append(np.clip(sigmoid(out) * np.tanh(cell), -bound, bound))
            cells.append((hiddens[-1], np.clip(cell, -bound, bound)))
        else:
            hiddens.append(np.clip(np.tanh(drive), -bound, bound))
    return hiddens, cells


def interface(core, params, hiddens):
    """The parts of the interface vector, as the README lays them out."""
    reads, writes, word = core.settings.num_reads, core.settings.num_writes, core.settings.word_size
    vector = params["interface.weight"] @ np.concatenate(hiddens) + params["interface.bias"]
    names = ("k^r", "k^w", "b^r", "b^w", "v", "e", "f", "g^a", "g^w", "pi")
    widths = [reads * word, writes * word, reads, writes, writes * word, writes * word, reads, writes, writes]
    parts = dict(zip(names, np.split(vector, np.cumsum(widths)), strict=True))
    for name in ("k^r", "k^w", "v", "e"):
        parts[name] = parts[name].reshape(-1, word)
    for name in ("e", "f", "g^a", "g^w"):
        parts[name] = sigmoid(parts[name])
    for name in ("b^r", "b^w"):
        parts[name] = np.log1p(np.exp(parts[name])) + (1 if core.settings.paper else 0)
    modes = np.exp(parts["pi"].reshape(reads, -1))
    parts["pi"] = modes / modes.sum(1, keepdims=True)
    return parts


def naive_step(core, params, inputs, state):
    """One step of one row of the batch."""
    hiddens, cells = control(core, params, inputs, state)
    xi = interface(core, params, hiddens)
    slots, (writes, reads) = core.memory_size, (core.settings.num_writes, core.settings.num_reads)
    usage, memory = np.zeros(slots), state["memory"].copy()
    for slot in range(slots):
        unwritten = np.prod([1 - state["write_weights"][head][slot] for head in range(writes)])
        kept = np.prod([1 - xi["f"][head] * state["read_weights"][head][slot] for head in range(reads)])
        usage[slot] = (1 - (1 - state["usage"][slot]) * unwritten) * kept
    seen, weights = usage.copy(), []
    for head in range(writes):
        allocated, gate = allocation(seen), xi["g^a"][head]
        looked_up = content(state["memory"], xi["k^w"][head], xi["b^w"][head])
        weights.append(xi["g^w"][head] * (gate * allocated + (1 - gate) * looked_up))
        seen = seen + (1 - seen) * gate * xi["g^w"][head] * allocated
    for slot in range(slots):
        for head in range(writes):
            memory[slot] *= 1 - weights[head][slot] * xi["e"][head]
        memory[slot] += sum(weights[head][slot] * xi["v"][head] for head in range(writes))
    link = np.zeros((writes, slots, slots))
    for head, w in enumerate(weights):
        for i in range(slots):
            for j in set(range(slots)) - {i}:
                link[head, i, j] = (1 - w[i] - w[j]) * state["link"][head, i, j] + w[i] * state["precedence"][head][j]
    precedence = [(1 - w.sum()) * p + w for w, p in zip(weights, state["precedence"], strict=True)]
    read_weights = []
    for head, before in enumerate(state["read_weights"]):
        ways = [each.T @ before for each in link] + [each @ before for each in link]
        ways.append(content(memory, xi["k^r"][head], xi["b^r"][head]))
        read_weights.append(sum(mode * way for mode, way in zip(xi["pi"][head], ways, strict=True)))
    vectors = np.array(read_weights) @ memory
    output = params["output.weight"] @ np.concatenate([*hiddens, vectors.ravel()]) + params["output.bias"]
    bound = np.inf if core.settings.clip_value is None else core.settings.clip_value
    names = ("read_vectors", "memory", "read_weights", "write_weights", "link", "precedence", "usage", "controller")
    state = vectors, memory, np.array(read_weights), np.array(weights), link, np.array(precedence), usage, cells
    return np.clip(output, -bound, bound), dict(zip(names, state, strict=True))


def make(seed=0, **options):
    """A core in float64, all of whose parameters are random."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 5, "memory_size": 4, "word_size": 3, "num_reads": 2, "output_size": 3}
    core = DNC(4, **{**sizes, **options}).double()
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.5)
    return core


def random_state(core, rows):
    """A state without ties, in the ranges of the equations."""
    state = map_state(torch.randn_like, core.initial_state(rows))

    def share(leaf):
        return 0.9 * torch.softmax(leaf, -1)

    link = share(state.link)
    link.diagonal(dim1=2, dim2=3).zero_()
    return state._replace(
        read_weights=share(state.read_weights),
        write_weights=share(state.write_weights),
        link=link,
        precedence=share(state.precedence),
        usage=torch.sigmoid(state.usage),
    )


class Reference(DNC):
    """The equations themselves, stepped."""

    unroll = Core.unroll

    def step(self, inputs, state):
        """The reference's step."""
        return reference.step(self.parameters_of(), self.settings, inputs, state)


def twin(core):
    """The same core, by the equations."""
    other = Reference.__new__(Reference)
    other.__dict__ = core.__dict__
    return other


CASES = {
    "defaults": {},
    "two write heads": {"num_writes": 2},
    "three write heads, one read head": {"num_writes": 3, "num_reads": 1},
    "two layers": {"num_layers": 2},
    "three layers, two write heads": {"num_layers": 3, "num_writes": 2},
    "feed forward": {"controller": "feed_forward"},
    "feed forward, two layers, clipped": {"controller": "feed_forward", "num_layers": 2, "clip_value": 0.3},
    "clipped": {"clip_value": 0.2},
    "clipped, two layers": {"clip_value": 0.5, "num_layers": 2},
    "clipped at 1": {"clip_value": 1},
    "not clipped": {"clip_value": None},
    "one slot": {"memory_size": 1},
    "one number a slot": {"word_size": 1},
    "one unit": {"hidden_size": 1, "output_size": None},
    "more read heads than slots": {"num_reads": 5, "memory_size": 2},
}


@pytest.mark.parametrize("dialect", ["published", "paper"])
@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_options(options, dialect):
    """Each option computes what the equations say: by the reference, stepped and unrolled."""
    core = make(dialect=dialect, **options)
    inputs, start = torch.randn(3, 2, 4, dtype=torch.float64), random_state(core, 2)
    params = {name: each.numpy() for name, each in core.state_dict().items()}
    outputs, states = [], []
    for row in range(2):
        state = map_state(lambda leaf, row=row: leaf[row].numpy(), start)._asdict()
        for now in inputs[:, row].numpy():
            output, state = naive_step(core, params, now, state)
            outputs.append(output)
        states.append(state)
    wanted = torch.from_numpy(np.array(outputs)).unflatten(0, (2, 3)).transpose(0, 1)
    for run in (core.unroll, partial(Core.unroll, core), twin(core).unroll):
        got, last = run(inputs, start)
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)
        for row, state in enumerate(states):
            for name in last._fields[:7]:
                right = torch.from_numpy(state[name])
                torch.testing.assert_close(getattr(last, name)[row], right, rtol=0, atol=1e-12)
            for cell, (hidden, inner) in zip(last.controller, state["controller"], strict=True):
                torch.testing.assert_close(cell.hidden[row], torch.from_numpy(hidden), rtol=0, atol=1e-12)
                torch.testing.assert_close(cell.cell[row], torch.from_numpy(inner), rtol=0, atol=1e-12)


def outcome(unroll, core, inputs, state, first):
    """Outputs, last state, and every gradient of a sum of all, in which no two numbers can stand for each other."""
    inputs = inputs.clone().requires_grad_()
    sources: list[torch.Tensor] = [inputs]

    def want(leaf):
        sources.append(leaf.clone().requires_grad_())
        return sources[-1]

    outputs, last = unroll(inputs, map_state(want, state), first)
    found = [outputs]
    map_state(lambda leaf: found.append(leaf) or leaf, last)
    total = sum((each * torch.arange(each.numel()).mul(1.7).cos().view_as(each)).sum() for each in found)
    sources += core.parameters()
    return found + list(torch.autograd.grad(total, sources, allow_unused=True, materialize_grads=True))


@settings(max_examples=40, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "hidden_size": st.integers(1, 5),
            "memory_size": st.integers(1, 5),
            "word_size": st.integers(1, 4),
            "num_reads": st.integers(1, 4),
            "num_writes": st.integers(1, 3),
            "output_size": st.none() | st.integers(1, 4),
            "controller": st.sampled_from(["lstm", "feed_forward"]),
            "num_layers": st.integers(1, 3),
            "clip_value": st.none() | st.floats(0.05, 1.5),
            "dialect": st.sampled_from(["published", "paper"]),
        }
    ),
    st.integers(1, 5),
    st.integers(1, 3),
    st.sampled_from([None, 0.0, 0.3, 1.0]),
    st.integers(0, 2**31),
)
def test_unroll_is_the_reference(options, steps, rows, often, seed):
    """Outputs, last state and all gradients, the first state's too, are the reference's, with restarts anywhere."""
    core = make(seed, **options)
    inputs, state = torch.randn(steps, rows, 4, dtype=torch.float64), random_state(core, rows)
    first = None if often is None else torch.rand(steps, rows) < often
    wanted = outcome(twin(core).unroll, core, inputs, state, first)
    for run in (core.unroll, partial(Core.unroll, core)):
        for got, right in zip(outcome(run, core, inputs, state, first), wanted, strict=True):
            scale = max(1.0, right.abs().max().item())
            assert (got - right).abs().max().item() <= 1e-11 * scale
