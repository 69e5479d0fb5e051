"""Which IDs each item may get: lists from beam search that grow, over IDs numbered as they appear."""

import math
from typing import final

import numpy as np

from semid._arrays import Array, DoubleArray, Int64Array
from semid.collisions.keys import RowNumbers
from semid.collisions.protocols import ResolvableQuantizer
from semid.io.matrices import drop_pages

__all__ = ["CandidateLists", "beam_width"]


@final
class CandidateLists:
    """Candidate lists of all items, as flat arrays of entries, and the room of each ID in them.

    Parameters
    ----------
    quantizer : ResolvableQuantizer
    X : ndarray of shape (n_items, dim), dtype float32
    groups : ndarray of shape (n_items,), dtype int64
        Items of different groups have different IDs, even with equal codes.
    n_groups : int
    capacity : int
        Room of an ID that nobody has.
    taken : ndarray of shape (n_taken, n_levels), unsigned integer dtype
        Rows that use a place of their ID.
    taken_groups : ndarray of shape (n_taken,), dtype int64

    Attributes
    ----------
    start, stop : ndarray of shape (n_items,), dtype int64
        Item i has the entries ``start[i] .. stop[i] - 1``, nearest first.
    reach : ndarray of shape (n_items,), dtype float64
        Squared distance of the farthest ID listed: the ones that are not are no nearer. 0 if none is listed, ``inf`` if
        all are.
    column : ndarray of shape (n_entries,), dtype int64
        Number of the entry's ID.
    cost : ndarray of shape (n_entries,), dtype float32
        Squared distance between item and ID.
    room : ndarray of shape (n_columns,), dtype int64
    """

    def __init__(
        self,
        quantizer: ResolvableQuantizer,
        X: Array,
        groups: Int64Array,
        *,
        n_groups: int,
        capacity: int,
        taken: Array,
        taken_groups: Int64Array,
    ) -> None:
        self._quantizer = quantizer
        self._X = X
        self._groups = groups
        self._capacity = capacity
        self._sizes = tuple(quantizer.codebook_sizes)
        self._numbers = RowNumbers(self._sizes, n_groups=n_groups)
        self._codes = np.empty((0, len(self._sizes)), dtype=np.uint8)
        self.start = np.zeros(len(X), dtype=np.int64)
        self.stop = np.zeros(len(X), dtype=np.int64)
        self.reach = np.zeros(len(X))
        self.column = np.empty(0, dtype=np.int64)
        self.cost = np.empty(0, dtype=np.float32)
        self.room = capacity - np.bincount(self._numbers.number(taken, taken_groups))

    def extend(self, items: Int64Array, count: int) -> None:
        """Give items lists of `count` IDs in place of those that they had.

        New IDs get their numbers, which break ties, in the order of `items`.
        """
        everybody = len(items) == len(self._X)
        X = self._X if everybody else self._X[items]
        codes, cost = self._quantizer.candidates(X, count=count, beam=beam_width(count, self._sizes))
        drop_pages(self._X)
        if everybody:  # no copy of the embeddings, only of the lists
            codes, cost = codes[items], cost[items]
        if (cost[:, 1:] < cost[:, :-1]).any():  # the assignment relies on it
            order = np.argsort(cost, axis=1, kind="stable")
            codes, cost = np.take_along_axis(codes, order[:, :, None], axis=1), np.take_along_axis(cost, order, axis=1)
        codes = codes.reshape(-1, len(self._sizes))
        self.start[items] = len(self.column) + count * np.arange(len(items))
        n_listed = np.isfinite(cost).sum(axis=1)
        self.stop[items] = self.start[items] + n_listed
        farthest = cost[np.arange(len(items)), np.maximum(n_listed, 1) - 1]
        self.reach[items] = np.where(n_listed == math.prod(self._sizes), np.inf, np.where(n_listed > 0, farthest, 0.0))
        self.column = append(self.column, self._numbers.number(codes, np.repeat(self._groups[items], count)))
        self.cost = append(self.cost, cost.reshape(-1))
        self._codes = append(self._codes, codes)
        self.room = append(self.room, np.full(len(self._numbers) - len(self.room), self._capacity))

    def codes_of(self, entries: Int64Array) -> Array:
        """Return the codes of entries, shape (n_entries, n_levels)."""
        return self._codes[entries]

    def limit(self, weights: DoubleArray) -> DoubleArray:
        """Return what an item pays at least for an ID outside its list; shape (n_items,), ``inf`` if all are listed."""
        return np.where(np.isinf(self.reach), np.inf, weights * np.nan_to_num(self.reach, posinf=0.0))


def append(old: Array, new: Array) -> Array:
    """Return both in one array, without a copy while the first is empty."""
    return new if len(old) == 0 else np.concatenate([old, new])


def beam_width(count: int, sizes: tuple[int, ...]) -> int:
    """Return the beam width for lists of `count` IDs; where all IDs are asked for, the search is exhaustive."""
    widest = math.prod(sizes[:-1])
    return min(widest, max(count // 2, math.ceil(count / sizes[-1]), 8))
