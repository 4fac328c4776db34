"""The layouts of published corpora: what is a document in each, and what of a file is left out."""

import json

import pytest

from seqtoolkit_language.corpus import CorpusError, Piece, Reading, find, read, resolve

BOOK = "The first line.\n\nA second,\nover two lines.\n"


def documents(path, layout, **reading):
    """Read the documents of one file."""
    found = []
    for begins, data in read(Piece(str(path)), Reading(layout, **reading)):
        found += [data] if begins else []
        found[-1] += b"" if begins else data
    return [data.decode() for data in found]


@pytest.fixture
def file(tmp_path):
    """Write a file of one text."""

    def write(data, name="file"):
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return write


def test_plain_text_is_one_document_and_lines_are_one_each(file):
    """`plain` keeps the file as it is; `lines` drops line breaks and lines that are blank."""
    path = file("one line\n\n  \n two \nthree")
    assert documents(path, "plain") == ["one line\n\n  \n two \nthree"]
    assert documents(path, "lines") == ["one line", " two ", "three"]


WIKITEXT = (
    " \n = Robert <unk> = \n \n Robert = an actor . \n \n = = Career = = \n \n = = = 2000 = = = \n In 2000 he \n \n",
    " = 2 + 2 = 5 = \n \n A sum . \n",
    " = Last = \n",
)


def test_wikitext_begins_a_document_at_each_title_of_the_first_level(file):
    """The line structure stays as published, empty lines too; what is before the first title is of its article."""
    assert documents(file("".join(WIKITEXT)), "wikitext") == list(WIKITEXT)
    crlf = "".join(WIKITEXT).replace("\n", "\r\n")
    assert documents(file(crlf), "wikitext") == list(WIKITEXT)


@pytest.mark.parametrize(
    "line",
    [
        "= Title =",
        " = = Title = = ",
        " = = Title = ",
        " = Title = = ",
        " = Title",
        " Title = ",
        " = ",
        " = = ",
        "  = Title = ",
    ],
)
def test_wikitext_takes_nothing_else_for_a_title(line, file):
    """A line that only resembles a title is text, in the middle of an article."""
    whole = f" = One = \n \n{line}\n text\n"
    assert documents(file(whole), "wikitext") == [whole]


def test_wikitext_takes_no_part_of_a_long_line_for_a_title(file):
    """A line that is cut in two begins no article where it goes on."""
    whole = " = One = \n" + "y" * (1 << 20) + " = Two = \n"
    assert documents(file(whole), "wikitext") == [whole]


MODERN = (
    "The Project Gutenberg eBook of A Book, by Somebody\n\nTitle: A Book\n\n"
    "*** START OF THE PROJECT GUTENBERG EBOOK A BOOK ***\n{}"
    "*** END OF THE PROJECT GUTENBERG EBOOK A BOOK ***\n\nUpdated editions will replace the previous one\n"
)
WRAPPED = (
    "Project Gutenberg's A Long Book\n\n***START OF THIS PROJECT GUTENBERG EBOOK A BOOK WHOSE TITLE\nIS LONG***\n{}"
    "End of Project Gutenberg's A Long Book, by Somebody\n\n"
    "***END OF THIS PROJECT GUTENBERG EBOOK A LONG BOOK***\nlicence\n"
)
SMALL_PRINT = (
    "**The Project Gutenberg Etext of A Book**\n\n***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***\n"
    'Why is this "Small Print!" statement here?\n'
    "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n{}"
    "End of The Project Gutenberg Etext of A Book\n"
)
BOTH = MODERN.format(SMALL_PRINT)


@pytest.mark.parametrize("layout", [MODERN, WRAPPED, SMALL_PRINT, BOTH], ids=["modern", "wrapped", "small", "both"])
@pytest.mark.parametrize("body", [BOOK, BOOK * 60_000], ids=["short", "long"])
def test_gutenberg_leaves_out_header_and_licence(layout, body, file):
    """Of a book only its own text is left, in the marks of all the years, also when it is longer than a block."""
    assert documents(file(layout.format(body)), "gutenberg") == [body]
    assert documents(file(layout.format(body).replace("\n", "\r\n")), "gutenberg") == [body]


