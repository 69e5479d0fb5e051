"""The assignment problem: each item on one of its listed columns, no column beyond its room, least total cost."""

from typing import NamedTuple

import numpy as np

from semid._arrays import DoubleArray, FloatArray, Int64Array
from semid.kernels.assign import OPEN, place_items, price_items

__all__ = ["Assignment", "assign"]


# Entries that searches may look at, on average per item: some 30 microseconds. Ordinary catalogues need 50 to 5,000;
# where nearly all IDs are needed and there are too many of them for an auction, exact search has no end.
LOOKS_PER_ITEM, LEAST_LOOKS = 20_000, 2**30


class Assignment(NamedTuple):
    """An optimal assignment of as many items as fit, and its proof."""

    choice: Int64Array  # (n_items,): the entry that each item holds, -1 if it is not placed
    total: float  # cost of the placed items
    gap: float  # how far `total` can be above the least cost of placing these items: 0 apart from rounding
    dual: DoubleArray  # (n_items,): what each item pays at the final prices, `inf` without an entry that has room
    price: DoubleArray  # (n_columns,): at most 0, and 0 wherever a place is left


def assign(
    start: Int64Array,
    stop: Int64Array,
    column: Int64Array,
    cost: FloatArray,
    room: Int64Array,
    weights: DoubleArray,
    order: Int64Array | None = None,
) -> Assignment:
    """Put items on columns at the least total cost, exactly, by successive shortest augmenting paths.

    Items enter in `order`. One that no chain of moves can place is left out; which ones are left out depends on the
    order, how many does not. Nothing depends on threads: the same arrays give the same result. Only beyond
    `LOOKS_PER_ITEM` the last items take what is left, and the gap says so.

    Parameters
    ----------
    start, stop : ndarray of shape (n_items,), dtype int64
        Item i may take the entries ``start[i] .. stop[i] - 1``. Items may share entries.
    column : ndarray of shape (n_entries,), dtype int64
    cost : ndarray of shape (n_entries,), dtype float32 or float64
        Finite, and ascending within each item's entries.
    room : ndarray of shape (n_columns,), dtype int64
        How many items fit on a column. Nothing goes to a column without room.
    weights : ndarray of shape (n_items,), dtype float64
        Factor >= 0 on all costs of an item.
    order : ndarray of shape (n_items,), dtype int64, optional
        Default: as they come.

    Returns
    -------
    assignment : Assignment
        By linear duality, no assignment of all items costs less than ``dual.sum() + (room * price).sum()``.
    """
    n_items, n_columns = len(start), len(room)
    order = np.arange(n_items) if order is None else order
    free = np.maximum(room, 0)
    price = np.zeros(n_columns)
    closing = np.where(free > 0, OPEN, 0)
    choice = np.full(n_items, -1, dtype=np.int64)
    place_items(
        start, stop, column, cost, weights, free, price, closing,
        np.full(n_columns, -1), np.empty(n_items, dtype=np.int64), np.empty(n_items, dtype=np.int64),
        order, LEAST_LOOKS + LOOKS_PER_ITEM * n_items, choice,
    )  # fmt: skip
    dual = np.empty(n_items)
    total, gap = price_items(start, stop, column, cost, weights, price, closing, choice, dual)
    return Assignment(choice=choice, total=float(total), gap=float(gap), dual=dual, price=price)
