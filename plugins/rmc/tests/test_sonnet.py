"""from_sonnet: published variables into a core, whatever they are called around it, and clear words where they do not fit."""

import numpy as np
import pytest
import torch

from seqtoolkit_rmc import RelationalMemory, from_sonnet


def published(core):
    """A core's parameters as Sonnet would name and lay them out."""
    linears = ["input_projection", *(f"blocks.{block}.qkv" for block in range(len(core.blocks)))]
    linears += ["gates_from_input", "gates_from_memory"] if core.gate_style else []
    parts = ("qkv_norm", "attention_norm", "mlp_norm")
    norms = [f"blocks.{block}.{part}" for block in range(len(core.blocks)) for part in parts]
    state = {name: each.numpy() for name, each in core.state_dict().items()}
    arrays = {}
    for index, home in enumerate(linears):
        name = f"linear_{index}" if index else "linear"
        arrays |= {f"{name}/w": state[f"{home}.weight"].T, f"{name}/b": state[f"{home}.bias"]}
    for index, home in enumerate(norms):
        name = f"layer_norm_{index}" if index else "layer_norm"
        arrays |= {f"{name}/gamma": state[f"{home}.weight"], f"{name}/beta": state[f"{home}.bias"]}
    for layer in range(len(core.mlp)):
        arrays[f"mlp/linear_{layer}/w"] = state[f"mlp.{layer}.weight"].T
        arrays[f"mlp/linear_{layer}/b"] = state[f"mlp.{layer}.bias"]
    return arrays


def make(seed=0, **options):
    """A core with random parameters."""
    torch.manual_seed(seed)
    core = RelationalMemory(**{"input_size": 5, "mem_slots": 3, "head_size": 4, "num_heads": 2, **options})
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.normal_()
    return core


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_blocks": 4, "attention_mlp_layers": 5},
        {"gate_style": "memory", "num_blocks": 2, "attention_mlp_layers": 1},
        {"gate_style": None},
        {"gate_style": None, "num_blocks": 12, "attention_mlp_layers": 11},
        {"key_size": 3},
        {"head_size": 1, "num_heads": 1},
        {"input_size": (3, 5), "treat_input_as_matrix": True},
    ],
)
def test_round_trip(options):
    """Numbers of blocks, of layers and the gates follow from the names; a core of the same settings takes all."""
    core, other = make(**options), make(1, **options)
    other.load_state_dict(from_sonnet(published(core)))
    for name, parameter in other.state_dict().items():
        assert torch.equal(parameter, core.state_dict()[name]), name


def test_matrices():
    """The gates of a core that reads matrices have a block of weights for each row; part of a block is refused."""
    arrays = published(make(input_size=(3, 5), treat_input_as_matrix=True))
    assert arrays["linear_2/w"].shape == (24, 16)
    for rows in (23, 25):
        with pytest.raises(ValueError, match=rf"linear_2/w: wanted the shape \(\d+, 16\), got \({rows}, 16\)"):
            from_sonnet({**arrays, "linear_2/w": np.zeros((rows, 16))})
    with pytest.raises(RuntimeError, match="gates_from_input"):
        make(input_size=(2, 5), treat_input_as_matrix=True).load_state_dict(from_sonnet(arrays))


@pytest.mark.parametrize("scope", ["", "relational_memory/", "rnn/relational_memory/", "a/b/c_1/", "linear/"])
@pytest.mark.parametrize("suffix", ["", ":0"])
def test_scopes(scope, suffix):
    """The scope and the `:0` of a variable do not matter."""
    arrays = published(make())
    wanted = from_sonnet(arrays)
    got = from_sonnet({f"{scope}{name}{suffix}": array for name, array in arrays.items()})
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)


def test_copies():
    """The state_dict does not share memory with the arrays, and keeps their dtype."""
    arrays = {name: array.astype(np.float64) for name, array in published(make()).items()}
    state = from_sonnet(arrays)
    kept = {name: each.clone() for name, each in state.items()}
    for array in arrays.values():
        array[...] = 0
    assert all(torch.equal(state[name], each) and each.dtype == torch.float64 for name, each in kept.items())


