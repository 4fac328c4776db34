"""The cache of a corpus: what it holds is what the text says, it is found again, and what is damaged is noticed."""

import copy
import errno
import fcntl
import logging
import pickle
import shutil
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from seqtoolkit_language import array, cache, job, shelf, walk
from seqtoolkit_language.cache import CacheError, Tokens, encode, learn
from seqtoolkit_language.corpus import CorpusError, Reading, find, pieces
from seqtoolkit_language.tokenizer import EOS, Tokenization, Tokenizer

TEXT = "The cat sat.\nOn the mat, it sat!\n\nThe end of the cat\n"


def quiet(text, share):
    """A report that nobody reads."""


def build(folder, home, reading=Reading(), tokenization=Tokenization(), **options):  # noqa: B008  both are frozen
    """Learn from the files in a folder and encode them."""
    files = find(str(folder))
    tokenizer = learn(files, reading, tokenization, home, quiet, **options)
    return tokenizer, encode(files, reading, tokenizer, home, quiet, **options)


def texts(folder, *texts):
    """A folder with files of these texts."""
    folder.mkdir(exist_ok=True)
    for number, text in enumerate(texts):
        (folder / f"{number:02}.txt").write_bytes(text.encode())
    return folder


@pytest.fixture
def corpus(tmp_path):
    """Three files of text."""
    return texts(tmp_path / "corpus", TEXT * 40, "one line without a break", TEXT * 9)


@pytest.fixture
def kept(corpus, tmp_path, monkeypatch):
    """The tokens of the corpus, in blocks of 64 bytes, so that there are many."""
    monkeypatch.setattr(array, "BLOCK", 64)
    return build(corpus, tmp_path / "home")[1]


def left(home):
    """What there is in a home beside locks."""
    return sorted(path.name for path in home.iterdir() if path.suffix != ".lock") if home.exists() else []


@pytest.mark.parametrize("kind", ["word", "space", "character", "byte"])
@pytest.mark.parametrize("lines", [False, True])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(st.text(alphabet="ab .\n\u00e9", max_size=30), min_size=1, max_size=4).filter(
        lambda parts: any(part.strip() for part in parts)
    ),
    target=st.integers(1, 20),
    part=st.integers(1, 20),
)
@example(parts=["ab", "\n "], target=20, part=20)
def test_tokens_are_the_documents_each_with_its_end(kind, lines, parts, target, part, tmp_path_factory, monkeypatch):
    """However the files are cut: the ids of each document's text, one <eos> behind, counted as they stand there."""
    monkeypatch.setattr(walk, "pieces", partial(pieces, target=target))
    monkeypatch.setattr(cache, "Encode", partial(job.Encode, stride=part))
    place = tmp_path_factory.mktemp("tokens")
    folder = texts(place / "corpus", *parts)
    tokenization = Tokenization(kind=kind, lines=lines)
    tokenizer, tokens = build(folder, place / "home", Reading("plain"), tokenization)
    expected, begins = [], []
    for file in find(str(folder)):
        whole = Path(file.path).read_bytes()
        ids = tokenizer.encode(whole).tolist()
        if ids:
            begins.append(len(expected))
            expected += ids if ids[-1] == EOS else [*ids, EOS]
    assert tokens[:].tolist() == expected
    assert tokens.documents.tolist() == begins
    counts = np.bincount(tokens[:], minlength=tokenizer.size)
    assert np.array_equal(np.delete(counts, EOS), np.delete(tokenizer.counts, EOS))
    assert tokenizer.counts[EOS] == counts[EOS]


def test_what_is_built_is_found_again(corpus, tmp_path, monkeypatch):
    """The second time the corpus is not read, and tokenizer and tokens are the same."""
    tokenizer, tokens = build(corpus, tmp_path / "home")
    monkeypatch.setattr(job, "read", None)
    again, found = build(corpus, tmp_path / "home")
    assert (again.digest, found.digest) == (tokenizer.digest, tokens.digest)
    assert np.array_equal(found[:], tokens[:])


