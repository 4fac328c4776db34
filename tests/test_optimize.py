"""Updates: schedules, clipping, precision, and that all of it goes on where it stood."""

import copy
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from seqtoolkit.train.optimize import Update, adam, adamw, choose_device, choose_precision, exact, rmsprop, sgd
from seqtoolkit.train.schedule import constant, cosine, exponential, linear

CPU = torch.device("cpu")


@pytest.mark.parametrize("schedule", [constant, linear, cosine])
def test_warmup_rises_in_a_line(schedule):
    """From 1/warmup at the first update to the whole at the last of the warmup, and whole at the one after."""
    factors = [schedule(step, 100, warmup=4) for step in range(5)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert schedule(0, 100) == 1.0


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_falling(final):
    """Linear and cosine end at `final` at the very last update and stay there; halfway both are halfway."""
    for schedule in (linear, cosine):
        falling = partial(schedule, warmup=10, final=final)
        assert falling(60, 111) == pytest.approx((1 + final) / 2)
        assert falling(110, 111) == pytest.approx(final)
        assert falling(500, 111) == pytest.approx(final)
        factors = [falling(step, 111) for step in range(10, 111)]
        assert factors == sorted(factors, reverse=True)
    assert linear(35, 101) == pytest.approx(0.65)
    assert cosine(25, 101) == pytest.approx((2 + 2**0.5) / 4)


@given(st.integers(1, 40), st.integers(0, 60), st.integers(0, 80))
def test_factors_are_factors(steps, warmup, step):
    """Whatever the lengths, one update and no room after the warmup included, a factor is from 0 to 1."""
    for schedule in (constant, linear, cosine):
        assert 0 <= schedule(step, steps, warmup=warmup) <= 1


def test_exponential():
    """One factor each so many updates, down to the floor."""
    assert [exponential(step, 9, decay=0.5, every=2, floor=0.2) for step in range(7)] == [
        1,
        1,
        0.5,
        0.5,
        0.25,
        0.25,
        0.2,
    ]


def _update(model=None, optimizer=sgd, schedule=constant, clip=None, precision="f32", **options):
    torch.manual_seed(0)
    model = model or nn.Linear(3, 2)
    made = optimizer(model.parameters(), **{"lr": 0.5, **options})
    return Update(model, made, partial(schedule, steps=10), clip, CPU, precision)


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        (partial(constant, warmup=-1), "schedule.warmup: wanted at least 0, got -1"),
        (partial(cosine, warmup=-1), "schedule.warmup: wanted at least 0, got -1"),
        (partial(exponential, every=0), "schedule.every: wanted at least 1, got 0"),
    ],
)
def test_a_schedule_that_cannot_be(schedule, says):
    """It is refused when the update is made, not at the first step."""
    with pytest.raises(ValueError, match=says):
        _update(schedule=schedule)


@pytest.mark.parametrize("clip", [0, -1.0])
def test_clip_is_a_norm(clip):
    """A norm above 0, or none."""
    with pytest.raises(ValueError, match="clip: wanted a norm above 0, or null"):
        _update(clip=clip)


@pytest.mark.parametrize("clip", [None, 0.3, 1e6])
def test_clipping_is_torchs(clip):
    """The step is that of plain torch with `clip_grad_norm_`; the norm told is that before clipping."""
    update, twin = _update(clip=clip), nn.Linear(3, 2)
    twin.load_state_dict(update.model.state_dict())
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.5)
    inputs = torch.randn(5, 3) * 4
    for _ in range(3):
        optimizer.zero_grad()
        twin(inputs).square().mean().backward()
        norm = nn.utils.clip_grad_norm_(twin.parameters(), clip or 1e9)
        if not clip:
            optimizer.zero_grad()
            twin(inputs).square().mean().backward()
        optimizer.step()
        update.backward(update.model(inputs).square().mean())
        told = update.step()
        torch.testing.assert_close(told["gradient_norm"], norm)
        assert all(each.grad is None for each in update.model.parameters())
    for mine, theirs in zip(update.model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_rate_is_scheduled():
    """Each update is taken at the scheduled rate, every group at its own, and the first group's is told."""
    one, two = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [one], "lr": 1.0}, {"params": [two], "lr": 0.1}])
    model = nn.ParameterList([one, two])
    update = Update(model, optimizer, lambda step: [1.0, 0.5, 0.25][step], None, CPU, "f32")
    for rate in (1.0, 0.5, 0.25):
        before = (one.item(), two.item())
        update.backward((one + two).sum())
        assert update.step()["learning_rate"] == rate
        assert before[0] - one.item() == pytest.approx(rate)
        assert before[1] - two.item() == pytest.approx(rate / 10)