def test_archives(tmp_path):
    """An open archive of arrays is a mapping like any; one that holds pickled objects is refused."""
    arrays = published(make())
    np.savez(tmp_path / "core.npz", **{name.replace("/", "|"): array for name, array in arrays.items()})
    with np.load(tmp_path / "core.npz") as archive:
        from_sonnet({name.replace("|", "/"): archive[name] for name in archive})
    with pytest.raises(ValueError, match="wanted an array of floats, got object"):
        from_sonnet({**arrays, "linear/w": np.array([object()])})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.clear(), "linear/w"),
        (lambda arrays: arrays.pop("linear/b"), "linear/b missing"),
        (lambda arrays: arrays.pop("linear_3/w"), "linear_3/w missing"),
        (lambda arrays: arrays.pop("layer_norm_2/gamma"), "layer_norm_2/gamma missing"),
        (lambda arrays: arrays.pop("mlp/linear_0/w"), "mlp/linear_0/w missing"),
        (lambda arrays: arrays.update({"linear_4/w": arrays["linear/w"]}), "has no linear_4/w"),
        (lambda arrays: arrays.update({"mlp/linear_7/b": arrays["linear/b"]}), "has no mlp/linear_7/b"),
        (lambda arrays: arrays.update({"linear/w/Adam": arrays["linear/w"]}), "'linear/w/Adam' is no variable"),
        (lambda arrays: arrays.update({"global_step:0": np.zeros(())}), "'global_step:0' is no variable"),
        (lambda arrays: arrays.update({"linear_0/w": arrays["linear/w"]}), "'linear_0/w' is no variable"),
        (lambda arrays: arrays.update({"linear/w:0": arrays["linear/w"]}), "'linear/w:0' is given twice"),
        (
            lambda arrays: arrays.update({"b/linear/b": arrays.pop("linear/b")}),
            "wanted .* one core, got several scopes",
        ),
        (lambda arrays: arrays.update({"linear/w": arrays["linear/w"].T}), r"linear/w: wanted the shape"),
        (
            lambda arrays: arrays.update({"linear_1/w": arrays["linear_1/w"].T}),
            r"linear_1/w: .*\(8, 24\), got \(24, 8\)",
        ),
        (lambda arrays: arrays.update({"linear/w": np.zeros(8)}), r"linear/w: wanted the shape"),
        (lambda arrays: arrays.update({"linear_2/w": np.zeros((9, 16))}), r"linear_2/w: wanted the shape \(8, 16\)"),
        (lambda arrays: arrays.update({"linear_2/b": np.zeros(4)}), r"linear_2/b: wanted 2 gates .* or 16 .*, got 4"),
        (
            lambda arrays: arrays.update({"linear/b": np.zeros((8, 1))}),
            r"linear/b: wanted the shape \(8,\), got \(8, 1\)",
        ),
        (
            lambda arrays: arrays.update({"linear/b": np.zeros(0)}),
            "'linear/b': wanted an array of floats, got float64 of",
        ),
        (lambda arrays: arrays.update({"linear/b": np.zeros(8, int)}), "wanted an array of floats, got int64"),
        (lambda arrays: arrays.update({"linear/b": "pickle"}), "wanted an array of floats, got <U6"),
        (lambda arrays: arrays.update({"linear/b": [[0.0], 1.0]}), "'linear/b': wanted an array"),
        (lambda arrays: arrays.update({3: np.zeros(3)}), "3 is no variable"),
    ],
)
def test_misfits(change, message):
    """Names that are missing, unknown or twice there, and arrays that do not fit, each end in one line that names them."""
    arrays = published(make())
    change(arrays)
    with pytest.raises(ValueError, match=message) as error:
        from_sonnet(arrays)
    assert len(str(error.value).splitlines()) == 1