def test_other_settings_and_other_files_are_other_entries(corpus, tmp_path):
    """A tokenizer of other settings, another split and a corpus that has grown are built beside what there is."""
    home = tmp_path / "home"
    first, tokens = build(corpus, home)
    small, fewer = build(corpus, home, tokenization=Tokenization(size=6))
    assert small.size == 6
    assert fewer.digest != tokens.digest
    build(corpus, home, Reading(split="train", held_out=0.3))
    texts(corpus, TEXT * 41)
    grown, more = build(corpus, home)
    assert len(more) > len(tokens)
    assert grown.digest == first.digest
    assert len(left(home)) == 8


def test_the_digest_is_of_the_content(corpus, tmp_path):
    """The same text elsewhere, in another home, has the same digest; another document border is another digest."""
    copied = shutil.copytree(corpus, tmp_path / "copied")
    other = texts(tmp_path / "other", TEXT * 40, "one line without a", "break", TEXT * 9)
    digests = [build(folder, tmp_path / f"home of {folder.name}")[1].digest for folder in (corpus, copied, other)]
    assert digests[0] == digests[1] != digests[2]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bounds=st.tuples(*[st.one_of(st.none(), st.integers(-900, 900))] * 2), step=st.sampled_from([None, 1, 3, -1, -70])
)
def test_a_slice_is_a_slice_of_an_array(bounds, step, kept):
    """Any slice, however many blocks it lies in, is what numpy gives; it cannot be written to."""
    whole = np.fromfile(kept.folder / array.TOKENS, kept[:1].dtype)
    assert len(whole) == len(kept) > 300
    found = kept[slice(*bounds, step)]
    assert np.array_equal(found, whole[slice(*bounds, step)])
    assert not found.flags.writeable


def test_tokens_go_to_other_processes_as_their_place(kept):
    """A copy and a pickle are opened anew: they are small, and hold the same."""
    assert len(pickle.dumps(kept)) < 1000
    for other in (pickle.loads(pickle.dumps(kept)), copy.deepcopy(kept)):
        assert np.array_equal(other[:], kept[:])
        assert other.digest == kept.digest


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@pytest.mark.parametrize("name", [array.TOKENS, array.DOCUMENTS, array.CHECKSUMS, array.META])
def test_a_flipped_bit_is_found(name, place, bit, kept):
    """Whichever bit of whichever file is another, reading it all is one line that names the folder to remove."""
    path = kept.folder / name
    sound = path.read_bytes()
    data = bytearray(sound)
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(data)
    try:
        with pytest.raises(CacheError) as caught:
            _ = Tokens.open(kept.folder)[:]
    finally:
        path.write_bytes(sound)
    assert str(kept.folder) in str(caught.value)
    assert "remove" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_what_is_read_is_checked(kept):
    """Opening reads no tokens: a damaged block is found when it is read, and not before; a sound one reads on."""
    path = kept.folder / array.TOKENS
    data = bytearray(path.read_bytes())
    data[130] ^= 1
    path.write_bytes(data)
    tokens = Tokens.open(kept.folder)
    assert len(tokens[:128]) == 128
    assert len(tokens[192:]) == len(tokens) - 192
    with pytest.raises(CacheError, match="block 2 of tokens"):
        _ = tokens[150:151]
    with pytest.raises(CacheError, match="block 2 of tokens"):
        _ = tokens[::-1]


