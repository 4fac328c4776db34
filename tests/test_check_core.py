"""check_core passes a sound core and catches broken ones, each by the law that it breaks."""
# ruff: noqa: D101, D102  a broken core's name says what is wrong with it

from typing import NamedTuple

import pytest
import torch
from torch import nn

from seqtoolkit.sdk import Core, map_state, where_first
from seqtoolkit.testing import CORE_LAWS, LawBroken, check_core


class Sound(Core):
    """A leaky tanh network of two tensors of state, (h, c)."""

    def __init__(self, input_size):
        super().__init__()
        self.input_size, self.output_size = input_size, 4
        self.read = nn.Linear(input_size, 4)
        self.recur = nn.Linear(4, 4)

    def initial_state(self, batch_size):
        zeros = self.read.weight.new_zeros(batch_size, 4)
        return zeros, zeros + 1

    def step(self, inputs, state):
        hidden, cell = state
        hidden = torch.tanh(self.read(inputs) + self.recur(hidden) + 0.1 * cell)
        return hidden, (hidden, 0.5 * cell + hidden)


class Loop(Sound):
    """A sound unrolling of its own, to be spoilt at `restart`."""

    def restart(self, time, first, fresh, state):
        return where_first(first[time], fresh, state)

    def unroll(self, inputs, state, first=None):
        outputs, fresh = [], self.initial_state(inputs.shape[1])
        for time, now in enumerate(inputs):
            if first is not None:
                state = self.restart(time, first, fresh, state)
            output, state = self.step(now, state)
            outputs.append(output)
        return torch.stack(outputs), state


class Pair(NamedTuple):
    hidden: torch.Tensor
    cell: torch.Tensor


class Nested(Sound):
    """Its state is of every kind of nest."""

    def initial_state(self, batch_size):
        ids = torch.arange(3, device=self.read.weight.device).expand(batch_size, 3)
        return {"deep": [Pair(*super().initial_state(batch_size))], "more": (ids,)}

    def step(self, inputs, state):
        output, last = super().step(inputs, state["deep"][0])
        return output, {"deep": [Pair(*last)], "more": state["more"]}


class Stateless(Core):
    """No state, no parameters: a core all the same."""

    def __init__(self, input_size):
        super().__init__()
        self.input_size = self.output_size = input_size

    def initial_state(self, batch_size):
        return ()

    def step(self, inputs, state):
        return torch.tanh(inputs), state


class MiscountedOutputs(Sound):
    def __init__(self, input_size):
        super().__init__(input_size)
        self.output_size = 5


class Misspelled(Sound):
    writes = "f32[B T 4]"


class ReadsBatchMajor(Sound):
    reads = "f32[B T D]"


class BatchSecond(Sound):
    def initial_state(self, batch_size):
        return tuple(each[None] for each in super().initial_state(batch_size))

    def step(self, inputs, state):
        output, state = super().step(inputs, tuple(each[0] for each in state))
        return output, tuple(each[None] for each in state)


class RowsStartApart(Sound):
    def initial_state(self, batch_size):
        hidden, cell = super().initial_state(batch_size)
        return hidden + torch.arange(batch_size).to(hidden)[:, None], cell


class AlmostStepping(Sound):
    def unroll(self, inputs, state, first=None):
        outputs, state = super().unroll(inputs, state, first)
        return outputs * (1 + 1e-9), state


class GradientlessUnroll(Sound):
    def unroll(self, inputs, state, first=None):
        outputs, (hidden, cell) = super().unroll(inputs, state, first)
        return outputs, (hidden, cell.detach())


class DeafCall(Sound):
    def forward(self, inputs, state=None, first=None):
        return super().forward(inputs, state)


class Forgetful(Sound):
    def forward(self, inputs, state=None, first=None):
        return super().forward(inputs, None, first)


class StateTooOld(Sound):
    def unroll(self, inputs, state, first=None):
        outputs, last = super().unroll(inputs, state, first)
        return outputs, (outputs[-2], last[1]) if len(outputs) > 2 else last


class Clairvoyant(Sound):
    def unroll(self, inputs, state, first=None):
        return super().unroll(inputs + 1e-3 * inputs.mean(0), state, first)


class Gossip(Sound):
    def step(self, inputs, state):
        return super().step(inputs - 1e-3 * inputs.mean(0), state)


class GossipInTraining(Sound):
    def __init__(self, input_size):
        super().__init__(input_size)
        self.norm = nn.BatchNorm1d(input_size)

    def step(self, inputs, state):
        return super().step(self.norm(inputs), state)


