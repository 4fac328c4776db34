"""check_kernel passes good kernels and catches broken ones, each by the laws that it breaks."""
# ruff: noqa: D101, D102, D103  a broken kernel's name says what is wrong with it

from typing import NamedTuple

import pytest
import torch

from seqtoolkit.testing import KERNEL_LAWS, LawBroken, check_kernel
from seqtoolkit.testing.kernel import within


def reference(inputs, decay, state):
    """A leaky sum: h_t = sigmoid(decay) h_(t-1) + tanh(x_t); all h [T B D], and the last."""
    keep, outputs = torch.sigmoid(decay), []
    for now in inputs:
        state = keep * state + torch.tanh(now)
        outputs.append(state)
    return torch.stack(outputs), state


def make_inputs(generator):
    """Inputs [T B 5], a decay [5] and a state [B 5], of any T and B from 1 to 8."""
    steps, rows = torch.randint(1, 9, (2,), generator=generator).tolist()
    shapes = (steps, rows, 5), (5,), (rows, 5)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


class Leaky(torch.autograd.Function):
    """The reference with a gradient by hand, to be spoilt at one place."""

    @classmethod
    def read(cls, inputs):
        return inputs

    @classmethod
    def scan(cls, inputs, decay, state):
        return reference(inputs, decay, state)[0]

    @classmethod
    def spoil(cls, gradients, context):
        return gradients

    @classmethod
    def forward(cls, context, inputs, decay, state):
        inputs = cls.read(inputs)
        outputs = cls.scan(inputs, decay, state)
        context.save_for_backward(inputs.clone(), decay, state, outputs)
        return outputs, outputs[-1].clone()

    @classmethod
    def backward(cls, context, of_outputs, of_last):
        inputs, decay, state, outputs = context.saved_tensors
        keep, carried = torch.sigmoid(decay), of_last
        before = torch.cat([state[None], outputs[:-1]])
        of_sums = []
        for each in of_outputs.flip(0):
            carried = carried + each
            of_sums.append(carried)
            carried = carried * keep
        of_sum = torch.stack(of_sums).flip(0)
        of_decay = (of_sum * before).sum((0, 1)) * keep * (1 - keep)
        return cls.spoil((of_sum * (1 - torch.tanh(inputs) ** 2), of_decay, carried), context)


def closed(inputs, decay, state):
    """The same sums in closed form, in another order."""
    steps = torch.arange(len(inputs))
    keep, ago = torch.sigmoid(decay), steps[:, None] - steps
    weights = keep ** ago.clamp(min=0)[..., None] * (ago >= 0)[..., None]
    outputs = torch.einsum("tsd,sbd->tbd", weights, torch.tanh(inputs)) + keep ** (steps + 1)[:, None, None] * state
    return outputs, outputs[-1].clone()


class HalfPrecision(Leaky):
    @classmethod
    def scan(cls, inputs, decay, state):
        return reference(inputs.bfloat16(), decay.bfloat16(), state.bfloat16())[0].to(inputs.dtype)


class FewMoreErrors(Leaky):
    @classmethod
    def forward(cls, context, inputs, decay, state):
        outputs, last = super().forward(context, inputs, decay, state)
        return outputs * (1 + 1e-6), last


class SlightlyWrongGradient(Leaky):
    @classmethod
    def spoil(cls, gradients, context):
        return gradients[0], gradients[1] * (1 + 1e-3), gradients[2]


class MissingGradient(Leaky):
    @classmethod
    def spoil(cls, gradients, context):
        return gradients[0], None, gradients[2]


class DeafToLast(Leaky):
    @classmethod
    def backward(cls, context, of_outputs, of_last):
        return super().backward(context, of_outputs, torch.zeros_like(of_last))


class WantsEveryGradient(Leaky):
    @classmethod
    def backward(cls, context, of_outputs, of_last):
        if not of_last.any():
            raise RuntimeError("wanted a gradient of the last state")
        return super().backward(context, of_outputs, of_last)


class TakesAnothersGradient(Leaky):
    @classmethod
    def spoil(cls, gradients, context):
        all_wanted = all(context.needs_input_grad)
        return gradients if all_wanted else tuple(2 * each for each in gradients)


class ReadsUninitialised(Leaky):
    @classmethod
    def read(cls, inputs):
        large = inputs.new_empty(10_000_000)  # so large that the system hands it out as zeros
        return inputs + 0 * large[: inputs.numel()].view_as(inputs)


