"""Specs: their notation, and what fits what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqtoolkit.flow.spec import DTYPES, Spec, SpecError, record, unify

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,3}", fullmatch=True)
AXES = NAMES | st.integers(0, 10_000)
SPECS = st.builds(Spec, st.sampled_from(DTYPES), st.lists(AXES, max_size=5).map(tuple), st.none() | AXES)


@given(SPECS)
def test_round_trip(spec):
    """What a spec writes, `parse` reads, and a Spec is parsed as itself."""
    assert Spec.parse(str(spec)) == spec
    assert Spec.parse(spec) is spec


def test_space_is_free():
    """Blanks around and between the parts mean nothing."""
    assert Spec.parse("  i64 < V > [ T   B ] ") == Spec("i64", ("T", "B"), "V")
    assert Spec.parse("f32[]") == Spec("f32", ())


@pytest.mark.parametrize(
    "text",
    ["", "f32", "[T B]", "f32 T B", "f33[T B]", "f32[T,B]", "f32[T-1]", "f32[-1]", "f32[2x]", "f32[[T]]", "f32<>[T]",
     "f32<V W>[T]", "f32[T B", "F32[T]", "f32[T]x", "i64<-3>[T]"],
)  # fmt: skip
def test_what_is_no_spec(text):
    """A text that is not of the notation is quoted, with an example of it and every dtype."""
    with pytest.raises(SpecError) as caught:
        Spec.parse(text)
    message = str(caught.value)
    assert message.startswith(f"{text!r} is not a spec")
    assert "f32[T B D]" in message
    assert all(dtype in message for dtype in DTYPES)
    assert "\n" not in message


@given(SPECS)
def test_a_spec_fits_itself(spec):
    """Each name is bound to itself."""
    bindings = unify(spec, spec)
    assert all(name == value for name, value in bindings.items())
    assert spec.substitute(bindings) == spec


@given(st.data(), SPECS)
def test_a_pattern_fits_its_instances(data, pattern):
    """Unifying a pattern with what a substitution makes of it finds that substitution."""
    names = {each for each in (*pattern.axes, pattern.bound) if isinstance(each, str)}
    chosen = {name: data.draw(AXES, name) for name in sorted(names)}
    instance = pattern.substitute(chosen)
    assert unify(pattern, instance) == chosen
    assert pattern.substitute(unify(pattern, instance)) == instance


@given(SPECS, st.dictionaries(NAMES, AXES, max_size=3))
def test_earlier_bindings_bind(spec, earlier):
    """Bindings are handed on, are not changed, and constrain what a name may still stand for."""
    before = dict(earlier)
    names = {each for each in (*spec.axes, spec.bound) if isinstance(each, str)}
    clash = any(earlier.get(name, name) != name for name in names)
    if clash:
        with pytest.raises(SpecError):
            unify(spec, spec, earlier)
    else:
        assert unify(spec, spec, earlier) == {**{name: name for name in names}, **earlier}
    assert earlier == before


@pytest.mark.parametrize(
    ("wanted", "given_", "says"),
    [
        ("f32[T B D]", "i64[T B D]", "the dtype is i64, not f32"),
        ("f32[T B D]", "f32[T B]", "2 axes, not 3"),
        ("f32[T B 8]", "f32[T B 9]", "8 is wanted, not 9"),
        ("f32[D D]", "f32[3 4]", "D is 3, not 4"),
        ("i64<V>[T]", "i64[T]", "how many classes the ids have is not known"),
        ("i64<7>[T]", "i64<8>[T]", "7 is wanted, not 8"),
    ],
)
def test_what_does_not_fit(wanted, given_, says):
    """The message names what is wanted, what is given, and where they differ, in one line."""
    with pytest.raises(SpecError) as caught:
        unify(wanted, given_)
    assert str(caught.value).endswith(says)
    assert f"gets {given_}" in str(caught.value)
    assert str(caught.value).startswith("wants ")


def test_a_clash_shows_what_a_name_stands_for():
    """In a pattern that is met half, the names that are bound are shown by their values."""
    with pytest.raises(SpecError, match=r"wants f32\[U B 10\], gets f32\[U B 9\]: C is 10, not 9"):
        unify("f32[U B C]", "f32[U B 9]", {"C": 10})


def test_ids_of_known_number_fit_where_any_ids_do():
    """A pattern without a bound takes any; the bound of what is given is not lost to the pattern."""
    assert unify("i64[T B]", "i64<5>[T B]") == {"T": "T", "B": "B"}


def test_record():
    """A record is written in the notation, field by field, and a wrong one names itself."""
    assert record(a="f32[T]", b=Spec("u8", (3,))) == {"a": Spec("f32", ("T",)), "b": Spec("u8", (3,))}
    with pytest.raises(SpecError, match="'what'"):
        record(a="what")
