"""check_source passes a sound source and catches broken ones, each by the laws that it breaks."""
# ruff: noqa: D101, D102  a broken source's name says what is wrong with it

import numpy as np
import pytest
import torch

from seqtoolkit.flow.source import joined
from seqtoolkit.sdk import Ragged, Source, counter_bits, counter_tensor, record
from seqtoolkit.testing import SOURCE_LAWS, LawBroken, check_source


class Sound(Source):
    """Digits to be read, their weights, and a level that feedback raises."""

    writes = record(digits="i64<10>[B L]", weights="f32[B L]", point="f64[B 2]")

    def __init__(self, seed=0, split="train"):
        super().__init__(seed, split)
        self.level = 0

    def bits(self, indexes):
        return counter_bits(self.seed, self.split, indexes, 4)

    def draw(self, indexes):
        bits = self.bits(indexes)
        lengths = 2 + (bits[:, 0] % np.uint64(3)).astype(np.int64) + min(self.level, 3)
        values = np.repeat(bits[:, 1] % np.uint64(10), lengths).astype(np.int64)
        weights = np.ones(len(values), np.float32)
        point = torch.from_numpy(bits[:, 2:].astype(np.float64))
        return {"digits": Ragged(values, lengths), "weights": Ragged(weights, lengths), "point": point}

    def observe(self, metrics):
        self.level += metrics["loss"] < 0.5

    def memory(self):
        return {"level": self.level}

    def recall(self, memory):
        self.level = memory["level"]


class MissingField(Sound):
    def draw(self, indexes):
        block = super().draw(indexes)
        del block["point"]
        return block


class WrongDtype(Sound):
    def draw(self, indexes):
        block = super().draw(indexes)
        return block | {"point": block["point"].float()}


class WrongAxes(Sound):
    def draw(self, indexes):
        block = super().draw(indexes)
        return block | {"point": block["point"][:, :1]}


class TooFewAxes(Sound):
    def draw(self, indexes):
        block = super().draw(indexes)
        return block | {"point": block["point"][:, 0]}


class OutOfBound(Sound):
    def draw(self, indexes):
        block = super().draw(indexes)
        return block | {"digits": Ragged(block["digits"].values + 5, block["digits"].lengths)}


class LengthsApart(Sound):
    def draw(self, indexes):
        block = super().draw(indexes)
        lengths = block["weights"].lengths + 1
        return block | {"weights": Ragged(np.ones(lengths.sum(), np.float32), lengths)}


class LengthsOff(Sound):
    def draw(self, indexes):
        block = super().draw(indexes)
        return block | {"digits": Ragged(block["digits"].values[1:], block["digits"].lengths)}


class TooMany(Sound):
    def draw(self, indexes):
        return super().draw(np.append(indexes, 0))


class GlobalRandomness(Sound):
    def draw(self, indexes):
        block = super().draw(indexes)
        return block | {"point": torch.rand(len(indexes), 2, dtype=torch.float64)}


class Counts(Sound):
    drawn = 0

    def bits(self, indexes):
        self.drawn += 1
        return super().bits(indexes + (self.drawn > 1))


class ByPosition(Sound):
    def bits(self, indexes):
        return super().bits(indexes[:1] + np.arange(len(indexes)))


class DeafToSeed(Sound):
    def bits(self, indexes):
        return counter_bits(0, self.split, indexes, 4)


class DeafToSplit(Sound):
    def bits(self, indexes):
        return counter_bits(self.seed, "train", indexes, 4)


class ChangesIndexes(Sound):
    def draw(self, indexes):
        block = super().draw(indexes)
        indexes += 1
        return block


class Cached(Sound):
    def __init__(self, seed=0, split="train"):
        super().__init__(seed, split)
        self.cache = {}

    def draw(self, indexes):
        key = indexes.tobytes()
        if key not in self.cache:
            self.cache[key] = super().draw(indexes)
        return self.cache[key]


