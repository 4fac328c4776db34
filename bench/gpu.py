"""What an update of the relational memory core takes on a GPU, level by level, each checked against float64 first.

    python bench/gpu.py [--device cuda] [--quick] [--only triton] [--repeats 30] [--json table.json]

An update is what the learner makes of a batch: forward, backward, clip, Adam. Two floors stand beside each time:

* throughput: the larger of arithmetic over `FLOPS` and bytes over `BANDWIDTH`. Arithmetic is 2 operations a
  multiply-add of each product that no order of computation can spare (the input's row without query, residual and MLP),
  times 3: forward, and two products backward. Bytes are 8 passes over the weights for Adam (weight, both averages and
  gradient read, the first three and the gradient written), and the inputs and each step's memory once in each direction.
* latency: `CHAIN` products that wait for one another in each step (qkv, both layers of the MLP and the gates forward,
  twice as many backward), at `LINK` seconds each inside one kernel. With a kernel for each operation it is the column
  `operations` times 3 us in a CUDA graph, or times 10 us without; a Triton kernel is not among the operations.

What is checked are predictions, final state and every gradient, by the L2 norm of the error over `DRAWS` batches,
relative to the truth: at most `FACTOR` times that of the plain port at the same precision, or of what it errs in the
median, where it was lucky. A level that errs more, or cannot be captured, is not timed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import count, cycle, pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqtoolkit.bench import cost, interleaved
from seqtoolkit.flow.batch import Batch
from seqtoolkit.flow.encoder import Embed, Project
from seqtoolkit.flow.head import MLP
from seqtoolkit.flow.loss import CrossEntropy
from seqtoolkit.flow.model import Model
from seqtoolkit.flow.spec import Spec
from seqtoolkit.train.capture import WARM, CaptureError, Captures, CudaGraphs, Told
from seqtoolkit.train.optimize import Precision, Update, adam, choose_device
from seqtoolkit_nth_farthest import NthFarthest
from seqtoolkit_rmc import RelationalMemory

FLOPS, BANDWIDTH = 800e12, 3e12
CHAIN, LINK = 12, 1.25e-6
FACTOR, DRAWS = 2.0, 3
BATCHES = 4


@dataclass(frozen=True)
class Setting:
    """What is trained. With a `vocabulary` inputs are ids and rows begin anew once, else they are vectors."""

    name: str
    steps: int
    rows: int
    answers: int
    features: int
    classes: int
    mem_slots: int
    num_heads: int
    head_size: int
    gate_style: str
    vocabulary: int = 0
    sizes: tuple[int, ...] = (256, 256, 256, 256)

    def quick(self) -> Setting:
        """The same, tiny."""
        steps, answers, features = min(self.steps, 12), min(self.answers, 3), min(self.features, 10)
        small = replace(self, steps=steps, answers=answers, features=features, rows=64)
        return replace(small, mem_slots=3, head_size=16, sizes=(32,))

    def model(self, backend: str) -> Model:
        """A model of the same weights each time."""
        torch.manual_seed(0)
        ids, vectors = Spec.parse(f"i64<{self.vocabulary}>[T B]"), Spec.parse(f"f32[T B {self.features}]")
        options: dict[str, Any] = {"mem_slots": self.mem_slots, "num_heads": self.num_heads, "backend": backend}
        options |= {"head_size": self.head_size, "gate_style": self.gate_style}
        encoder = Embed(ids, self.features) if self.vocabulary else Project(vectors)
        core = RelationalMemory(self.features, **options)
        return Model(encoder, core, MLP(core.output_size, Spec.parse(f"i64<{self.classes}>[U B]"), list(self.sizes)))

    def batch(self, seed: int, device: torch.device) -> Batch:
        """A batch that no other seed gives."""
        generator = torch.Generator().manual_seed(seed)
        shape, first = (self.steps, self.rows), None
        inputs = torch.randn(*shape, self.features, generator=generator)
        if self.vocabulary:
            inputs = torch.randint(self.vocabulary, shape, generator=generator)
            begins = torch.randint((self.steps - self.answers) // 2 + 1, (self.rows,), generator=generator)
            first = torch.arange(self.steps).unsqueeze(1) == begins
        targets = torch.randint(self.classes, (self.answers, self.rows), generator=generator)
        return Batch(inputs, targets, torch.ones_like(targets, dtype=torch.bool), first).to(device)

    def floors(self) -> dict[str, float]:
        """Operations and bytes of an update at the least, and the seconds below which it cannot be."""
        slots, size = self.mem_slots, self.num_heads * self.head_size
        gates = 2 * (size if self.gate_style == "unit" else 1)
        slot = 2 * size * (3 * size) + 4 * (slots + 1) * size + 2 * 2 * size * size + 2 * size * gates
        arriving = 2 * self.features * size + 2 * size * (2 * size) + 2 * size * gates
        widths = [slots * size, *self.sizes, self.classes]
        head = 2 * sum(one * other for one, other in pairwise(widths))
        flops = 3.0 * self.rows * (self.steps * (slots * slot + arriving) + self.answers * head)
        weights = sum(each.numel() for each in self.model("reference").parameters())
        numbers = 8 * weights + 2 * self.steps * self.rows * (slots * size + self.features)
        throughput = max(flops / FLOPS, 4 * numbers / BANDWIDTH)
        return {"flops": flops, "bytes": 4.0 * numbers, "throughput": throughput, "latency": self.steps * CHAIN * LINK}


SETTINGS = (
    Setting("nth farthest", 8, 1600, 1, 40, 8, mem_slots=8, num_heads=1, head_size=256, gate_style="unit"),
    Setting("program evaluation", 110, 128, 10, 64, 40, 4, 4, 64, gate_style="memory", vocabulary=40),
)


class Level(NamedTuple):
    """One way to compute an update; tf32 is f32 with the factors of products rounded."""

    backend: str
    precision: str
    captured: bool = False

    def __str__(self) -> str:
        return f"{'plain' if self.backend == 'reference' else self.backend} {self.precision}{', graph' * self.captured}"


PLAIN = Level("reference", "f32")
LEVELS = (
    PLAIN,
    Level("reference", "bf16"),
    Level("reference", "bf16", captured=True),
    Level("fused", "f32"),
    Level("fused", "bf16"),
    Level("fused", "f32", captured=True),
    Level("fused", "tf32", captured=True),
    Level("fused", "bf16", captured=True),
    Level("triton", "bf16"),
    Level("triton", "f32", captured=True),
    Level("triton", "bf16", captured=True),
)


class Wrong(AssertionError):  # noqa: N818  reads as what happened
    """A level errs more than it may."""


class Row(NamedTuple):
    """What a level takes: milliseconds at the median, bytes at the most, operations that torch was asked for."""

    level: str
    error: float
    """the worst, in errors of the plain port at this precision"""
    milliseconds: float
    ratio: float
    peak: int
    operations: int
    of_throughput: float
    of_latency: float


class Contender:
    """A level with a model of its own, and its update."""

    def __init__(self, setting: Setting, level: Level, device: torch.device) -> None:
        self.level = level
        model = setting.model(level.backend).to(device, torch.float64 if level.precision == "f64" else torch.float32)
        optimizer = adam(model.parameters(), lr=1e-4)
        precision: Precision = "bf16" if level.precision == "bf16" else "f32"
        self.update = Update(model, optimizer, lambda _: 1.0, 1.0, device, precision)
        if level.captured:
            self.update.make_capturable()

    def learn(self, batch: Batch) -> Told:
        """What of an update happens on the device."""
        loss, *_ = self._backward(batch)
        return {"loss": loss.detach(), "gradient_norm": self.update.apply()}

    def look(self, batch: Batch) -> Told:
        """Predictions, final state and all gradients of a batch."""
        _, predictions, state = self._backward(batch)
        named = self.update.model.named_parameters()
        found = {f"gradient of {name}": each.grad.clone() for name, each in named if each.grad is not None}
        self.update.clear()
        return {"predictions": predictions.detach(), "final state": state.detach(), **found}

    def ready(self, work: Callable[[Batch], Told]) -> Callable[[Batch], Told]:
        """Work as this level does it."""
        device = self.update.device
        way = Captures(work, CudaGraphs(device), self.update.clear, strict=True) if self.level.captured else work

        def begun(batch: Batch) -> Told:
            self.update.begin()
            with _rounded(self.level.precision):
                return way(batch)

        return begun

    def _backward(self, batch: Batch) -> tuple[Tensor, Tensor, Any]:
        inputs = batch.inputs
        if inputs.is_floating_point() and self.level.precision == "f64":
            inputs = inputs.double()
        with self.update.autocast():
            predictions, state = self.update.model(inputs, None, batch.first, batch.answers)
            loss = CrossEntropy().total(predictions, batch) / CrossEntropy().count(batch)
        self.update.backward(loss)
        return loss, predictions, state


@contextmanager
def _rounded(precision: str) -> Iterator[None]:
    """Products of float32 in tf32, where that is the precision."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


