"""Data sets of the extra `datasets` as files of a corpus, over a stand-in with the same few functions."""

import sys
from types import SimpleNamespace

import pytest

from seqtoolkit_language import dataset
from seqtoolkit_language.corpus import CorpusError, File, Reading, find, pieces, read, resolve

ROWS = ["one\r\n", "", *(f"text {number} é" for number in range(998))]
ARTICLES = ["", " = One = \n", "", " text\n", " = Two = \n", " text\n"]


class Table:
    """Rows with one column, as a loaded data set shows them."""

    def __init__(self, rows, files=()):
        self.rows, self.column_names = rows, ["body", "id"]
        self.cache_files = [{"filename": str(file)} for file in files]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, rows):
        return {"body": self.rows[rows], "id": list(range(len(self.rows)))[rows]}


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Put the stand-in in place and list what was asked of it."""
    calls = []
    files = [tmp_path / "1.arrow", tmp_path / "2.arrow"]
    for file in files:
        file.write_bytes(b"1234567890" * 5)

    def load_dataset(*where, split):
        calls.append((*where, split))
        if where[0] == "nobody/nothing":
            raise ConnectionError("cannot reach the hub\nand more")
        return Table(ROWS, files)

    def load_from_disk(path):
        saved = {"train": Table(ARTICLES), "test": Table(["x\0y", "z\ud800"]), "odd": Table(["a", None])}
        return saved if path.name == "both" else Table(ARTICLES)

    fake = SimpleNamespace(load_dataset=load_dataset, load_from_disk=load_from_disk)
    monkeypatch.setitem(sys.modules, "datasets", fake)
    dataset._load.cache_clear()
    yield calls
    dataset._load.cache_clear()


def documents(place, reading, target=8 << 20):
    """Read each document whole."""
    return [text.data.decode() for piece in pieces(find(place), reading, target) for text in read(piece, reading)]


def test_rows_are_documents_in_pieces_of_any_size(asked, tmp_path):
    """Each row that is not empty is a document, by the same rules as text in files; a data set has a size and a time."""
    [file] = find("datasets:texts")
    assert file == File("datasets:texts", 100, max(path.stat().st_mtime_ns for path in tmp_path.iterdir()))
    reading = resolve([file], Reading(field="body"))
    assert reading.format == "plain"
    wanted = ["one\n", *ROWS[2:]]
    assert documents("datasets:texts", reading) == documents("datasets:texts", reading, target=1) == wanted
    assert len(pieces([file], reading, target=1)) == 100
    parts = [
        documents("datasets:texts", Reading("plain", "body", split=split, held_out=0.2))
        for split in ("train", "valid", "test")
    ]
    assert sorted(document for part in parts for document in part) == sorted(wanted)
    assert min(map(len, parts)) > 100


@pytest.mark.parametrize(
    ("place", "call"),
    [
        ("datasets:texts", ("texts", None, "train")),
        ("datasets:owner/texts:test", ("owner/texts", None, "test")),
        ("datasets:owner/texts/small-v1:train[:10%]", ("owner/texts", "small-v1", "train[:10%]")),
    ],
)
def test_a_place_names_a_data_set_its_configuration_and_split(place, call, asked):
    """NAME, OWNER/NAME and OWNER/NAME/CONFIG, with a split behind a colon, train by default."""
    find(place)
    assert asked == [call]


def test_rows_that_are_lines_of_wikitext_become_articles(asked):
    """WikiText comes with a line a row; `auto` sees it, and rows are lines of one text again."""
    reading = resolve(find("datasets:./one"), Reading(field="body"))
    assert reading.format == "wikitext"
    wanted = ["\n = One = \n\n text\n", " = Two = \n text\n"]
    assert documents("datasets:./one", reading, target=1) == wanted
    assert documents("datasets:./both", reading) == wanted


@pytest.mark.parametrize(
    ("place", "reading", "message"),
    [
        ("datasets:nobody/nothing", {}, "cannot be loaded: ConnectionError: cannot reach the hub$"),
        ("datasets:", {}, "no data set is named; write datasets:NAME"),
        ("datasets:./both:dev", {}, "no split 'dev'; its splits: train, test, odd"),
        ("datasets:./one:test", {}, "no split 'test'; its splits: none"),
        ("datasets:texts", {"field": "text"}, "no column 'text'; its columns: body, id; set field"),
        ("datasets:texts", {"field": "id"}, "row 0 has no text in its column 'id' but int"),
        ("datasets:./both:test", {}, "row 0 has a NUL in it"),
        ("datasets:./both:odd", {}, "row 1 has no text in its column 'body' but NoneType"),
    ],
)
def test_what_is_wrong_with_a_data_set_is_one_line(place, reading, message, asked):
    """A data set that cannot be loaded, a missing split or column, a row without text: the place and what is there."""
    with pytest.raises(CorpusError, match=message) as error:
        documents(place, Reading("plain", **{"field": "body", **reading}))
    assert str(error.value).startswith(place)


def test_a_row_may_be_mended(asked):
    """`replace` drops NUL and writes U+FFFD for half a surrogate pair."""
    assert documents("datasets:./both:test", Reading("plain", "body", errors="replace")) == ["xy", "z\ufffd"]


def test_without_the_extra_its_name_is_said(monkeypatch):
    """Who names a data set without the library is told what to install."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    dataset._load.cache_clear()
    with pytest.raises(CorpusError, match=r"datasets:x: .* pip install 'seqtoolkit-language\[datasets\]'"):
        find("datasets:x")
