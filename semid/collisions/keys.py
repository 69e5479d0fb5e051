"""Rows of codes to dense numbers, so that semantic IDs can index arrays."""

from collections.abc import Sequence
from typing import final

import numpy as np

from semid._arrays import Array, Int64Array
from semid.kernels.assign import find_keys, number_keys

__all__ = ["KeyNumbers", "RowNumbers"]


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
