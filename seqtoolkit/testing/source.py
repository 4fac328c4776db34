"""The laws of sources."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from seqtoolkit.flow.counter import SPLITS
from seqtoolkit.flow.source import Ragged, Source
from seqtoolkit.testing.block import Examples, check_asked, check_field, equal, example_of, examples, same_examples
from seqtoolkit.testing.law import demand, judge

METRICS = [{"loss": 1.0 / (step + 1), "accuracy": 1.0, "sequence_accuracy": 1.0} for step in range(40)]
"""What a source is told of: a model that learns fast, then no more."""


@dataclass
class Stream:
    """What a law is given: a way to make the source, and how many examples to look at."""

    factory: Callable[..., Source]
    examples: int

    def make(self, seed: int = 0, split: str = "train") -> Source:
        """A source."""
        return self.factory(seed=seed, split=split)

    @property
    def indexes(self) -> np.ndarray:
        """The first examples."""
        return np.arange(self.examples, dtype=np.int64)

    def blocks(self, count: int, block: int, rank: int = 0, world: int = 1, state: Any = None) -> list[Examples]:
        """The first blocks of a stream, or those after a state."""
        source = self.make()
        source.block, source.rank, source.world = block, rank, world
        source.reset(state)
        return [examples(next(source)) for _ in range(count)]


def fields(stream: Stream) -> None:
    """A block has the fields, dtypes, axes and bounds that `writes` says, an example for each index."""
    for split in SPLITS:
        source = stream.make(split=split)
        block = source.draw(stream.indexes)
        wanted, got = ", ".join(sorted(source.writes)), ", ".join(sorted(block))
        demand(got == wanted, f"wanted the fields {wanted}, got {got}")
        sizes: dict[Any, Any] = {}
        for name, spec in source.writes.items():
            check_field(name, spec, block[name], stream.examples, sizes)


def pure(stream: Stream) -> None:
    """An example is a function of (seed, split, index), whatever was drawn before and whoever draws."""
    source, indexes = stream.make(), stream.indexes
    wanted = examples(source.draw(indexes))
    source.draw(indexes + stream.examples)
    same_examples("the second draw", examples(source.draw(indexes)), wanted)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        same_examples("the draw of another instance", examples(stream.make().draw(indexes)), wanted)


def order(stream: Stream) -> None:
    """The order and the company in which indexes are asked for do not matter."""
    source, indexes = stream.make(), stream.indexes
    wanted = examples(source.draw(indexes))
    for name, chosen in {
        "backwards": indexes[::-1].copy(),
        "every other": indexes[::2].copy(),
        "one alone": indexes[-1:],
        "one twice": indexes[[1, 0, 1]],
    }.items():
        picked = {field: [rows[index] for index in chosen] for field, rows in wanted.items()}
        same_examples(name, examples(source.draw(chosen)), picked)
    far = indexes + 2**40
    whole = examples(source.draw(far))
    same_examples("far out", examples(source.draw(far[-1:])), {name: rows[-1:] for name, rows in whole.items()})


def apart(stream: Stream) -> None:
    """Seeds and splits are streams of their own."""
    wanted = examples(stream.make().draw(stream.indexes))
    for name, other in {
        "seed 1": stream.make(seed=1),
        **{f"split {split}": stream.make(split=split) for split in SPLITS[1:]},
    }.items():
        got = examples(other.draw(stream.indexes))
        differ = any(
            not equal(one, two) for field in wanted for one, two in zip(got[field], wanted[field], strict=True)
        )
        demand(differ, f"{name} gives the same examples as seed 0 of split {SPLITS[0]}")


def placed(stream: Stream) -> None:
    """A source that draws on a device makes all that it gives there, without a look at what it makes."""
    source = stream.make()
    if not source.on_device:
        return
    source.device = torch.device("meta")  # has shapes and no numbers, so that none can be looked at
    for where, indexes in {"": stream.indexes, ", every other index": stream.indexes[::2].copy()}.items():
        for name, field in source.draw(indexes).items():
            got = f"on {field.device}" if isinstance(field, torch.Tensor) else type(field).__name__
            demand(got == "on meta", f"{name}{where}: wanted a tensor on source.device, got {got}")


def untouched(stream: Stream) -> None:
    """A source changes nothing that it was given, and keeps nothing that it gave."""
    source, indexes = stream.make(), stream.indexes
    block = source.draw(indexes)
    demand(np.array_equal(indexes, stream.indexes), "the indexes passed to draw have changed")
    wanted = examples(block)
    for field in block.values():
        for part in field if isinstance(field, Ragged) else (field,):
            if isinstance(part, torch.Tensor) or part.flags.writeable:
                part[...] = 0
    same_examples("the draw after a block was overwritten", examples(source.draw(indexes)), wanted)


def start(stream: Stream) -> None:
    """A stream begins at index 0, goes on block by block, and begins again on reset."""
    source = stream.make()
    source.block = 3
    wanted = [examples(source.draw(np.arange(at, at + 3))) for at in (0, 3, 6)]
    for again in ("", " after a reset"):
        source.reset()
        for index, each in enumerate(wanted):
            same_examples(f"block {index}{again}", examples(next(source)), each)


def resume(stream: Stream) -> None:
    """A stream goes on from its state, kept as plain values, as if it had never stopped."""
    source, states, blocks, kept = stream.make(), [], [], []
    source.block = 3
    source.reset()
    for metrics in METRICS[:12]:
        state = source.state_dict()
        states.append(state)
        kept.append((deepcopy(state), list(source.told)))
        blocks.append(examples(next(source)))
        source.tell(metrics)
    for step, (state, (copy, told)) in enumerate(zip(states, kept, strict=True)):
        demand(state == copy, f"the state before block {step} changed as the stream went on: {copy} is now {state}")
        other = stream.make()
        other.block = 3
        other.told.extend(told)
        other.reset(reloaded(state))
        for index in range(step, len(blocks)):
            same_examples(f"block {index}, resumed before block {step}", examples(next(other)), blocks[index])
            other.tell(METRICS[index])


def shards(stream: Stream) -> None:
    """Over the ranks of any world each index comes once, and a state of one topology resumes on another."""
    whole = stream.blocks(3, block=6)
    for world in (2, 3):
        ranks = [stream.blocks(3, block=6 // world, rank=rank, world=world) for rank in range(world)]
        for index, wanted in enumerate(whole):
            joined = {name: [row for rank in ranks for row in rank[index][name]] for name in wanted}
            same_examples(f"block {index} of {world} ranks together", joined, wanted)
    source = stream.make()
    source.block, source.world, source.rank = 2, 3, 1
    source.reset()
    next(source)
    (moved,) = stream.blocks(1, block=6, state=source.state_dict())
    same_examples("block 1, resumed on one rank", moved, whole[1])


def memory(stream: Stream) -> None:
    """What feedback has changed is in the memory, as plain values, and is recalled."""
    source = stream.make()
    for metrics in METRICS:
        source.observe(metrics)
    kept = source.memory()
    copy = deepcopy(kept)
    wanted = examples(source.draw(stream.indexes))
    other = stream.make()
    other.recall(reloaded(kept))
    same_examples("the draw after recall", examples(other.draw(stream.indexes)), wanted)
    for metrics in METRICS:
        source.observe(metrics)
    demand(kept == copy, "a memory changed after it was given")


def asked(stream: Stream) -> None:
    """What `asks` has as an example is one example, the same each time; a text that is no question is a ValueError."""
    source = stream.make()
    wanted = examples(source.draw(stream.indexes))
    for nonsense in ("", "\0", "?" * 1000):
        with suppress(ValueError):
            source.ask(nonsense)
    if not source.asks:
        return
    block = source.ask(example_of(source.asks))
    check_asked(source.writes, block)
    kept = examples(block)
    same_examples("the draw after a question", examples(source.draw(stream.indexes)), wanted)
    same_examples("the question, asked again", examples(source.ask(example_of(source.asks))), kept)
    same_examples("the question, asked of another", examples(stream.make().ask(example_of(source.asks))), kept)


_LAWS: dict[str, Callable[[Stream], None]] = {
    law.__name__: law for law in (fields, pure, order, apart, placed, untouched, start, resume, shards, memory, asked)
}
SOURCE_LAWS: tuple[str, ...] = tuple(_LAWS)
"""The names of the laws, in the order in which `check_source` tries them."""


def check_source(factory: Callable[..., Source], law: str | None = None, *, examples: int = 12) -> None:
    """Hold a source against one of `SOURCE_LAWS`, or against all.

    In pytest: `@pytest.mark.parametrize("law", SOURCE_LAWS)` over `def test_laws(law): check_source(MySource, law)`.

    Args:
        factory: called as `factory(seed=..., split=...)`: a class, or a partial of one. Called several times.
        law: a name in `SOURCE_LAWS`; all of them where None.
        examples: how many examples a law looks at; so many that no two streams begin alike.

    Raises:
        LawBroken: an AssertionError of one line: the law, where it broke, and by how much.
        ValueError: there is no such law, or fewer than two examples.
    """
    if examples < 2:
        raise ValueError(f"examples: wanted at least 2, got {examples}")
    judge(_LAWS, lambda: Stream(factory, examples), law)


def reloaded(state: Any) -> Any:
    """A state as it comes back from a checkpoint."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