def lacking(level: Level, device: torch.device) -> str | None:
    """Why a level cannot be here; what a backend itself lacks it says when it is asked for."""
    wants = level.captured or level.precision == "tf32" or level.backend == "triton"
    return "wants a GPU" if wants and device.type != "cuda" else None


def seen(setting: Setting, level: Level, device: torch.device, seed: int) -> Told:
    """What a level makes of a few batches; a graph has been captured and replayed with others before."""
    contender = Contender(setting, level, device)
    look = contender.ready(contender.look)
    for other in range(WARM + 2 if level.captured else 0):
        look(setting.batch(seed + DRAWS + other, device))
    found = [look(setting.batch(seed + draw, device)) for draw in range(DRAWS)]
    return {name: torch.stack([each[name] for each in found]).double().cpu() for name in found[0]}


def errors(got: Told, exact: Told) -> dict[str, float]:
    """How far off each tensor is, relative to the truth; infinitely, where it is no number."""
    off = {name: (got[name] - right).norm().item() / right.norm().item() for name, right in exact.items()}
    return {name: each if each == each else float("inf") for name, each in off.items()}  # noqa: PLR0124  not so for NaN


def hold(got: Told, plain: Told, exact: Told) -> float:
    """How many times the plain port's error a level's is at the worst. Raises Wrong beyond `FACTOR`."""
    found, allowed = errors(got, exact), errors(plain, exact)
    typical = median(allowed.values())
    times = {name: each / max(allowed[name], typical) for name, each in found.items()}
    worst = max(times, key=times.__getitem__)
    if times[worst] > FACTOR:
        raise Wrong(
            f"{worst}: relative error {found[worst]:.1e}, the plain port's {allowed[worst]:.1e} ({typical:.1e} in the "
            f"median); wanted at most {FACTOR:g} times that, got {times[worst]:.3g}"
        )
    return times[worst]


