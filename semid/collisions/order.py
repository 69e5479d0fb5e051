"""Items by their content: an order that does not depend on that of the rows, and exact duplicates."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from semid._arrays import Array, DoubleArray, Int64Array
from semid.io.matrices import drop_pages
from semid.kernels.rows import hash_rows

__all__ = ["Items", "content_order", "groups_of_duplicates"]

# Rows looked at together; of memory-mapped embeddings, more are not kept in memory.
BLOCK = 8192


def content_order(
    parts: Sequence[npt.NDArray[np.float32]],
    weights: DoubleArray | None,
    item_ids: Int64Array | None = None,
) -> Int64Array:
    """Return the rows sorted by a hash of their embeddings in all views, then by weight, item id and position.

    Parameters
    ----------
    parts : sequence of ndarray of shape (n_items, dim), dtype float32
    weights : ndarray of shape (n_items,), dtype float64, optional
    item_ids : ndarray of shape (n_items,), dtype int64, optional
        Rank of each item's id.

    Returns
    -------
    order : ndarray of shape (n_items,), dtype int64
        Exact duplicates follow each other.
    """
    hashes = np.zeros(len(parts[0]), dtype=np.int64)
    for part in parts:
        for begin in range(0, len(part), BLOCK):
            rows = slice(begin, begin + BLOCK)
            hash_rows(np.ascontiguousarray(part[rows]).view(np.uint32), hashes[rows])
            drop_pages(part)
    return np.lexsort([key for key in (item_ids, weights, hashes) if key is not None])


def groups_of_duplicates(parts: Sequence[npt.NDArray[np.float32]], order: Int64Array) -> Int64Array:
    """Return a number for each row, the same for rows that are equal in all views; in the order of first appearance.

    Parameters
    ----------
    parts : sequence of ndarray of shape (n_items, dim), dtype float32
    order : ndarray of shape (n_items,), dtype int64
        From `content_order`.
    """
    differs = np.zeros(len(order), dtype=bool)
    for part in parts:
        for begin in range(1, len(order), BLOCK):
            later = slice(begin, begin + BLOCK)
            one, other = part[order[later]], part[order[begin - 1 : begin - 1 + BLOCK]][: len(order[later])]
            differs[later] |= (one != other).any(axis=1)
    runs = np.cumsum(differs)
    first = np.full(runs[-1] + 1, len(order))
    np.minimum.at(first, runs, order)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    groups = np.empty(len(order), dtype=np.int64)
    groups[order] = rank[runs]
    return groups


class Items(NamedTuple):
    """The items to place, in which exact duplicates may be one, and the order in which to take them."""

    first: Int64Array | None  # (n_places,): row that stands for the equal ones, ascending; None if each is for itself
    groups: Int64Array | None  # (n_items,): which of these
    weights: DoubleArray | None  # (n_places,)
    order: Int64Array  # (n_places,)

    @classmethod
    def of(
        cls,
        parts: Sequence[npt.NDArray[np.float32]],
        weights: DoubleArray | None,
        item_ids: Int64Array | None = None,
        *,
        share: bool,
    ) -> Self:
        """Return the items of embeddings, one array per view."""
        order = content_order(parts, weights, item_ids)
        if not share:
            return cls(None, None, weights, order)
        groups = groups_of_duplicates(parts, content_order(parts, None))
        first = np.unique(groups, return_index=True)[1]
        rank = np.full(len(groups), -1)
        rank[first] = np.arange(len(first))
        kept = rank[order]
        return cls(first, groups, np.bincount(groups, weights=weights).astype(np.float64), kept[kept >= 0])

    @property
    def n_places(self) -> int:
        """How many places the items need."""
        return len(self.order)

    def keep(self, rows: Array) -> Array:
        """Return one row of those of equal items."""
        return rows if self.first is None else rows[self.first]

    def spread(self, rows: Array) -> Array:
        """Return rows of the items to place for all items."""
        return rows if self.groups is None else rows[self.groups]