def shorten(path):
    """Cut the end off a file."""
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES = {
    "tokens cut short": (lambda folder: shorten(folder / array.TOKENS), "bytes, and had"),
    "tokens gone": (lambda folder: (folder / array.TOKENS).unlink(), "No such file"),
    "documents cut short": (lambda folder: shorten(folder / array.DOCUMENTS), "documents.bin differs"),
    "checksums gone": (lambda folder: (folder / array.CHECKSUMS).unlink(), "No such file"),
    "no description": (lambda folder: (folder / array.META).unlink(), "No such file"),
    "description cut short": (lambda folder: shorten(folder / array.META), "cannot be read"),
    "description is a list": (lambda folder: (folder / array.META).write_text("[1]"), "cannot be read"),
    "description of nothing": (lambda folder: (folder / array.META).write_text("{}"), "cannot be read"),
    "description is no text": (lambda folder: (folder / array.META).write_bytes(b"\xff\x00"), "cannot be read"),
    "another format": (
        lambda folder: (folder / array.META).write_text('{"format": 99, "digest": "", "tokens": 1}'),
        "format 99, and this toolkit reads format 1",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_unfit_cache_is_refused_and_built_anew(damage, kept, corpus, tmp_path, caplog):
    """What is cut short, of another format or unreadable does not open; `encode` says so and builds it anew."""
    spoil, reason = DAMAGES[damage]
    before = kept[:].copy()
    spoil(kept.folder)
    with pytest.raises(CacheError, match=reason):
        Tokens.open(kept.folder)
    with caplog.at_level(logging.WARNING):
        _, tokens = build(corpus, tmp_path / "home")
    assert np.array_equal(tokens[:], before)
    assert tokens.digest == kept.digest
    assert reason in caplog.text
    assert len(left(tmp_path / "home")) == 2


def test_an_unfit_tokenizer_is_learned_anew(corpus, tmp_path, caplog):
    """A tokenizer's file that is cut short is replaced by an equal one, with a word in the log."""
    home = tmp_path / "home"
    first, _ = build(corpus, home)
    shorten(next(home.glob("*/tokenizer.json.gz")))
    again, _ = build(corpus, home)
    assert again.digest == first.digest
    assert "built anew" in caplog.text


def test_a_reader_keeps_what_another_replaces(kept, corpus, tmp_path):
    """Tokens that are open stay as they are when their folder is built anew."""
    before = kept[:].copy()
    (kept.folder / array.META).unlink()
    build(corpus, tmp_path / "home")
    assert np.array_equal(kept[:], before)


def full(*_):
    """A disk that takes nothing more."""
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "place",
    [(array.Writer, "_write"), (array, "sync"), (job.Encode, "_part"), (job.Tally, "spill"), (Tokenizer, "save")],
)
def test_a_full_disk_is_one_line_and_leaves_nothing(place, corpus, tmp_path, monkeypatch):
    """Wherever the disk is found full, the error says where; the draft is gone, and with room all is built."""
    home = tmp_path / "home"
    with monkeypatch.context() as patch:
        patch.setattr(*place, full)
        with pytest.raises(CacheError, match=r"is full: .* needs .* were free; make room") as caught:
            build(corpus, home)
    assert str(home) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(name.startswith("tokenizer") for name in left(home))
    assert len(build(corpus, home)[1]) > 300


def test_what_has_no_room_is_not_begun(corpus, tmp_path, monkeypatch):
    """Before a large corpus is encoded the room for it is looked for; the message says how much is needed."""
    home = tmp_path / "home"
    files = find(str(corpus))
    tokenizer = learn(files, Reading(), Tokenization(), home, quiet)
    monkeypatch.setattr(shelf.shutil, "disk_usage", lambda _: SimpleNamespace(free=200))
    monkeypatch.setattr(job, "read", None)
    with pytest.raises(CacheError, match=r"needs about \d{3} bytes, and 200 bytes were free"):
        encode(files, Reading(), tokenizer, home, quiet, workers=2)
    assert len(left(home)) == 1


@pytest.mark.parametrize("name", ["file", "file/home"])
def test_a_home_that_cannot_be_is_named(name, corpus, tmp_path):
    """A home that is a file, or lies in one, is an error with its path."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(CacheError, match=f"cannot be written in {tmp_path / name}"):
        build(corpus, tmp_path / name)


def test_a_corpus_that_cannot_be_read_leaves_nothing(tmp_path):
    """What the corpus says of a damaged file reaches the caller; nothing is kept."""
    folder = texts(tmp_path / "corpus", "sound text\n" * 50)
    (folder / "01.txt").write_bytes(b"no UTF-8: \xff\xfe\n")
    with pytest.raises(CorpusError, match=r"01\.txt"):
        build(folder, tmp_path / "home", Reading("plain"))
    assert left(tmp_path / "home") == []


def test_a_file_that_changes_meanwhile_is_an_error(corpus, tmp_path):
    """A file that grows after it has been read is noticed before anything is kept."""
    files = find(str(corpus))

    def grow(text, share):
        with Path(files[0].path).open("a") as file:
            file.write("more")

    with pytest.raises(CorpusError, match=r"00.txt.* changed"):
        learn(files, Reading(), Tokenization(), tmp_path / "home", grow)
    assert left(tmp_path / "home") == []


def test_drafts_of_the_dead_are_removed(corpus, tmp_path):
    """What killed processes left is removed by the next builder, whatever they built; a living one's is not touched."""
    home = tmp_path / "home"
    build(corpus, home)
    for key in ("dead", "alive"):
        (home / f"{key}.draft-1" / "work").mkdir(parents=True)
    with (home / "alive.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        build(corpus, home, tokenization=Tokenization(size=9))
    assert [name for name in left(home) if "draft" in name] == ["alive.draft-1"]


def test_a_second_process_waits_and_says_so(corpus, tmp_path):
    """While another holds the lock it is said whom one waits for; then what that one has built is found."""
    home, said = tmp_path / "home", []
    tokenizer, tokens = build(corpus, home)
    folder = tokens.folder.rename(tmp_path / "built")
    held = (home / f"{tokens.folder.name}.lock").open("w")
    fcntl.flock(held, fcntl.LOCK_EX)

    def report(text, share):
        said.append(text)
        folder.rename(tokens.folder)  # the other is done
        held.close()

    waiting = threading.Thread(
        target=lambda: said.append(encode(find(str(corpus)), Reading(), tokenizer, home, report))
    )
    waiting.start()
    waiting.join(60)
    assert "waiting for another process" in said[0]
    assert str(tokens.folder) in said[0]
    assert said[1].digest == tokens.digest
    assert len(said) == 2


def test_progress_rises_to_the_whole(corpus, tmp_path, monkeypatch):
    """What is reported names the files and goes from 0 to 1, whatever the pieces are."""
    monkeypatch.setattr(walk, "pieces", partial(pieces, target=50))
    monkeypatch.setattr(walk, "_EACH", 0)
    said = []
    files = find(str(corpus))
    tokenizer = learn(files, Reading(), Tokenization(), tmp_path, lambda *each: said.append(each))
    encode(files, Reading(), tokenizer, tmp_path, lambda *each: said.append(each))
    for doing in ("counting", "encoding"):
        shares = [share for text, share in said if doing in text and "3 files" in text]
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
        assert 0 <= shares[0] < 0.2


def test_a_split_without_documents_has_no_tokens(tmp_path):
    """A held-out split that no document falls into is kept, opened and read like any other: it is empty."""
    folder = texts(tmp_path / "corpus", "one document alone\n")
    files = find(str(folder))
    tokenizer = learn(files, Reading("plain"), Tokenization(), tmp_path / "home", quiet)
    lengths = {}
    for split in ("train", "valid"):
        tokens = encode(files, Reading("plain", split=split, held_out=0.01), tokenizer, tmp_path / "home", quiet)
        lengths[split] = len(tokens), len(tokens[:]), len(tokens.documents), len(Tokens.open(tokens.folder))
    assert lengths == {"train": (4, 4, 1, 4), "valid": (0, 0, 0, 0)}
