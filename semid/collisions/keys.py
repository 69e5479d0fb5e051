"""IDs as numbers: rows numbered, collisions counted, items put in an order that their embeddings decide."""

from collections.abc import Sequence
from typing import NamedTuple, Self, final

import numpy as np
import numpy.typing as npt

from semid._arrays import Array, DoubleArray, Int64Array
from semid.io.matrices import drop_pages
from semid.kernels.assign import find_keys, hash_rows, number_keys

__all__ = ["Items", "KeyNumbers", "RowNumbers", "count_collisions", "positions_in_groups"]


# Numbers of rows stay below this in any memory there is; it bounds what the next group of levels may be multiplied by.
MAX_ROWS_BITS = 40

# Rows packed at a time: their keys are int64, three of them per row while in use.
BLOCK = 2**18
# Tables grow fourfold up to this many slots of 16 bytes, and twofold beyond: a quarter full, they would be half of all
# memory that a million items need.
MANY_SLOTS = 2**22


@final
class KeyNumbers:
    """Numbers of int64 keys in order of first appearance: a hash table that grows.

    At one million items and 16 candidates each it is the index that counts: sorting keys took ten times as long as the
    assignment itself.
    """

    def __init__(self) -> None:
        self._slot_keys = np.empty(1024, dtype=np.int64)
        self._slot_numbers = np.full(1024, -1, dtype=np.int64)
        self._n_known = 0

    def __len__(self) -> int:
        return self._n_known

    def number(self, keys: Int64Array) -> Int64Array:
        """Return the number of each key, shape (n_keys,), dtype int64; new keys get the next free numbers."""
        numbers = np.empty(len(keys), dtype=np.int64)
        position = 0
        while True:
            position, self._n_known = number_keys(
                keys, position, self._slot_keys, self._slot_numbers, self._n_known, numbers
            )
            if position == len(keys):
                return numbers
            self._grow()

    def find(self, keys: Int64Array) -> Int64Array:
        """Return the number of each key, shape (n_keys,), dtype int64, and -1 for keys without one."""
        numbers = np.empty(len(keys), dtype=np.int64)
        find_keys(keys, self._slot_keys, self._slot_numbers, numbers)
        return numbers

    def _grow(self) -> None:
        used = np.flatnonzero(self._slot_numbers >= 0)
        keys = np.empty(self._n_known, dtype=np.int64)
        keys[self._slot_numbers[used]] = self._slot_keys[used]  # by number, so that numbering again gives the same
        del used
        n_slots = len(self._slot_keys) * (4 if len(self._slot_keys) < MANY_SLOTS else 2)
        # The old table goes before the new one comes.
        self._slot_keys = self._slot_numbers = np.empty(0, dtype=np.int64)
        self._slot_keys = np.empty(n_slots, dtype=np.int64)
        self._slot_numbers = np.full(n_slots, -1, dtype=np.int64)
        number_keys(keys, 0, self._slot_keys, self._slot_numbers, 0, np.empty(len(keys), dtype=np.int64))


@final
class RowNumbers:
    """Numbers of rows of codes in order of first appearance.

    A row is packed into one int64 as long as the product of the codebook sizes allows it. Beyond that, the number of
    the packed first levels takes their place, and packing goes on: any count of levels works.

    Parameters
    ----------
    codebook_sizes : sequence of int
        One per column of the rows.
    n_groups : int, default 1
        Rows may come with a group, below this; equal rows of different groups are different.
    """

    def __init__(self, codebook_sizes: Sequence[int], *, n_groups: int = 1) -> None:
        self._sizes = tuple(int(size) for size in codebook_sizes)
        self._packs: list[range] = []  # levels that are packed together
        begin, bits = 0, bits_of(n_groups)
        for level, size in enumerate(self._sizes):
            if bits + bits_of(size) > 63:
                self._packs.append(range(begin, level))
                begin, bits = level, MAX_ROWS_BITS
            bits += bits_of(size)
        self._packs.append(range(begin, len(self._sizes)))
        self._tables = [KeyNumbers() for _ in self._packs]

    def __len__(self) -> int:
        return len(self._tables[-1])

    def number(self, rows: Array, groups: Int64Array | None = None) -> Int64Array:
        """Return the number of each row; new rows get the next free numbers.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_levels), integer dtype
        groups : ndarray of shape (n_rows,), dtype int64, optional
            Default: all rows are of group 0.

        Returns
        -------
        numbers : ndarray of shape (n_rows,), dtype int64
        """
        numbers = np.empty(len(rows), dtype=np.int64)
        for begin in range(0, len(rows), BLOCK):
            block = slice(begin, begin + BLOCK)
            part = rows[block]
            keys = np.zeros(len(part), dtype=np.int64) if groups is None else groups[block].copy()
            for pack, table in zip(self._packs, self._tables, strict=True):
                for level in pack:
                    keys *= self._sizes[level]
                    keys += part[:, level].astype(np.int64)
                keys = table.number(keys)
            numbers[block] = keys
        return numbers


def bits_of(size: int) -> int:
    """Return how many bits the numbers ``0 .. size - 1`` need."""
    return (size - 1).bit_length()


def count_collisions(
    codes: Array,
    codebook_sizes: tuple[int, ...],
    *,
    capacity: int = 1,
    taken: Array | None = None,
) -> int:
    """Return how many items exceed the capacity of their ID, once `taken` rows have used their places.

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


# Rows looked at together; of memory-mapped embeddings, more are not kept in memory.
HASHED = 8192


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
        for begin in range(0, len(part), HASHED):
            rows = slice(begin, begin + HASHED)
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
        for begin in range(1, len(order), HASHED):
            later = slice(begin, begin + HASHED)
            one, other = part[order[later]], part[order[begin - 1 : begin - 1 + HASHED]][: len(order[later])]
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
