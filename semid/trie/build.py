"""Codes to the flat, level-wise arrays of a trie: sort, de-duplicate, fill."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from semid.kernels import kernel

__all__ = ["DuplicateCodesWarning", "Levels", "build_levels", "sort_unique"]

CodeArray = npt.NDArray[np.unsignedinteger[Any]]
IntArray = npt.NDArray[np.integer[Any]]


class DuplicateCodesWarning(UserWarning):
    """Several rows of codes were equal, so that the trie has fewer items than rows."""


class Levels(NamedTuple):
    """The arrays of a trie.

    Attributes
    ----------
    starts : ndarray of shape (n_nodes + n_levels,), dtype int32 or int64
        Per level, the position of each node's first child, and one past the last.
    child_codes : ndarray of shape (n_edges,), unsigned
        Per level, the code on each edge; sorted below a node.
    start_offsets, code_offsets : ndarray of shape (n_levels,) and (n_levels + 1,), dtype int64
        Where each level begins in `starts` and in `child_codes`.
    """

    starts: IntArray
    child_codes: CodeArray
    start_offsets: IntArray
    code_offsets: IntArray


def sort_unique(codes: IntArray, codebook_sizes: Sequence[int]) -> CodeArray:
    """Return the distinct rows in lexicographic order, in the smallest unsigned dtype.

    Rows are packed into one key where 64 bits suffice: sorting keys and comparing neighbours takes a fraction of the
    time of a lexsort, and `np.unique` of 64-bit keys is hash-based and slower than the sort.
    """
    n_items, n_levels = codes.shape
    dtype = np.min_scalar_type(max(codebook_sizes) - 1)
    bits = [max(1, (size - 1).bit_length()) for size in codebook_sizes]
    if sum(bits) > 64:
        codes = codes[np.lexsort(codes.T[::-1])]
        keep = np.ones(n_items, np.bool_)
        np.any(codes[1:] != codes[:-1], axis=1, out=keep[1:])
        return np.ascontiguousarray(codes[keep], dtype)
    key: CodeArray = np.zeros(n_items, np.uint32 if sum(bits) <= 32 else np.uint64)
    for level in range(n_levels):
        key <<= bits[level] % (8 * key.itemsize)  # one level of 64 bits: nothing to make room for
        key |= codes[:, level].astype(key.dtype)
    key.sort()
    keep = np.ones(n_items, np.bool_)
    np.not_equal(key[1:], key[:-1], out=keep[1:])
    if not keep.all():
        key = key[keep]
    rows = np.empty((len(key), n_levels), dtype)
    for level in range(n_levels - 1, -1, -1):
        rows[:, level] = key & ((1 << bits[level]) - 1)
        key >>= bits[level] % (8 * key.itemsize)
    return rows


def build_levels(codes: IntArray, codebook_sizes: Sequence[int]) -> Levels:
    """Build the arrays from checked codes; warns when rows were equal."""
    rows = sort_unique(codes, codebook_sizes)
    n_items, n_levels = rows.shape
    if n_items < len(codes):
        warnings.warn(
            f"{len(codes) - n_items} of {len(codes)} rows repeat another row: the trie has {n_items} items. "
            "Make the codes unique with semid.resolve.",
            DuplicateCodesWarning,
            stacklevel=4,
        )
    fork = np.empty(n_items, np.uint8 if n_levels <= 255 else np.uint32)
    n_edges = np.empty(n_levels, np.int64)
    kernel("count_edges")(rows, fork, n_edges)
    n_nodes = np.concatenate([[1], n_edges[:-1]])
    code_offsets = np.concatenate([[0], np.cumsum(n_edges)])
    start_offsets = np.concatenate([[0], np.cumsum(n_nodes + 1)])
    starts = np.empty(start_offsets[-1], np.int32 if n_items < 2**31 else np.int64)
    child_codes = np.empty(code_offsets[-1], rows.dtype)
    start_offsets = np.ascontiguousarray(start_offsets[:-1])
    kernel("fill_levels")(rows, fork, start_offsets, code_offsets, starts, child_codes)
    return Levels(starts, child_codes, start_offsets, code_offsets)
