"""Ids and counts of text against slow, readable tokenizers, for every kind."""

import pickle
import unicodedata
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as trial
from hypothesis import strategies as st

from seqtoolkit_language import memory
from seqtoolkit_language.tokenizer import EOS, UNK, Tokenization, Tokenizer, count

PATIENT = trial(max_examples=60, deadline=None)  # a busy machine is no failure
ALPHABET = "aAbéß日हिि123٣½.,'\u2019-\u2010_\"()<>@\u200d\u00a0\u3000\u0301 \n\t\r\x1c😀İΣς"
TEXT = st.text(st.sampled_from(ALPHABET), max_size=60) | st.text(max_size=20)
SPECIAL = TEXT | st.lists(st.sampled_from(["<unk>", "<eos>", "a", "b", "\n", " ", "<UNK>"]), max_size=20).map("".join)
LINES = st.booleans()


def learned(settings: Tokenization, *texts: str, ends: int = 0) -> Tokenizer:
    """Return the tokenizer of some texts, counted one by one."""
    table: dict[str, int] = {}
    for text in texts:
        count(text.encode(), settings, table)
    return Tokenizer.learn(settings, table.items(), ends)


def is_word(character: str) -> bool:
    """Whether a character is a letter, a digit or a mark."""
    return character.isalnum() or unicodedata.category(character).startswith("M")


def joins(text: str, at: int) -> bool:
    """Whether the character stands inside of a word by the rule of the kind `word`."""
    if not 0 < at < len(text) - 1:
        return False
    left, right = text[at - 1], text[at + 1]
    if text[at] in "'\u2019-\u2010\u200c\u200d":
        return is_word(left) and is_word(right)
    return text[at] in ".," and left.isdecimal() and right.isdecimal()


def slow_words(text: str) -> list[str]:
    """Split text by the rule of the kind `word`, a character at a time."""
    found: list[str] = []
    inside = False
    for at, character in enumerate(text):
        belongs = is_word(character) or joins(text, at)
        if belongs and inside:
            found[-1] += character
        elif not character.isspace():
            found.append(character)
        inside = belongs
    return found


def slow(text: str, settings: Tokenization) -> list[str]:
    """Return the tokens of text as they are meant, "<eos>" among them."""
    text = text.lower() if settings.lowercase else text
    cut = {"word": slow_words, "space": str.split, "character": list}[settings.kind]
    if not settings.lines:
        return cut(text)
    first, *others = text.split("\n")
    return cut(first) + [token for line in others for token in (["\n"], cut(line)) for token in token]


@pytest.mark.parametrize("kind", ["word", "space", "character"])
@PATIENT
@given(texts=st.lists(SPECIAL, min_size=1, max_size=4), lines=LINES, lowercase=st.booleans(), ends=st.integers(0, 9))
def test_counts_and_ids_are_those_of_a_slow_tokenizer(kind, texts, lines, lowercase, ends):
    """Tokens stand by falling count, ties by text, with the counts of a plain count; each text has the ids these give."""
    settings = Tokenization(kind, lines=lines, lowercase=lowercase)
    tokenizer = learned(settings, *texts, ends=ends)
    special = {"<unk>": UNK, "<eos>": EOS} if kind == "space" else {}
    special |= {"\n": EOS} if lines else {}
    tally = Counter(token for text in texts for token in slow(text, settings))
    ranked = sorted(set(tally) - set(special), key=lambda token: (-tally[token], token))
    assert tokenizer.tokens == ["<unk>", "<eos>", *ranked]
    assert tokenizer.counts.tolist()[2:] == [tally[token] for token in ranked]
    assert tokenizer.counts[UNK] == (tally["<unk>"] if kind == "space" else 0)
    assert tokenizer.counts[EOS] == ends + (tally["<eos>"] if kind == "space" else 0)
    ids = special | {token: i for i, token in enumerate(ranked, 2)}
    for text in texts:
        assert tokenizer.encode(text.encode()).tolist() == [ids[token] for token in slow(text, settings)]


