"""check_task passes sound tasks and catches broken ones, each by the laws that it breaks."""
# ruff: noqa: D101, D102  a broken part's name says what is wrong with it

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from seqtoolkit import Pipeline
from seqtoolkit.flow.batch import Pad
from seqtoolkit.flow.loss import CrossEntropy
from seqtoolkit.flow.metric import Accuracy
from seqtoolkit.flow.source import joined
from seqtoolkit.host.plugin import Plugin
from seqtoolkit.host.registry import discover
from seqtoolkit.host.resource import shipped
from seqtoolkit.sdk import (
    IGNORED,
    Batch,
    Collate,
    Core,
    Head,
    Loss,
    Metric,
    Ragged,
    Sample,
    Source,
    Split,
    Transform,
    counter_bits,
    record,
)
from seqtoolkit.testing import TASK_LAWS, LawBroken, check_task
from seqtoolkit.testing.sketch import ROWS, Sketch


class Sound(Source):
    """Twelve to sixteen symbols to be said again."""

    def __init__(self, seed: int = 0, split: Split = "train") -> None:
        super().__init__(seed, split)
        self.writes = record(question="i64<6>[B L]", answer="i64<6>[B A]", counted="bool[B A]")

    def bits(self, indexes):
        return counter_bits(self.seed, self.split, indexes, 17)

    def draw(self, indexes):
        bits = self.bits(indexes)
        lengths = (12 + bits[:, 0] % np.uint64(5)).astype(np.int64)
        symbols = (1 + bits[:, 1:] % np.uint64(5)).astype(np.int64)
        said = Ragged(symbols[np.arange(16) < lengths[:, None]], lengths)
        return {"question": said, "answer": said, "counted": Ragged(np.ones(len(said.values), bool), lengths)}


class Plain(Core):
    """A plain recurrent layer."""

    def __init__(self, input_size: int, size: int = 8) -> None:
        super().__init__()
        self.input_size, self.output_size = input_size, size
        self.map = nn.Linear(input_size + size, size)

    def initial_state(self, batch_size):
        return self.map.weight.new_full((batch_size, self.output_size), 0.5)

    def step(self, inputs, state):
        state = torch.tanh(self.map(torch.cat([inputs, state], -1)))
        return state, state


class DeafToSeed(Sound):
    def bits(self, indexes):
        return counter_bits(0, self.split, indexes, 17)


class SplitsLeak(Sound):
    def bits(self, indexes):
        return counter_bits(self.seed, "train", indexes, 17)


class TinySpace(Sound):
    def bits(self, indexes):
        bits = super().bits(indexes) % np.uint64(2)
        bits[:, 6:] = 0
        return bits


class CountsNothing(Sound):
    def draw(self, indexes):
        block = super().draw(indexes)
        return block | {"counted": Ragged(np.zeros_like(block["counted"].values), block["counted"].lengths)}


class ForgetsItsPlace(Sound):
    def get_state(self):
        return super().get_state() | {"index": 0}


class OutOfBound(Sound):
    def draw(self, indexes):
        block = super().draw(indexes)
        return block | {"question": Ragged(block["question"].values + 1, block["question"].lengths)}


class NoTestSplit(Sound):
    def draw(self, indexes):
        if self.split == "test":
            raise ValueError("test has no examples")
        return super().draw(indexes)


class ShowsNumbers(Sound):
    def show(self, inputs, targets, predictions):
        return Sample(inputs, str(targets), str(predictions))


class ShowsInputs(Sound):
    def show(self, inputs, targets, predictions):
        return Sample("", str(targets), str(inputs))


class Asked(Sound):
    """Takes symbols from 1 to 5."""

    asks = "symbols from 1 to 5: `12345`"

    def ask(self, question):
        if not question or set(question) - set("12345"):
            raise ValueError(f"wanted symbols from 1 to 5, got {question[:10]!r}")
        length = np.array([len(question)])
        said = Ragged(np.array(list(map(int, question))), length)
        return {"question": said, "answer": said, "counted": Ragged(np.ones(len(question), bool), length)}


class AskedUnknown(Asked):
    """Does not know the answer, which may have six symbols."""

    def ask(self, question):
        block, length = super().ask(question), np.array([6])
        return block | {"answer": Ragged(np.full(6, IGNORED), length), "counted": Ragged(np.zeros(6, bool), length)}


class AskedForMany(Asked):
    def ask(self, question):
        return joined([super().ask(question)] * 2)


class AskedShowsInputs(Asked):
    def show(self, inputs, targets, predictions):
        drawn = len(targets) > 5
        return super().show(inputs, targets, predictions if drawn else inputs[-len(targets) :])


