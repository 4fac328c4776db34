"""What tracking costs: training steps of about 3 ms without it, with every step logged, and with every tenth.

Blocks of the three are interleaved, and the quickest of each compared; every point has to arrive. Targets: under 10 %
with every step logged, under 2 % with every tenth (the default). `python bench/tracking.py [--steps N] [--repeats N]`
"""

import argparse
import contextlib
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from seqtoolkit.train.tracking import MLflowTracker

METRICS = ("loss", "accuracy", "learning_rate", "gradient_norm", "examples_per_second")
TARGETS = {1: 1.10, 10: 1.02}


def training() -> Callable[[], float]:
    """A step of an LSTM on random numbers, sized to take about 3 ms here."""
    core, head = torch.nn.LSTM(64, 96), torch.nn.Linear(96, 64)
    optimizer = torch.optim.Adam([*core.parameters(), *head.parameters()])

    def step(inputs: torch.Tensor) -> float:
        optimizer.zero_grad()
        loss = head(core(inputs)[0]).square().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    sized = partial(step, torch.randn(4, 16, 64))
    while min(cost(sized, 20).cpu for _ in range(5)) < 0.0027:
        sized = partial(step, torch.randn(len(sized.args[0]) + 2, 16, 64))
    return sized


class Cost(NamedTuple):
    """Mean seconds of a call: on the clock, and of this process's own processor time, which a busy machine blurs less."""

    wall: float
    cpu: float


def cost(step: Callable[[], object], count: int) -> Cost:
    """What a call costs."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        step()
    return Cost((time.perf_counter() - wall) / count, (time.process_time() - cpu) / count)


@contextlib.contextmanager
def tracked(every: int, home: Path) -> Iterator[tuple[Callable[[float], None], list[str]]]:
    """A function to call after each step, and the ids of the runs that it logs to."""
    if not every:
        yield lambda _: None, []
        return
    tracker = MLflowTracker(tracking_uri=f"sqlite:///{home}/mlflow.db")
    folder = Path(tempfile.mkdtemp(dir=home))
    run = tracker.start(name="bench", params={}, tags={}, folder=folder)
    step = 0

    def log(loss: float) -> None:
        nonlocal step
        step += 1
        if step % every == 0:
            tracker.log(dict.fromkeys(METRICS, loss), step)

    yield log, [run]
    tracker.end("FINISHED", timeout=120)


def main() -> None:
    """Measure, check, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000, help="steps a block")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--threads", type=int, default=1, help="torch's; on all cores of a machine, they share with all else"
    )
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(given.threads)
    step = training()
    paces: dict[int, list[Cost]] = {0: [], 1: [], 10: []}
    runs: list[tuple[int, str]] = []
    with tempfile.TemporaryDirectory() as home:
        for _ in range(given.repeats):
            for every, pace in paces.items():
                with tracked(every, Path(home)) as (log, ids):
                    pace.append(cost(lambda log=log: log(step()), given.steps))
                runs += [(every, run) for run in ids]
        missing = sum(absent(home, run, given.steps // every) for every, run in runs)
    best = {every: Cost(*map(min, zip(*pace, strict=True))) for every, pace in paces.items()}
    base = best[0]
    print(f"not tracked        {base.wall * 1e3:.3f} ms a step, best of {given.repeats} blocks of {given.steps}")
    for every, target in TARGETS.items():
        wall, cpu = best[every].wall / base.wall, best[every].cpu / base.cpu
        verdict = "met" if wall < target else "missed"
        print(
            f"every {every:2} tracked   ratio {wall:.3f} (own processor time {cpu:.3f}), target {target:.2f}: {verdict}"
        )
    print(f"points missing     {missing}")
    if missing:
        raise SystemExit("the figures are void: not all points arrived")


def absent(home: str, run: str, steps: int) -> int:
    """How many points of a run are not in the store."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    return sum(steps - len(client.get_metric_history(run, key)) for key in METRICS)


if __name__ == "__main__":
    main()
