"""Counting: items on one ID, items too many, largest group."""

import numpy as np

from semid._arrays import Array, Int64Array
from semid.collisions.keys import RowNumbers

__all__ = ["count_collisions", "positions_in_groups"]


def count_collisions(
    codes: Array,
    codebook_sizes: tuple[int, ...],
    *,
    capacity: int = 1,
    taken: Array | None = None,
) -> int:
    """Return how many items are too many for their ID, once `taken` rows have used their places.

    Parameters
    ----------
    codes : ndarray of shape (n_items, n_levels), unsigned integer dtype
    codebook_sizes : tuple of int
    capacity : int, default 1
    taken : ndarray of shape (n_taken, n_levels), unsigned integer dtype, optional
    """
    numbers = RowNumbers(codebook_sizes)
    used = np.bincount(numbers.number(taken)) if taken is not None and len(taken) else np.zeros(0, dtype=np.int64)
    items = np.bincount(numbers.number(codes), minlength=len(used))
    room = np.full(len(items), capacity)
    room[: len(used)] -= used
    return int(np.maximum(items - np.maximum(room, 0), 0).sum())


def positions_in_groups(groups: Int64Array) -> Int64Array:
    """Return for each row how many rows before it are of the same group; shape (n_rows,), dtype int64.

    Examples
    --------
    >>> positions_in_groups(np.array([5, 5, 2, 5]))
    array([0, 1, 0, 2])
    """
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(np.r_[begins, len(groups)])
    positions = np.empty(len(groups), dtype=np.int64)
    positions[order] = np.arange(len(groups)) - np.repeat(begins, lengths)
    return positions
