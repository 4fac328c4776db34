"""How long a batch takes: plain Python, plain numpy, and this source; each checked first."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from importlib.metadata import entry_points
from pkgutil import resolve_name
from statistics import median
from time import process_time
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from seqtoolkit_nth_farthest import NthFarthest

SIZE, REPEATS = 1600, 60
VIEWS = {"view", "slice", "select", "unsqueeze", "expand", "transpose", "permute", "detach", "alias", "empty"}
Drawn = tuple[torch.Tensor, torch.Tensor]


def in_python(size: int, count: int, dimensions: int) -> Drawn:
    """Inputs [T B D+3k] and targets [B], an example after the other, as ports of the task do it."""
    rows, targets = [], []
    for _ in range(size):
        vectors = [[random.uniform(-1, 1) for _ in range(dimensions)] for _ in range(count)]
        labels = random.sample(range(count), count)
        rank, reference = random.randrange(count), random.randrange(count)
        here = vectors[labels.index(reference)]
        order = sorted(range(count), key=lambda step: -math.dist(vectors[step], here))
        asked = [float(each == rank) for each in range(count)] + [float(each == reference) for each in range(count)]
        named = [[float(each == label) for each in range(count)] for label in labels]
        rows.append([vector + name + asked for vector, name in zip(vectors, named, strict=True)])
        targets.append(labels[order[rank]])
    return torch.tensor(rows).transpose(0, 1).contiguous(), torch.tensor(targets)


def in_numpy(size: int, count: int, dimensions: int) -> Drawn:
    """The same for all examples at once."""
    generator = np.random.default_rng()
    vectors = generator.uniform(-1, 1, (size, count, dimensions)).astype(np.float32)
    labels = generator.random((size, count)).argsort(1)
    rank, reference = generator.integers(0, count, (2, size, 1))
    when = (labels == reference).argmax(1)
    far = np.square(vectors - vectors[np.arange(size), when][:, None]).sum(2)
    order = np.argsort(-far, 1, kind="stable")
    targets = np.take_along_axis(labels, np.take_along_axis(order, rank, 1), 1)
    eye = np.eye(count, dtype=np.float32)
    asked = np.broadcast_to(np.concatenate([eye[rank], eye[reference]], 2), (size, count, 2 * count))
    inputs = np.concatenate([vectors, eye[labels], asked], 2)
    return torch.from_numpy(np.ascontiguousarray(inputs.swapaxes(0, 1))), torch.from_numpy(targets[:, 0])


def from_source(size: int, count: int, dimensions: int, device: str = "cpu") -> Callable[[], Drawn]:
    """The same from this plugin's source, batched; other examples at each call."""
    source = NthFarthest(count, dimensions)
    source.device = torch.device(device)
    collate = part("batches", "stack")(input_spec=source.writes, size=size)
    drawn = iter(range(0, 2**62, size))

    def draw() -> Drawn:
        start = next(drawn)
        batch = collate(source.draw(np.arange(start, start + size)))
        return batch.inputs, batch.targets[0]

    return draw


def part(kind: str, name: str) -> Any:
    """A part that an installed distribution brings, by its name."""
    for point in entry_points(group="seqtoolkit"):
        offered = getattr(point.load(), kind, dict)()
        if name in offered:
            return resolve_name(offered[name])
    raise LookupError(f"nothing installed brings {name}")


def check(inputs: torch.Tensor, targets: torch.Tensor, count: int, dimensions: int) -> None:
    """What the inputs ask is answered by the targets, example by example in float64, or there is nothing to time."""
    assert inputs.shape == (count, len(targets), dimensions + 3 * count)
    vectors, labels, ranks, references = inputs.double().transpose(0, 1).split([dimensions, count, count, count], 2)
    for row, target in enumerate(targets.tolist()):
        names = labels[row].argmax(1).tolist()
        here = vectors[row][names.index(int(references[row, 0].argmax()))]
        order = (vectors[row] - here).square().sum(1).argsort(descending=True, stable=True)
        assert names[int(order[int(ranks[row, 0].argmax())])] == target, f"example {row}"


class Calls(TorchDispatchMode):
    """Counts what torch is asked to compute, views left out: what a GPU would launch, sorts more than once."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One call."""
        self.count += function.overloadpacket.__name__ not in VIEWS
        return function(*args, **(kwargs or {}))


def milliseconds(draw: Callable[[], Drawn], repeats: int) -> tuple[float, float]:
    """Least and median, warm, in this process's own time."""
    times = []
    for _ in range(repeats + 2):
        begun = process_time()
        draw()
        times.append(1000 * (process_time() - begun))
    return min(times[2:]), median(times[2:])


def on_gpu(count: int, dimensions: int) -> tuple[float, float]:
    """Milliseconds a batch by the GPU's own clock: eager, and replayed from a CUDA graph."""
    draw = from_source(SIZE, count, dimensions, "cuda")
    check(*(each.cpu() for each in draw()), count, dimensions)
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        draw()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        draw()
    return _elapsed(draw), _elapsed(graph.replay)


def _elapsed(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        begun, done = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begun.record()
        work()
        done.record()
        done.synchronize()
        times.append(begun.elapsed_time(done))
    return median(times)


def main() -> None:
    """Print a table: milliseconds a batch of 1600, one thread."""
    torch.set_num_threads(1)
    print(f"{f'ms a batch of {SIZE}':24}{'vectors':>9}{'numbers':>9}{'least':>9}{'median':>9}")
    for count, dimensions in ((8, 16), (8, 32), (4, 2)):
        ways = {
            "plain Python": lambda count=count, dimensions=dimensions: in_python(SIZE, count, dimensions),
            "plain numpy": lambda count=count, dimensions=dimensions: in_numpy(SIZE, count, dimensions),
            "nth_farthest": from_source(SIZE, count, dimensions),
        }
        for name, draw in ways.items():
            check(*draw(), count, dimensions)
            least, middle = milliseconds(draw, 5 if name == "plain Python" else REPEATS)
            print(f"{name:24}{count:9}{dimensions:9}{least:9.2f}{middle:9.2f}")
    with Calls() as calls:
        from_source(SIZE, 8, 16)()
    print(f"calls of torch a batch, views left out: {calls.count}")
    if torch.cuda.is_available():
        print("on {}: {:.3f} ms eager, {:.3f} ms in a CUDA graph".format(torch.cuda.get_device_name(), *on_gpu(8, 16)))


if __name__ == "__main__":
    main()
