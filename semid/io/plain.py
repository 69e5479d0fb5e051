"""JSON of what callers pass as parameters: numbers, arrays and mappings of any library."""

import json
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

__all__ = ["to_json"]


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON; a number of NumPy is a number, an array a list, any mapping an object.

    Raises
    ------
    TypeError
        If it holds something else that JSON does not know.
    """
    return json.dumps(value, indent=indent, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