class StartsLate(Sound):
    def reset(self, initial_state=None):
        super().reset(initial_state)
        if initial_state is None:
            self.index = 1


class NeverGoesBack(Sound):
    def reset(self, initial_state=None):
        index = self.index
        super().reset(initial_state)
        self.index = max(self.index, index)


class ForgetsItsPlace(Sound):
    def get_state(self):
        return super().get_state() | {"index": 0}


class LiveState(Sound):
    def __init__(self, seed=0, split="train"):
        super().__init__(seed, split)
        self.live = {"index": 0, "blocks": 0, "memory": {}}

    def get_state(self):
        self.live.update(super().get_state())
        return self.live


class ObjectState(Sound):
    def get_state(self):
        return super().get_state() | {"index": np.int64(self.index), "self": LawBroken}


class EveryRankAlike(Sound):
    def next(self):
        rank, self.rank = self.rank, 0
        block = super().next()
        self.rank = rank
        return block


class RanksOverlap(Sound):
    def next(self):
        block = super().next()
        self.index -= self.block * self.world - self.block
        return block


class ForgetsItsLevel(Sound):
    def memory(self):
        return {}

    def recall(self, memory):
        pass


class LiveMemory(Sound):
    def __init__(self, seed=0, split="train"):
        super().__init__(seed, split)
        self.kept = {}

    def memory(self):
        self.kept["level"] = self.level
        return self.kept

    def observe(self, metrics):
        super().observe(metrics)
        self.kept["level"] = self.level


class Drawn(Source):
    """Digits and points drawn on the device that the source is told of."""

    on_device = True
    writes = record(digits="i64<8>[B 2]", point="f64[B 2]")

    def draw(self, indexes):
        bits = counter_tensor(self.seed, self.split, indexes, 4, device=self.device)
        return {"digits": bits[:, :2] & 7, "point": bits[:, 2:].double()}


class DrawnElsewhere(Drawn):
    def draw(self, indexes):
        bits = counter_tensor(self.seed, self.split, indexes, 2)
        return super().draw(indexes) | {"digits": bits & 7}


class DrawnAsArray(Drawn):
    def draw(self, indexes):
        bits = counter_bits(self.seed, self.split, indexes, 2)
        return super().draw(indexes) | {"digits": (bits & np.uint64(7)).astype(np.int64)}


class DrawnWithALook(Drawn):
    def draw(self, indexes):
        block = super().draw(indexes)
        return block | {"point": block["point"].clamp(max=block["point"].max().item())}


class Asked(Sound):
    """Takes one digit, whose point is anywhere."""

    asks = "a digit: `7`"

    def ask(self, question):
        if question not in "0123456789" or len(question) != 1:
            raise ValueError(f"wanted a digit, got {question[:10]!r}")
        return self.made(int(question))

    def made(self, digit):
        one = np.ones(1, np.int64)
        point = torch.zeros(1, 2, dtype=torch.float64)
        return {"digits": Ragged(digit * one, one), "weights": Ragged(np.ones(1, np.float32), one), "point": point}


class AsksWithoutExample(Asked):
    asks = "a digit: 7"


class AskedNothing(Sound):
    asks = "a digit: `7`"


class TripsOverNonsense(Asked):
    def ask(self, question):
        return self.made(int(question[0]))


class AskedForNothingKnown(Asked):
    """Nothing is wanted of what it is asked: no law is broken."""

    def made(self, digit):
        return super().made(-100)


class AskedForTwo(Asked):
    def made(self, digit):
        return {name: joined_twice(field) for name, field in super().made(digit).items()}


class AskedOutOfBound(Asked):
    def made(self, digit):
        return super().made(digit + 10)


class AskedIncompletely(Asked):
    def made(self, digit):
        block = super().made(digit)
        del block["point"]
        return block


class LearnsByQuestions(Asked):
    def ask(self, question):
        self.level += 1
        return super().ask(question)


class AskedAtRandom(Asked):
    def made(self, digit):
        return super().made(digit) | {"point": torch.rand(1, 2, dtype=torch.float64)}


