"""Documents: YAML as OmegaConf reads it, with the line of every key, and nothing that could harm."""

import contextlib
import itertools

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from seqtoolkit.host.document import DEEPEST, parse
from seqtoolkit.host.problem import ConfigError

SCALARS = [
    "1e3",
    "1e-3",
    "-1E+5",
    "1.e3",
    ".5e3",
    "1_000",
    "1_0.5",
    "0x1F",
    "0b11",
    "0o17",
    "017",
    "12:30",
    "12:30.5",
    "yes",
    "on",
    "Off",
    "true",
    "~",
    "null",
    "2020-01-01",
    ".inf",
    "-.INF",
    ".nan",
    "1.",
    "+3",
    "inf",
    "nan",
    "1e",
    "_1",
    "1__2",
    "1e3_0",
    "1_e3",
    "1_0e3",
    "1__0e3",
    "1_0.5e3",
    "1.0_0e3",
    "1_.5e3",
    "1_.5e+3",
    "1,000",
    ".5",
    ".",
    "._5",
    "-e3",
    "+1e3",
    "e3",
    "1e3x",
    "2020-01-01T12:00:00Z",
]


def agree(text):
    """Whether both readers take a scalar for the same thing."""
    try:
        wanted = OmegaConf.create(f"key: {text}").key
    except yaml.YAMLError:
        wanted = ConfigError
    try:
        found = parse(f"key: {text}", "x")[0]["key"]
    except ConfigError:
        found = ConfigError
    assert repr(found) == repr(wanted)


@pytest.mark.parametrize("text", SCALARS)
def test_scalar_is_what_omegaconf_reads(text):
    """Each notation of numbers, dates and truth means what it means in OmegaConf."""
    agree(text)


@given(st.text("0123456789eE+-._:xob", min_size=1, max_size=8))
@settings(max_examples=400)
@example("1e0_1")
def test_numbers_are_what_omegaconf_reads(text):
    """Whatever looks like a number is the number that OmegaConf reads, or text as it is there."""
    try:
        yaml.safe_load(f"key: {text}")
    except ValueError:  # 0x_ and its like are OmegaConf's undoing
        return
    except yaml.YAMLError:
        pass
    agree(text)


def test_lines_of_keys():
    """Every key and item has its line, those that an alias or a merge brings too."""
    text = "# first\na: &x\n  b: 1\n  c: [2,\n      3]\nd: {<<: *x, b: 4}\n"
    data, lines = parse(text, "x")
    assert data == {"a": {"b": 1, "c": [2, 3]}, "d": {"b": 4, "c": [2, 3]}}
    assert {".".join(key): line for key, line in lines.items()} == {
        "a": 2, "a.b": 3, "a.c": 4, "a.c.0": 4, "a.c.1": 5,
        "d": 6, "d.b": 6, "d.c": 4, "d.c.0": 4, "d.c.1": 5,
    }  # fmt: skip


LAUGHS = "a: &a [x, x]\n" + "".join(f"{y}: &{y} [*{x}, *{x}, *{x}, *{x}]\n" for x, y in itertools.pairwise("abcdefghi"))
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{y}: &{y} {{<<: [*{x}, *{x}, *{x}, *{x}]}}\n" for x, y in itertools.pairwise("abcdefghi")
)
STAIRS = "a: &a " + "[" * 40 + "]" * 40 + "\nb: " + "[" * 40 + "*a" + "]" * 40
BAD = {
    "syntax": ("a: 1\nb: [1,\nc: 2\n", "(while parsing a flow sequence that begins in line 2)"),
    "tabs": ("a:\n\tb: 1", "x.yaml:2:1: found character"),
    "mapping": ("a: b: c", "x.yaml:1:5: mapping values are not allowed"),
    "twice": ("a: 1\nb: 2\na: 3", "x.yaml:3:1: the key 'a' is there twice"),
    "documents": ("a: 1\n---\nb: 2", "x.yaml:2:1: but found another document"),
    "python": ("a: !!python/object/apply:os.system [x]", "x.yaml:1:4: the tag tag:yaml.org,2002:python/object/apply:os.system"),
    "path": ("a: !!python/object/apply:pathlib.Path [x]", "is not allowed: a pipeline is plain data"),
    "own": ("a: !mine 3", "x.yaml:1:4: the tag !mine is not allowed"),
    "binary": ("a: !!binary aGk=", "is not allowed"),
    "laughs": (LAUGHS, "larger than any pipeline"),
    "merges": (MERGES, "larger than any pipeline"),
    "stairs": (STAIRS, "larger than any pipeline"),
    "loop": ("a: &a [*a]", "x.yaml:1:4: an alias inside of what it stands for"),
    "mapping loop": ("a: &a {b: *a}", "an alias inside of what it stands for"),
    "nobody": ("a: *nobody", "x.yaml:1:4: found undefined alias 'nobody'"),
    "deep": ("[" * 5000, f"x.yaml:1:{DEEPEST + 1}: nested more than {DEEPEST} deep"),
    "deep block": ("\n".join(" " * n + "a:" for n in range(900)), f"nested more than {DEEPEST} deep"),
    "long": ("# " + "x" * 1_000_001, "too long for a pipeline: 1,000,003 characters"),
    "nul": ("a: 1\nb: \x00", "x.yaml:2: special characters are not allowed (character 0x0)"),
    "hex": ("a: 1\nb: 0x_", "not a value that can be read"),
    "digits": ("a: " + "9" * 5000, "not a value that can be read"),
    "escape": ('a: "\\UFFFFFFFF"', "not a value that can be read"),
    "list key": ("? [a]\n: 1", "x.yaml:1:3: found unhashable key"),
    "interpolation": ("core: {use: rmc, size: ${run.seed}}", 'an interpolation is quoted: "${...}"'),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_bad_document_is_one_line_with_its_place(fault):
    """Whatever is wrong with a text is said in one line, with the file, and the line and column where there are any."""
    text, message = BAD[fault]
    with pytest.raises(ConfigError) as caught:
        parse(text, "x.yaml")
    assert message in str(caught.value)
    assert str(caught.value).startswith("x.yaml")
    assert len(caught.value.problems) == 1
    assert "\n" not in str(caught.value)


@given(st.text(st.sampled_from("ab: \n-[]{},&*!|>'\"%@`?#~<=1e.\t\\$\x00é"), max_size=40))
def test_any_text_is_read_or_refused(text):
    """No text makes the reader fail in another way."""
    with contextlib.suppress(ConfigError):
        parse(text, "x")


def test_empty_document_is_nothing():
    """A text without data is read as nothing; what that means is for its reader to say."""
    assert parse("# only a comment\n", "x") == (None, {})
