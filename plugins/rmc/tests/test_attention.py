"""Attention on show: that of the step that is computed, restarts included, and free of charge where nobody asks."""

from collections import Counter

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from seqtoolkit_rmc import RelationalMemory

OPTIONS = {
    "unit": {},
    "memory, blocks 2": {"gate_style": "memory", "num_blocks": 2},
    "no gates": {"gate_style": None, "key_size": 3},
    "one slot": {"mem_slots": 1},
    "one slot, blocks 2": {"mem_slots": 1, "num_blocks": 2},
    "one head": {"num_heads": 1, "attention_mlp_layers": 1},
    "matrix": {"input_size": (3, 5), "treat_input_as_matrix": True},
}
FIRST = torch.tensor([[False, False], [False, True], [True, False], [False, False]])

each_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


class Watch(TorchDispatchMode):
    """Counts operations, and knows which of the tensors they made are still there."""

    def __init__(self):
        super().__init__()
        self.operations, self.made = Counter(), []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Count, and go on."""
        result = function(*args, **(kwargs or {}))
        self.operations[function] += 1
        for each in result if isinstance(result, tuple | list) else [result]:
            if isinstance(each, torch.Tensor):
                self.made.append(StorageWeakRef(each.untyped_storage()))
        return result

    def alive(self):
        """The storages that are left."""
        return {each.cdata for each in self.made if not each.expired()}


def make(options):
    """A core in float64 and inputs of four steps and two rows."""
    torch.manual_seed(0)
    core = RelationalMemory(**{"input_size": 5, "mem_slots": 3, "head_size": 4, "num_heads": 2, **options}).double()
    size = options.get("input_size", (5,))
    return core, torch.randn(4, 2, *size, dtype=torch.float64)


def storages(*tensors):
    """The storages of tensors."""
    return {each.untyped_storage()._cdata for each in tensors}


@each_option
def test_shape(options):
    """There is a weight for each step, row, block and head, query and key; those of a query add up to one."""
    core, inputs = make(options)
    weights = core.attention(inputs, None, FIRST)
    rows = core.mem_slots + core.input_rows
    assert weights.shape == (4, 2, len(core.blocks), core.settings.num_heads, rows, rows)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    assert not weights.requires_grad


@each_option
def test_restarts_and_states(options):
    """Attention follows the memory: from a restart as from the start, from a state as where the state comes from."""
    core, inputs = make(options)
    weights = core.attention(inputs, None, FIRST)
    plain = core.attention(inputs)
    for row, start in enumerate((2, 1)):
        torch.testing.assert_close(weights[:start, row], plain[:start, row])
        fresh = core.attention(inputs[start:, row : row + 1])
        torch.testing.assert_close(weights[start:, row], fresh[:, 0])
    _, state = core(inputs[:2])
    torch.testing.assert_close(core.attention(inputs[2:], state), plain[2:])
    _, state = core(inputs[:3], None, FIRST[:3])
    torch.testing.assert_close(core.attention(inputs[3:], state, FIRST[3:]), weights[3:])


@each_option
def test_nothing_is_kept(options):
    """Neither a step nor unrolling leaves more behind than what it gives: no attention waits for somebody to ask."""
    core, inputs = make(options)
    state = core.initial_state(2)
    with torch.no_grad():
        for run in (lambda: core.step(inputs[0], state), lambda: core.unroll(inputs, state, FIRST)):
            with Watch() as watch:
                given = run()
            assert watch.made
            assert watch.alive() - storages(inputs, state, FIRST, *core.parameters()) == storages(*given)


@each_option
def test_asking_changes_nothing(options):
    """A core that was asked does the same operations as before, and keeps as much for the backward pass."""
    core, inputs = make(options)
    state = core.initial_state(2)

    def cost(run):
        saved = []

        def keep(tensor):
            saved.append(tensor.shape)
            return tensor

        with Watch() as watch, torch.autograd.graph.saved_tensors_hooks(keep, torch.Tensor.clone):
            run()
        return watch.operations, saved

    runs = (lambda: core.step(inputs[0], state), lambda: core.unroll(inputs, state, FIRST))
    before = [cost(run) for run in runs]
    core.attention(inputs, state, FIRST)
    assert [cost(run) for run in runs] == before


@pytest.mark.parametrize("style", ["unit", None])
def test_one_slot_needs_no_softmax(style):
    """Unrolling a single slot never computes the matrix of weights that `attention` shows."""
    core, inputs = make({"mem_slots": 1, "gate_style": style})
    with Watch() as watch:
        core(inputs)
    assert torch.ops.aten._softmax.default not in watch.operations
    with Watch() as watch:
        core.attention(inputs)
    assert watch.operations[torch.ops.aten._softmax.default] == len(inputs)


def test_misfits():
    """Inputs and states that do not fit are refused as `unroll` refuses them."""
    core, inputs = make({})
    with pytest.raises(ValueError, match=r"inputs: wanted \[T B\] and then \[5\], got \[4, 2, 4\]"):
        core.attention(inputs[..., :4])
    with pytest.raises(ValueError, match=r"state: wanted a memory of the shape \[2, 3, 8\], got \[3, 3, 8\]"):
        core.attention(inputs, core.initial_state(3))