class ReadsUninitialisedBackward(Leaky):
    @classmethod
    def spoil(cls, gradients, context):
        large = gradients[2].new_empty(10_000_000)
        return gradients[0], gradients[1], gradients[2] + large[0]


class ChangesInputs(Leaky):
    @classmethod
    def forward(cls, context, inputs, decay, state):
        found = super().forward(context, inputs, decay, state)
        inputs.detach().mul_(0.5)
        return found


class ChangesIncomingGradient(Leaky):
    @classmethod
    def backward(cls, context, of_outputs, of_last):
        found = super().backward(context, of_outputs, of_last.clone())
        of_last.mul_(0.5)
        return found


class ReusesOutputs(Leaky):
    buffer = torch.empty(0)

    @classmethod
    def scan(cls, inputs, decay, state):
        outputs = super().scan(inputs, decay, state)
        if cls.buffer.numel() < outputs.numel() or cls.buffer.dtype != outputs.dtype:
            cls.buffer = torch.zeros(1000, dtype=outputs.dtype)
        return cls.buffer[: outputs.numel()].view_as(outputs).copy_(outputs)


class SavesInTheClass(Leaky):
    last = None

    @classmethod
    def forward(cls, context, inputs, decay, state):
        found = super().forward(context, inputs, decay, state)
        cls.last = inputs.detach().tanh().mean()
        context.mine = cls.last
        return found

    @classmethod
    def spoil(cls, gradients, context):
        return gradients[0], gradients[1], gradients[2] + (cls.last - context.mine)


class SeldomRepeats(Leaky):
    calls = 0

    @classmethod
    def scan(cls, inputs, decay, state):
        outputs = super().scan(inputs, decay, state)
        cls.calls += 1
        least = outputs.view(-1)[outputs.abs().argmin()]
        least.copy_(least * (1 + (cls.calls % 7) * torch.finfo(outputs.dtype).eps))
        return outputs


class KeepsMemory(Leaky):
    """What a larger call left behind stays in one place."""

    before = 0

    @classmethod
    def scan(cls, inputs, decay, state):
        outputs = super().scan(inputs, decay, state)
        if cls.before > outputs.numel():
            least = outputs.view(-1)[outputs.abs().argmin()]
            least.copy_(least * (1 + torch.finfo(outputs.dtype).eps))
        cls.before = outputs.numel()
        return outputs


class BlindToLayout(Leaky):
    @classmethod
    def read(cls, inputs):
        return inputs.as_strided(inputs.shape, torch.empty(inputs.shape, device="meta").stride())


class BlindToLayoutOfGradient(Leaky):
    @classmethod
    def backward(cls, context, of_outputs, of_last):
        of_outputs.view(-1)
        return super().backward(context, of_outputs, of_last)


def wrong_dtype(inputs, decay, state):
    outputs, last = Leaky.apply(inputs, decay, state)
    return outputs.double(), last


def wrong_shape(inputs, decay, state):
    outputs, last = Leaky.apply(inputs, decay, state)
    return outputs, last[None]


def extra_output(inputs, decay, state):
    outputs, last = Leaky.apply(inputs, decay, state)
    return outputs, last, None


def coarse_without_gradient(inputs, decay, state):
    if torch.is_grad_enabled():
        return Leaky.apply(inputs, decay, state)
    return HalfPrecision.apply(inputs, decay, state)


def not_a_number(inputs, decay, state):
    outputs, last = Leaky.apply(inputs, decay, state)
    return outputs + (float("nan") if len(inputs) < 3 else 0), last


BROKEN = {
    wrong_dtype: "shapes",
    wrong_shape: "shapes values partial layout memory",
    extra_output: "shapes",
    HalfPrecision: "values gradients partial",
    FewMoreErrors: "values",
    not_a_number: "values",
    SlightlyWrongGradient: "gradients partial",
    MissingGradient: "gradients partial",
    DeafToLast: "gradients partial",
    WantsEveryGradient: "partial",
    TakesAnothersGradient: "partial",
    coarse_without_gradient: "partial",
    SeldomRepeats: "repeatable calls",
    ChangesInputs: "in_place",
    ChangesIncomingGradient: "in_place layout",
    ReusesOutputs: "in_place calls",
    SavesInTheClass: "calls",
    KeepsMemory: "calls",
    BlindToLayout: "layout",
    BlindToLayoutOfGradient: "layout",
    ReadsUninitialised: "memory",
    ReadsUninitialisedBackward: "memory",
}
"""Each broken kernel, with all the laws that it breaks."""


