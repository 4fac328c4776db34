"""What the cells are as a memory: on the sphere, in no order, finite where a cell has no length, and able to recall."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from seqtoolkit_entnet import EntNet, reference

ENTITIES, VALUES = 3, 4


@settings(max_examples=40, deadline=None)
@given(
    st.floats(1e-6, 1e6),
    st.integers(1, 5),
    st.integers(1, 6),
    st.sampled_from(["prelu", "identity"]),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_cells_are_on_the_sphere(scale, num_cells, cell_size, activation, bias, seed):
    """After any step every cell of Henaff's network has the norm 1, whatever the inputs' size."""
    torch.manual_seed(seed)
    core = EntNet(5, "henaff", num_cells, cell_size, activation=activation, bias=bias).double()
    inputs = scale * torch.randn(4, 3, 5, dtype=torch.float64)
    outputs, memory = core(inputs)
    _, stepped = core.step(inputs[0], core.initial_state(3))
    for each in (memory, stepped):
        torch.testing.assert_close(each.norm(dim=-1), torch.ones(3, num_cells, dtype=torch.float64), rtol=0, atol=1e-12)
    assert outputs.isfinite().all()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["bank", "keyed", "henaff"]), st.permutations(range(4)), st.booleans(), st.booleans())
def test_cells_have_no_order(mode, order, bias, restarts):
    """With its cells in another order a core gives the same outputs, and its state in that order."""
    core, other = (EntNet(5, mode, 4, 3, bias=bias).double() for _ in range(2))
    inputs, first = torch.randn(6, 2, 5, dtype=torch.float64), torch.zeros(6, 2, dtype=torch.bool)
    first[3, 1] = restarts
    moved = {name: value[order] if len(value) == 4 else value for name, value in core.state_dict().items()}
    other.load_state_dict(moved)
    (outputs, state), (others, after) = core(inputs, None, first), other(inputs, None, first)
    torch.testing.assert_close(others, outputs, rtol=0, atol=1e-12)
    pairs = [(state, after)] if mode == "henaff" else zip(state, after, strict=True)
    for before, now in pairs:
        torch.testing.assert_close(now, before[:, order], rtol=0, atol=1e-12)


def test_normalize():
    """A vector keeps its direction and gets the norm 1; its gradient is that of v / |v|."""
    vectors = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(reference.normalize(vectors), vectors / vectors.norm(dim=-1, keepdim=True))
    assert torch.autograd.gradcheck(reference.normalize, vectors)


@pytest.mark.parametrize("length", [0.0, 1e-45, 1e-30, 1e-20, 1e-13])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_vectors_of_no_length(length, dtype):
    """A vector without a length worth the name stays as it is, and hands its gradient on unchanged."""
    vector = torch.tensor([0.0, length, 0.0], dtype=dtype, requires_grad=True)
    normal = reference.normalize(vector)
    assert torch.equal(normal, vector)
    (gradient,) = torch.autograd.grad(normal, vector, torch.tensor([1.0, -2.0, 3.0], dtype=dtype))
    torch.testing.assert_close(gradient, torch.tensor([1.0, -2.0, 3.0], dtype=dtype))


@pytest.mark.parametrize("activation", ["prelu", "identity"])
def test_nothing_in_an_empty_memory(activation):
    """Zero inputs into cells of zeros leave zeros, and all gradients finite, stepped and unrolled."""
    core = EntNet(5, "henaff", 3, 4, activation=activation, bias=False)
    with torch.no_grad():
        core.cells.keys.zero_()
    state = core.initial_state(2)
    outputs, memory = core(torch.zeros(4, 2, 5), state)
    output, stepped = core.step(torch.zeros(2, 5), state)
    for each in (outputs, memory, output, stepped):
        assert not each.count_nonzero()
    total = sum(each.cos().sum() + each.sum() for each in (outputs, memory, output, stepped))
    for gradient in torch.autograd.grad(total, list(core.parameters()), materialize_grads=True, allow_unused=True):
        assert gradient.isfinite().all()


def test_a_shut_gate_writes_nothing():
    """A cell whose gate is shut keeps what it holds; one whose gate is open does not."""
    core = EntNet(5, "henaff", 2, 4).double()
    with torch.no_grad():
        core.cells.gate_bias.copy_(torch.tensor([-1e3, 1e3]))
        core.cells.keys.copy_(nn.functional.normalize(core.cells.keys, dim=1))
    before = core.initial_state(3)
    _, after = core(torch.randn(6, 3, 5, dtype=torch.float64))
    torch.testing.assert_close(after[:, 0], before[:, 0])
    assert ((after[:, 1] - before[:, 1]).norm(dim=-1) > 1e-3).all()


def story(generator, rows):
    """Each entity gets a value, in any order, then one is asked for: inputs [ENTITIES+1 B D], the value it got [B]."""
    order = torch.rand(rows, ENTITIES, generator=generator).argsort(1)
    values = torch.randint(VALUES, (rows, ENTITIES), generator=generator)
    asked = torch.randint(ENTITIES, (rows, 1), generator=generator)
    told = nn.functional.one_hot(values.gather(1, order), VALUES)
    told = torch.cat([told, torch.zeros(rows, 1, VALUES, dtype=torch.long)], 1)
    named = nn.functional.one_hot(torch.cat([order, asked], 1), ENTITIES)
    return torch.cat([named, told], 2).float().transpose(0, 1), values.gather(1, asked)[:, 0]


@pytest.mark.parametrize("activation", ["prelu", "identity"])
def test_store_and_recall(activation):
    """A small network learns at once to keep the value of each entity and to give back the one asked for."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    core, head = EntNet(ENTITIES + VALUES, "henaff", 4, 16, activation=activation), nn.Linear(16, VALUES)
    optimizer = torch.optim.Adam([*core.parameters(), *head.parameters()], lr=1e-2)
    for _ in range(150):
        inputs, wanted = story(generator, 64)
        loss = nn.functional.cross_entropy(head(core(inputs)[0][-1]), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    inputs, wanted = story(generator, 1000)
    with torch.no_grad():
        accuracy = (head(core(inputs)[0][-1]).argmax(-1) == wanted).float().mean().item()
    assert accuracy > 0.95
