"""Codes read out of a trie's arrays: of items by rank, of all items, of the first item below a node."""

from collections.abc import Iterator

import numpy as np

from semid._arrays import CodeArray, IntArray
from semid.trie.levels import Levels
from semid.trie.restriction import Alive

__all__ = ["all_codes", "codes_of", "pieces"]

# IDs that are read at a time when a trie is iterated or compared.
PIECE = 1 << 14


def codes_of(levels: Levels, ranks: IntArray) -> CodeArray:
    """Return the codes of items by checked rank, shape (..., n_levels)."""
    codes = np.empty((*ranks.shape, levels.n_levels), levels.child_codes.dtype)
    for level in range(levels.n_levels):
        if level < levels.n_explicit:
            firsts = levels.firsts[levels.node_offsets[level + 1] : levels.node_offsets[level + 2]]
            at: IntArray = np.searchsorted(firsts, ranks, side="right") - 1
        else:
            at = ranks
        codes[..., level] = levels.child_codes[levels.code_offsets[level] + at]
    return codes


def all_codes(levels: Levels) -> CodeArray:
    """Return the codes of all items by rank: those of an explicit level are repeated, not looked up."""
    codes = np.empty((levels.n_items, levels.n_levels), levels.child_codes.dtype)
    for level in range(levels.n_levels):
        edges = levels.child_codes[levels.code_offsets[level] : levels.code_offsets[level + 1]]
        if level < levels.n_explicit:
            below = levels.firsts[levels.node_offsets[level + 1] : levels.node_offsets[level + 2]]
            edges = np.repeat(edges, np.diff(below))
        codes[:, level] = edges
    return codes


def pieces(levels: Levels, alive: Alive) -> Iterator[CodeArray]:
    """Yield the codes of the items that can be reached, in order, some at a time."""
    ranks = np.flatnonzero(alive.mask(levels.n_items))
    for first in range(0, len(ranks), PIECE):
        yield codes_of(levels, ranks[first : first + PIECE])