class Nested(NamedTuple):
    hidden: torch.Tensor
    count: torch.Tensor


def nested_reference(weights, state, table=None, scale=1.0):
    """Nests, ids, None and plain values in and out."""
    hidden = torch.tanh(weights["square"] @ state.hidden.transpose(0, 1)) * scale
    picked = weights["rows"][state.count].sum(0)
    return {"hidden": hidden, "count": state.count + 1, "none": table, "best": hidden.argmax(0)}, [picked, "name"]


def nested_kernel(weights, state, table=None, scale=1.0):
    found, rest = nested_reference(weights, state, table, scale)
    return {**found, "hidden": torch.tanh(scale * 0 + (state.hidden @ weights["square"].mT).mT) * scale}, rest


def nested_inputs(generator):
    draw = lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)  # noqa: E731  short
    ids = torch.randint(0, 3, (4,), generator=generator)
    return {"square": draw(6, 6), "rows": draw(3, 2)}, Nested(draw(4, 6), ids), None, 0.5


def kernel_of(broken):
    """The function to call."""
    return broken.apply if isinstance(broken, type) else broken


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kernel", [reference, Leaky.apply, closed], ids=["reference", "by_hand", "closed"])
@pytest.mark.parametrize("law", KERNEL_LAWS)
def test_good_kernels_pass(kernel, law, dtype):
    """The reference itself, its gradient by hand, and the same sums in another order keep every law in every dtype."""
    check_kernel(kernel, reference, make_inputs, law, dtype=dtype)


@pytest.mark.parametrize("law", KERNEL_LAWS)
def test_any_nest(law):
    """Dicts, named tuples, lists, ids, None and plain values go in and come out."""
    check_kernel(nested_kernel, nested_reference, nested_inputs, law)


def test_plain_values_are_compared():
    """An output that is no tensor has to be the reference's, and a tensor one."""

    def other(name):
        return lambda *arguments: (nested_kernel(*arguments)[0], [nested_kernel(*arguments)[1][0], name])

    for name in ("other", None, torch.ones(())):
        with pytest.raises(LawBroken, match=r"^shapes: .*output\[1\]\[1\]: wanted 'name', got"):
            check_kernel(other(name), nested_reference, nested_inputs, "shapes")


def verdict(broken, law, dtype=torch.float32):
    """What check_kernel says of a kernel that breaks a law; nothing of one that keeps it."""
    try:
        check_kernel(kernel_of(broken), reference, make_inputs, law, dtype=dtype)
    except LawBroken as said:
        return str(said)
    return ""


@pytest.mark.parametrize("broken", BROKEN, ids=lambda each: each.__name__)
def test_broken_kernels_are_caught(broken):
    """Each broken kernel breaks the laws that it should and no others, and says so in one line that begins with the law."""
    found = {law: said for law in KERNEL_LAWS if (said := verdict(broken, law))}
    assert found.keys() == set(BROKEN[broken].split()), found
    assert all(said.startswith(f"{law}: ") and len(said.splitlines()) == 1 for law, said in found.items())
    with pytest.raises(LawBroken):
        check_kernel(kernel_of(broken), reference, make_inputs)


def test_every_law_can_be_broken():
    """There is no law that nothing breaks."""
    assert set(" ".join(BROKEN.values()).split()) == set(KERNEL_LAWS)


def test_message_says_how_much():
    """The line names the law, the output, both errors, their ratio, and the most that is allowed."""
    said = r"^values: Outputs err.*\. output\[0\]: error .*e-06, the reference's .*e-07; .* times .*, wanted at most 2 \(.*\)$"
    with pytest.raises(LawBroken, match=said):
        check_kernel(FewMoreErrors.apply, reference, make_inputs, "values")
    with pytest.raises(LawBroken, match=r"gradient of decay: error .*e-0"):
        check_kernel(SlightlyWrongGradient.apply, reference, make_inputs, "gradients")
    with pytest.raises(LawBroken, match=r"gradient of decay: zero everywhere"):
        check_kernel(MissingGradient.apply, reference, make_inputs, "gradients")