def joined_twice(field):
    """A field with each example twice."""
    return joined([{"": field}, {"": field}])[""]


BROKEN = {
    MissingField: "fields",
    WrongDtype: "fields",
    WrongAxes: "fields",
    TooFewAxes: "fields",
    OutOfBound: "fields",
    LengthsApart: "fields",
    LengthsOff: "fields order shards",
    TooMany: "fields order shards",
    GlobalRandomness: "pure order untouched start resume shards memory",
    Counts: "pure order untouched start resume shards",
    ByPosition: "order",
    DeafToSeed: "apart",
    DeafToSplit: "apart",
    ChangesIndexes: "pure order untouched",
    Cached: "untouched",
    StartsLate: "start",
    NeverGoesBack: "start",
    ForgetsItsPlace: "resume shards",
    LiveState: "resume",
    ObjectState: "resume",
    EveryRankAlike: "shards",
    RanksOverlap: "shards",
    ForgetsItsLevel: "resume memory",
    LiveMemory: "resume memory",
    DrawnElsewhere: "placed",
    DrawnAsArray: "placed",
    DrawnWithALook: "placed",
    AsksWithoutExample: "asked",
    AskedNothing: "asked",
    TripsOverNonsense: "asked",
    AskedForTwo: "asked",
    AskedOutOfBound: "asked",
    AskedIncompletely: "asked",
    LearnsByQuestions: "asked",
    AskedAtRandom: "asked",
}
"""Each broken source, with all the laws that it breaks."""


def verdict(source, law):
    """What check_source says of a source that breaks a law; nothing of one that keeps it."""
    try:
        check_source(source, law)
    except LawBroken as broken:
        return str(broken)
    return ""


@pytest.mark.parametrize("source", [Sound, Drawn, Asked, AskedForNothingKnown])
@pytest.mark.parametrize("law", SOURCE_LAWS)
def test_sound_source_passes(law, source):
    """A sound source passes every law, one that draws on a device and those that take questions too."""
    check_source(source, law)


@pytest.mark.parametrize("source", BROKEN)
def test_broken_sources_are_caught(source):
    """Each broken source breaks the laws that it should and no others, and says so in one line that begins with the law."""
    found = {law: said for law in SOURCE_LAWS if (said := verdict(source, law))}
    assert found.keys() == set(BROKEN[source].split())
    assert all(said.startswith(f"{law}: ") and len(said.splitlines()) == 1 for law, said in found.items())
    with pytest.raises(LawBroken):
        check_source(source)


def test_every_law_can_be_broken():
    """There is no law that nothing breaks."""
    assert set(" ".join(BROKEN.values()).split()) == set(SOURCE_LAWS)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (AsksWithoutExample, "asks: wanted an example between backticks, got 'a digit: 7'"),
        (AskedNothing, "It raised ValueError: the task AskedNothing takes no questions, such as '7'"),
        (TripsOverNonsense, "It raised IndexError"),
        (AskedForTwo, "a question's digits: wanted 1 examples, got 2"),
        (AskedOutOfBound, "a question's digits: wanted ids below 10, got 17 to 17"),
        (AskedIncompletely, "a question has the fields digits, weights, wanted digits, point, weights"),
        (LearnsByQuestions, "the draw after a question: "),
        (AskedAtRandom, "the question, asked again: "),
    ],
)
def test_message_says_what_a_question_lacks(source, message):
    """The line says what is wrong with a question, or with what is made of it."""
    with pytest.raises(LawBroken, match=message):
        check_source(source, "asked")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"law": "gravity"}, "law: wanted one of fields, .*got 'gravity'"),
        ({"examples": 1}, "examples: wanted at least 2"),
    ],
)
def test_bad_questions(options, message):
    """A law that is not one, and too few examples to tell streams apart, are refused by name."""
    with pytest.raises(ValueError, match=message):
        check_source(Sound, **options)