class NoRestart(Loop):
    def restart(self, time, first, fresh, state):
        return state


class RestartsTogether(Loop):
    def restart(self, time, first, fresh, state):
        return fresh if first[time].any() else state


class HalfRestart(Loop):
    def restart(self, time, first, fresh, state):
        return where_first(first[time], fresh[0], state[0]), state[1]


class LateRestart(Loop):
    def restart(self, time, first, fresh, state):
        return where_first(first[time - 1], fresh, state) if time else state


class RestartsInside(Loop):
    def restart(self, time, first, fresh, state):
        return where_first(first[time], fresh, state) if time else state


class LeakyRestart(Loop):
    def restart(self, time, first, fresh, state):
        leak = tuple(new + old - old.detach() for new, old in zip(fresh, state, strict=True))
        return where_first(first[time], leak, state)


class CutGradient(Sound):
    def step(self, inputs, state):
        return super().step(inputs, tuple(each.detach() for each in state))


class IdleParameter(Sound):
    def __init__(self, input_size):
        super().__init__(input_size)
        self.idle = nn.Parameter(torch.ones(3))


class InfiniteGradient(Sound):
    def step(self, inputs, state):
        return super().step(inputs + (self.read.bias * 0).sum().sqrt(), state)


class Unregistered(Sound):
    def __init__(self, input_size):
        super().__init__(input_size)
        self.gain = torch.rand(()).item()

    def step(self, inputs, state):
        return super().step(inputs * self.gain, state)


class WrongDtype(Sound):
    def initial_state(self, batch_size):
        return tuple(each.double() for each in super().initial_state(batch_size))


class WrongDevice(Sound):
    def initial_state(self, batch_size):
        zeros = torch.zeros(batch_size, 4, dtype=self.read.weight.dtype)
        return zeros, zeros + 1


class Single(Sound):
    def step(self, inputs, state):
        return super().step(inputs.float().to(inputs.dtype), state)


class Overwrites(Sound):
    def step(self, inputs, state):
        output, (hidden, cell) = super().step(inputs, state)
        state[1].detach().copy_(cell.detach())
        return output, (hidden, cell)


class CachedStart(Sound):
    cache = None

    def initial_state(self, batch_size):
        if self.cache is None or len(self.cache) != batch_size:
            self.cache = super().initial_state(batch_size)[1]
        self.cache = self.cache.to(self.read.weight)
        return super().initial_state(batch_size)[0], self.cache

    def unroll(self, inputs, state, first=None):
        outputs, last = super().unroll(inputs, state, first)
        if state[1] is self.cache:
            state[1].zero_()
        return outputs, last


class AlwaysDrops(Sound):
    def step(self, inputs, state):
        output, state = super().step(inputs, state)
        return nn.functional.dropout(output, 0.5, training=True), state


class Remembers(Sound):
    calls = 0

    def unroll(self, inputs, state, first=None):
        self.calls += 1
        outputs, state = super().unroll(inputs, state, first)
        return outputs + 1e-6 * (self.calls > 1), state


class PickyLayout(Sound):
    def unroll(self, inputs, state, first=None):
        inputs.view(-1)
        return super().unroll(inputs, state, first)


class BlindToLayout(Sound):
    def step(self, inputs, state):
        return super().step(inputs.as_strided(inputs.shape, (inputs.shape[1], 1)), state)


class OtherNest(Sound):
    def initial_state(self, batch_size):
        return {"hidden": super().initial_state(batch_size)[0], "cell": super().initial_state(batch_size)[1]}

    def step(self, inputs, state):
        output, (hidden, cell) = super().step(inputs, (state["hidden"], state["cell"]))
        return output, {"hidden": hidden, "cell": cell, "output": output}


class CountsInState(Sound):
    def initial_state(self, batch_size):
        return *super().initial_state(batch_size), 0

    def step(self, inputs, state):
        output, (hidden, cell) = super().step(inputs, state[:2])
        return output, (hidden, cell, state[2] + 1)


class OtherReference(Sound):
    def reference_step(self, inputs, state):
        output, state = self.step(inputs, state)
        return output + 1e-3, state


class OtherWhenCompiled(Sound):
    def step(self, inputs, state):
        output, state = super().step(inputs, state)
        return output * (1 + 1e-9 * torch.compiler.is_compiling()), state


class OtherWithoutGradient(Sound):
    def unroll(self, inputs, state, first=None):
        outputs, state = super().unroll(inputs, state, first)
        return outputs * (1 + 1e-9 * (not torch.is_grad_enabled())), state


