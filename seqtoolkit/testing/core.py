"""The laws of memory cores: those of sequences, and those of the part itself."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from seqtoolkit.flow.core import Core, map_state
from seqtoolkit.flow.spec import Spec, unify
from seqtoolkit.testing import mode, sequence
from seqtoolkit.testing.law import demand, judge, same
from seqtoolkit.testing.nest import tensors
from seqtoolkit.testing.trial import ROWS, STEPS, TOLERANCE, Trial, gradients, leaves, row_of, same_state, weighted


def parameters(trial: Trial) -> None:
    """Every parameter gets a gradient, finite and somewhere not zero."""
    outputs, _ = trial.core(trial.inputs())
    named = {name: each for name, each in trial.core.named_parameters() if each.requires_grad}
    for name, gradient in zip(named, gradients(weighted(outputs), list(named.values())) if named else (), strict=True):
        demand(gradient.isfinite().all(), f"gradient of {name}: not finite")
        demand(gradient.count_nonzero(), f"gradient of {name}: zero everywhere")


def state_dict(trial: Trial) -> None:
    """A state_dict holds the whole core, in tensors alone."""
    saved, other, file = trial.core.state_dict(), trial.make(trial.seed + 1), io.BytesIO()
    for name, value in saved.items():
        demand(isinstance(value, Tensor), f"{name}: wanted a tensor, got {type(value).__name__}")
    torch.save(saved, file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    given = trial.inputs(), None, trial.first()
    wanted, last = trial.core(*given)
    got, after = other(*given)
    same("outputs of another core that loaded it", got, wanted, trial.tolerance)
    same_state("last state of another core that loaded it", after, last, trial.tolerance)


def batch_first(trial: Trial) -> None:
    """The batch is the first axis of every tensor of a state, and all rows start alike."""
    one = trial.core.initial_state(1)
    leaves(one)
    for rows in (1, ROWS):
        fresh = trial.core.initial_state(rows)
        _, stepped = trial.core.step(trial.inputs(1, rows)[0], fresh)
        _, unrolled = trial.core.unroll(trial.inputs(2, rows), fresh)
        wanted = {name: (rows, *leaf.shape[1:]) for name, leaf in tensors("state", one).items()}
        for name, state in {"initial state": fresh, "state after a step": stepped, "state unrolled": unrolled}.items():
            got = {name: tuple(leaf.shape) for name, leaf in tensors("state", state).items()}
            demand(got == wanted, f"{name} of {rows} rows: wanted {_listed(wanted)}, got {_listed(got)}")
        for row in range(rows):
            same_state(f"initial state of row {row}", row_of(fresh, row), one, 0.0)


def shapes(trial: Trial) -> None:
    """Shapes and specs are as the core says."""
    core, inputs = trial.core, trial.inputs()
    for name in ("input_size", "output_size"):
        size = getattr(core, name, None)
        demand(isinstance(size, int) and size > 0, f"{name}: wanted a whole number of at least 1, got {size!r}")
    unify(core.reads, Spec("f32", ("T", "B", *trial.input_shape)))
    demand(Spec.parse(core.reads).axes[:2] == ("T", "B"), f"reads: wanted the axes T B first, got {core.reads}")
    wanted_spec = f"f32[T B {core.output_size}]"
    demand(str(core.writes) == wanted_spec, f"writes: wanted {wanted_spec}, got {core.writes}")
    output, _ = core.step(inputs[0], core.initial_state(ROWS))
    outputs, _ = core.unroll(inputs, core.initial_state(ROWS))
    for name, got, leading in (("step", output, (ROWS,)), ("unroll", outputs, (STEPS, ROWS))):
        wanted = (*leading, core.output_size)
        demand(tuple(got.shape) == wanted, f"{name}: wanted outputs {wanted}, got {tuple(got.shape)}")


def call(trial: Trial) -> None:
    """Calling a core is unrolling it, from the initial state where none is given."""
    inputs, state, first = trial.inputs(), trial.state(), trial.first()
    for name, got, wanted in (
        ("no state", trial.core(inputs), trial.core.unroll(inputs, trial.core.initial_state(ROWS))),
        ("a state and restarts", trial.core(inputs, state, first), trial.core.unroll(inputs, state, first)),
    ):
        same(f"outputs, {name} given", got[0], wanted[0], trial.tolerance)
        same_state(f"last state, {name} given", got[1], wanted[1], trial.tolerance)


def dtype_and_device(trial: Trial) -> None:
    """States and outputs are of the parameters' dtype, and the initial state is on their device."""
    if not any(True for _ in trial.core.parameters()):
        return
    for dtype in (torch.float32, torch.float64):
        core = trial.core.to(dtype)
        outputs, last = core(trial.inputs().to(dtype))
        tensors = {"initial state": leaves(core.initial_state(ROWS)), "last state": leaves(last), "outputs": [outputs]}
        for name, each in tensors.items():
            got = {leaf.dtype for leaf in each if leaf.is_floating_point()} - {dtype}
            demand(not got, f"{name} of a core in {dtype}: got {got}")
    device = {leaf.device.type for leaf in leaves(trial.core.to("meta").initial_state(ROWS))} - {"meta"}
    demand(not device, f"initial state of a core on another device: got it on {device}")


