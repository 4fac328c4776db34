"""The source of text: its laws and a task's, which documents are held out, whose ids it goes by, and what is refused."""

import random
import re
from functools import partial

import numpy as np
import pytest

from seqtoolkit.sdk import IGNORED
from seqtoolkit.testing import SOURCE_LAWS, TASK_LAWS, LawBroken, check_source, check_task
from seqtoolkit_language import Text
from seqtoolkit_language.source import KEPT
from seqtoolkit_language.tokenizer import EOS

WORDS = [first + last for first in "bcdfghklmnprst" for last in "aeiou"]
BANDS = [{"use": "frequency_perplexity", "least": 40}, {"use": "frequency_perplexity", "below": 40}]
PIPELINE = {
    "batch": {"use": "stack", "size": 4},
    "model": {
        "encoder": {"use": "embed", "size": 8},
        "core": {"use": "lstm", "hidden_size": 8},
        "head": {"use": "softmax"},
    },
    "loss": "negative_log_likelihood",
    "metric": ["perplexity", "bits_per_character", *BANDS],
    "learner": {"use": "truncated", "optimizer": {"use": "adam", "lr": 0.01}},
    "evaluate": {"source": {"split": "valid"}},
    "run": {"steps": 3},
    "track": "none",
}


def silent(text, share):
    """Nobody is told."""


