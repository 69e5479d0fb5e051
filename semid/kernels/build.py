"""From sorted unique codes to the flat arrays of a trie."""

from typing import Any

import numpy as np
import numpy.typing as npt

from semid.kernels.compile import njit

__all__ = ["count_edges", "fill_levels"]

IntArray = npt.NDArray[np.integer[Any]]


@njit
def count_edges(codes: IntArray, fork: IntArray, n_edges: IntArray) -> None:
    """Find where each row leaves the row before it, and count the edges of every level.

    `codes` (n_items, n_levels) is sorted and unique; ``fork[i]`` becomes the first level at which row i differs from
    row i - 1 (0 for the first row). A fork at level l opens one edge there and on every later level.
    """
    n_items, n_levels = codes.shape
    n_edges[:] = 0
    for item in range(n_items):
        level = 0
        if item > 0:
            while level < n_levels - 1 and codes[item, level] == codes[item - 1, level]:
                level += 1
        fork[item] = level
        n_edges[level] += 1
    for level in range(1, n_levels):
        n_edges[level] += n_edges[level - 1]


@njit
def fill_levels(
    codes: IntArray,
    fork: IntArray,
    start_offsets: IntArray,
    code_offsets: IntArray,
    starts: IntArray,
    child_codes: IntArray,
) -> None:
    """Write the child codes and child starts of all levels in one pass over the items."""
    n_items, n_levels = codes.shape
    edges = np.zeros(n_levels, np.int64)
    for item in range(n_items):
        for level in range(fork[item], n_levels):
            if level > fork[item] or item == 0:  # the edge above opened a new node here
                node = edges[level - 1] - 1 if level > 0 else 0
                starts[start_offsets[level] + node] = edges[level]
            child_codes[code_offsets[level] + edges[level]] = codes[item, level]
            edges[level] += 1
    for level in range(n_levels):
        n_nodes = edges[level - 1] if level > 0 else 1
        starts[start_offsets[level] + n_nodes] = edges[level]
