"""Which backend computes: what is asked for, what `auto` takes and says, and what may be counted of it on any machine."""

import logging
from functools import partial

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from seqtoolkit.bench import cost
from seqtoolkit_rmc import RelationalMemory, backend, reference
from seqtoolkit_rmc.kernels import fused, native

MOST_OPERATIONS = 18
"""Forward, a step: those that compute; views are free."""
SETTINGS = {
    "nth farthest": (partial(RelationalMemory, 40, mem_slots=8, head_size=256, num_heads=1), 8, 64),
    "small": (partial(RelationalMemory, 64), 24, 16),
    "small, gates of the memory": (partial(RelationalMemory, 64, gate_style="memory"), 24, 16),
}


@pytest.fixture(autouse=True)
def nothing_said_yet():
    """Each test hears of each choice anew."""
    backend._tell.cache_clear()


def unrolled(core, steps=3, batch=2):
    """The outputs of a short sequence."""
    return core(torch.randn(steps, batch, core.input_size))[0]


@pytest.mark.parametrize("asked", ["fast", "Auto", "", None, 3])
def test_unknown(asked):
    """There are five backends, and the line says which."""
    with pytest.raises(ValueError, match=r"^backend: wanted one of auto, reference, fused, native, triton, got "):
        RelationalMemory(5, backend=asked)


@pytest.mark.parametrize("name", ["native", "triton"])
def test_asked_for_and_not_there(name, monkeypatch):
    """A backend that is asked for and cannot compute is an error that says why, never another one in silence."""
    monkeypatch.setenv("SEQTOOLKIT_NATIVE", "0")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match=rf"^backend: {name} (is turned off|wants) .*; take backend: auto$"):
        unrolled(RelationalMemory(5, backend=name))


@pytest.mark.parametrize("name", ["native", "triton"])
def test_refused_before_a_run(name, monkeypatch):
    """A core whose backend is not there says so when it is asked before a run; one that chooses for itself does not."""
    monkeypatch.setenv("SEQTOOLKIT_NATIVE", "0")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match=rf"^backend: {name} "):
        RelationalMemory(5, backend=name).demand()
    for other in ("auto", "reference", "fused"):
        RelationalMemory(5, backend=other).demand()


def test_auto_says_what_it_took(monkeypatch, caplog):
    """The log names the backend, once, and why a faster one was not taken."""
    monkeypatch.setenv("SEQTOOLKIT_NATIVE", "0")
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            unrolled(RelationalMemory(5))
    assert [each.message for each in caplog.records] == [
        "rmc on cpu: backend fused (native is turned off by SEQTOOLKIT_NATIVE=0)"
    ]


def test_auto_under_autocast(caplog):
    """Under autocast on a CPU the plain steps are the fastest, and auto says so."""
    with caplog.at_level(logging.INFO), torch.autocast("cpu", torch.bfloat16):
        unrolled(RelationalMemory(5))
    assert caplog.messages == ["rmc on cpu: backend reference (the fastest under autocast)"]


def test_auto_takes_the_reference_where_nothing_else_can(caplog):
    """Under torch.func, which sees operations only, auto is the reference, and its derivatives are right."""
    core = RelationalMemory(3, mem_slots=2, head_size=2, num_heads=1).double()
    inputs, tangent = torch.randn(2, 1, 4, 3, dtype=torch.float64)
    with caplog.at_level(logging.INFO):
        _, along = torch.func.jvp(lambda each: core(each)[0], (inputs,), (tangent,))
    assert "backend reference" in caplog.text
    step = 1e-6
    with torch.no_grad():
        ahead, behind = (core(inputs + sign * step * tangent)[0] for sign in (1, -1))
    torch.testing.assert_close(along, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["reference", "fused", "auto"])
def test_one_state_dict(name):
    """The backend changes neither parameters nor their names: a checkpoint of one is a checkpoint of all."""
    core, other = RelationalMemory(5, backend=name), RelationalMemory(5)
    other.load_state_dict(core.state_dict())
    inputs = torch.randn(3, 2, 5)
    torch.testing.assert_close(core(inputs)[0], other(inputs)[0])


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("keeps", [True, False], ids=["training", "no grad"])
def test_operations(setting, keeps):
    """A step of the fused loop is at most 18 operations forward, whatever is done once for all steps; the plain port has more."""
    make, _, batch = SETTINGS[setting]

    def each_step(name):
        core = make(backend=name)
        with torch.set_grad_enabled(keeps):
            few, more = (cost(lambda steps=steps: unrolled(core, steps, batch)).operations for steps in (6, 10))
        return (more - few) / 4

    assert each_step("fused") <= MOST_OPERATIONS < each_step("reference")


@pytest.mark.parametrize("setting", SETTINGS)
def test_operations_backward(setting):
    """Backwards a step of the fused loop takes less than half of the plain port's operations."""
    make, _, _ = SETTINGS[setting]

    def backward(name):
        core = make(backend=name)
        found = []
        for steps in (6, 10):
            outputs = unrolled(core, steps)
            found.append(
                cost(lambda outputs=outputs: torch.autograd.grad(outputs.sum(), list(core.parameters()))).operations
            )
        return (found[1] - found[0]) / 4

    assert backward("fused") < backward("reference") / 2