@PATIENT
@given(
    counted=st.dictionaries(st.text("abcd", min_size=1, max_size=3), st.integers(1, 5), min_size=1),
    size=st.integers(3, 12),
    min_count=st.integers(1, 3),
)
def test_a_size_fixes_the_number_of_ids_and_the_rest_is_unknown(counted, size, min_count):
    """The most frequent words that stand often enough are kept; what is cut counts as <unk>; empty ids fill the size."""
    settings = Tokenization("space", size=size, min_count=min_count)
    often = sorted((w for w in counted if counted[w] >= min_count), key=lambda w: (-counted[w], w))[: size - 2]
    if not often:
        with pytest.raises(ValueError, match=r"^min_count: wanted at most"):
            Tokenizer.learn(settings, counted.items())
        return
    tokenizer = Tokenizer.learn(settings, iter(counted.items()))
    assert tokenizer.tokens == ["<unk>", "<eos>", *often] + [""] * (size - 2 - len(often))
    cut = {word: number for word, number in counted.items() if word not in often}
    assert tokenizer.counts[UNK] == sum(cut.values())
    assert tokenizer.counts.sum() == sum(counted.values())
    assert tokenizer.size == size == len(tokenizer.counts) == len(tokenizer.characters)
    expected = round(sum(len(w) * n for w, n in cut.items()) / sum(cut.values())) if cut else 5
    assert tokenizer.characters[UNK] == expected + 1
    ids = tokenizer.encode(" ".join(counted).encode())
    assert ids.tolist() == [often.index(word) + 2 if word in often else UNK for word in counted]


@pytest.mark.parametrize("kind", ["character", "byte"])
@PATIENT
@given(text=TEXT, lines=LINES)
def test_decoding_gives_back_the_text(kind, text, lines):
    """Nothing of a text is lost by character and byte; its characters are counted exactly."""
    tokenizer = learned(Tokenization(kind, lines=lines), text)
    ids = tokenizer.encode(text.encode())
    assert tokenizer.decode(ids) == text
    assert tokenizer.characters[ids].sum() == len(text)


@PATIENT
@given(text=TEXT)
def test_words_of_space_are_joined_by_one_blank(text):
    """Published tokens come back with one blank between them."""
    tokenizer = learned(Tokenization("space"), text)
    assert tokenizer.decode(tokenizer.encode(text.encode())) == " ".join(text.split())


@PATIENT
@given(data=st.binary(max_size=50))
def test_bytes_are_known_whatever_they_are(data):
    """Each of the 256 bytes has an id of its own, by falling count, and a count, of valid UTF-8 or not."""
    table: dict[str, int] = {}
    count(data, Tokenization("byte"), table)
    tokenizer = Tokenizer.learn(Tokenization("byte"), table.items(), 3)
    ids = tokenizer.encode(data)
    assert bytes(ord(tokenizer.tokens[i]) for i in ids) == data
    assert np.array_equal(np.bincount(ids, minlength=258)[2:], tokenizer.counts[2:])
    assert (np.diff(tokenizer.counts[2:]) <= 0).all()
    assert tokenizer.counts[EOS] == 3
    assert sorted(tokenizer.tokens[2:]) == [chr(code) for code in range(256)]
    assert tokenizer.decode(ids) == data.decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Don't well-known rock 'n' roll", ["Don't", "well-known", "rock", "'", "n", "'", "roll"]),
        ("It cost $12,000.50, in 1790.", ["It", "cost", "$", "12,000.50", ",", "in", "1790", "."]),
        ("v.2 3.x 1,x", ["v", ".", "2", "3", ".", "x", "1", ",", "x"]),
        ("wait--what? _so_ 10:30", ["wait", "-", "-", "what", "?", "_", "so", "_", "10", ":", "30"]),
        ("L\u2019été à Łódź “x”", ["L\u2019été", "à", "Łódź", "“", "x", "”"]),
        ("हिन्दी में e\u0301t", ["हिन्दी", "में", "e\u0301t"]),
        ("<unk> a<eos>", ["<", "unk", ">", "a", "<", "eos", ">"]),
    ],
)
def test_the_rule_of_word(text, tokens):
    """Words keep inner apostrophes, hyphens, marks and the points of numbers; each other sign is apart."""
    tokenizer = learned(Tokenization("word"), text)
    assert [tokenizer.tokens[i] for i in tokenizer.encode(text.encode())] == tokens


