"""What is said of wrong settings of a tokenizer."""

import pytest

from seqtoolkit_language.tokenizer import Tokenization


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"kind": "wrod"}, "kind: wanted one of word, space, character, byte, bpe, got 'wrod'"),
        ({"size": 2}, "size: wanted 3 or more for kind word, got 2"),
        ({"size": 10.5}, "size: wanted a whole number or nothing, got 10.5"),
        ({"kind": "byte", "size": 300}, "size: wanted 258 or nothing for kind byte, got 300"),
        ({"kind": "bpe"}, "size: wanted the number of tokens for kind bpe, 258 or more, got none"),
        ({"kind": "bpe", "size": 257}, "size: wanted 258 or more for kind bpe, got 257"),
        ({"min_count": 0}, "min_count: wanted a whole number of 1 or more, got 0"),
        ({"kind": "byte", "min_count": 2}, "min_count: wanted 1 for kind byte, which knows every byte, got 2"),
        (
            {"kind": "byte", "lowercase": True},
            "lowercase: wanted false for kind byte, which keeps each byte as it is, got true",
        ),
        ({"lines": "no"}, "lines: wanted true or false, got 'no'"),
    ],
)
def test_wrong_settings_are_named(settings, line):
    """A wrong setting is one line that begins with its name."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the whole message is compared
        Tokenization(**settings)
    assert str(caught.value) == line