@pytest.mark.parametrize(
    ("make", "reference"),
    [
        (partial(adam, lr=0.1, betas=(0.5, 0.6), weight_decay=0.1), partial(torch.optim.Adam, lr=0.1, betas=(0.5, 0.6), weight_decay=0.1)),
        (partial(adamw, lr=0.1, eps=1e-3, weight_decay=0.2), partial(torch.optim.AdamW, lr=0.1, eps=1e-3, weight_decay=0.2)),
        (partial(sgd, lr=0.1, momentum=0.9, nesterov=True), partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True)),
        (partial(rmsprop, lr=0.1, alpha=0.5, momentum=0.9, weight_decay=0.1), partial(torch.optim.RMSprop, lr=0.1, alpha=0.5, eps=1e-5, momentum=0.9, weight_decay=0.1)),
        (adam, torch.optim.Adam),
        (adamw, torch.optim.AdamW),
        (rmsprop, partial(torch.optim.RMSprop, lr=7e-4, eps=1e-5)),
    ],
)  # fmt: skip
def test_optimizers_are_torchs(make, reference):
    """Names and defaults of parameters mean what they mean in torch."""
    torch.manual_seed(0)
    starts = torch.randn(2, 3)
    mine, theirs = nn.Parameter(starts.clone()), nn.Parameter(starts.clone())
    for parameter, optimizer in ((mine, make([mine])), (theirs, reference([theirs]))):
        for step in range(3):
            parameter.grad = torch.full((2, 3), 0.5 + step)
            optimizer.step()
    assert torch.equal(mine, theirs)


def test_an_optimizer_that_cannot_be():
    """What torch refuses is a ValueError that names the value."""
    with pytest.raises(ValueError, match="learning rate: -1"):
        adam([nn.Parameter(torch.zeros(1))], lr=-1)
    with pytest.raises(ValueError, match="Nesterov"):
        sgd([nn.Parameter(torch.zeros(1))], nesterov=True)


@pytest.mark.parametrize("optimizer", [adam, rmsprop])
def test_update_goes_on_where_it_stood(optimizer):
    """A new update that loads the state takes the same steps as the old one, bit for bit, at its own learning rate."""
    options = {"optimizer": optimizer, "schedule": partial(cosine, warmup=2), "clip": 1.0, "lr": 0.01}
    old = _update(**options)
    inputs = torch.randn(20, 5, 3)

    def go(update, start, stop):
        for each in inputs[start:stop]:
            update.backward(update.model(each).square().mean())
            update.step()
        return [each.detach().clone() for each in update.model.parameters()]

    go(old, 0, 4)
    weights, state = copy.deepcopy(old.model.state_dict()), copy.deepcopy(old.state_dict())
    wanted = go(old, 4, 9)
    new = _update(**options)
    new.model.load_state_dict(weights)
    new.load_state_dict(state)
    assert new.taken == 4
    assert all(map(torch.equal, go(new, 4, 9), wanted))
    other = _update(**{**options, "lr": 0.04})
    other.load_state_dict(state)
    other.backward(other.model(inputs[0]).square().mean())
    assert other.step()["learning_rate"] == pytest.approx(0.04 * cosine(4, 10, warmup=2))


def test_bf16_computes_in_bf16():
    """On a CPU bf16 is autocast: what is computed inside is bfloat16, the weights and their gradients stay float32."""
    update = _update(precision="bf16")
    with update.autocast():
        outputs = update.model(torch.randn(4, 3))
    assert outputs.dtype == torch.bfloat16
    update.backward(outputs.float().square().mean())
    assert {each.grad.dtype for each in update.model.parameters()} == {torch.float32}
    with _update().autocast():
        assert update.model(torch.randn(4, 3)).dtype == torch.float32


