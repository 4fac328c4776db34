"""The laws of what a task makes: its batches, their order, and their splits."""

from __future__ import annotations

import numpy as np

from seqtoolkit.flow.batch import IGNORED, Batch
from seqtoolkit.flow.counter import Split
from seqtoolkit.flow.graph import Graph
from seqtoolkit.flow.spec import Spec
from seqtoolkit.host.assemble import assemble
from seqtoolkit.host.config import ConfigError
from seqtoolkit.testing.block import check_field, examples, same_examples
from seqtoolkit.testing.law import LawBroken, demand
from seqtoolkit.testing.sketch import Sketch, anywhere, fields, learned, same_batch
from seqtoolkit.testing.source import METRICS, reloaded

EXAMPLES = 512
"""How many examples of a split are looked for in another."""
PIECE = 24
"""Of how many steps in a row it is asked whether another split has them."""
EACH_SPLIT: tuple[Split, ...] = ("train", "valid", "test")


def checks(sketch: Sketch) -> None:
    """Every part of the pipeline is there, and each stage fits what reaches it."""
    try:
        assemble(sketch.plan, build=False)
    except ConfigError as error:
        raise LawBroken("; ".join(str(error).splitlines())) from None


def batches(sketch: Sketch) -> None:
    """Batches are as their specs say, and in each something is learned and counted."""
    graph = sketch.graph()
    for split in EACH_SPLIT:
        for index, batch in enumerate(sketch.few(graph, split)):
            _check_batch(f"batch {index} of {split}", graph, batch)


def stages(sketch: Sketch) -> None:
    """Transforms and the batch leave the block that they are given as it is, and make the same of it again."""
    graph = sketch.graph()
    block = sketch.source("train").draw(np.arange(graph.collate.size, dtype=np.int64))
    for number, transform in enumerate(graph.transforms):
        where, kept = f"transform.{number}", examples(block)
        made = transform(block)
        same_examples(f"the block that {where} was given", examples(block), kept)
        same_examples(f"what {where} makes again", examples(transform(block)), examples(made))
        sizes: dict[object, object] = {}
        for name, spec in transform.writes.items():
            demand(name in made, f"{where}: wanted the field {name}, got {', '.join(made)}")
            check_field(f"{where}: {name}", Spec.parse(spec), made[name], graph.collate.size, sizes)
        block = made
    kept = examples(block)
    batch = graph.collate(block)
    same_examples("the block that batch was given", examples(block), kept)
    same_batch("what batch makes again", graph.collate(block), batch)


def seeded(sketch: Sketch) -> None:
    """The same seed gives the same batches, and another seed others."""
    wanted, again, other = (sketch.few(sketch.graph(), seed=seed) for seed in (0, 0, 1))
    for index, (one, two) in enumerate(zip(again, wanted, strict=True)):
        same_batch(f"batch {index} of the same seed", one, two)
    alike = [str(index) for index, (one, two) in enumerate(zip(other, wanted, strict=True)) if _alike(one, two)]
    demand(not alike, f"batch {', '.join(alike)} of seed 1 is that of seed 0")


def resumes(sketch: Sketch) -> None:
    """A stream that is saved in the middle and goes on elsewhere gives the same batches."""
    source, graph = sketch.source("train"), sketch.graph()
    node = graph.node(source)
    node.reset()
    made, states = [], []
    for metrics in METRICS[:8]:
        states.append((reloaded(node.state_dict()), list(source.told)))
        made.append(next(node))
        source.tell(metrics)
    for step in (1, 6):
        state, told = states[step]
        other = sketch.source("train")
        other.told.extend(told)
        resumed = sketch.graph().node(other)
        resumed.reset(state)
        for index in range(step, len(made)):
            same_batch(f"batch {index}, resumed before batch {step}", next(resumed), made[index])
            other.tell(METRICS[index])


def splits(sketch: Sketch) -> None:
    """No example of valid or test is met in train; of a contiguous source, whose text repeats itself, at most a tenth.

    The examples of such a source are pieces of its rows, which are looked for anywhere in the rows of train.
    """
    graph = sketch.graph()
    if graph.source.contiguous:
        _apart(sketch, graph)
        return
    train = _questions(sketch, graph, "train")
    space = len(set(train))
    for split in EACH_SPLIT[1:]:
        found = _questions(sketch, graph, split)
        met = [index for index, each in enumerate(found) if each in set(train)]
        small = f"; train has only {space} different ones among {len(train)}" if space < 0.9 * len(train) else ""
        demand(not met, f"{len(met)} of {len(found)} examples of {split} are met in train, first at {met[:1]}{small}")


