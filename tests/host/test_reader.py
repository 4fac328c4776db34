"""The reader: a value becomes what its annotation wants, or a problem with its key."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from seqtoolkit.host.reader import Reader

READ = [
    (float | int, 3, 3),
    (int | float, 3.0, 3.0),
    (float | None, 3, 3.0),
    (str | Path, "a", "a"),
    (Path | None, "a", Path("a")),
    (Literal["auto"] | float, "auto", "auto"),
    (list[int] | str, [1.0], [1]),
    (int | list[int], [2], [2]),
    (tuple[int, ...], [1, 2.0], (1, 2)),
    (tuple[int, str], [1, "a"], (1, "a")),
    (tuple, [1, "a"], (1, "a")),
    (list, [1, {"a": 2}], [1, {"a": 2}]),
    (Sequence[int], [1], (1,)),
    (Mapping[Literal["a"], float], {"a": 1}, {"a": 1.0}),
    (dict, {"a": [1]}, {"a": [1]}),
    (dict[str, tuple[int, int]], {"a": [1, 2]}, {"a": (1, 2)}),
    (Any, {"a": [None]}, {"a": [None]}),
    (object, 3, 3),
    (None, None, None),
]
REFUSED = [
    (int | float, True, "x: wanted int | float, got true"),
    (int | str, [1], "x: wanted int | str, got a list of 1"),
    (list[int] | None, [1, "a"], "x.1: wanted int, got 'a'"),
    (list[int] | None, "a", "x: wanted list[int], got 'a'"),
    (list[int] | str, {"a": 1}, "x: wanted list[int], got a mapping (a)"),
    (dict[Literal["left"], int], {"leff": 1}, "x.leff: wanted left, got 'leff'; did you mean left?"),
    (Literal[1, 2], True, "x: wanted one of 1 | 2, got true"),
    (Literal[1, 2], "1", "x: wanted one of 1 | 2, got '1'"),
    (str, None, "x: wanted str, got null; quote it to make it text"),
    (str | None, 1.5, "x: wanted str | null, got 1.5; quote it to make it text"),
    (float, 10**400, "x: wanted float, got a huge integer"),
    (
        tuple[int, ...],
        {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5},
        "x: wanted tuple[int, ...], got a mapping (a, b, c, d, ...)",
    ),
    (int, "y" * 100, f"x: wanted int, got '{'y' * 60}...'"),
]


@pytest.mark.parametrize(("annotation", "value", "wanted"), READ, ids=str)
def test_value_becomes_what_is_wanted(annotation, value, wanted, fakes):
    """A value that fits is taken, as it is where a union allows that, else as the first member that it fits."""
    reader = Reader(fakes)
    found = reader.value(type(None) if annotation is None else annotation, value, ("x",))
    assert reader.problems == []
    assert found == wanted
    assert repr(found) == repr(wanted)


@pytest.mark.parametrize(("annotation", "value", "message"), REFUSED, ids=[message for _, _, message in REFUSED])
def test_value_that_does_not_fit_is_a_problem(annotation, value, message, fakes):
    """A value that does not fit is one problem, at the innermost key that is to blame, and is handed back."""
    reader = Reader(fakes)
    assert reader.value(annotation, value, ("x",)) in (value, [1, "a"])
    assert [f"{'.'.join(key)}: {text}" for key, text in reader.problems] == [message]
