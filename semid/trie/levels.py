"""The arrays of a trie, and how large each must be."""

from typing import NamedTuple

import numpy as np

from semid._arrays import CodeArray, IntArray

__all__ = ["Levels", "level_offsets"]


class Levels(NamedTuple):
    """The arrays of a trie; ``semid/kernels/nodes.py`` says what they mean.

    The upper levels, whose edges are few, are explicit: an array of child codes and one of child starts. Below them a
    node has little more than one item, and the arrays are flat: the code of every item by rank, and one bit that says
    where a node begins. That needs no pointers: a tail of a single item costs its codes and a bit per level.

    Attributes
    ----------
    starts, firsts : ndarray, dtype int32 or int64
        Per explicit depth, each node's first edge, and the first rank below each node.
    child_codes : ndarray, unsigned
        Per level, the code of each edge or, in flat levels, of each item.
    forks : ndarray, dtype uint64
        Per flat level but the last, a bit per item.
    node_offsets, code_offsets : ndarray of shape (n_explicit + 2,) and (n_levels + 1,), dtype int64
    """

    starts: IntArray
    firsts: IntArray
    child_codes: CodeArray
    forks: IntArray
    node_offsets: IntArray
    code_offsets: IntArray

    @property
    def n_explicit(self) -> int:
        """Number of explicit levels."""
        return len(self.node_offsets) - 2

    @property
    def n_levels(self) -> int:
        """Number of levels."""
        return len(self.code_offsets) - 1

    @property
    def n_items(self) -> int:
        """Number of items."""
        return int(self.code_offsets[-1] - self.code_offsets[-2])  # the last level is flat, always

    def n_nodes(self, depth: int) -> int:
        """Return one more than the largest node at a depth."""
        if depth <= self.n_explicit:
            return int(self.node_offsets[depth + 1] - self.node_offsets[depth]) - 1
        return self.n_items

    def flat(self, level: int) -> CodeArray:
        """Return the codes of all items at a flat level, by rank."""
        return self.child_codes[self.code_offsets[level] : self.code_offsets[level + 1]]


def level_offsets(n_edges: IntArray, n_explicit: int) -> tuple[IntArray, IntArray]:
    """Return `node_offsets` and `code_offsets` for the number of edges of each level; the last is the items'."""
    n_nodes = np.concatenate([[1], n_edges[:n_explicit]])
    n_codes = np.concatenate([n_edges[:n_explicit], np.full(len(n_edges) - n_explicit, n_edges[-1])])
    return np.concatenate([[0], np.cumsum(n_nodes + 1)]), np.concatenate([[0], np.cumsum(n_codes)])