def test_gutenberg_without_marks_is_taken_whole(file):
    """A book that somebody has stripped, or that only talks of the project, loses nothing."""
    whole = BOOK + "He said that Project Gutenberg was a friend.\n*** STARTING POINT ***\n"
    assert documents(file(whole), "gutenberg") == [whole]
    header, footer = MODERN.split("{}")
    assert documents(file(header + BOOK), "gutenberg") == [BOOK]
    assert documents(file(BOOK + footer), "gutenberg") == [BOOK]
    assert documents(file(header + footer), "gutenberg") == []
    assert documents(file(BOOK + footer + header), "gutenberg") == [BOOK]


def test_gutenberg_checks_what_it_leaves_out(file):
    """A file with a broken licence is a broken file: nothing of it is passed over in silence."""
    with pytest.raises(CorpusError, match="not valid UTF-8"):
        documents(file(MODERN.format(BOOK).encode() + b"\n" * (1 << 20) + b"\xff\n"), "gutenberg")


STORY = """<DOC id="AFP_ENG_19940512.0001" type="story" >
<HEADLINE>
Profits at AT&AMP;T rise
to 5 &lt; 6
</HEADLINE>
<DATELINE>
PARIS, May 12 (AFP)
</DATELINE>
<TEXT>
<P>
The first paragraph\x20
of two lines &amp;lt;.
</P>
<P>
The second.
</P>
</TEXT>
</DOC>
"""
OTHER = """<DOC id="AFP_ENG_19940512.0002" type="other" >
<TEXT>
A bare line \n
  Another  one
</TEXT>
</DOC>
"""
SAID = [
    "Profits at AT&T rise to 5 < 6\nThe first paragraph of two lines &lt;.\nThe second.\n",
    "A bare line\nAnother  one\n",
]


def test_gigaword_gives_headline_and_paragraphs_a_line_each(file):
    """Each DOC is a document; lines of a paragraph are joined, entities decoded once, the dateline left out."""
    empty = '<DOC id="X" type="story" >\n<TEXT>\n</TEXT>\n</DOC>\n'
    assert documents(file(STORY + empty + OTHER), "gigaword") == SAID
    assert documents(file((STORY + OTHER).replace("\n", "\r\n") * 2000), "gigaword") == SAID * 2000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (STORY + OTHER.replace("</DOC>", ""), r'<DOC id="AFP_ENG_19940512\.0002" type="other" > has no </DOC>'),
        (STORY.replace("</DOC>", "") + OTHER, r'<DOC id="AFP_ENG_19940512\.0001" .* and its </DOC> do not match'),
        (OTHER + "</DOC>\n", "and its </DOC> do not match"),
        ("<DOC>\n" + "word " * (2 << 20), "has no </DOC> within 8 MiB"),
        ("A plain text.\n", r"no <DOC \.\.\.> in this file"),
    ],
)
def test_gigaword_that_is_broken_is_an_error_with_file_and_document(data, message, file):
    """Documents without an end or a beginning, and files of another layout, are said by name."""
    with pytest.raises(CorpusError, match=f"file: .*{message}"):
        documents(file(data), "gigaword")


