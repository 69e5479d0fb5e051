"""Item ids, of which the resolver needs no more than their order."""

from typing import Any

import numpy as np

from semid._arrays import Array, Int64Array
from semid._checks import as_ids, check_id_types, ids_repeat
from semid.errors import InvalidValueError

__all__ = ["check_item_ids"]


def check_item_ids(item_ids: Any, n_items: int) -> Int64Array | None:
    """Return the rank of each id among all of them, shape (n_items,); None without ids.

    Ids are read as `semid.SemanticIds` reads them: all int or all str, in whatever holds them, such as a column of a
    data frame or an array of objects.
    """
    if item_ids is None:
        return None
    ids = as_ids(item_ids)
    if len(ids) != n_items:
        raise InvalidValueError(
            f"item_ids have a wrong length: expected {n_items}, got {len(ids)}. Pass one id per item."
        )
    if isinstance(ids, list):
        check_id_types(ids)
        ids = as_sortable(ids)
    known, ranks, counts = np.unique(ids, return_inverse=True, return_counts=True)
    if len(known) < n_items:
        raise ids_repeat(known[counts > 1].tolist())
    return ranks.astype(np.int64)


def as_sortable(ids: list[Any]) -> Array:
    """Return ids of one type as an array that keeps them apart, of int or str where possible: objects sort slower."""
    array = np.array(ids)
    # Some int have more than 64 bits, and an array of str drops the NULs at their ends.
    exact = array.dtype.kind in "iu" or (array.dtype.kind == "U" and not any(one.endswith("\0") for one in ids))
    return array if exact else np.array(ids, dtype=object)