def test_error_is_measured_by_the_reference():
    """What float32 shows bfloat16 cannot, and a larger factor forgives more."""
    check_kernel(FewMoreErrors.apply, reference, make_inputs, "values", dtype=torch.bfloat16)
    check_kernel(FewMoreErrors.apply, reference, make_inputs, "values", factor=50)
    assert verdict(FewMoreErrors, "values", torch.float64)


@pytest.mark.parametrize("name", ["fill_uninitialized_memory", "deterministic"])
def test_settings_come_back(name):
    """The poisoning of memory ends with the law, also where the kernel raises."""

    def settings():
        mode = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
        return {"deterministic": mode, "fill_uninitialized_memory": torch.utils.deterministic.fill_uninitialized_memory}

    def raises(inputs, decay, state):
        if torch.are_deterministic_algorithms_enabled():
            raise RuntimeError("no")
        return reference(inputs, decay, state)

    before = settings()
    with pytest.raises(LawBroken, match=r"memory: .*It raised RuntimeError: no"):
        check_kernel(raises, reference, make_inputs, "memory")
    assert settings()[name] == before[name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"law": "gravity"}, "law: wanted one of shapes, .*got 'gravity'"),
        ({"dtype": torch.int64}, "dtype: wanted a floating one, got torch.int64"),
        ({"factor": 0}, "factor: wanted more than 0, got 0"),
        ({"make_inputs": lambda _: torch.ones(2)}, "make_inputs: wanted a tuple of arguments, got Tensor"),
        ({"make_inputs": lambda _: (torch.ones(2),)}, "make_inputs: wanted floating tensors in float64, got torch.fl"),
    ],
)
def test_bad_questions(options, message):
    """A law that is not one, a dtype without errors, and inputs that are not what is wanted are refused by name."""
    with pytest.raises(ValueError, match=message):
        check_kernel(**{"kernel": reference, "reference": reference, "make_inputs": make_inputs, **options})


class TestWithin:
    """The rule by itself."""

    exact = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    plain = (exact + 1e-5).float()

    @pytest.mark.parametrize(("off", "times"), [(0.0, 0.0), (1e-5, 1.0), (1.9e-5, 1.9)])
    def test_returns_the_ratio(self, off, times):
        """It says how many times the reference's error the error is."""
        assert within("it", self.exact + off, self.plain, self.exact, 2.0) == pytest.approx(times, rel=0.05)

    @pytest.mark.parametrize(
        ("got", "said"),
        [
            (exact + 3e-5, "it: error 3.0e-05, the reference's 1.0e-05; .* wanted at most 2 "),
            (exact[:2], r"it: wanted shape \[3\], got \[2\]"),
            (exact * float("nan"), "it: 3 of 3 values are not finite"),
        ],
    )
    def test_more_is_refused(self, got, said):
        """Larger errors, other shapes and values that are no numbers break the law."""
        with pytest.raises(LawBroken, match=said):
            within("it", got, self.plain, self.exact, 2.0)

    def test_exact_by_luck(self):
        """A reference without error allows a few eps of its dtype and no more."""
        eps = torch.finfo(torch.float32).eps
        within("it", self.exact + 3 * 3.9 * eps, self.exact.float(), self.exact, 2.0)
        with pytest.raises(LawBroken):
            within("it", self.exact + 3 * 4.1 * eps, self.exact.float(), self.exact, 2.0)

    def test_infinities(self):
        """Where the exact is no number, the same is wanted; where only the plain is not, nothing is."""
        exact = torch.tensor([1.0, -float("inf"), float("nan"), 1e5], dtype=torch.float64)
        within("it", exact.half(), exact.half(), exact, 2.0)
        within("it", exact, exact.half(), exact, 2.0)
        with pytest.raises(LawBroken, match="1 values are not the infinities"):
            within("it", exact.abs(), exact.half(), exact, 2.0)

    def test_integers(self):
        """Ids may differ where those of the reference do, as many times as the factor says."""
        exact = torch.arange(10)
        plain, worse = exact.clone(), exact.clone()
        plain[0], worse[:2] = 5, 7
        assert within("it", worse, plain, exact, 2.0) == 2.0
        with pytest.raises(LawBroken, match=r"error 2.0e\+00, the reference's 0.0e\+00"):
            within("it", worse, exact, exact, 2.0)
