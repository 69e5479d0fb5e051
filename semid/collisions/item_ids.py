"""Item ids, of which the resolver needs no more than their order."""

from typing import Any

import numpy as np

from semid._arrays import Array, Int64Array
from semid.errors import InvalidTypeError, InvalidValueError

__all__ = ["check_item_ids"]

INTEGER_TYPES = (int, np.integer)


def check_item_ids(item_ids: Any, n_items: int) -> Int64Array | None:
    """Return the rank of each id among all of them, shape (n_items,); None without ids.

    Ids are read as `semid.SemanticIds` reads them: all int or all str, in whatever holds them, such as a column of a
    data frame or an array of objects.
    """
    if item_ids is None:
        return None
    if isinstance(item_ids, str):
        raise InvalidTypeError(
            f"item_ids have a wrong type: expected a sequence of ids, got the str {item_ids!r}. Write [{item_ids!r}]."
        )
    try:
        ids = item_ids.tolist() if hasattr(item_ids, "tolist") else list(item_ids)
        n_ids = len(ids)
    except TypeError as error:
        raise InvalidTypeError(
            f"item_ids have a wrong type: expected a sequence of int or str, got {type(item_ids).__name__}. "
            "Pass one id per item."
        ) from error
    if n_ids != n_items:
        raise InvalidValueError(f"item_ids have a wrong length: expected {n_items}, got {n_ids}. Pass one id per item.")
    kinds = set(map(type, ids))
    if not any(all(issubclass(kind, wanted) and kind is not bool for kind in kinds) for wanted in (INTEGER_TYPES, str)):
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise InvalidTypeError(
            f"item_ids have wrong types: expected all int or all str, got {names}. Convert them to one type."
        )
    known, ranks, counts = np.unique(as_sortable(ids), return_inverse=True, return_counts=True)
    if len(known) < n_ids:
        raise InvalidValueError(
            f"item_ids repeat: expected each id once, got {known[counts > 1].tolist()[0]!r} {counts.max()} times. "
            "Pass one id per item."
        )
    return ranks.astype(np.int64)


def as_sortable(ids: list[Any]) -> Array:
    """Return ids of one type as an array that keeps them apart, of int or str where possible: objects sort slower."""
    array = np.array(ids)
    # Some int have more than 64 bits, and an array of str drops the NULs at their ends.
    exact = array.dtype.kind in "iu" or (array.dtype.kind == "U" and not any(one.endswith("\0") for one in ids))
    return array if exact else np.array(ids, dtype=object)
