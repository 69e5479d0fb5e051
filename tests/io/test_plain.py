"""What NumPy and others call numbers, as JSON."""

import json
from fractions import Fraction
from types import MappingProxyType

import numpy as np
import pytest

from semid.io.plain import to_json


@pytest.mark.parametrize(
    "value, expected",
    [
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.longdouble(2), 2.0),
        (Fraction(1, 4), 0.25),
        (np.array([8, 16]), [8, 16]),
        ([np.uint8(1), "a", None, True], [1, "a", None, True]),
        (MappingProxyType({"a": np.float32(2)}), {"a": 2.0}),
    ],
    ids=repr,
)
def test_numbers_arrays_and_mappings_of_any_kind(value, expected):
    found = json.loads(to_json({"x": value}))["x"]
    assert found == expected and type(found) is type(expected)


def test_other_things_are_refused():
    with pytest.raises(TypeError, match="Object of type object is not JSON serializable"):
        to_json(object())
