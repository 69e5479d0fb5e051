"""The IDs that items may get: lists from a beam search, assigned at the least cost, and room beyond the lists."""

import math
from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np

from semid._arrays import Array, DoubleArray, FloatArray, Int64Array
from semid.collisions.keys import KeyNumbers, RowNumbers
from semid.collisions.space import ResolvableQuantizer
from semid.io.matrices import drop_pages
from semid.kernels.assign import OPEN, place_items, price_items

__all__ = ["Assignment", "CandidateLists", "PrefixRoom", "assign", "beam_width"]


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


@final
class PrefixRoom:
    """Counts items under every prefix in use, and finds IDs that have room.

    Parameters
    ----------
    codebooks : sequence of ndarray of shape (codebook_size, dim), dtype float32
        One per level; distances between centroids say which sibling is near.
    capacity : int
        Number of items that one ID may hold.
    n_groups : int
        Number of separate trees.
    """

    def __init__(self, codebooks: Sequence[Array], *, capacity: int, n_groups: int = 1) -> None:
        self._codebooks = codebooks
        self._sizes = tuple(len(codebook) for codebook in codebooks)
        n_levels = len(codebooks)
        # Cut to what int64 holds: the product of all sizes may exceed it, the count of items never does.
        self._room = [min(capacity * math.prod(self._sizes[depth:]), 2**62) for depth in range(n_levels + 1)]
        self._tables = [KeyNumbers() for _ in range(n_levels)]
        self._counts = [np.zeros(n_groups if depth == 0 else 0, dtype=np.int64) for depth in range(n_levels + 1)]
        self._siblings: dict[tuple[int, int], Int64Array] = {}

    def add(self, rows: Array, groups: Int64Array) -> None:
        """Count items in: `rows` of shape (n_rows, n_levels), `groups` of shape (n_rows,)."""
        nodes = groups
        np.add.at(self._counts[0], nodes, 1)
        for level, table in enumerate(self._tables):
            nodes = table.number(nodes * self._sizes[level] + rows[:, level].astype(np.int64))
            n_missing = len(table) - len(self._counts[level + 1])
            if n_missing > 0:  # by half as much again, since items come one by one while they are placed
                spare = np.zeros(n_missing + len(table) // 2, dtype=np.int64)
                self._counts[level + 1] = np.concatenate([self._counts[level + 1], spare])
            np.add.at(self._counts[level + 1], nodes, 1)

    def place(self, wanted: Array, groups: Int64Array) -> Array:
        """Return for each wanted row an ID with room, and count it in.

        The longest prefix of the wanted ID that has room is kept. Below it, level by level, the nearest centroid to the
        wanted one is taken whose subtree has room.
        """
        placed = wanted.copy()
        for row, group in zip(placed, groups.tolist(), strict=True):
            self._place_row(row, group)
        return placed

    def _place_row(self, row: Array, group: int) -> None:
        """Replace one wanted row by an ID with room."""
        nodes = self._walk(row, group)
        depth = max(d for d, node in enumerate(nodes) if self._has_room(d, node))
        node = nodes[depth]
        for level in range(depth, len(row)):
            if node < 0:
                break  # nothing is in use below: the wanted codes are free
            order = self._siblings_by_distance(level, int(row[level]))
            children = self._tables[level].find(node * self._sizes[level] + order)
            used = np.where(children >= 0, self._counts[level + 1][children], 0)
            chosen = int(np.argmax(used < self._room[level + 1]))
            row[level], node = order[chosen], int(children[chosen])
        self.add(row[None], np.array([group]))

    def _walk(self, row: Array, group: int) -> list[int]:
        """Return the nodes along a row, from the root; -1 from where no item is."""
        nodes = [group]
        for level, code in enumerate(row.tolist()):
            known = nodes[-1] >= 0
            key = np.array([nodes[-1] * self._sizes[level] + code])
            nodes.append(int(self._tables[level].find(key)[0]) if known else -1)
        return nodes

    def _has_room(self, depth: int, node: int) -> bool:
        return node < 0 or int(self._counts[depth][node]) < self._room[depth]

    def _siblings_by_distance(self, level: int, code: int) -> Int64Array:
        """Return the codes of a level, nearest centroid to that of `code` first; `code` itself leads."""
        if (level, code) not in self._siblings:
            offsets = self._codebooks[level].astype(np.float64) - self._codebooks[level][code]
            distances = (offsets**2).sum(axis=1)
            distances[code] = -1.0  # also before its exact copies
            self._siblings[level, code] = np.argsort(distances, kind="stable")
        return self._siblings[level, code]
