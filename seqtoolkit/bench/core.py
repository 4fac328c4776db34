"""Memory cores side by side: each held against its reference in float64, then timed in turn with nn.LSTM."""

from __future__ import annotations

import contextlib
import copy
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from inspect import signature
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from seqtoolkit.bench.clock import interleaved
from seqtoolkit.bench.cost import cost
from seqtoolkit.flow.core import Core
from seqtoolkit.host.assemble import located
from seqtoolkit.host.document import parse
from seqtoolkit.host.plan import Block, written
from seqtoolkit.host.problem import ConfigError
from seqtoolkit.host.reader import Reader
from seqtoolkit.host.registry import Registry
from seqtoolkit.host.schema import schema
from seqtoolkit.testing.law import LawBroken, same, within
from seqtoolkit.testing.trial import TOLERANCE, weighted

BASELINE = "nn.LSTM"
ALLOWED = 4.0
"""How many times the error of the reference's steps an unrolling may have, both against float64: sums in another order may differ."""


@dataclass(frozen=True)
class Setting:
    """What all cores are given: T steps of B rows of D features, on this device in this dtype; and the repeats."""

    steps: int = 32
    batch_size: int = 16
    input_size: int = 64
    hidden_size: int = 128
    """Of the nn.LSTM that all are compared with."""
    repeats: int = 10
    device: str = "cpu"
    dtype: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "input_size", "hidden_size", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: wanted at least 1, got {getattr(self, name)}")

    @property
    def place(self) -> dict[str, Any]:
        """Where tensors are made, and in which dtype."""
        return {"device": self.device, "dtype": getattr(torch, self.dtype)}


@dataclass(frozen=True)
class Row:
    """What one core costs. Times are medians in seconds, operations those of one step."""

    name: str
    settings: Mapping[str, Any]
    parameters: int
    forward: float
    train: float
    """Forward and backward."""
    step: float
    """One call of `step`, alone and without gradient, as acting and generating make them."""
    forward_operations: float
    train_operations: float
    memory: int
    """The most bytes that forward and backward hold at a time, parameters and inputs not counted."""


def read_core(registry: Registry, text: str) -> Block:
    """A core as the command line names it: `rmc`, or `{use: rmc, mem_slots: 8}`. Raises ConfigError, a line a problem."""
    reader = Reader(registry)
    block = reader.block("core", parse(text, text)[0], ("core",))
    if reader.problems:
        raise ConfigError(f"{'.'.join(key)}: {problem}" for key, problem in reader.problems)
    return block


def bench(blocks: Sequence[Block], setting: Setting) -> list[Row]:
    """A row for nn.LSTM and one for each core.

    Raises:
        ConfigError: a core cannot be made of these settings.
        LawBroken: the unrolling of a core errs more than ALLOWED times as much as its reference; nothing is timed then.
    """
    torch.manual_seed(setting.seed)
    inputs = torch.randn(setting.steps, setting.batch_size, setting.input_size, **setting.place)
    cores = [_make(block, setting) for block in blocks]
    for block, core in zip(blocks, cores, strict=True):
        try:
            check(core, inputs)
        except LawBroken as broken:
            raise LawBroken(
                f"{block.use}: unrolling is not what its reference says, so nothing was timed: {broken}"
            ) from None
    bare = nn.LSTM(setting.input_size, setting.hidden_size).to(**setting.place)
    names = [BASELINE, *map(_label, blocks)]
    settings = [{"hidden_size": setting.hidden_size}, *(written(block.params) for block in blocks)]
    modules: list[nn.Module] = [bare, *cores]
    steps = [_forward(bare, inputs[:1]), *(_step(core, inputs) for core in cores)]
    forwards = [_forward(module, inputs) for module in modules]
    trains = [_train(module, inputs) for module in modules]
    times = [[median(each) for each in interleaved(runs, setting.repeats)] for runs in (forwards, trains, steps)]
    costs = [cost(train) for train in trains]
    return [
        Row(
            name=names[index],
            settings=settings[index],
            parameters=sum(each.numel() for each in module.parameters()),
            forward=times[0][index],
            train=times[1][index],
            step=times[2][index],
            forward_operations=cost(forwards[index]).operations / setting.steps,
            train_operations=costs[index].operations / setting.steps,
            memory=costs[index].peak,
        )
        for index, module in enumerate(modules)
    ]


