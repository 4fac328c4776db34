"""Published variables by name: scopes and suffixes fall away, and whatever is not one core's is refused in one line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqtoolkit.flow.variable import read_variables, require_shapes

NAMES = r"gates/[wb]"
ONE = np.ones(2, np.float32)


@given(scope=st.sampled_from(["", "a/", "a/b/", "gates/"]), suffix=st.sampled_from(["", ":0"]))
def test_a_scope_and_a_suffix_fall_away(scope, suffix):
    """The same arrays come under the same names, whatever scope they were saved under."""
    arrays = {f"{scope}gates/w{suffix}": np.eye(2), f"{scope}gates/b{suffix}": [1.0]}
    found = read_variables(arrays, NAMES, "gates/w")
    assert list(found) == ["gates/w", "gates/b"]
    assert found["gates/w"] is arrays[f"{scope}gates/w{suffix}"]
    assert found["gates/b"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("arrays", "wanted"),
    [
        ({"gates/x": ONE}, r"^'gates/x' is no variable of the published core; wanted names like 'gates/w'$"),
        ({3: ONE}, r"^3 is no variable"),
        ({"gates/w": ONE, "gates/w:0": ONE}, r"^'gates/w:0' is given twice"),
        ({"a/gates/w": ONE, "b/gates/b": ONE}, r"several scopes: a/gates/w, b/gates/b$"),
        ({"gates/w": [[1.0], [1.0, 2.0]]}, r"^'gates/w': wanted an array of floats: "),
        ({"gates/w": np.ones(2, int)}, r"^'gates/w': wanted an array of floats, got int64 of the shape \(2,\)$"),
        ({"gates/w": np.ones((0, 2))}, r"got float64 of the shape \(0, 2\)$"),
    ],
)
def test_what_is_not_one_cores_is_refused(arrays, wanted):
    """Each mistake is one line that names the variable."""
    with pytest.raises(ValueError, match=wanted):
        read_variables(arrays, NAMES, "gates/w")


def test_a_shape_that_does_not_fit_is_named():
    """The first variable of another shape is named with both."""
    require_shapes({"gates/w": ONE}, {"gates/w": (2,)})
    with pytest.raises(ValueError, match=r"^gates/w: wanted the shape \(3,\), got \(2,\)$"):
        require_shapes({"gates/w": ONE}, {"gates/w": (3,)})