def test_precision_of_a_device():
    """`auto` is f32 on a CPU, f16 wants a GPU, the rest is as it is asked for."""
    assert choose_precision("auto", CPU) == "f32"
    assert choose_precision("auto", torch.device("mps")) == "f32"
    assert [choose_precision(each, CPU) for each in ("f32", "bf16")] == ["f32", "bf16"]
    with pytest.raises(ValueError, match=r"precision: f16 wants a GPU, got the device cpu; use bf16 or f32"):
        choose_precision("f16", CPU)
    assert (exact(CPU), exact(torch.device("mps"))) == (torch.float64, torch.float32)


def test_devices():
    """`auto` is a device of this machine, and one that it lacks is refused in one line that quotes it."""
    assert choose_device("cpu") == CPU
    assert torch.zeros(1, device=choose_device("auto")).item() == 0


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "", "cpu:x", "meta", "xla", "vulkan", "hpu", "mps:7"])
def test_a_device_that_is_not_there(name):
    """Unknown names, other machines' devices, and devices that hold no numbers."""
    with pytest.raises(ValueError, match=r"^device: wanted auto or a device of this machine, got") as caught:
        choose_device(name)
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("optimizer", [adam, sgd])
def test_a_state_fits_any_way_to_compute(optimizer):
    """What an update with rates in tensors saves holds numbers, and goes on in one without, and the other way round."""

    def make(held):
        update = _update(optimizer=optimizer, schedule=cosine, **({"momentum": 0.9} if optimizer is sgd else {}))
        if held:
            update.hold_rates()
        return update

    def go(update, steps):
        for _ in range(steps):
            update.backward(update.model(torch.ones(2, 3)).square().mean())
            update.step()
        return update

    wanted = go(make(held=False), 6).model.weight
    for held in (True, False):
        first, second = go(make(held), 3), make(not held)
        state = copy.deepcopy(first.state_dict())
        assert {type(group["lr"]) for group in state["optimizer"]["param_groups"]} == {float}
        rate = second.optimizer.param_groups[0]["lr"]
        second.model.load_state_dict(first.model.state_dict())
        second.load_state_dict(state)
        torch.testing.assert_close(go(second, 3).model.weight, wanted)
        kept = second.optimizer.param_groups[0]["lr"]
        assert (kept is rate) == isinstance(kept, torch.Tensor) == (not held), "what is captured reads this one"


def test_how_a_step_is_computed_is_not_saved():
    """Options that only say how torch computes stay those of the update that goes on; those that say what are loaded."""
    update, other = _update(optimizer=adam, eps=1e-3), _update(optimizer=adam)
    update.make_capturable()
    other.optimizer.param_groups[0]["fused"] = False
    other.load_state_dict(copy.deepcopy(update.state_dict()))
    group = other.optimizer.param_groups[0]
    assert (group["fused"], group["capturable"], group["eps"]) == (False, False, 1e-3)


def test_what_a_capture_wants():
    """A GPU, a precision without a scale, and an optimizer that keeps on the device what changes."""
    update = _update()
    assert update.uncapturable() == "a CUDA device, got the device cpu"
    update.device = torch.device("cuda")
    assert update.uncapturable() is None
    update.precision = "f16"
    assert "the precision bf16 or f32, got f16" in update.uncapturable()
    update = _update(optimizer=rmsprop)
    update.device = torch.device("cuda")
    assert update.uncapturable() is None, "torch can capture it, with its rate on the device"
    update = _update(optimizer=lambda parameters, lr: torch.optim.Rprop(parameters, lr=lr))
    update.device = torch.device("cuda")
    assert update.uncapturable() is None, "torch can capture it"
    update = _update(optimizer=lambda parameters, lr: torch.optim.LBFGS(parameters, lr=lr))
    update.device = torch.device("cuda")
    assert update.uncapturable().endswith("got LBFGS")