def check(
    setting: Setting, levels: Sequence[Level], device: torch.device, seed: int
) -> tuple[dict[Level, float], dict[Level, str]]:
    """The worst error of each level that is right, and what is wrong with each other, or lacks."""
    exact = seen(setting, Level("reference", "f64"), device, seed)
    plains: dict[str, Told] = {}
    right: dict[Level, float] = {}
    wrong: dict[Level, str] = {}
    for level in levels:
        if (wants := lacking(level, device)) is not None:
            wrong[level] = f"left out: {wants}"
            continue
        if level.precision not in plains:
            plains[level.precision] = seen(setting, Level("reference", level.precision), device, seed)
        try:
            right[level] = hold(seen(setting, level, device, seed), plains[level.precision], exact)
        except (Wrong, CaptureError) as error:
            wrong[level] = f"WRONG: {error}"
        except ValueError as error:
            if not str(error).startswith("backend:"):
                raise
            wrong[level] = f"left out: {error}"
    return right, wrong


def time(setting: Setting, levels: dict[Level, float], device: torch.device, repeats: int) -> list[Row]:
    """Updates of all levels in turn, warm, over batches that take turns as well."""
    batches = [setting.batch(seed, device) for seed in range(BATCHES)]
    floors, costs, runs = setting.floors(), [], []
    for level in levels:
        contender = Contender(setting, level, device)
        counted = cost(partial(contender.learn, batches[0]))
        before = _allocated(device)
        run = contender.ready(contender.learn)
        for _ in range(WARM + 2):
            run(batches[0])
        costs.append((counted.operations, _peak(device, before) if device.type == "cuda" else counted.peak))
        runs.append(partial(_in_turn, run, cycle(batches)))
    taken = [median(each) for each in (on_gpu if device.type == "cuda" else interleaved)(runs, repeats)]
    throughput, latency = floors["throughput"], floors["latency"]
    return [
        Row(str(level), error, 1e3 * each, taken[0] / each, peak, operations, throughput / each, latency / each)
        for (level, error), each, (operations, peak) in zip(levels.items(), taken, costs, strict=True)
    ]


