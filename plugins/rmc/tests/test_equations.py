"""Every option against a second writing of the equations: numpy, float64, one row, one slot, one head at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqtoolkit_rmc import RelationalMemory

CASES = {
    "defaults": {},
    "blocks 2": {"num_blocks": 2},
    "blocks 3, no gates": {"num_blocks": 3, "gate_style": None},
    "no gates": {"gate_style": None},
    "memory gates": {"gate_style": "memory", "input_bias": -0.7, "forget_bias": 0.3},
    "biases": {"input_bias": 1.3, "forget_bias": -0.4},
    "narrow keys": {"key_size": 2, "head_size": 5},
    "wide keys": {"key_size": 9, "num_blocks": 2},
    "mlp 1": {"attention_mlp_layers": 1},
    "mlp 3": {"attention_mlp_layers": 3, "num_blocks": 2},
    "mlp 5": {"attention_mlp_layers": 5},
    "one slot": {"mem_slots": 1},
    "one slot, memory gates": {"mem_slots": 1, "gate_style": "memory", "num_blocks": 2},
    "one head": {"num_heads": 1, "head_size": 6},
    "one unit": {"num_heads": 1, "head_size": 1, "mem_slots": 3},
    "more slots than units": {"mem_slots": 7, "head_size": 2},
    "matrix": {"rows": 3},
    "matrix, blocks 2": {"rows": 3, "num_blocks": 2, "gate_style": "memory"},
    "matrix of one row": {"rows": 1, "gate_style": "memory"},
    "matrix, no gates": {"rows": 2, "gate_style": None, "num_blocks": 3, "key_size": 3},
}


def affine(state, name, vector):
    """W x + b."""
    return state[f"{name}.weight"] @ vector + state[f"{name}.bias"]


def norm(state, name, vector):
    """Layer norm of one row."""
    apart = vector - vector.mean()
    return state[f"{name}.weight"] * apart / np.sqrt((apart**2).mean() + 1e-5) + state[f"{name}.bias"]


def sigmoid(x):
    """1 / (1 + e^-x)."""
    return 1 / (1 + np.exp(-x))


def attended(state, block, rows, core):
    """What each row reads, head after head, and each head's weights, [h S S]."""
    heads, head, key = core.settings.num_heads, core.settings.head_size, core.settings.key_size
    qkv = [norm(state, f"{block}.qkv_norm", affine(state, f"{block}.qkv", row)) for row in rows]
    size = 2 * key + head
    read, looks = [[] for _ in rows], []
    for number in range(heads):
        own = [each[number * size : (number + 1) * size] for each in qkv]
        keys, values = np.array([each[key : 2 * key] for each in own]), np.array([each[2 * key :] for each in own])
        looks.append([])
        for target, mine in zip(read, own, strict=True):
            scores = np.exp(keys @ mine[:key] * key**-0.5)
            looks[-1].append(scores / scores.sum())
            target.extend(looks[-1][-1] @ values)
    return [np.array(each) for each in read], looks


def naive_step(core, inputs, memory):
    """One step of one row of the batch, inputs [n D] and a memory [N M]: the next memory, and who attends to whom."""
    state = {name: each.detach().numpy() for name, each in core.state_dict().items()}
    layers = len(core.mlp)
    projected = [affine(state, "input_projection", row) for row in inputs]
    rows, attention = [*memory, *projected], []
    for number in range(len(core.blocks)):
        block = f"blocks.{number}"
        read, looks = attended(state, block, rows, core)
        attention.append(looks)
        rows = [norm(state, f"{block}.attention_norm", row + got) for row, got in zip(rows, read, strict=True)]
        for index, row in enumerate(rows):
            hidden = row
            for layer in range(layers):
                hidden = affine(state, f"mlp.{layer}", hidden)
                hidden = hidden if layer == layers - 1 else np.maximum(hidden, 0)
            rows[index] = norm(state, f"{block}.mlp_norm", hidden + row)
    candidate = np.array(rows[: len(memory)])
    if core.gate_style is None:
        return candidate, attention
    from_input = affine(state, "gates_from_input", np.concatenate(projected))
    following = []
    for old, new in zip(memory, candidate, strict=True):
        gates = from_input + affine(state, "gates_from_memory", np.tanh(old))
        half = len(gates) // 2
        opened = sigmoid(gates[:half] + core.settings.input_bias)
        kept = sigmoid(gates[half:] + core.settings.forget_bias)
        following.append(opened * np.tanh(new) + kept * old)
    return np.array(following), attention


def naive(core, inputs):
    """All memories [T B N M] from the published start, and the attention [T B blocks h S S]."""
    start = np.zeros((core.mem_slots, core.mem_size))
    for index in range(min(start.shape)):
        start[index, index] = 1
    memories, attention = [], []
    for row in range(inputs.shape[1]):
        memory, trace = start, []
        for now in inputs[:, row]:
            memory, looks = naive_step(core, now.reshape(core.input_rows, -1), memory)
            trace.append((memory, looks))
        memories.append([memory for memory, _ in trace])
        attention.append([looks for _, looks in trace])
    return tuple(torch.from_numpy(np.array(each).swapaxes(0, 1)) for each in (memories, attention))


def make(seed=0, rows=None, **options):
    """A core in float64, all of whose parameters are random."""
    torch.manual_seed(seed)
    options = {"mem_slots": 3, "head_size": 4, "num_heads": 2, **options}
    core = RelationalMemory((rows, 5) if rows else 5, treat_input_as_matrix=bool(rows), **options).double()
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return core


def compare(core, seed=0):
    """Stepping, unrolling and the attention on show against the second writing."""
    generator = torch.Generator().manual_seed(seed)
    shape = (core.input_rows, 5) if core.treat_input_as_matrix else (5,)
    inputs = torch.randn(3, 2, *shape, generator=generator, dtype=torch.float64)
    wanted, attention = naive(core, inputs.numpy())
    outputs, last = core(inputs)
    torch.testing.assert_close(outputs, wanted.flatten(2), rtol=0, atol=1e-12)
    torch.testing.assert_close(last, wanted[-1], rtol=0, atol=1e-12)
    torch.testing.assert_close(core.attention(inputs), attention, rtol=0, atol=1e-12)
    state = core.initial_state(2)
    for now, memory in zip(inputs, wanted, strict=True):
        output, state = core.step(now, state)
        torch.testing.assert_close(state, memory, rtol=0, atol=1e-12)
        torch.testing.assert_close(output, memory.flatten(1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_options(options):
    """Each option computes what the equations say, stepped and unrolled."""
    compare(make(**options))


@settings(max_examples=20, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "mem_slots": st.integers(1, 4),
            "head_size": st.integers(1, 4),
            "num_heads": st.integers(1, 3),
            "num_blocks": st.integers(1, 3),
            "gate_style": st.sampled_from(["unit", "memory", None]),
            "attention_mlp_layers": st.integers(1, 3),
            "key_size": st.none() | st.integers(1, 5),
            "forget_bias": st.floats(-2, 2),
            "input_bias": st.floats(-2, 2),
            "rows": st.none() | st.integers(1, 3),
        }
    ),
    st.integers(0, 2**31),
)
def test_any_options(options, seed):
    """Options hold together as well as one by one."""
    compare(make(seed, **options), seed)