def check(core: Core, inputs: Tensor) -> None:
    """Demand that unrolling is what the reference's steps are, by the errors of both against those steps in float64.

    Unrolled in two parts, so that the state between them is judged by what comes of it: a memory's rows may stand in
    another order. Compared are the outputs and every gradient; in float64 they may differ as `check_core` allows.
    """
    exact_core = copy.deepcopy(core).double()
    exact = _outcome(exact_core, _stepped, inputs.double())
    plain, got = _outcome(core, _stepped, inputs), _outcome(core, _unrolled, inputs)
    for name, wanted in exact.items():
        if wanted.dtype == inputs.dtype:
            same(name, got[name], wanted, TOLERANCE[wanted.dtype])
        else:
            within(name, got[name], plain[name], wanted, ALLOWED)


def machine() -> dict[str, Any]:
    """The machine at hand, and what runs on it."""
    found = {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    return found | ({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {})


def record(rows: Sequence[Row], setting: Setting) -> dict[str, Any]:
    """All that is known, as plain data: the setting, the machine, and each row with its ratios to nn.LSTM."""
    base = rows[0]
    ratios = [{name: getattr(row, name) / getattr(base, name) for name in ("forward", "train", "step")} for row in rows]
    cores = [{**asdict(row), "ratio": ratio} for row, ratio in zip(rows, ratios, strict=True)]
    return {"setting": asdict(setting), "machine": machine(), "cores": cores}


def _processor() -> str:
    """The name of the processor, where the machine tells it (Linux); else its kind."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _label(block: Block) -> str:
    """Its name, and those settings that are not the defaults."""
    defaults = schema(block.factory).fields
    changed = {name: each for name, each in written(block.params).items() if each != defaults[name].default}
    return " ".join([block.use, *(f"{name}={each}" for name, each in changed.items())])


def _make(block: Block, setting: Setting) -> Core:
    try:
        return block.maker()(input_size=setting.input_size).to(**setting.place)
    except Exception as error:  # noqa: BLE001  a plugin's constructor may raise anything
        raise ConfigError([located(f"core {block.use}", signature(block.factory).parameters, error)]) from None


def _outcome(core: Core, run: Callable[[Core, Tensor], Tensor], inputs: Tensor) -> dict[str, Tensor]:
    """Outputs, and the gradients of a weighted sum of them in the inputs and in every parameter."""
    inputs = inputs.clone().requires_grad_()
    outputs = run(core, inputs)
    sources = {"gradient of the inputs": inputs}
    sources |= {f"gradient of {name}": each for name, each in core.named_parameters() if each.requires_grad}
    grads = torch.autograd.grad(weighted(outputs), list(sources.values()), allow_unused=True, materialize_grads=True)
    return {"outputs": outputs, **dict(zip(sources, grads, strict=True))}


def _stepped(core: Core, inputs: Tensor) -> Tensor:
    state, outputs = core.initial_state(inputs.shape[1]), []
    for now in inputs:
        output, state = core.reference_step(now, state)
        outputs.append(output)
    return torch.stack(outputs)


def _unrolled(core: Core, inputs: Tensor) -> Tensor:
    state, outputs = core.initial_state(inputs.shape[1]), []
    for part in inputs.tensor_split(2):
        if len(part):
            output, state = core.unroll(part, state)
            outputs.append(output)
    return torch.cat(outputs)


def _forward(module: nn.Module, inputs: Tensor) -> Callable[[], None]:
    def run() -> None:
        with torch.no_grad():
            module(inputs)

    return run


def _train(module: nn.Module, inputs: Tensor) -> Callable[[], None]:
    learned: list[Tensor] = [each for each in module.parameters() if each.requires_grad]
    if not learned:  # nothing to learn: what passes through is the inputs' gradient
        inputs = inputs.clone().requires_grad_()
        learned = [inputs]

    def run() -> None:
        torch.autograd.grad(module(inputs)[0].sum(), learned, allow_unused=True)

    return run


def _step(core: Core, inputs: Tensor) -> Callable[[], None]:
    state = core.initial_state(inputs.shape[1])

    def run() -> None:
        with torch.no_grad():
            core.step(inputs[0], state)

    return run