class Reverse(Transform):
    """Turns each question around, in its own memory."""

    def __init__(self, input_spec) -> None:
        self.writes = input_spec

    def __call__(self, block):
        block["question"].values[...] = block["question"].values[::-1].copy()
        return block


class Shuffles(Transform):
    """Changes questions at random, without a seed."""

    def __init__(self, input_spec) -> None:
        self.writes = input_spec
        self.generator = np.random.default_rng()

    def __call__(self, block):
        values, lengths = block["question"]
        return {**block, "question": Ragged(self.generator.permutation(values), lengths)}


class Drops(Reverse):
    def __call__(self, block):
        return {name: block[name] for name in ("question", "answer")}


class NoRestarts(Pad):
    def __call__(self, block):
        return replace(super().__call__(block), first=torch.zeros_like(super().__call__(block).first))


class MasksEverything(Pad):
    def __call__(self, block):
        batch = super().__call__(block)
        return replace(batch, mask=torch.ones_like(batch.mask))


class Counting(Pad):
    calls = 0

    def __call__(self, block):
        self.calls += 1
        batch = super().__call__(block)
        return replace(batch, inputs=batch.inputs.roll(1, 0) if self.calls % 2 else batch.inputs)


class AddsToBlock(Pad):
    def __call__(self, block):
        block["more"] = block["question"]
        return super().__call__(block)


class Averages(CrossEntropy):
    def total(self, predictions, batch):
        return super().total(predictions, batch) / super().count(batch)


class WrongSign(CrossEntropy):
    def total(self, predictions, batch):
        return -super().total(predictions, batch)


class LearnsPadding(CrossEntropy):
    def total(self, predictions, batch):
        padding = batch.targets == IGNORED
        return super().total(predictions, batch) + (predictions[..., 0] ** 2 * padding).sum()


class NoGradient(CrossEntropy):
    def total(self, predictions, batch):
        return super().total(predictions.detach(), batch) + 0 * predictions.sum()


class Infinite(CrossEntropy):
    def total(self, predictions, batch):
        return super().total(predictions, batch) / 0.0


class LowerIsBetter(Accuracy):
    better = "lower"


class CountsPadding(Accuracy):
    def measure(self, predictions, batch):
        hit = predictions.argmax(-1) == batch.targets.clamp(min=0)
        return torch.stack([hit.sum(), torch.tensor(hit.numel())])


class Whole(Accuracy):
    """A share for each batch, not for all."""

    def measure(self, predictions, batch):
        total, count = super().measure(predictions, batch)
        return torch.stack([total / count, torch.ones(())])


class Numbers(Source):
    """Rows of vectors, whose running sums are wanted."""

    writes = record(vectors="f32[B 6 3]")

    def draw(self, indexes):
        bits = counter_bits(self.seed, self.split, indexes, 18) >> np.uint64(40)
        return {"vectors": (bits / 2**24).astype(np.float32).reshape(-1, 6, 3)}


class Sums(Collate):
    reads = record(vectors="f32[B 6 3]")
    writes = record(inputs="f32[T B 3]", targets="f32[U B 1]", mask="bool[U B]")

    def __init__(self, size: int = 8) -> None:
        super().__init__(size)

    def __call__(self, block):
        inputs = torch.from_numpy(block["vectors"]).transpose(0, 1)
        return Batch(inputs, inputs.sum(-1, keepdim=True).cumsum(0), torch.ones(inputs.shape[:2], dtype=torch.bool))


class Linear(Head):
    reads, writes = "f32[U B H]", "f32[U B 1]"

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.map = nn.Linear(input_size, 1)

    def forward(self, outputs):
        return self.map(outputs)


class Squares(Loss):
    reads = {"predictions": "f32[U B 1]", "targets": "f32[U B 1]", "mask": "bool[U B]"}  # noqa: RUF012  a constant

    def total(self, predictions, batch):
        return ((predictions - batch.targets).square().squeeze(-1) * batch.mask).sum()

    def count(self, batch):
        return batch.mask.sum()


class Off(Squares, Metric):
    better = "lower"

    def measure(self, predictions, batch):
        return torch.stack([self.total(predictions, batch), self.count(batch)])


class IgnoresMask(Squares):
    def total(self, predictions, batch):
        return (predictions - batch.targets).square().sum()


