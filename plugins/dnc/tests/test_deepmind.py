"""from_deepmind: published variables into a core, whatever they are called around it, and clear words where they misfit."""

import numpy as np
import pytest
import torch

from seqtoolkit_dnc import DNC, from_deepmind
from seqtoolkit_dnc.deepmind import INTERFACE


def make(seed=0, **options):
    """A core with random parameters."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 6, "memory_size": 4, "word_size": 3, "num_reads": 2, "output_size": 7}
    core = DNC(**{"input_size": 5, **sizes, **options})
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.normal_()
    return core


def published(core):
    """A core's parameters as deepmind/dnc would name and lay them out, written apart from the code under test."""
    state = {name: each.numpy() for name, each in core.state_dict().items()}
    reads, writes, word = core.settings.num_reads, core.settings.num_writes, core.settings.word_size
    size = core.hidden_size
    candidate, entered, forgot, out = (slice(size * i, size * (i + 1)) for i in range(4))
    rows = np.concatenate([np.arange(4 * size)[each] for each in (entered, candidate, forgot, out)])
    bias = state["controller.0.bias"].copy()
    bias[forgot] -= 1
    arrays = {"lstm/w_gates": state["controller.0.weight"][rows].T, "lstm/b_gates": bias[rows]}
    widths = {
        "read_keys": reads * word,
        "write_keys": writes * word,
        "read_strengths": reads,
        "write_strengths": writes,
        "write_vectors": writes * word,
        "erase_vectors": writes * word,
        "free_gate": reads,
        "allocation_gate": writes,
        "write_gate": writes,
        "read_mode": reads * (1 + 2 * writes),
    }
    start = 0
    for name, width in widths.items():
        part = slice(start, start + width)
        arrays[f"memory_access/{name}/w"] = state["interface.weight"][part].T
        arrays[f"memory_access/{name}/b"] = state["interface.bias"][part]
        start += width
    return arrays | {"output_linear/w": state["output.weight"].T, "output_linear/b": state["output.bias"]}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_writes": 2},
        {"num_reads": 1, "num_writes": 3, "word_size": 1},
        {"input_size": 1, "hidden_size": 1, "output_size": 1},
        {"memory_size": 9, "clip_value": None},
    ],
)
def test_round_trip(options):
    """Heads and sizes follow from the shapes; a core of the same settings takes all."""
    core, other = make(**options), make(1, **options)
    other.load_state_dict(from_deepmind(published(core)))
    for name, parameter in other.state_dict().items():
        torch.testing.assert_close(parameter, core.state_dict()[name], rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("scope", ["", "dnc/", "rnn/dnc/", "a/lstm/", "memory_access/"])
@pytest.mark.parametrize("suffix", ["", ":0"])
def test_scopes(scope, suffix):
    """The scope and the `:0` of a variable do not matter."""
    arrays = published(make())
    wanted = from_deepmind(arrays)
    got = from_deepmind({f"{scope}{name}{suffix}": array for name, array in arrays.items()})
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)


def test_copies():
    """The state_dict does not share memory with the arrays, and keeps their dtype."""
    arrays = {name: array.astype(np.float64) for name, array in published(make()).items()}
    state = from_deepmind(arrays)
    kept = {name: each.clone() for name, each in state.items()}
    for array in arrays.values():
        array[...] = 0
    assert all(torch.equal(state[name], each) and each.dtype == torch.float64 for name, each in kept.items())


@pytest.mark.parametrize("name", sorted(published(make())))
def test_missing(name):
    """A variable that is not there is named."""
    arrays = published(make())
    del arrays[name]
    with pytest.raises(ValueError, match=f"{name} missing") as error:
        from_deepmind(arrays)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.clear(), "lstm/w_gates, .* missing"),
        (lambda arrays: arrays.update({"lstm/w_gates/Adam": arrays["lstm/w_gates"]}), "is no variable"),
        (lambda arrays: arrays.update({"global_step:0": np.zeros(())}), "'global_step:0' is no variable"),
        (lambda arrays: arrays.update({3: np.zeros(3)}), "3 is no variable"),
        (lambda arrays: arrays.update({"lstm/w_gates:0": arrays["lstm/w_gates"]}), "'lstm/w_gates:0' is given twice"),
        (lambda arrays: arrays.update({"b/lstm/b_gates": arrays.pop("lstm/b_gates")}), "one core, got several scopes"),
        (lambda arrays: arrays.update({"lstm/w_gates": arrays["lstm/w_gates"].T}), "lstm/w_gates: wanted the shape"),
        (lambda arrays: arrays.update({"lstm/b_gates": np.zeros(23)}), "wanted the shape"),
        (
            lambda arrays: arrays.update({"output_linear/w": np.zeros((11, 7))}),
            r"output_linear/w: .*\(12, 7\), got \(11",
        ),
        (lambda arrays: arrays.update({"memory_access/write_vectors/b": np.zeros(2)}), "wanted the shape"),
        (
            lambda arrays: arrays.update({"memory_access/write_strengths/b": np.zeros(9)}),
            "write_vectors/b .* too small",
        ),
        (lambda arrays: arrays.update({"output_linear/b": np.zeros(0)}), "wanted an array of floats, got float64 of"),
        (lambda arrays: arrays.update({"output_linear/b": np.zeros(7, int)}), "wanted an array of floats, got int64"),
        (lambda arrays: arrays.update({"output_linear/b": np.array([object()])}), "wanted an array of floats, got obj"),
        (lambda arrays: arrays.update({"output_linear/b": [[0.0], 1.0]}), "'output_linear/b': wanted an array"),
    ],
)
def test_misfits(change, message):
    """Names that are missing, unknown or twice there, and arrays that do not fit, each end in one line that names them."""
    arrays = published(make())
    change(arrays)
    with pytest.raises(ValueError, match=message) as error:
        from_deepmind(arrays)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", [f"memory_access/{each}" for each in INTERFACE])
def test_wrong_width(name):
    """Of every part of the interface a weight of a wrong width is refused by name."""
    arrays = published(make())
    arrays[f"{name}/w"] = np.zeros((6, 99))
    with pytest.raises(ValueError, match=rf"{name}/w: wanted the shape \(6, \d+\), got \(6, 99\)"):
        from_deepmind(arrays)
