"""What each backend of the relational memory core takes beside the plain port: checked first, then timed in turn.

The plain port is `backend: reference`, eager, in float32, on the same data and the same parameters. An unrolling is a
forward and a backward pass; time, and operations, saved bytes and the most bytes held, which no load of a machine moves.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable
from statistics import geometric_mean, median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqtoolkit.bench import cost, interleaved
from seqtoolkit_rmc import RelationalMemory
from seqtoolkit_rmc.backend import missing

DRAWS = 8
FACTOR = 2.0
"""How many times the plain port's error a backend's may be, both against float64 and in the same precision, over DRAWS."""


class Setting(NamedTuple):
    """A core's options, the sizes of its inputs, and how many times as fast as the plain port it has to be at least."""

    options: dict[str, Any]
    steps: int
    rows: int
    features: int
    wanted: float | None = None


NTH = {"mem_slots": 8, "head_size": 256, "num_heads": 1}
SETTINGS = {
    "nth farthest, B 1600": Setting(NTH, 8, 1600, 40, 1.2),
    "nth farthest, B 64": Setting(NTH, 8, 64, 40, 1.15),
    "small, bound by overhead": Setting({}, 64, 16, 64, 1.5),
    "tiny": Setting({"head_size": 16}, 20, 16, 64),
    "one slot, B 128": Setting({"mem_slots": 1}, 18, 128, 64),
    "gates of the memory, B 64": Setting({"gate_style": "memory"}, 20, 64, 64),
}
LEVELS = {
    "plain port": ("reference", False),
    "plain port, bf16": ("reference", True),
    "fused": ("fused", False),
    "fused, bf16": ("fused", True),
    "native": ("native", False),
}
"""A backend, and whether under autocast to bfloat16."""


def outcome(core: RelationalMemory, inputs: Tensor, weights: Tensor, *, low: bool) -> dict[str, Tensor]:
    """Outputs, the last memory, and the gradient of every parameter, of a weighted sum."""
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        outputs, last = core(inputs)
    names, parameters = zip(*core.named_parameters(), strict=True)
    grads = torch.autograd.grad((outputs * weights).sum(), parameters)
    return {"outputs": outputs.detach(), "last memory": last.detach(), **dict(zip(names, grads, strict=True))}


def check(core: RelationalMemory, sizes: tuple[int, int, int], levels: list[str]) -> None:
    """End with a line where a level errs more than it may, against the reference in float64.

    Over few steps, for after many the least rounding has grown to anything, in the plain port as well; and by the geometric
    mean over draws, for in one of them the plain port may be right by luck.
    """
    ratios: dict[tuple[str, str], list[float]] = {}
    for _ in range(DRAWS):
        inputs, weights = torch.randn(*sizes), torch.randn(*sizes[:2], core.output_size)
        core.backend = "reference"
        exact = outcome(copy.deepcopy(core).double(), inputs.double(), weights.double(), low=False)
        plain = {low: outcome(core, inputs, weights, low=low) for low in (False, True)}
        for level in levels:
            core.backend, low = LEVELS[level]
            for name, got in outcome(core, inputs, weights, low=low).items():
                error, base = ((each - exact[name]).norm().item() for each in (got, plain[low][name]))
                least = torch.finfo(got.dtype).eps * exact[name].norm().item()
                ratios.setdefault((level, name), []).append(max(error, least) / max(base, least))
    for (level, name), found in ratios.items():
        if (mean := geometric_mean(found)) > FACTOR:
            sys.exit(f"{level}: {name} errs {mean:.2f} times as much as the plain port, wanted at most {FACTOR}")


def saved(run: Callable[[], Tensor], core: RelationalMemory) -> int:
    """Bytes that a forward pass keeps, each storage once, the parameters' own left out."""
    own, kept = {each.untyped_storage().data_ptr() for each in core.parameters()}, dict[int, Tensor]()

    def pack(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(each.untyped_storage().nbytes() for pointer, each in kept.items() if pointer not in own)


def measure(name: str, setting: Setting, repeats: int) -> None:
    """Check, then say what each level takes."""
    print(f"\n{name}: T {setting.steps}, B {setting.rows}, D {setting.features}, {setting.options or 'defaults'}")
    core = RelationalMemory(setting.features, **setting.options)
    inputs = torch.randn(setting.steps, setting.rows, setting.features)
    rows = inputs.unsqueeze(2)
    reasons = {
        level: None if of == "reference" else missing(of, core.parameters_of(), core.settings, rows)
        for level, (of, _) in LEVELS.items()
    }
    levels = [level for level, reason in reasons.items() if reason is None]
    check(core, (min(8, setting.steps), min(64, setting.rows), setting.features), levels)

    def forward(level: str) -> Tensor:
        core.backend, low = LEVELS[level]
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            return core(inputs)[0]

    runs = [lambda level=level: forward(level).sum().backward() for level in levels]
    times = [median(each) for each in interleaved(runs, repeats)]
    for level, run, time in zip(levels, runs, times, strict=True):
        whole, kept = cost(run), saved(lambda level=level: forward(level), core)
        operations = cost(lambda level=level: forward(level)).operations / setting.steps
        numbers = f"{1e3 * time:8.1f} ms {times[0] / time:5.2f}x   {operations:5.1f} operations a step forward,"
        print(
            f"  {level:17} {numbers} {whole.operations / setting.steps:5.1f} in all;"
            f" saved {kept / 1e6:7.1f} MB, at most {whole.peak / 1e6:7.1f} MB"
        )
    for level, reason in reasons.items():
        if reason is not None:
            print(f"  {level:17} left out: it {reason}")
    if setting.wanted is not None:
        best = times[0] / min(time for level, time in zip(levels, times, strict=True) if not LEVELS[level][1])
        print(f"  float32: {best:.2f} times as fast as the plain port, wanted at least {setting.wanted}")


def main() -> None:
    """Every setting that was asked for, on as many threads as asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", help="the settings whose names have this in them")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    print(f"forward and backward, float32 unless said, {options.threads} threads, medians of {options.repeats} in turn")
    for name, setting in SETTINGS.items():
        if options.only is None or options.only in name:
            measure(name, setting, 3 if setting.rows > 1000 else options.repeats)


if __name__ == "__main__":
    main()