def made(make, name):
    """A core with that backend; where there is no C++ compiler, the test that wants it is left out."""
    core = make(backend=name)
    if name == "native" and (reason := native.missing(core.parameters_of(), core.settings, torch.zeros(1, 1, 1, 1))):
        pytest.skip(reason)
    return core


def saved(core, steps, batch):
    """Bytes that a forward pass keeps for the way back, each storage once, parameters left out."""
    kept = {}
    own = {each.untyped_storage().data_ptr() for each in core.parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        unrolled(core, steps, batch)
    return sum(size for pointer, (size, _) in kept.items() if pointer not in own)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", ["fused", "native"])
def test_saved_bytes(name, setting):
    """What a forward pass keeps is not much more than half of what the plain port keeps."""
    make, steps, batch = SETTINGS[setting]
    assert saved(made(make, name), steps, batch) < 0.56 * saved(make(backend="reference"), steps, batch)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fused", "native"])
def test_memory_of_the_published_batch(name):
    """At the published batch of nth farthest, 1600, an unrolling and its way back take less than half of the plain port's memory."""
    make, steps, _ = SETTINGS["nth farthest"]

    def most(core):
        inputs = torch.randn(steps, 1600, core.input_size)
        return cost(lambda: torch.autograd.grad(core(inputs)[0].sum(), list(core.parameters()))).peak

    assert most(made(make, name)) < most(make(backend="reference")) / 2


@pytest.mark.parametrize("name", ["fused", "native"])
def test_nothing_is_kept_without_gradients(name):
    """Where no gradient is wanted, a step more takes the memories, and what is hoisted out of it, and no more."""
    make, _, batch = SETTINGS["small"]
    core = made(make, name)
    with torch.no_grad():
        few, more = (cost(lambda steps=steps: unrolled(core, steps, batch)).peak for steps in (8, 40))
    projected, arriving, gates, memories = 128, 3 * 128, 2 * 128, 4 * 128
    assert more - few <= 32 * batch * 4 * (memories + 2 * (projected + arriving) + 5 * gates)


@pytest.mark.parametrize("numbers", [1, 24, 100, 300, 10**9])
def test_chunks(numbers, monkeypatch):
    """However the batch and the steps are cut, the numbers are those of the reference, restarts included."""
    monkeypatch.setattr(fused, "NUMBERS", numbers)
    core = RelationalMemory(5, mem_slots=3, head_size=4, num_heads=2, num_blocks=2).double()
    inputs, first = torch.randn(7, 5, 5, dtype=torch.float64), torch.rand(7, 5) < 0.3
    state = torch.randn_like(core.initial_state(5)).requires_grad_()
    found = []
    for core.backend in ("reference", "fused"):
        outputs, last = core(inputs, state, first)
        total = outputs.sin().sum() + last.square().sum()
        found.append([outputs, last, *torch.autograd.grad(total, [state, *core.parameters()])])
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-11)


def test_reference_is_stepping():
    """The reference backend is the step, one after the other, to the bit."""
    core = RelationalMemory(5, backend="reference")
    inputs, state = torch.randn(4, 3, 5), core.initial_state(3)
    outputs, _ = core(inputs)
    for now, wanted in zip(inputs, outputs, strict=True):
        output, state = core.step(now, state)
        assert output.equal(wanted)
    assert backend.choose("reference", core.parameters_of(), core.settings, inputs) is reference.unroll


def test_no_recompilation():
    """A step that is compiled is compiled once, for all steps."""
    torch.compiler.reset()
    core = RelationalMemory(5, mem_slots=2, head_size=4, num_heads=1)
    counter = CompileCounter()
    step = torch.compile(core.step, backend=counter, fullgraph=True)
    state = core.initial_state(3)
    with torch.no_grad():
        for now in torch.randn(6, 3, 5):
            _, state = step(now, state)
    torch.compiler.reset()
    assert counter.frame_count == 1


def test_auto_compiles_in_one_graph():
    """torch.compile takes a whole core in one graph, restarts and all, and its outputs and gradients are those of the reference."""
    core = RelationalMemory(5, mem_slots=3, head_size=4, num_heads=2).double()
    plain = RelationalMemory(5, mem_slots=3, head_size=4, num_heads=2, backend="reference").double()
    plain.load_state_dict(core.state_dict())
    inputs, first = torch.randn(4, 3, 5, dtype=torch.float64), torch.rand(4, 3) < 0.5
    found = []
    for each in (torch.compile(core, fullgraph=True, backend="aot_eager"), plain):
        outputs, state = each(inputs, None, first)
        total = outputs.square().sum() + state.cos().sum()
        found.append([outputs, state, *torch.autograd.grad(total, list(each.parameters()))])
    torch.compiler.reset()
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-12)


def test_auto_without_numbers():
    """On the meta device, where shapes are found and nothing is computed, auto is the reference."""
    core = RelationalMemory(5).to("meta")
    outputs, state = core(torch.zeros(4, 3, 5, device="meta"))
    assert (outputs.shape, state.shape) == ((4, 3, core.output_size), (3, 4, 128))