NUMBERS = {
    "source": "Numbers",
    "batch": {"use": "Sums", "size": 8},
    "model": {"encoder": {"use": "linear", "size": 4}, "core": "Plain", "head": "Linear"},
    "loss": "Squares",
    "metric": ["Off"],
    "learner": {"use": "supervised", "optimizer": {"use": "adam", "lr": 0.01}},
}
BASE = {
    "source": "Sound",
    "batch": {"use": "pad", "size": 64},
    "model": {"encoder": {"use": "embed", "size": 8}, "core": "Plain", "head": {"use": "mlp", "sizes": [8]}},
    "loss": "cross_entropy",
    "metric": ["accuracy", "sequence_accuracy"],
    "learner": {"use": "supervised", "optimizer": {"use": "adam", "lr": 0.01}},
}
SOURCES = (
    DeafToSeed,
    SplitsLeak,
    TinySpace,
    CountsNothing,
    ForgetsItsPlace,
    OutOfBound,
    NoTestSplit,
    ShowsNumbers,
    ShowsInputs,
    Asked,
    AskedUnknown,
    AskedForMany,
    AskedShowsInputs,
)
PARTS = {
    "source": (Sound, Numbers, *SOURCES),
    "transform": (Reverse, Shuffles, Drops),
    "batch": (Sums, NoRestarts, MasksEverything, Counting, AddsToBlock),
    "core": (Plain,),
    "head": (Linear,),
    "loss": (Squares, IgnoresMask, Averages, WrongSign, LearnsPadding, NoGradient, Infinite),
    "metric": (Off, LowerIsBetter, CountsPadding, Whole),
}
BROKEN = {
    "source=DeafToSeed": "seeded",
    "source=SplitsLeak": "splits",
    "source=TinySpace": "splits",
    "source=CountsNothing": "batches answers trains",
    "source=ForgetsItsPlace": "resumes",
    "source=OutOfBound": "batches rows learns trains",
    "source=NoTestSplit": "batches splits shown trains",
    "source=ShowsNumbers": "shown",
    "source=ShowsInputs": "shown",
    "source=AskedForMany": "asked",
    "source=AskedShowsInputs": "asked",
    "transform=[Reverse]": "stages rows",
    "transform=[Shuffles]": "stages seeded resumes rows",
    "transform=[Drops]": " ".join(law for law in TASK_LAWS[1:] if law != "asked"),
    "batch=NoRestarts": "rows",
    "batch=MasksEverything": "batches",
    "batch=Counting": "stages resumes rows",
    "batch=AddsToBlock": "stages",
    "loss=Averages": "sums",
    "loss=WrongSign": "answers",
    "loss=LearnsPadding": "ignored",
    "loss=NoGradient": "learns trains",
    "loss=Infinite": "answers learns trains",
    "metric=[LowerIsBetter]": "answers",
    "metric=[CountsPadding]": "ignored",
    "metric=[Whole]": "sums",
    "learner.optimizer.lr=0": "learns trains",
    "metric=[nothing]": " ".join(TASK_LAWS),
}
"""Each override that breaks the sound task, with all the laws that it breaks."""


def discover_with_toys():
    """What is installed, and the parts of this file as if a plugin brought them."""
    parts = {kind: {each.__name__: f"{__name__}:{each.__name__}" for each in found} for kind, found in PARTS.items()}
    toys = Plugin(name="toys", distribution="toys", version="1", module=__name__, parts=parts)
    return replace(discover(), plugins=(*discover().plugins, toys), schemas={})


@pytest.fixture(autouse=True)
def _toys(monkeypatch):
    """check_task sees the parts of this file."""
    monkeypatch.setattr("seqtoolkit.testing.task.discover", discover_with_toys)


def verdict(broken, law):
    """What check_task says of the sound task with a broken part; nothing where it keeps the law."""
    try:
        check_task(BASE, law, overrides=[broken])
    except LawBroken as said:
        return str(said)
    return ""


@pytest.mark.parametrize("task", [BASE, NUMBERS], ids=["symbols", "numbers"])
@pytest.mark.parametrize("law", TASK_LAWS)
def test_sound_tasks_pass(task, law):
    """A sound task keeps every law, whether its targets are ids or numbers."""
    check_task(task, law)


@pytest.mark.parametrize("source", ["Asked", "AskedUnknown"])
def test_sound_questions_pass(source):
    """A task that takes questions keeps the law of them, whether it knows the answers or not."""
    check_task(BASE, "asked", overrides=[f"source={source}"])


def test_company_may_not_matter_to_a_question():
    """A batch that does not mark where a question begins lets the padding that company brings change the answer."""
    with pytest.raises(LawBroken, match=r"^asked: .*predictions for a question in company: off by"):
        check_task(BASE, "asked", overrides=["source=Asked", "batch=NoRestarts"])


