"""Schemas: a signature says what a pipeline may write."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqtoolkit.flow.kind import Kind
from seqtoolkit.host import annotation as notes
from seqtoolkit.host.schema import GIVEN, SchemaError, plain, schema

Optimizer = Annotated[Callable[..., Any], Kind("optimizer")]
SPELLED = [
    (int, "int"),
    (float | None, "float | null"),
    (Optional[str], "str | null"),  # noqa: UP045  both spellings are met
    (Union[int, str], "int | str"),  # noqa: UP007  as above
    (Literal["a", 1, None], "a | 1 | null"),  # noqa: PYI061  as above
    (Literal["a"] | None, "a | null"),
    (list[int], "list[int]"),
    (Sequence[float], "list[float]"),
    (tuple[int, ...], "tuple[int, ...]"),
    (tuple[int, str], "tuple[int, str]"),
    (dict[str, list[float]], "dict[str, list[float]]"),
    (Mapping[str, int], "dict[str, int]"),
    (dict[Literal["a"], int], "dict[a, int]"),
    (Path, "path"),
    (Any, "anything"),
    (Optimizer, "optimizer"),
    (list[Optimizer] | None, "list[optimizer] | null"),
    (Annotated[int, "positive"], "int"),
    (int | Callable[..., Any], "int"),
]


@pytest.mark.parametrize(("annotation", "text"), SPELLED, ids=[text for _, text in SPELLED])
def test_annotation_is_spelled_for_people(annotation, text):
    """Each annotation that a pipeline can write has one short spelling, whichever way Python writes it."""
    assert notes.writable(annotation)
    assert notes.spell(annotation) == text


@pytest.mark.parametrize(
    "annotation",
    [
        Callable[..., int],
        bytes,
        list[bytes],
        dict[int, str],
        dict[Literal[1], str],
        Callable[..., int] | None,
        type,
        Exception,
    ],
)
def test_annotation_that_only_python_writes(annotation):
    """What YAML cannot hold is not writable, nor is a union in which nothing but null is."""
    assert not notes.writable(annotation)


def test_parameters_come_in_order_with_defaults_choices_kinds_and_docs(fakes):
    """A schema has all that the signature and the Google-style docstring say."""
    numbers = schema(fakes.resolve("source", "numbers"))
    assert list(numbers.fields) == ["length", "scale", "curriculum", "file", "seed", "split"]
    assert numbers.doc == "Numbers to learn."
    length, seed = numbers.fields["length"], numbers.fields["seed"]
    assert (length.required, length.default, length.doc) == (True, MISSING, "How many there are.")
    assert (seed.required, seed.default, seed.doc) == (False, 0, "Where they begin.")
    assert numbers.fields["split"].choices == ("train", "valid", "test")
    assert numbers.fields["scale"].choices == ()
    memory = schema(fakes.resolve("core", "memory"))
    assert memory.fields["gate"].choices == ("unit", "memory", None)
    assert memory.fields["slots"].doc == "How many slots."
    assert memory.fields["shape"].default == [2, 3]
    assert "Somebody et al. 2018." in memory.doc
    learner = schema(fakes.resolve("learner", "supervised"))
    assert [each.kind for each in learner.fields.values()] == ["optimizer", "optimizer", None]
    assert learner.fields["optimizer"].default.__name__ == "adam"
    assert schema(fakes.resolve("source", "mix")).fields["sources"].kind == "source"


def test_what_surrounds_a_part_is_no_parameter(fakes):
    """What assembly hands over is not part of the schema, and neither is what only Python can write."""
    assert "input_size" not in schema(fakes.resolve("core", "memory")).fields
    assert "hook" not in schema(fakes.resolve("core", "memory")).fields
    assert list(schema(fakes.resolve("optimizer", "adam")).fields) == ["lr", "betas"]

    def part(input_size: "Nowhere", steps: bytes, size: int = 1) -> "Nowhere": ...  # noqa: F821  never asked for

    assert list(schema(part).fields) == ["size"]

    @dataclass
    class Settings:
        steps: int = 3

    assert list(schema(Settings, given=()).fields) == ["steps"]
    assert "steps" in GIVEN


def test_dataclass_and_partial_and_method_have_schemas():
    """Whatever can be called by name has a schema: default factories, bound parameters, bound methods."""

    @dataclass
    class Settings:
        sizes: list[int] = field(default_factory=lambda: [1, 2])
        name: str = dataclasses.field(default="x", kw_only=True)
        made: int = field(init=False, default=3)

    assert {name: each.default for name, each in schema(Settings).fields.items()} == {"sizes": [1, 2], "name": "x"}

    def part(size: int, width: float = 2.0): ...

    bound = schema(functools.partial(part, size=4)).fields
    assert {name: each.default for name, each in bound.items()} == {"size": 4, "width": 2.0}

    class Maker:
        def make(self, size: "int" = 1): ...

        @classmethod
        def build(cls, size: "int" = 2): ...

        def __call__(self, size: "int" = 3): ...

    made = [schema(each).fields["size"] for each in (Maker().make, Maker.build, Maker())]
    assert [(each.annotation, each.default) for each in made] == [(int, 1), (int, 2), (int, 3)]


def test_torch_module_without_a_constructor_takes_nothing():
    """A module that inherits torch's constructor, with its *args and **kwargs, has no parameters."""
    nn = pytest.importorskip("torch.nn")

    class Loss(nn.Module):
        """A loss."""

    assert schema(Loss).fields == {}


