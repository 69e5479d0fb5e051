"""Arrays as kernels read them: in C order, aligned, in the machine's byte order; copied only where they are not."""

from typing import Any

import numpy as np
import numpy.typing as npt

from semid._arrays import Array, Int64Array
from semid.errors import InvalidTypeError, InvalidValueError

__all__ = ["FLOAT32", "INT64", "as_array", "plain", "plain_int64"]

INT64, FLOAT32 = np.dtype(np.int64), np.dtype(np.float32)


def as_array(values: Any, *, name: str) -> Array:
    """Return values as an array; an error for lists of different lengths."""
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InvalidValueError(
            f"{name} are no array: expected rows of one length, got others ({error}). "
            "Pad them, or see Trie.from_sequences."
        ) from error


def plain(array: Any, dtype: npt.DTypeLike) -> Array:
    """Return an array as a kernel may read it, converted to a native `dtype`.

    A kernel sees bytes and an item's size. Codes of the other byte order would be read as other codes, and lead it out
    of its arrays.
    """
    rows: Array = np.ascontiguousarray(array, dtype)
    return rows if rows.flags.aligned else rows.copy()


def plain_int64(values: Any, *, name: str, remedy: str) -> Int64Array:
    """Return integers as an int64 array that a kernel may read; an error for anything else, unless it is empty."""
    if type(values) is not np.ndarray or values.dtype is not INT64:  # every step of a search comes by
        values = as_array(values, name=name)
        if values.dtype.kind not in "iu" and values.size:  # an empty list has the dtype float64
            raise InvalidTypeError(f"{name} have a wrong dtype: expected integers, got {values.dtype}. {remedy}")
    rows: Int64Array = np.ascontiguousarray(values, INT64)
    return rows if rows.flags.aligned else rows.copy()
