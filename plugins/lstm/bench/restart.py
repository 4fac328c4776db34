"""What a core costs beside PyTorch's own module, and with restarts beside a loop of PyTorch's cell; forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

from seqtoolkit.bench import interleaved
from seqtoolkit_lstm import GRU, LSTM

REPEATS = 21
SIZES = {
    "H 32, T 100, B 16": (32, 1, 100, 16),
    "H 64, T 30, B 32": (64, 1, 30, 32),
    "H 64, T 30, B 32, 2 layers": (64, 2, 30, 32),
    "H 64, T 100, B 32": (64, 1, 100, 32),
    "H 128, T 20, B 16": (128, 1, 20, 16),
    "H 128, T 100, B 16": (128, 1, 100, 16),
    "H 256, T 50, B 4": (256, 1, 50, 4),
    "H 256, T 40, B 64": (256, 1, 40, 64),
    "H 256, T 40, B 64, 2 layers": (256, 2, 40, 64),
}
"""hidden_size, num_layers, T, B; 64 inputs"""
KINDS = {"lstm": (LSTM, nn.LSTM, nn.LSTMCell), "gru": (GRU, nn.GRU, nn.GRUCell)}

Run = Callable[[], Tensor]


def looped(cells: list[nn.Module], inputs: Tensor, first: Tensor) -> Tensor:
    """A loop of cells, the state masked where a row begins anew."""
    parts = 2 if isinstance(cells[0], nn.LSTMCell) else 1
    zeros = inputs.new_zeros(inputs.shape[1], cells[0].hidden_size)
    states, keep, outputs = [(zeros,) * parts for _ in cells], (~first)[..., None].to(inputs), []
    for time, now in enumerate(inputs):
        for layer, cell in enumerate(cells):
            kept = tuple(part * keep[time] for part in states[layer])
            following = cell(now, kept if parts == 2 else kept[0])
            states[layer] = following if parts == 2 else (following,)
            now = states[layer][0]  # noqa: PLW2901 - what the next layer reads
        outputs.append(now)
    return torch.stack(outputs)


def measure(kind: str, name: str) -> None:
    """Check that all ways give the same, then say what each takes."""
    hidden_size, num_layers, steps, rows = SIZES[name]
    core_class, module_class, cell_class = KINDS[kind]
    core, module = core_class(64, hidden_size, num_layers), module_class(64, hidden_size, num_layers)
    module.load_state_dict(core.weights.state_dict())
    cells = [cell_class(hidden_size if layer else 64, hidden_size) for layer in range(num_layers)]
    for cell, weights in zip(cells, core.weights.all_weights, strict=True):
        cell.load_state_dict(dict(zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), weights, strict=True)))
    inputs = torch.randn(steps, rows, 64)
    none = torch.zeros(steps, rows, dtype=torch.bool)
    start, one = none.clone(), none.clone()
    start[0] = True
    one[torch.randint(1, steps, (rows,)), torch.arange(rows)] = True
    patterns = {"all false": none, "step 0": start, "one a row": one, "a tenth": torch.rand(steps, rows) < 0.1}
    runs: dict[str, Run] = {"bare": lambda: module(inputs)[0], "no first": lambda: core(inputs)[0]}
    for label, first in patterns.items():
        runs[label] = lambda first=first: core(inputs, None, first)[0]
        if first[1:].any():
            runs[f"{label}, loop"] = lambda first=first: looped(cells, inputs, first)
            torch.testing.assert_close(runs[label](), runs[f"{label}, loop"](), rtol=1e-4, atol=1e-5)
        else:
            torch.testing.assert_close(runs[label](), runs["bare"]())
    times = interleaved([lambda run=run: run().sum().backward() for run in runs.values()], REPEATS)
    took = {each: 1e3 * median(kept) for each, kept in zip(runs, times, strict=True)}
    print(f"{kind}, {name}: bare module {took['bare']:.1f} ms")
    for label in ("no first", "all false", "step 0"):
        print(f"    {label:10} {took[label]:7.1f} ms, {took[label] / took['bare']:.2f} of the bare module")
    for label in ("one a row", "a tenth"):
        loop = took[f"{label}, loop"]
        print(f"    {label:10} {took[label]:7.1f} ms, a loop of cells {loop:.1f} ms, {loop / took[label]:.2f}x")


def main() -> None:
    """Every size, on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("forward and backward, one thread, float32, medians of process time")
    for kind in KINDS:
        for name in SIZES:
            measure(kind, name)


if __name__ == "__main__":
    main()