def _positional(size: int, /): ...


def _unresolvable(size: "Nowhere"): ...  # noqa: F821  that is the point


def _unwritable(size: bytes): ...


def _items(*items: int): ...


def _options(size: int, **options: int): ...


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (_items, "_items takes *items: a part names each of its parameters"),
        (_options, "_options takes **options: a part names each of its parameters"),
        (_positional, "_positional takes size by position only: a part takes its parameters by name"),
        (_unresolvable, "the annotation of size, 'Nowhere', cannot be resolved: name 'Nowhere' is not defined"),
        (_unwritable, "_unwritable: a pipeline cannot write size, of type <class 'bytes'>"),
        (type, "type has no signature to read"),
    ],
)
def test_signature_that_can_be_no_schema_is_refused(factory, message):
    """A factory that a pipeline cannot call is refused with the parameter and the reason."""
    with pytest.raises(SchemaError) as caught:
        schema(factory)
    assert message in str(caught.value)


NESTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just(Path("a")),
    lambda inside: st.lists(inside) | st.tuples(inside, inside) | st.dictionaries(st.text(), inside),
    max_leaves=8,
)


@given(NESTS)
def test_plain_is_plain_and_stays_so(value):
    """Plain data holds no tuple and no path, and is its own plain data; anything else has none."""
    found = plain(value)
    assert plain(found) == found
    assert {type(each) for each in _leaves(found)} <= {type(None), bool, int, float, str}
    assert plain([value, object()]) is MISSING


def _leaves(value):
    if type(value) in (list, dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _leaves(each)
    else:
        yield value


SCALARS = (
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=3) | st.just(10**400)
)


@given(SCALARS, st.sampled_from([bool, int, float, str, Path, type(None)]))
def test_scalar_is_of_its_type_and_equal_to_what_was_given(value, kind):
    """A scalar that is accepted has the type wanted, means what was given, and True is no number."""
    found = notes.scalar(kind, value)
    if found is MISSING:
        assert type(value) is not kind
        return
    assert type(found) is kind or isinstance(found, Path)
    assert found == value or found == Path(value)
    assert isinstance(value, bool) == (kind is bool)


def test_numbers_are_what_they_mean():
    """1e3 is an integer, 1.5 is none; an integer is a float unless it is too large to be one."""
    assert notes.scalar(int, 1e3) == 1000
    assert isinstance(notes.scalar(int, 1e3), int)
    assert notes.scalar(int, 1.5) is MISSING
    assert notes.scalar(int, float("inf")) is MISSING
    assert isinstance(notes.scalar(float, 3), float)
    assert notes.scalar(float, 10**400) is MISSING
    assert notes.scalar(Literal[1], True) is MISSING


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`type` statements are new in Python 3.12")
def test_type_alias_is_seen_through():
    """A name given by a `type` statement means what it names."""
    scope: dict[str, Any] = {}
    exec("type Size = int | None\ndef part(size: Size = None): ...", scope)
    assert schema(scope["part"]).fields["size"].type == "int | null"