def _apart(sketch: Sketch, graph: Graph) -> None:
    """The law of splits for a contiguous source."""
    train = _rows(sketch, graph, "train")
    for split in EACH_SPLIT[1:]:
        rows = _rows(sketch, graph, split)
        pieces = [row[at : at + PIECE] for row in rows for at in range(0, max(1, len(row) - PIECE + 1), PIECE)]
        met = [index for index, piece in enumerate(pieces) if any(_has(row, piece) for row in train)]
        demand(
            len(met) <= len(pieces) / 10,
            f"{len(met)} of {len(pieces)} pieces of {split}, of {len(pieces[0])} steps each, are met in train, first at {met[:1]}",
        )


def _rows(sketch: Sketch, graph: Graph, split: Split) -> list[np.ndarray]:
    """What is to be said in each row of a pass over a split, or in the beginning of one."""
    source = sketch.source(split)
    node = graph.node(source)
    node.reset()
    count = -(-min(source.size or EXAMPLES, EXAMPLES) // graph.collate.size)
    targets = np.concatenate([batch.targets.numpy() for _, batch in zip(range(count), node, strict=False)])
    return [row[row != IGNORED] for row in targets.T]


def _has(row: np.ndarray, piece: np.ndarray) -> bool:
    """Whether a piece stands anywhere in a row."""
    at = row.tobytes().find(piece.tobytes())
    while at % row.itemsize and at >= 0:
        at = row.tobytes().find(piece.tobytes(), at + 1)
    return at >= 0


def _questions(sketch: Sketch, graph: Graph, split: Split) -> list[bytes]:
    """What the model reads of each example: from where it begins anew to where it answers, without padding."""
    found: list[bytes] = []
    for batch in sketch.batches(graph, split):
        steps = len(batch.inputs) - batch.answers
        inputs = batch.inputs[: steps or None].numpy()
        begins = np.zeros(batch.size, int) if batch.first is None else _last(batch.first[: steps or None].numpy())
        found += [inputs[begin:, row].tobytes() for row, begin in enumerate(begins)]
        if len(found) >= EXAMPLES:
            break
    return found[:EXAMPLES]


def _last(first: np.ndarray) -> np.ndarray:
    return np.where(first, np.arange(len(first))[:, None], 0).max(0)


def _check_batch(what: str, graph: Graph, batch: Batch) -> None:
    demand(isinstance(batch, Batch), f"{what}: wanted a Batch, got {type(batch).__name__}")
    sizes: dict[object, object] = {}
    found = fields(batch)
    for name, text in graph.collate.writes.items():
        spec = Spec.parse(text)
        if name == "first" and name not in found:  # nothing begins anew
            continue
        demand(name in found, f"{what}: wanted {name} {spec}, got none")
        values = found[name]
        if name == "targets" and not values.is_floating_point():
            values = values.masked_fill(values == IGNORED, 0)
        check_field(f"{what}: {name}", spec, values, len(values), sizes)
    for name, values in found.items():
        demand(values.isfinite().all(), f"{what}: {name}: {int((~values.isfinite()).sum())} values are not finite")
    shape = list(batch.targets.shape[:2])
    demand(list(batch.mask.shape) == shape, f"{what}: mask: wanted {shape}, got {list(batch.mask.shape)}")
    demand(batch.answers <= len(batch.inputs), f"{what}: {batch.answers} answers in {len(batch.inputs)} steps")
    outside = int((batch.mask & ~anywhere(learned(batch))).sum())
    demand(not outside, f"{what}: mask counts {outside} targets that are ignored")
    demand(batch.mask.any(), f"{what}: mask counts nothing")
    demand(graph.loss.count(batch) > 0, f"{what}: the loss counts nothing")


def _alike(one: Batch, other: Batch) -> bool:
    ones, others = fields(one), fields(other)
    return ones["inputs"].shape == others["inputs"].shape and bool((ones["inputs"] == others["inputs"]).all())
