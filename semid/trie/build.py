"""Codes to the arrays of a trie: sort, de-duplicate, fill."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from semid.kernels import kernel
from semid.trie.levels import CodeArray, IntArray, Levels, level_offsets
from semid.trie.sorting import SortedRows, sort_rows

__all__ = ["DuplicateCodesWarning", "build_levels", "sort_unique"]

# A level is explicit while it has at most one edge for so many items: there an edge's two pointers cost less than the
# codes and bits of its items, and a crowded node's children are found without a look at its items.
ITEMS_PER_EDGE = 8


class DuplicateCodesWarning(UserWarning):
    """Several rows of codes were equal, so that the trie has fewer items than rows."""


def build_levels(codes: IntArray, codebook_sizes: Sequence[int], *, warn: bool = True) -> Levels:
    """Build the arrays from checked codes; warns when rows were equal, unless told not to."""
    rows = sort_rows(_unsigned(codes), codebook_sizes)
    if warn and rows.n_items < len(codes):
        warnings.warn(
            f"{len(codes) - rows.n_items} of {len(codes)} rows repeat another row: the trie has {rows.n_items} items. "
            "Make the codes unique with semid.resolve.",
            DuplicateCodesWarning,
            stacklevel=3,
        )
    return _fill(rows, _count(rows, len(codebook_sizes)), np.min_scalar_type(max(codebook_sizes) - 1))


def sort_unique(codes: IntArray, codebook_sizes: Sequence[int]) -> CodeArray:
    """Return the distinct rows of checked codes in lexicographic order, in the smallest unsigned dtype."""
    return np.concatenate(list(sort_rows(_unsigned(codes), codebook_sizes).pieces(consume=True)))


def _unsigned(codes: IntArray) -> CodeArray:
    """Return codes in C order as unsigned: they are not negative, and so a kernel is compiled once per width."""
    return np.ascontiguousarray(codes).view(f"u{codes.dtype.itemsize}")


def _count(rows: SortedRows, n_levels: int) -> IntArray:
    n_forks = np.zeros(n_levels, np.int64)
    before = None
    for piece in rows.pieces():
        kernel("count_forks")(piece, piece[0, :0] if before is None else before, n_forks)
        before = piece[-1].copy()
    return np.cumsum(n_forks)


def _fill(rows: SortedRows, n_edges: IntArray, dtype: np.dtype[Any]) -> Levels:
    n_items = rows.n_items
    n_explicit = int((n_edges[:-1] * ITEMS_PER_EDGE <= n_items).sum())  # the last level is flat: leaves are ranks
    node_offsets, code_offsets = level_offsets(n_edges, n_explicit)
    fork_words = (n_items + 63) // 64
    pointer = np.int32 if n_items < 2**31 else np.int64
    starts, firsts = np.empty(node_offsets[n_explicit], pointer), np.empty(node_offsets[-1], pointer)
    explicit_codes = np.empty(code_offsets[n_explicit], dtype)
    forks = np.zeros((len(n_edges) - 1 - n_explicit) * fork_words, np.uint64)
    flat: list[CodeArray] = []  # joined when the keys are gone, which have as many bytes
    edges = np.zeros(len(n_edges), np.int64)
    firsts[0] = 0
    before, done = np.empty(0, dtype), 0
    for piece in rows.pieces(consume=True):
        kernel("fill_levels")(
            piece, before, n_explicit, done, edges, starts, firsts, node_offsets, explicit_codes,
            code_offsets, forks, fork_words,
        )  # fmt: skip
        flat.append(np.ascontiguousarray(piece[:, n_explicit:].T))
        before, done = piece[-1].copy(), done + len(piece)
    for depth in range(n_explicit + 1):  # one past the last node of each depth
        firsts[node_offsets[depth + 1] - 1] = n_items
        if depth < n_explicit:
            starts[node_offsets[depth + 1] - 1] = n_edges[depth]
    child_codes = np.empty(code_offsets[-1], dtype)
    child_codes[: len(explicit_codes)] = explicit_codes
    np.concatenate(flat, axis=1, out=child_codes[len(explicit_codes) :].reshape(len(n_edges) - n_explicit, n_items))
    return Levels(starts, firsts, child_codes, forks, node_offsets, code_offsets)