class OtherWhenFrozen(Sound):
    def unroll(self, inputs, state, first=None):
        outputs, state = super().unroll(inputs, state, first)
        return outputs * (1 + 1e-9 * (not self.read.weight.requires_grad)), state


class OtherInTraining(Sound):
    def unroll(self, inputs, state, first=None):
        outputs, state = super().unroll(inputs, state, first)
        return outputs * (1 + 1e-9 * self.training), state


class NoLowPrecision(Sound):
    def step(self, inputs, state):
        rows = torch.arange(len(inputs), device=inputs.device)
        state[1].clone().index_add(0, rows, self.read(inputs))
        return super().step(inputs, state)


class BoundToOriginal(Sound):
    def __init__(self, input_size):
        super().__init__(input_size)
        self.output = lambda hidden: hidden * self.read.bias.mean()

    def step(self, inputs, state):
        output, state = super().step(inputs, state)
        return self.output(output), state


BROKEN = {
    MiscountedOutputs: "shapes",
    Misspelled: "shapes",
    ReadsBatchMajor: "shapes",
    BatchSecond: "batch_first rows restart",
    RowsStartApart: "batch_first rows restart",
    AlmostStepping: "unroll_is_step training",
    GradientlessUnroll: "unroll_is_step gradient_through_state training",
    DeafCall: "call",
    Forgetful: "call",
    StateTooOld: "unroll_is_step cut restart gradient_through_state training",
    Clairvoyant: "unroll_is_step cut past restart restart_gradient gradient_through_state training",
    Gossip: "rows restart",
    GossipInTraining: "rows",
    NoRestart: "unroll_is_step restart restart_gradient training",
    RestartsTogether: "unroll_is_step rows restart training",
    HalfRestart: "unroll_is_step restart restart_gradient training",
    LateRestart: "unroll_is_step cut restart restart_gradient training",
    RestartsInside: "unroll_is_step cut restart training",
    LeakyRestart: "unroll_is_step restart_gradient training",
    CutGradient: "gradient_through_state",
    IdleParameter: "parameters",
    InfiniteGradient: "unroll_is_step reference parameters training compiled autocast",
    Unregistered: "state_dict",
    WrongDtype: "dtype_and_device autocast",
    WrongDevice: "dtype_and_device",
    Single: "float64",
    Overwrites: "batch_first cut gradient_through_state float64 in_place no_grad",
    CachedStart: "call restart gradient_through_state in_place",
    AlwaysDrops: (
        "reference unroll_is_step call cut rows restart gradient_through_state state_dict float64 repeatable layout no_grad compiled autocast copy"
    ),
    Remembers: "unroll_is_step call cut past rows restart float64 repeatable layout no_grad training copy",
    PickyLayout: "rows restart layout",
    BlindToLayout: "layout",
    OtherNest: "batch_first",
    CountsInState: " ".join(set(CORE_LAWS) - {"shapes", "parameters"}),
    OtherReference: "reference",
    OtherWhenCompiled: "compiled",
    OtherWithoutGradient: "no_grad",
    OtherWhenFrozen: "no_grad",
    OtherInTraining: "training",
    NoLowPrecision: "autocast",
    BoundToOriginal: "copy",
}
"""Each broken core, with all the laws that it breaks."""


SOUND = [
    pytest.param(
        core,
        law,
        dtype,
        id=f"{law}-{core.__name__}-{str(dtype)[6:]}",
        marks=[pytest.mark.slow] if law == "compiled" and (core, dtype) != (Sound, torch.float32) else [],
    )
    for law in CORE_LAWS
    for core in (Sound, Loop, Nested, Stateless)
    for dtype in (torch.float64, torch.float32)
]
"""Compiling takes seconds: but for one, such trials are slow."""


@pytest.mark.parametrize(("core", "law", "dtype"), SOUND)
def test_sound_cores_pass(core, law, dtype):
    """A sound core passes every law in both dtypes, also one whose state is a nest, or nothing."""
    check_core(core, law, dtype=dtype)


def verdict(core, law):
    """What check_core says of a core that breaks a law; nothing of one that keeps it."""
    try:
        check_core(core, law)
    except LawBroken as broken:
        return str(broken)
    return ""


@pytest.mark.parametrize("core", BROKEN)
def test_broken_cores_are_caught(core):
    """Each broken core breaks the laws that it should and no others, and says so in one line that begins with the law."""
    found = {law: said for law in CORE_LAWS if (said := verdict(core, law))}
    assert found.keys() == set(BROKEN[core].split())
    assert all(said.startswith(f"{law}: ") and len(said.splitlines()) == 1 for law, said in found.items())
    with pytest.raises(LawBroken):
        check_core(core)


