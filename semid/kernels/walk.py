"""Down the trie: from prefixes to nodes, and from nodes to their children.

The trie's arrays, flat over its levels: the children of node ``n`` at depth ``d`` are the positions
``starts[start_offsets[d] + n]`` up to ``starts[start_offsets[d] + n + 1]`` of level ``d``, their codes stand in
``child_codes[code_offsets[d] + position]``, and a child's node id at depth ``d + 1`` is its position.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from semid.kernels.compile import njit

__all__ = ["gather_children", "walk"]

IntArray = npt.NDArray[np.integer[Any]]


@njit
def walk(
    starts: IntArray,
    child_codes: IntArray,
    start_offsets: IntArray,
    code_offsets: IntArray,
    prefixes: IntArray,
    out: IntArray,
) -> None:
    """Write into `out` the node that each row of `prefixes` (rows, depth) reaches, -1 where no item starts so."""
    for row in range(prefixes.shape[0]):
        node = 0
        for depth in range(prefixes.shape[1]):
            wanted = prefixes[row, depth]
            first = starts[start_offsets[depth] + node]
            end = starts[start_offsets[depth] + node + 1]
            low, high = first, end
            while low < high:  # children are sorted by code
                middle = (low + high) >> 1
                if child_codes[code_offsets[depth] + middle] < wanted:
                    low = middle + 1
                else:
                    high = middle
            if low == end or child_codes[code_offsets[depth] + low] != wanted:
                node = -1
                break
            node = low
        out[row] = node


@njit
def gather_children(
    starts: IntArray, child_codes: IntArray, nodes: IntArray, row_starts: IntArray, codes: IntArray
) -> None:
    """Copy the codes of each node's children to ``codes[row_starts[row]:]``; `starts`, `child_codes` of one level."""
    for row in range(nodes.shape[0]):
        at = row_starts[row]
        if nodes[row] >= 0:
            for child in range(starts[nodes[row]], starts[nodes[row] + 1]):
                codes[at] = child_codes[child]
                at += 1