def _in_turn(run: Callable[[Batch], Told], batches: Iterator[Batch]) -> Told:
    return run(next(batches))


def on_gpu(runs: Sequence[Callable[[], Any]], repeats: int) -> list[list[float]]:
    """Seconds of each run at each repeat by the GPU's own clock; the runs take turns, and are warm."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats):
        for run, kept in zip(runs, times, strict=True):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            start.record()
            run()
            end.record()
            torch.cuda.synchronize()
            kept.append(start.elapsed_time(end) / 1e3)
    return times


def _allocated(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _peak(device: torch.device, before: int) -> int:
    """Bytes beyond those before: all of an update's own, forward and backward, without weights and Adam's averages."""
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def generation(rows: int, device: torch.device, repeats: int) -> float:
    """Milliseconds in which a batch of nth farthest is drawn on a device, at the median."""
    source = NthFarthest(8, 16)
    source.device = device
    starts = count(step=rows)

    def draw() -> Any:
        start = next(starts)
        return source.draw(np.arange(start, start + rows))

    for _ in range(3):
        draw()
    return 1e3 * median((on_gpu if device.type == "cuda" else interleaved)([draw], repeats)[0])


def table(setting: Setting, rows: Sequence[Row], wrong: dict[Level, str]) -> Iterator[str]:
    """What was measured, as text."""
    floors = setting.floors()
    yield (
        f"{setting.name}: T {setting.steps}, B {setting.rows}; at the least {floors['flops'] / 1e9:.1f} GFLOP and "
        f"{floors['bytes'] / 1e6:.1f} MB, {1e3 * floors['throughput']:.3f} ms by throughput, "
        f"{1e3 * floors['latency']:.3f} ms by latency"
    )
    yield f"{'level':24}{'error':>7}{'ms':>10}{'times':>8}{'peak MB':>10}{'operations':>12}{'throughput':>12}{'latency':>9}"
    for row in rows:
        yield (
            f"{row.level:24}{row.error:7.2f}{row.milliseconds:10.3f}{row.ratio:8.2f}{row.peak / 1e6:10.1f}{row.operations:12,}"
            f"{row.of_throughput:12.1%}{row.of_latency:9.1%}"
        )
    yield from (f"{level!s:24}{reason}" for level, reason in wrong.items())


def measure(setting: Setting, chosen: argparse.Namespace, device: torch.device, seed: int) -> dict[str, Any]:
    """Check, time and print one setting; return all of it as plain values."""
    levels = [level for level in LEVELS if level == PLAIN or chosen.only in str(level)]
    right, wrong = check(setting, levels, device, seed)
    rows = time(setting, right, device, chosen.repeats)
    print("", *table(setting, rows, wrong), sep="\n", flush=True)
    return {
        **asdict(setting),
        "floors": setting.floors(),
        "levels": [row._asdict() for row in rows],
        "others": {str(level): reason for level, reason in wrong.items()},
    }


def main(words: Sequence[str] | None = None) -> int:
    """Every setting."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, which say nothing about speed")
    parser.add_argument("--only", default="", help="levels whose name has this, besides the plain port")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--seed", type=int, default=None, help="of the batches that are checked; another each time")
    parser.add_argument("--json", type=Path, default=None, help="write the tables here as well")
    chosen = parser.parse_args(words)
    device = choose_device(chosen.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU, one thread"
    seed = torch.seed() % 2**31 if chosen.seed is None else chosen.seed
    print(f"{machine}, torch {torch.__version__}, checked on batches from seed {seed}")
    settings = [setting.quick() if chosen.quick else setting for setting in SETTINGS]
    found = [measure(setting, chosen, device, seed) for setting in settings]
    drawn = generation(settings[0].rows, device, chosen.repeats)
    print(f"\na batch of {settings[0].rows} of nth farthest is drawn in {drawn:.3f} ms")
    if chosen.json is not None:
        named = {"machine": machine, "torch": torch.__version__, "seed": seed, "settings": found}
        chosen.json.write_text(json.dumps({**named, "generation_milliseconds": drawn}, indent=1) + "\n")
    return int(any(reason.startswith("WRONG") for each in found for reason in each["others"].values()))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ValueError as error:
        sys.exit(f"gpu: {error}")