def float64(trial: Trial) -> None:
    """A core in float64 computes in float64: it answers to changes that float32 cannot hold, and in proportion."""
    inputs, direction, state = trial.inputs().double(), trial.inputs().double(), trial.state()
    state = map_state(lambda leaf: leaf.double() if leaf.is_floating_point() else leaf, state)
    core = trial.core.double()
    start, near, far = (core.unroll(inputs + step * direction, state)[0] for step in (0.0, 1e-9, 2e-9))
    moved = (near - start).norm().item()
    off = ((far - start) - 2 * (near - start)).norm().item()
    demand(moved > 0, "outputs do not answer to a change of 1e-9 in the inputs")
    demand(
        off <= 1e-3 * moved, f"outputs answer to changes of 1e-9 and 2e-9 out of proportion: off by {off / moved:.1e}"
    )


def in_place(trial: Trial) -> None:
    """Nothing that a core was given, or gave, is changed by it later."""
    inputs, state, first = trial.inputs(), trial.state(), trial.first()
    output, given = trial.core.step(inputs[0], state)
    fresh = trial.core.initial_state(ROWS)
    kept = {"inputs": inputs, "restarts": first, "a step's outputs": output}
    kept |= {f"state passed, tensor {index}": leaf for index, leaf in enumerate(leaves(state))}
    kept |= {f"state given, tensor {index}": leaf for index, leaf in enumerate(leaves(given))}
    kept |= {f"initial state, tensor {index}": leaf for index, leaf in enumerate(leaves(fresh))}
    before = {name: tensor.detach().clone() for name, tensor in kept.items()}
    with torch.no_grad():
        trial.core.step(inputs[1], given)
        trial.core.unroll(inputs, state, first)
        trial.core.unroll(inputs, fresh, first)
        trial.core(inputs)
    for name, tensor in kept.items():
        same(f"{name}, afterwards", tensor.detach(), before[name], 0.0)


def repeatable(trial: Trial) -> None:
    """In evaluation the same call gives the same bits, whatever the core did in between."""
    given = trial.inputs(), trial.state(), trial.first()
    wanted, last = trial.core.unroll(*given)
    trial.core(10 * trial.inputs(STEPS + 2, ROWS + 1))
    got, after = trial.core.unroll(*given)
    same("outputs of the second call", got, wanted, 0.0)
    same_state("last state of the second call", after, last, 0.0)


def layout(trial: Trial) -> None:
    """The layout in memory of inputs and states does not matter."""
    inputs, state, first = trial.inputs(), trial.state(), trial.first()
    wanted, last = trial.core.unroll(inputs, state, first)
    strided = map_state(lambda leaf: torch.stack([leaf, leaf], -1)[..., 0], state)
    got, after = trial.core.unroll(
        inputs.transpose(0, 1).contiguous().transpose(0, 1), strided, first.t().contiguous().t()
    )
    same("outputs", got, wanted, trial.tolerance)
    same_state("last state", after, last, trial.tolerance)
    output, _ = trial.core.step(torch.stack([inputs[0]] * 2, -1)[..., 0], strided)
    same("output of a step", output, trial.core.step(inputs[0], state)[0], trial.tolerance)


def _listed(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())


_LAWS: dict[str, Callable[[Trial], None]] = {
    law.__name__: law
    for law in (
        shapes,
        batch_first,
        sequence.unroll_is_step,
        call,
        sequence.cut,
        sequence.past,
        sequence.rows,
        sequence.restart,
        sequence.restart_gradient,
        sequence.gradient_through_state,
        parameters,
        state_dict,
        dtype_and_device,
        float64,
        in_place,
        repeatable,
        layout,
        mode.reference,
        mode.no_grad,
        mode.training,
        mode.compiled,
        mode.autocast,
        mode.copy,
    )
}
CORE_LAWS: tuple[str, ...] = tuple(_LAWS)
"""The names of the laws, in the order in which `check_core` tries them."""


def check_core(
    factory: Callable[[int], Core],
    law: str | None = None,
    *,
    input_size: int = 5,
    input_shape: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> None:
    """Hold a core against one of `CORE_LAWS`, or against all.

    In pytest: `@pytest.mark.parametrize("law", CORE_LAWS)` over `def test_laws(law): check_core(MyCore, law)`.

    Args:
        factory: from an input size to a core: a class, or a partial of one. Called several times.
        law: a name in `CORE_LAWS`; all of them where None.
        input_size: D, handed to the factory.
        input_shape: the shape of what a row reads at one step, where it is not (D,).
        dtype: float64, in which the laws hold to 1e-12, or float32, to 1e-4.
        seed: of the parameters and of all that the core is fed.

    Raises:
        LawBroken: an AssertionError of one line: the law, where it broke, and by how much.
        ValueError: there is no such law, or no tolerance for the dtype.
    """
    if dtype not in TOLERANCE:
        raise ValueError(f"dtype: wanted one of {', '.join(map(str, TOLERANCE))}, got {dtype}")
    shape = (input_size,) if input_shape is None else tuple(input_shape)
    judge(_LAWS, lambda: Trial(factory, input_size, shape, dtype, seed), law)