PLANS = {name: Pipeline.load(name).plan for name in sorted(shipped("pipelines"))}
GENERATED = [name for name, plan in PLANS.items() if not plan.acting and "train" not in plan.origin.params]


@pytest.mark.parametrize("law", TASK_LAWS)
@pytest.mark.parametrize("name", GENERATED)
def test_shipped_pipelines_pass(name, law):
    """Every pipeline that an installed plugin ships, and that reads no text, keeps every law, with a model that is small."""
    check_task(name, law, overrides=["model.core=lstm", "model.core.hidden_size=16", "model.head.sizes=[16]"])


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_tasks_are_caught(broken):
    """Each broken task breaks the laws that it should and no others, and says so in one line that begins with the law."""
    found = {law: said for law in TASK_LAWS if (said := verdict(broken, law))}
    assert found.keys() == set(BROKEN[broken].split()), found
    assert all(said.startswith(f"{law}: ") and len(said.splitlines()) == 1 for law, said in found.items())
    with pytest.raises(LawBroken):
        check_task(BASE, overrides=[broken])


def test_every_law_can_be_broken():
    """There is no law that nothing breaks by itself or with few others."""
    few = [laws for laws in BROKEN.values() if set(laws.split()) != set(TASK_LAWS)]
    assert set(" ".join(few).split()) >= set(TASK_LAWS) - {"checks"}


@pytest.mark.parametrize(
    ("broken", "law", "message"),
    [
        (
            "source=TinySpace",
            "splits",
            r"\d+ of 512 examples of valid are met in train, first at \[\d+\]; train has only",
        ),
        ("source=SplitsLeak", "splits", r"512 of 512 examples of valid are met in train, first at \[0\]$"),
        ("loss=WrongSign", "answers", r"loss: -.* for a perfect answer, -.* for a wrong one; wanted the first lower"),
        (
            "metric=[LowerIsBetter]",
            "answers",
            r"LowerIsBetter: 1 for a perfect answer, 0 for a wrong one; wanted .* lower",
        ),
        ("batch=MasksEverything", "batches", r"batch 0 of train: mask counts \d+ targets that are ignored"),
        ("batch=NoRestarts", "rows", r"predictions of row \d alone: off by .*, wanted at most 1e-09"),
        ("source=OutOfBound", "batches", r"batch 0 of train: inputs: wanted ids below 6, got 0 to 6"),
        ("source=ShowsNumbers", "shown", r"row 0 of train: question: wanted text, got ndarray"),
        ("learner.optimizer.lr=0", "learns", r"from (.*) to \1 in 30 updates"),
        ("metric=[nothing]", "checks", r"metric.0: no metric 'nothing'"),
        ("model.encoder=linear", "checks", r"model.encoder: .*f32"),
    ],
)
def test_message_says_how_much(broken, law, message):
    """The line names the law, the place, and the size of the fault."""
    with pytest.raises(LawBroken, match=rf"^{law}: .*{message}"):
        check_task(BASE, law, overrides=[broken])


def test_a_mask_counts_for_numbers_too():
    """Where targets are numbers, the mask says what is learned."""
    with pytest.raises(LawBroken, match=r"^ignored: .*loss, where predictions change where the mask is false: off by"):
        check_task(NUMBERS, "ignored", overrides=["loss=IgnoresMask"])


@pytest.mark.parametrize(
    ("pipeline", "law", "message"),
    [(BASE, "gravity", "law: wanted one of checks, .*got 'gravity'"), ("no_such", None, "no_such")],
)
def test_bad_questions(pipeline, law, message):
    """A law that is not one, and a pipeline that is nowhere, are refused by name."""
    with pytest.raises(ValueError, match=message):
        check_task(pipeline, law)


def test_leaves_the_session_alone():
    """Checking a task draws nothing from the caller's random numbers, and keeps the number of threads."""
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    check_task(BASE, overrides=["run.threads=0"])
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_made_small():
    """The batch of a pipeline is cut to a few rows; overrides come last."""
    assert Sketch(BASE, [], discover_with_toys()).plan.batch.params["size"] == ROWS
    assert Sketch(BASE, ["batch.size=3"], discover_with_toys()).plan.batch.params["size"] == 3
    assert Sketch(BASE, ["batch.size=20"], discover_with_toys()).plan.batch.params["size"] == 20


def test_an_environment_is_held_by_other_laws():
    """It is said which, in one line."""
    with pytest.raises(ValueError, match="got one with an environment: hold that by check_environment"):
        check_task("t_maze", "batches")
