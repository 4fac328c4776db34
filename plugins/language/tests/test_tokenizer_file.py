"""The file of a tokenizer: equal ones are equal files, and a damaged one is never believed."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import settings as trial
from hypothesis import strategies as st

from seqtoolkit_language.tokenizer import Tokenization, Tokenizer, count

PATIENT = trial(max_examples=60, deadline=None)  # a busy machine is no failure
TEXT = "the cat, the dog — é\nthe end"
SETTINGS = [
    Tokenization("word", size=20, min_count=1, lowercase=True),
    Tokenization("space", size=5, lines=True),
    Tokenization("character"),
    Tokenization("byte"),
    Tokenization("bpe", size=265),
]


def learned(settings: Tokenization) -> Tokenizer:
    """Return the tokenizer of a small text."""
    table: dict[str, int] = {}
    count(TEXT.encode(), settings, table)
    return Tokenizer.learn(settings, table.items(), ends=2)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings.kind)
def test_a_tokenizer_comes_back_from_its_file(settings, tmp_path):
    """What is loaded encodes, counts and is named as what was saved; two files of it are equal; plain JSON will do."""
    saved = learned(settings)
    saved.save(tmp_path / "a")
    learned(settings).save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes()[4:8] == bytes(4), "the time of writing is in the file"
    (tmp_path / "plain").write_bytes(gzip.decompress((tmp_path / "a").read_bytes()))
    for name in ("a", "plain"):
        loaded = Tokenizer.load(tmp_path / name)
        assert (loaded.settings, loaded.tokens, loaded.digest) == (saved.settings, saved.tokens, saved.digest)
        assert loaded.counts.tolist() == saved.counts.tolist()
        assert loaded.characters.tolist() == saved.characters.tolist()
        assert loaded.encode(TEXT.encode()).tolist() == saved.encode(TEXT.encode()).tolist()


@pytest.mark.parametrize("change", [{"lowercase": True}, {"lines": True}, {"min_count": 2}, {"size": 9}])
def test_the_digest_is_of_all_that_changes_ids(change):
    """Other settings, or other words, are another digest; other counts of the same words are not."""
    counted = [("a", 4), ("b", 3)]
    plain = Tokenizer.learn(Tokenization(), counted)
    assert plain.digest != Tokenizer.learn(Tokenization(**change), counted).digest
    assert plain.digest != Tokenizer.learn(Tokenization(), [("a", 4), ("c", 3)]).digest
    assert plain.digest == Tokenizer.learn(Tokenization(), [("a", 9), ("b", 3)], ends=5).digest


@PATIENT
@given(at=st.integers(0, 10**6), flip=st.integers(1, 255), cut=st.booleans())
def test_no_damage_is_believed(tmp_path_factory, at, flip, cut):
    """A file with one byte changed, or cut off anywhere, is refused in one line with its path, or is still the same."""
    path = tmp_path_factory.getbasetemp() / "damaged.gz"
    saved = learned(SETTINGS[4])
    saved.save(path)
    data = bytearray(path.read_bytes())
    at %= len(data)
    data[at] ^= flip
    path.write_bytes(data[:at] if cut else data)
    said, loaded = "", None
    try:
        loaded = Tokenizer.load(path)
    except ValueError as error:
        said = str(error)
    if loaded is None:
        assert said.startswith(f"{path}: ")
        assert "\n" not in said
    else:
        assert not cut
        assert (loaded.digest, loaded.counts.tolist()) == (saved.digest, saved.counts.tolist())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 0}, "wanted a tokenizer of version 1, got 0"),
        ({"name": "other"}, "wanted a tokenizer of seqtoolkit, got another file"),
        ({"tokens": ["<unk>", "<eos>", "x"]}, "damaged"),
        ({"counts": [1]}, "damaged"),
        ({"counts": None}, "damaged"),
        ({"settings": {"kind": "wrod"}}, "damaged"),
        ({"settings": {"other": 1}}, "damaged"),
        ({"merges": [["a"]]}, "damaged"),
        ({"unknown": None}, "damaged"),
    ],
)
def test_another_record_is_refused(change, said, tmp_path):
    """A file by another hand or of another version is refused with its path and what to do."""
    path = tmp_path / "tokenizer"
    learned(SETTINGS[0]).save(path)
    path.write_text(json.dumps(json.loads(gzip.decompress(path.read_bytes())) | change))
    with pytest.raises(ValueError, match=said) as caught:
        Tokenizer.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "7", "{", "\x00", "[" * 100000])
def test_a_file_that_is_no_tokenizer_is_refused(text, tmp_path):
    """Whatever else stands in the file, the answer is one line."""
    path = tmp_path / "tokenizer"
    path.write_text(text)
    with pytest.raises(ValueError, match="tokenizer") as caught:
        Tokenizer.load(path)
    assert "\n" not in str(caught.value)