def tell(folder, seed=0, count=40):
    """A folder of files, each a document of 60 to 99 words that are as frequent as their place in the list has them."""
    chance, weights = random.Random(seed), [1 / (1 + place) for place in range(len(WORDS))]
    folder.mkdir()
    for number in range(count):
        said = chance.choices(WORDS, weights, k=chance.randrange(60, 100))
        (folder / f"{number:02}.txt").write_text(" ".join(said) + "\n")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A text that nobody changes."""
    return tell(tmp_path_factory.mktemp("corpus") / "text")


@pytest.fixture(scope="module")
def make(folder):
    """Sources of that text, with settings."""
    return partial(Text, train=str(folder), bptt=7, vocabulary=60, held_out=0.2)


def documents(source):
    """The documents of a split, as ids without their <eos>."""
    ids = source.tokens[:]
    assert ids[-1] == EOS
    parts = np.split(ids, source.tokens.documents[1:])
    assert all((part == EOS).sum() == 1 for part in parts)
    return [part[:-1].tolist() for part in parts]


@pytest.mark.parametrize("options", [{}, {"restart": "document", "restart_every": 5}], ids=str)
@pytest.mark.parametrize("law", SOURCE_LAWS)
def test_laws(make, law, options):
    """Every law of sources holds."""
    check_source(partial(make, **options), law)


@pytest.mark.parametrize("law", TASK_LAWS)
def test_laws_of_a_task(folder, law):
    """Every law of tasks holds of a pipeline over text."""
    source = {"use": "text", "train": str(folder), "bptt": 9, "vocabulary": 50, "held_out": 0.2}
    check_task({"source": source, **PIPELINE}, law)


def test_a_leak_between_splits_is_found(folder):
    """A text that is learned from and evaluated on breaks the law of splits, whichever token a pass begins with."""
    source = {"use": "text", "train": str(folder), "valid": str(folder), "bptt": 9, "vocabulary": 50, "held_out": 0.2}
    with pytest.raises(LawBroken, match=r"^splits: .* \d+ of \d+ pieces of valid, of 24 steps each, are met in train"):
        check_task({"source": source, **PIPELINE}, "splits")


def test_held_out_documents(make, folder):
    """Documents held out for valid and test, and those of train, are all documents, each once."""
    found = {
        split: [Text.decode(source, each) for each in documents(source)]
        for split in ("train", "valid", "test")
        for source in [make(tokenizer="byte", vocabulary=None, split=split)]
    }
    assert all(found.values())
    assert len(found["train"]) > len(found["valid"])
    listed = sorted(each.split() for part in found.values() for each in part)
    assert listed == sorted(file.read_text().split() for file in folder.glob("*.txt"))


def test_named_splits(make, folder, tmp_path):
    """A text of its own is read whole, and where both are named, train keeps every document."""
    other = tell(tmp_path / "other", seed=1, count=5)
    named = {"valid": str(other), "test": [str(other / "00.txt")]}
    counts = [len(make(**named, split=split).tokens.documents) for split in ("train", "valid", "test")]
    assert counts == [40, 5, 1]
    assert len(make(valid=str(other)).tokens.documents) < 40


def test_the_vocabulary_is_that_of_the_training_text(make, folder):
    """Where no size is given there are as many ids as different words in train; where one is given, so many."""
    known = {word for each in documents(make(tokenizer="space", vocabulary=None)) for word in each}
    free, cut = make(vocabulary=None), make(vocabulary=20)
    assert free.writes["inputs"].bound == free.tokenizer.size == len(known) + 2  # and <unk>, <eos>
    assert cut.writes["targets"].bound == cut.tokenizer.size == 20
    assert max(max(each) for each in documents(cut)) == 19
    assert make(tokenizer="byte", vocabulary=None).writes["inputs"].bound == 258


def test_a_pass_says_every_token_once(make):
    """Over all rows and windows, the targets are the tokens of the split, each with its characters and frequency."""
    for split, rows in (("train", 1), ("train", 5), ("valid", 3)):
        source = make(split=split, restart="document")
        source.block = rows
        block = source.draw(np.arange(source.size))
        known = block["targets"] != IGNORED
        said = np.sort(block["targets"][known])
        assert (said == np.sort(source.tokens[:])).all()
        assert (block["characters"][known] == source.tokenizer.characters[block["targets"][known]]).all()
        assert (block["frequency"][known] == source.tokenizer.counts[block["targets"][known]]).all()
        assert not block["frequency"][~known].any()
        assert block["first"].sum() >= len(source.tokens.documents)


def test_each_pass_begins_elsewhere(make):
    """In training by the seed; an evaluation always begins at the first token."""

    def begins(source, passes=4):
        return [source.draw(np.array([turn * source.size]))["targets"][0].tolist() for turn in range(passes)]

    train = begins(make())
    assert len({*map(tuple, train)}) == 4
    assert begins(make(seed=1)) != train
    assert begins(make()) == train
    valid = make(split="valid")
    assert begins(valid) == [valid.tokens[:7].tolist()] * 4


def test_goes_by_the_ids_of_a_run(make, tmp_path):
    """What one source keeps another adopts, whatever text it reads: the same ids, and the same frequencies."""
    one = make()
    one.keep(tmp_path / "kept")
    other = make(train=str(tell(tmp_path / "other", seed=1, count=9)))
    before, drawn = other.tokens[:].copy(), other.draw(np.arange(3))
    assert other.tokenizer.digest != one.tokenizer.digest
    other.adopt(tmp_path / "kept")
    assert other.tokenizer.digest == one.tokenizer.digest
    assert (other.tokenizer.counts == one.tokenizer.counts).all()
    assert len(other.tokens) == len(before)
    assert (other.tokens[:] != before).any(), "what was encoded by other ids is not read any more"
    assert (other.draw(np.arange(3))["targets"] != drawn["targets"]).any()
    assert other.decode(other.encode("ba be bi")) == "ba be bi"


def test_kept_for_a_vocabulary_of_any_size(make, tmp_path):
    """How many ids a run has is known from what it kept, without its text."""
    make(vocabulary=None).keep(tmp_path / "kept")
    alone = make(train=str(tmp_path / "gone"), vocabulary=None)
    alone.adopt(tmp_path / "kept")
    assert alone.writes["inputs"].bound == make(vocabulary=None).tokenizer.size


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda file: file.unlink(), "tokenizer.json.gz cannot be read: No such file or directory"),
        (lambda file: file.write_bytes(file.read_bytes()[:-30]), "the tokenizer is damaged or cut off"),
        (lambda file: file.write_text("{}"), "wanted a tokenizer of seqtoolkit, got another file"),
    ],
)
def test_what_was_kept_is_damaged(make, tmp_path, spoil, says):
    """It is one line with the file."""
    make().keep(tmp_path / "kept")
    spoil(tmp_path / "kept" / KEPT)
    with pytest.raises(ValueError, match=says) as caught:
        make().adopt(tmp_path / "kept")
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"vocabulary": 31}, r"^vocabulary: the run's ids were made with 60, not 31; leave it"),
        ({"tokenizer": "character"}, r"^tokenizer: the run's ids were made with word, not character; leave it"),
        ({"lowercase": True}, "^lowercase: "),
    ],
)
def test_ids_of_other_settings_are_not_gone_by(make, tmp_path, changed, says):
    """A run's model is not said to be evaluated by a tokenizer that it does not have."""
    make().keep(tmp_path / "kept")
    with pytest.raises(ValueError, match=says):
        make(**changed).adopt(tmp_path / "kept")


def test_a_stream_goes_on_in_the_same_steps(make):
    """In the middle of a text the state is that of where the last batch of so many steps has ended."""
    source = make(bptt=5)
    next(source)
    with pytest.raises(ValueError, match=r"^source\.bptt: has to stay 5 in the middle of a text, got 7"):
        make(bptt=7).reset(source.state_dict())


def test_a_text_that_changed(tmp_path):
    """A stream does not go on in another text, and goes on in one that was only touched."""
    folder = tell(tmp_path / "text", count=12)
    make = partial(Text, str(folder), bptt=5, vocabulary=30, held_out=0.2)
    source = make()
    next(source)
    state = source.state_dict()
    (folder / "00.txt").touch()
    make().reset(state)
    tell(folder / "more", seed=1)
    with pytest.raises(ValueError, match=r"^source\.train: the text has changed since this run began; put it back"):
        make().reset(state)


def test_preparing_makes_all_that_is_wanted(make, tmp_path):
    """What prepare has made is found by others, with every share from 0 to 1; nothing is said once all is there."""
    told = []
    again = partial(make, cache=str(tmp_path / "cache"), split="valid")
    again().prepare(lambda *each: told.append(each))
    assert {text.partition(" of ")[0] for text, _ in told} == {"counting the tokens", "encoding the text"}
    assert all(0 <= share <= 1 for _, share in told)
    told.clear()
    source = again()
    source.prepare(lambda *each: told.append(each))
    assert told == []
    _ = source.tracks