@pytest.mark.parametrize("kind", ["word", "space"])
def test_a_line_break_is_eos_and_the_texts_own_mark_is_not(kind):
    """Each line break gives one <eos>, a cut inside a line none; raw words that look like the mark are words."""
    tokenizer = learned(Tokenization(kind, lines=True), "a b < eos > \n")
    a, b = (tokenizer.tokens.index(word) for word in "ab")
    assert tokenizer.encode(b"a\n\nb").tolist() == [a, EOS, EOS, b]
    assert [*tokenizer.encode(b"a "), *tokenizer.encode(b"b\n")] == [a, b, EOS]
    own = tokenizer.encode(b"<eos>").tolist()
    assert own == [EOS] if kind == "space" else [tokenizer.tokens.index(word) for word in ("<", "eos", ">")]


def test_words_are_written_as_people_do():
    """Punctuation is attached, quotes open and close, <eos> breaks the line; published marks stay as they are."""
    text = 'He said: "Yes, (of course)!"\nIt cost $5.'
    tokenizer = learned(Tokenization("word", lines=True), text)
    assert tokenizer.decode(tokenizer.encode(text.encode())) == text
    assert tokenizer.decode([UNK, EOS, UNK]) == "<unk>\n<unk>"
    published = learned(Tokenization("space"), "a well @-@ known fact , he said")
    assert published.decode(published.encode(b"a well @-@ known fact , he said")) == "a well @-@ known fact , he said"


@PATIENT
@given(texts=st.lists(TEXT, max_size=6))
def test_what_was_encoded_before_changes_nothing(texts):
    """A memory so small that it is always full gives the ids of a fresh tokenizer, line breaks and all."""
    tokenizer = learned(Tokenization("word", lines=True), *texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "LIMIT", 2)
        patch.setattr(memory, "LONGEST", 3)
        found = [tokenizer.encode(text.encode()).tolist() for text in texts]
    fresh = pickle.loads(pickle.dumps(tokenizer))
    assert found == [fresh.encode(text.encode()).tolist() for text in reversed(texts)][::-1]


def test_the_memory_is_bounded():
    """It answers all, keeps at most LIMIT chunks, and no long one: a corpus of no blanks does not fill it."""
    known = memory.Memory(lambda chunk: (len(chunk),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "LIMIT", 4)
        for chunk in ["a" * length for length in (*range(9), memory.LONGEST, memory.LONGEST + 1)]:
            assert known[chunk] == (len(chunk),)
            assert len(known) <= 4
    assert max(map(len, known)) == memory.LONGEST


def test_a_long_text_is_cut_where_words_end():
    """Text of more than one part gives the words of all of it."""
    text = " ".join(f"word{i} " for i in range(3000)) + "x" * 9000
    tokenizer = learned(Tokenization("word"), text)
    assert [tokenizer.tokens[i] for i in tokenizer.encode(text.encode())] == text.split()
    assert set(tokenizer.counts[2:]) == {1}


@pytest.mark.parametrize(
    ("words", "dtype"), [(254, np.uint8), (255, np.uint16), (65534, np.uint16), (65535, np.uint32)]
)
def test_ids_are_of_the_smallest_type(words, dtype):
    """256 ids fit a byte, 65536 two, and the last id is encoded as itself."""
    tokenizer = Tokenizer.learn(Tokenization("space"), ((f"{i:06}", 1) for i in range(words)))
    ids = tokenizer.encode(f"{words - 1:06}".encode())
    assert tokenizer.dtype == ids.dtype == dtype
    assert ids.tolist() == [words + 1]


def test_characters_of_words():
    """A word stands for its letters and the blank after it, <eos> for one, an unused id for none."""
    tokenizer = learned(Tokenization("space", size=6), "the cat the")
    assert tokenizer.characters.tolist() == [6, 1, 4, 4, 0, 0]


def test_tables_that_were_not_merged_and_ids_of_others_are_refused():
    """A word counted twice and an id beyond the vocabulary are the caller's mistake, and said."""
    with pytest.raises(ValueError, match=r"^counts: a token stands in them twice"):
        Tokenizer.learn(Tokenization(), [("a", 1), ("a", 2)])
    tokenizer = Tokenizer.learn(Tokenization(), [("a", 1)])
    for wrong in (3, -1):
        with pytest.raises(ValueError, match=rf"^ids: wanted numbers from 0 to 2, got {wrong}"):
            tokenizer.decode([wrong])
    with pytest.raises(UnicodeDecodeError):
        tokenizer.encode(b"\xff")
