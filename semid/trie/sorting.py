"""Codes in any order to sorted distinct rows, without a copy of all of them."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from semid.kernels import kernel
from semid.trie.levels import CodeArray, IntArray

__all__ = ["SortedRows", "sort_rows"]

# Rows that are unpacked at a time: their codes stay in the second-level cache.
PIECE = 1 << 15
# Items are sorted in this many parts, so that each part's keys go when its items have been written.
PARTS, LARGE = 4, 1 << 18


class SortedRows:
    """Sorted distinct rows, as keys of all levels, or as positions in the codes given.

    Attributes
    ----------
    n_items : int
    """

    def __init__(self, parts: list[IntArray], bits: IntArray, codes: CodeArray | None, dtype: np.dtype[Any]) -> None:
        self._parts, self._bits, self._codes, self._dtype = parts, bits, codes, dtype
        self.n_items = sum(map(len, parts))

    def pieces(self, *, consume: bool = False) -> Iterator[CodeArray]:
        """Yield the rows in order, some at a time; with `consume` each part is forgotten when it is through."""
        parts = self._parts if consume else list(self._parts)
        while parts:
            part = parts.pop(0)
            for first in range(0, len(part), PIECE):
                piece = part[first : first + PIECE]
                if self._codes is not None:
                    yield self._codes[piece].astype(self._dtype)
                else:
                    rows = np.empty((len(piece), len(self._bits)), self._dtype)
                    kernel("unpack_keys")(piece, self._bits, rows)
                    yield rows


def sort_rows(codes: CodeArray, codebook_sizes: Sequence[int]) -> SortedRows:
    """Sort rows and drop equal ones.

    Parameters
    ----------
    codes : ndarray of shape (n_items, n_levels), unsigned, C order
        Below `codebook_sizes`, one per level.

    Rows are packed into one key where 64 bits suffice: sorting keys and comparing neighbours takes a fraction of the
    time of a lexsort. Longer rows are sorted by as many levels as 64 bits hold, and then within what is equal there.
    """
    dtype = np.min_scalar_type(max(codebook_sizes) - 1)
    bits = np.array([max(1, (size - 1).bit_length()) for size in codebook_sizes], np.int64)
    fit = int((np.cumsum(bits) <= 64).sum())
    if fit < len(bits):
        return SortedRows([_sorted_positions(codes, bits, fit)], bits, codes, dtype)
    return SortedRows([_distinct(part) for part in _sorted_keys(codes, bits)], bits, None, dtype)


def _sorted_keys(codes: CodeArray, bits: IntArray) -> Iterator[IntArray]:
    """Yield sorted keys, every part above the one before."""
    n_items, n_bits = len(codes), int(bits.sum())
    dtype = np.uint32 if n_bits <= 32 else np.uint64
    shift = max(0, n_bits - 16)
    limits = [0, 1 << 16]
    if n_items >= LARGE:
        sample = _pack(codes[:: n_items // 4096], bits, dtype) >> dtype(shift)
        sample.sort()
        inner = {int(sample[len(sample) * part // PARTS]) for part in range(1, PARTS)}
        limits = sorted({0, 1 << 16} | inner)
    for low, high in itertools.pairwise(limits):
        # Some more room than a part should need; a part that needs more is packed again.
        room = n_items if len(limits) == 2 else n_items // PARTS + n_items // 32
        keys = _pack(codes, bits, dtype, shift, low, high, room=room)
        keys.sort()
        yield keys


def _pack(
    codes: CodeArray, bits: IntArray, dtype: type, shift: int = 48, low: int = 0, high: int = 1 << 16, room: int = -1
) -> IntArray:
    keys: CodeArray = np.empty(len(codes) if room < 0 else room, dtype)
    n_keys = np.zeros(1, np.int64)
    kernel("pack_keys")(np.ascontiguousarray(codes), bits, shift, low, high, keys, n_keys)
    if n_keys[0] > len(keys):
        return _pack(codes, bits, dtype, shift, low, high, room=int(n_keys[0]))
    keys.resize(int(n_keys[0]), refcheck=False)  # gives the rest back; nobody else has seen it
    return keys


def _distinct(keys: IntArray) -> IntArray:
    """Return sorted keys without repetitions; the same array where there are none."""
    differ = keys[1:] != keys[:-1]
    return keys if differ.all() else keys[np.concatenate([[True], differ])]


def _sorted_positions(codes: CodeArray, bits: IntArray, fit: int) -> IntArray:
    """Return the positions of distinct rows in lexicographic order, for rows of which only `fit` levels are a key."""
    keys = _pack(codes, bits[:fit], np.uint64)
    order = keys.argsort()
    keys = keys[order]
    same = keys[1:] == keys[:-1]
    del keys
    if not same.any():
        return order
    # Rows with an equal neighbour, and the number of the run that each is in.
    tied = np.flatnonzero(np.concatenate([same, [False]]) | np.concatenate([[False], same]))
    run = np.cumsum(~np.concatenate([[False], same])[tied])
    rest = codes[order[tied], fit:]
    inner = np.lexsort([*rest.T[::-1], run])
    order[tied] = order[tied][inner]
    rest, run = rest[inner], run[inner]
    repeats = np.concatenate([[False], (run[1:] == run[:-1]) & (rest[1:] == rest[:-1]).all(axis=1)])
    return np.delete(order, tied[repeats]) if repeats.any() else order