def test_what_takes_long_without_a_preparation_is_said(make, tmp_path, monkeypatch, caplog):
    """A vocabulary whose size nobody has set is counted as soon as it is asked for: the log says how far that is."""
    monkeypatch.setattr("seqtoolkit_language.shelf.PATIENCE", 0.0)
    assert "inputs" in make(vocabulary=None, cache=str(tmp_path)).writes
    said = [each.getMessage() for each in caplog.records]
    assert said[-1].startswith("counting the tokens of ")
    assert said[-1].endswith("  100%")


def test_nothing_is_counted_before_all_texts_are_there(make, tmp_path):
    """A vocabulary whose size nobody has set may take hours: a split that has no text is noticed before."""
    with pytest.raises(ValueError, match=r"^test: .*gone\.txt: there is no such file"):
        _ = make(vocabulary=None, test=str(tmp_path / "gone.txt"), cache=str(tmp_path / "cache")).writes
    assert not (tmp_path / "cache").exists()


def test_shown_as_people_write(make):
    """What was read, what came, and what was said are a line of at most 60 tokens each; what is ignored is left out."""
    source = make()
    ids = source.tokens[:100].astype(np.int64)
    ids[10] = EOS
    targets = np.where(np.arange(99) < 3, IGNORED, ids[1:])
    sample = source.show(ids[:-1], targets, ids[1:])
    assert sample.expected == sample.answer == source.decode(ids[4:64]).replace("\n", "↵")
    assert sample.question == source.decode(ids[:60]).replace("\n", "↵")
    assert "↵" in sample.question


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bptt": 0}, r"bptt: wanted at least 1 step, got 0"),
        ({"restart_every": -1}, r"restart_every: wanted at least 0, got -1"),
        ({"held_out": 0.5}, r"held_out: wanted a share above 0 and below 0\.5, got 0\.5"),
        ({"held_out": 0.0}, r"held_out: wanted a share above 0 and below 0\.5, got 0\.0"),
        ({"tokenizer": "syllable"}, r"tokenizer: wanted one of word, .*, got 'syllable'"),
        ({"vocabulary": 2}, r"vocabulary: wanted 3 or more for kind word, got 2"),
        ({"tokenizer": "byte", "vocabulary": 100}, r"vocabulary: wanted 258 or nothing for kind byte, got 100"),
        ({"tokenizer": "bpe", "vocabulary": None}, r"vocabulary: wanted the number of tokens for kind bpe, .*"),
        ({"tokenizer": "byte", "vocabulary": None, "lowercase": True}, r"lowercase: wanted false for kind byte.*"),
        ({"min_count": 0}, r"min_count: wanted a whole number of 1 or more, got 0"),
        ({"split": "dev"}, r"split: wanted one of train, valid, test, got 'dev'"),
    ],
)
def test_settings_that_cannot_be(make, options, says):
    """Each is one line that begins with the key of the pipeline."""
    with pytest.raises(ValueError, match=f"^{says}$"):
        make(**options)


def test_a_text_that_is_missing(make, tmp_path):
    """It is one line: the split that wants it, the path, and where the text can be had."""
    gone, where = str(tmp_path / "gone.txt"), "it is at example.org"
    for options in ({"train": gone}, {"valid": gone, "split": "valid"}):
        name = next(iter(options))
        with pytest.raises(
            ValueError, match=rf"^{name}: {gone}: there is no such file or folder. Where to get it: {where}$"
        ):
            make(**options, where=where).prepare(silent)


def test_too_little_text(make, tmp_path):
    """Fewer tokens than rows, and a split without a document, are lines that name the split and what to change."""
    small = tmp_path / "small.txt"
    small.write_text("ba be bi\n")
    source = make(valid=str(small), split="valid")
    source.block = 5
    says = "valid: wanted a token at least for each of the 5 rows of a batch, got 4 in all; make batch.size smaller"
    with pytest.raises(ValueError, match=f"^{says}, or the text longer$"):
        source.prepare(silent)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_one_document(make, tmp_path, split):
    """A text that is one document is in one split: of the others it is said what can be done about it."""
    small = tmp_path / "small.txt"
    found = []
    for number in range(15):
        small.write_text(f"ba be bi {number}\n")
        try:
            make(train=str(small), vocabulary=None, split=split).prepare(silent)
        except ValueError as error:
            found.append(str(error))
    says = r"no document of the text is chosen for it: name a text for {0}, make held_out larger, or make each line .*"
    assert 0 < len(found) < 15
    assert all(
        re.fullmatch("|".join(f"{each}: {says.format(each)}" for each in ("train", split)), each) for each in found
    )
    small.write_text("".join(f"ba be bi {number}\n" for number in range(40)))
    make(train=str(small), vocabulary=None, format="lines", split=split).prepare(silent)
