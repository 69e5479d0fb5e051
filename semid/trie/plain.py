"""Arrays as kernels read them: in C order, aligned, in the machine's byte order; copied only where they are not."""

from typing import Any

import numpy as np
import numpy.typing as npt

from semid._arrays import Array, Int64Array
from semid._checks import as_integers

__all__ = ["FLOAT32", "INT64", "plain", "plain_int64"]

INT64, FLOAT32 = np.dtype(np.int64), np.dtype(np.float32)


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
        values = as_integers(values, name, remedy=remedy)
    rows: Int64Array = np.ascontiguousarray(values, INT64)
    return rows if rows.flags.aligned else rows.copy()