def test_every_law_can_be_broken():
    """There is no law that nothing breaks."""
    assert set(" ".join(BROKEN.values()).split()) == set(CORE_LAWS)


def spoilt(method, part, when):
    """A core whose `step` or `unroll` alone gives another output (part 0) or state (part 1) at times."""

    class Spoilt(Sound):
        unrolling = False

        def step(self, inputs, state):
            found = super().step(inputs, state)
            return found if self.unrolling else self.spoil("step", found)

        def unroll(self, inputs, state, first=None):
            self.unrolling = True
            found = super().unroll(inputs, state, first)
            self.unrolling = False
            return self.spoil("unroll", found)

        def spoil(self, name, found):
            if name != method or not when(self):
                return found
            return tuple(
                map_state(lambda leaf: leaf + 1e-6, each) if i == part else each for i, each in enumerate(found)
            )

    return Spoilt


@pytest.mark.parametrize(
    ("law", "method", "part", "when", "said"),
    [
        ("no_grad", "unroll", 0, lambda _: not torch.is_grad_enabled(), "outputs under no_grad"),
        ("no_grad", "unroll", 1, lambda _: not torch.is_grad_enabled(), "last state under no_grad"),
        ("no_grad", "step", 0, lambda _: not torch.is_grad_enabled(), "output of a step under no_grad"),
        ("no_grad", "step", 1, lambda _: not torch.is_grad_enabled(), "state after a step under no_grad"),
        ("no_grad", "unroll", 0, lambda _: torch.is_inference_mode_enabled(), "outputs under inference_mode"),
        ("no_grad", "unroll", 0, lambda core: not core.read.weight.requires_grad, "outputs with frozen"),
        ("no_grad", "unroll", 1, lambda core: not core.read.weight.requires_grad, "last state with frozen"),
        ("copy", "unroll", 1, lambda core: hasattr(core, "copied"), "last state of the copy"),
    ],
)
def test_outputs_and_states_are_looked_at(monkeypatch, law, method, part, when, said):
    """A fault in one thing that one method gives, in one mode, is found and named."""
    core = spoilt(method, part, when)
    monkeypatch.setattr(core, "__deepcopy__", copied, raising=False)
    with pytest.raises(LawBroken, match=f"^{law}: .*{said}"):
        check_core(core, law)


def copied(self, memo):
    """A deep copy that knows that it is one."""
    new = type(self)(self.input_size).to(self.read.weight)
    new.load_state_dict(self.state_dict())
    new.copied = memo is not None
    return new.eval()


def test_message_says_how_much():
    """The line names the law, the place, and the size of the fault."""
    with pytest.raises(LawBroken, match=r"^unroll_is_step: Unrolling is stepping.*outputs \(7 steps.* off by .*e-10"):
        check_core(AlmostStepping, "unroll_is_step")


def test_message_says_what_a_state_is():
    """Whatever is in a state and no tensor is named by its place."""
    with pytest.raises(LawBroken, match=r"state\[2\]: wanted tensors in a nest of tuples, lists and dicts, got int$"):
        check_core(CountsInState)


def test_leaves_compilation_alone():
    """What a law compiles is gone afterwards, so that no law uses up the compilations of another."""
    alive = []

    class Named(OtherWhenCompiled):
        def __init__(self, input_size):
            super().__init__(input_size)
            alive.append(self)
            self.name = f"core {len(alive)}"

        def step(self, inputs, state):
            return super().step(inputs + (self.name == "core 0"), state)

    for _ in range(torch._dynamo.config.recompile_limit + 1):
        with pytest.raises(LawBroken, match="off by"):
            check_core(Named, "compiled")


def test_tolerance_follows_dtype():
    """What float64 shows, float32 cannot: a fault of 1e-9 passes there."""
    check_core(AlmostStepping, "unroll_is_step", dtype=torch.float32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"law": "gravity"}, "law: wanted one of shapes, .*got 'gravity'"),
        ({"dtype": torch.float16}, "dtype: wanted one of"),
    ],
)
def test_bad_questions(options, message):
    """A law that is not one, and a dtype without a tolerance, are refused by name."""
    with pytest.raises(ValueError, match=message):
        check_core(Sound, **options)


def test_leaves_the_generator_alone():
    """Checking a core draws nothing from the caller's random numbers."""
    before = torch.get_rng_state()
    check_core(Sound)
    assert torch.equal(torch.get_rng_state(), before)
