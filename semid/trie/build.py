"""Codes to the arrays of a trie: sort, de-duplicate, fill."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from semid._arrays import CodeArray, IntArray
from semid.io.matrices import code_dtype
from semid.kernels import kernel
from semid.trie.levels import Levels, level_offsets
from semid.trie.plain import plain
from semid.trie.sorting import SortedKeys, sort_keys

__all__ = ["DuplicateCodesWarning", "build_levels"]

# A level is explicit while it has at most one edge for so many items: there an edge's two pointers cost less than the
# codes and bits of its items, and a crowded node's children are found without a look at its items.
ITEMS_PER_EDGE = 8


class DuplicateCodesWarning(UserWarning):
    """Several rows of codes were equal, so that the trie has fewer items than rows."""


def build_levels(codes: IntArray, codebook_sizes: Sequence[int], *, warn: bool = True) -> Levels:
    """Build the arrays from checked codes; warns when rows were equal, unless told not to."""
    # As unsigned, which codes that are not negative are too, so that a kernel is compiled once per width.
    unsigned: CodeArray = plain(codes, codes.dtype.newbyteorder("=")).view(f"u{codes.dtype.itemsize}")
    rows, n_forks = sort_keys(unsigned, codebook_sizes)
    if warn and rows.n_items < len(codes):
        warnings.warn(
            f"{len(codes) - rows.n_items} of {len(codes)} rows repeat another row: the trie has {rows.n_items} items. "
            "Make the codes unique with semid.resolve.",
            DuplicateCodesWarning,
            stacklevel=3,
        )
    return _fill(rows, np.cumsum(n_forks), code_dtype(max(codebook_sizes)))


def _fill(rows: SortedKeys, n_edges: IntArray, dtype: np.dtype[Any]) -> Levels:
    n_items = rows.n_items
    n_explicit = int((n_edges[:-1] * ITEMS_PER_EDGE <= n_items).sum())  # the last level is flat: leaves are ranks
    node_offsets, code_offsets = level_offsets(n_edges, n_explicit)
    pointer = np.int32 if n_items < 2**31 else np.int64
    starts, firsts = np.empty(node_offsets[n_explicit], pointer), np.empty(node_offsets[-1], pointer)
    child_codes = np.empty(code_offsets[-1], dtype)
    forks = np.empty((len(n_edges) - 1 - n_explicit) * ((n_items + 63) // 64), np.uint64)
    kernel("fill_levels")(*rows, n_explicit, starts, firsts, node_offsets, child_codes, code_offsets, forks)
    firsts[0] = 0
    for depth in range(n_explicit + 1):  # one past the last node of each depth
        firsts[node_offsets[depth + 1] - 1] = n_items
        if depth < n_explicit:
            starts[node_offsets[depth + 1] - 1] = n_edges[depth]
    return Levels(starts, firsts, child_codes, forks, node_offsets, code_offsets)