def test_json_lines_give_their_field_and_nothing_else(file):
    """Each line is a document; blank lines and empty texts are passed over; a text may be longer than a block."""
    texts = ["one\r\ntwo é \u2028\n", "", "word " * 500_000, "last"]
    lines = "\n\n".join(json.dumps({"id": {"text": 1}, "body": text, "text": "no"}) for text in texts)
    wanted = ["one\ntwo é \u2028\n", texts[2], "last"]
    assert documents(file("\ufeff" + lines), "jsonl", field="body") == wanted


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1]", "line 3 is not a JSON object but list"),
        ("{'text': 1}", "line 3 is not JSON: Expecting property name"),
        ('{"body": "x", "id": 3}', "line 3 has no field 'text'; its fields: body, id"),
        ('{"text": null}', "line 3 has no text in its field 'text' but NoneType"),
        ('{"text": "a\\u0000b"}', "line 3 has a NUL in it; set errors: replace"),
        ('{"text": "a\\ud800b"}', "line 3 has half a surrogate pair"),
        ("[" * 100_000, "line 3 is not JSON"),
    ],
)
def test_a_bad_json_line_is_an_error_with_its_number(line, message, file):
    """What is not an object with a text in the field is said with file and line."""
    path = file('{"text": "one"}\n\n' + line + '\n{"text": "four"}\n')
    with pytest.raises(CorpusError, match=f"file: {message}"):
        documents(path, "jsonl")
    start = path.read_bytes().index(b"\n") + 2
    with pytest.raises(CorpusError, match=f"file: {message}"):
        list(read(Piece(str(path), start), Reading("jsonl")))


def test_json_may_be_mended(file):
    """With `replace` half a surrogate pair becomes U+FFFD and NUL goes, written as they are or as escapes."""
    path = file(b'{"text": "a\\u0000b\\ud800c\xff\0 \\ud83d\\ude00"}\n')
    assert documents(path, "jsonl", errors="replace") == ["ab\ufffdc\ufffd \U0001f600"]


def test_a_json_line_of_more_than_32_mib_is_an_error(file):
    """A JSON value is read whole, so its size has a bound."""
    with pytest.raises(CorpusError, match="line 2 is longer than 32 MiB"):
        documents(file(b'{"text": ""}\n{"text": "' + b"word " * (7 << 20)), "jsonl")


@pytest.mark.parametrize(
    ("name", "data", "layout"),
    [
        ("a.jsonl", "", "jsonl"),
        ("a.ndjson.gz", "", "jsonl"),
        ("a.json", '{"text": "x"}', "jsonl"),
        ("a", '{"text": "' + "x " * 100_000, "jsonl"),
        ("a.txt", "{curly} text\n", "plain"),
        ("wiki.train.tokens", "anything\n", "wikitext"),
        ("a.txt", WIKITEXT[0], "wikitext"),
        ("afp_eng_199405", "\ufeff" + STORY, "gigaword"),
        ("pg11.txt", MODERN.format(BOOK), "gutenberg"),
        ("1.txt", SMALL_PRINT.format(BOOK), "gutenberg"),
        ("a.txt", BOOK, "plain"),
        ("a.bin", b"\xff\xfe\0", "plain"),
    ],
)
def test_a_format_is_recognized_by_name_and_first_bytes(name, data, layout, file):
    """`auto` knows each layout; a format that is given is not doubted."""
    files = find(str(file(data, name)))
    assert resolve(files, Reading()) == Reading(layout)
    assert resolve(files, Reading("lines")) == Reading("lines")


def test_files_of_several_formats_are_refused_but_for_plain_text_beside_books(file):
    """Plain files beside books or articles are documents as well; anything else mixed is an error with both names."""
    plain, book, table = file(BOOK, "a.txt"), file(MODERN.format(BOOK), "b.txt"), file('{"text": "x"}\n', "c.jsonl")
    assert resolve(find([str(plain), str(book)]), Reading()).format == "gutenberg"
    with pytest.raises(CorpusError, match=r"several formats: plain \(.*a\.txt\), jsonl \(.*c\.jsonl\)"):
        resolve(find([str(plain), str(table)]), Reading())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"format": "xml"}, "format: got 'xml', wanted one of 'auto', 'plain', 'lines'"),
        ({"errors": "ignore"}, "errors: got 'ignore', wanted one of 'strict', 'replace'"),
        ({"split": "dev"}, "split: got 'dev', wanted one of '', 'train', 'valid', 'test'"),
        ({"held_out": 0.5}, "held_out: got 0.5, wanted a share from 0 to below 0.5"),
    ],
)
def test_a_wrong_setting_says_what_is_wanted(wrong, message):
    """Settings are checked where they are made."""
    with pytest.raises(CorpusError, match=message):
        Reading(**wrong)
