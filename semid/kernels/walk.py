"""Down the trie: from prefixes to nodes, and from nodes to their children."""

from typing import Any

import numpy as np

from semid._arrays import IntArray
from semid.kernels.compile import njit
from semid.kernels.nodes import alive_below, count_below, find_code, list_children, node_range

__all__ = ["count_children", "gather_children", "ranges", "walk", "walk_tokens"]


@njit
def walk(
    starts: IntArray,
    firsts: IntArray,
    child_codes: IntArray,
    forks: IntArray,
    node_offsets: IntArray,
    code_offsets: IntArray,
    alive: IntArray,
    alive_counts: IntArray,
    prefixes: IntArray,
    out: IntArray,
) -> None:
    """Write into `out` the node that each row of `prefixes` (rows, depth) reaches, -1 where no alive item starts so."""
    n_explicit = node_offsets.shape[0] - 2
    for row in range(prefixes.shape[0]):
        node, low, high = 0, np.int64(0), np.int64(firsts[1])
        for depth in range(prefixes.shape[1]):
            wanted, first_code = prefixes[row, depth], code_offsets[depth]
            if depth < n_explicit:
                at = node_offsets[depth] + node
                edge = find_code(child_codes, first_code + starts[at], first_code + starts[at + 1], wanted)
                if edge < 0:
                    node = -1
                    break
                node = edge - first_code
                low = np.int64(firsts[node_offsets[depth + 1] + node])
                high = np.int64(firsts[node_offsets[depth + 1] + node + 1])
            else:  # items that share a prefix are neighbours, sorted by their next code
                rank = find_code(child_codes, first_code + low, first_code + high, wanted)
                if rank < 0:
                    node = -1
                    break
                node = low = rank - first_code
                high = count_below(child_codes, rank, first_code + high, wanted + 1) - first_code
        if node >= 0 and alive_below(alive, alive_counts, low, high) == 0:
            node = -1
        out[row] = node


@njit
def walk_tokens(
    starts: IntArray,
    firsts: IntArray,
    child_codes: IntArray,
    forks: IntArray,
    node_offsets: IntArray,
    code_offsets: IntArray,
    alive: IntArray,
    alive_counts: IntArray,
    tokens: IntArray,
    first: Any,
    table_firsts: IntArray,
    table_starts: IntArray,
    table_codes: IntArray,
    out: IntArray,
) -> None:
    """Write into `out` the node that the tokens ``tokens[row, first:]`` of each row reach, -1 where no item starts so.

    Of level l, ``table_codes[table_starts[l] : table_starts[l + 1]]`` are the codes of the tokens from
    ``table_firsts[l]`` on, -1 for those of no code.
    """
    codes = np.full((tokens.shape[0], tokens.shape[1] - first), -1, np.int64)
    for row in range(codes.shape[0]):
        for level in range(codes.shape[1]):
            token, start = tokens[row, first + level], table_starts[level]
            if token >= table_firsts[level] and token - table_firsts[level] < table_starts[level + 1] - start:
                codes[row, level] = table_codes[start + token - table_firsts[level]]
    walk(starts, firsts, child_codes, forks, node_offsets, code_offsets, alive, alive_counts, codes, out)


@njit
def ranges(
    starts: IntArray,
    firsts: IntArray,
    child_codes: IntArray,
    forks: IntArray,
    node_offsets: IntArray,
    code_offsets: IntArray,
    alive: IntArray,
    alive_counts: IntArray,
    depth: Any,
    nodes: IntArray,
    out: IntArray,
) -> None:
    """Write into `out` (rows, 2) the first rank below each node and the one behind the last; 0, 0 for node -1."""
    for row in range(nodes.shape[0]):
        out[row, 0] = out[row, 1] = 0
        if nodes[row] >= 0:
            out[row, 0], out[row, 1] = node_range(firsts, forks, node_offsets, code_offsets, depth, nodes[row])


@njit
def count_children(
    starts: IntArray,
    firsts: IntArray,
    child_codes: IntArray,
    forks: IntArray,
    node_offsets: IntArray,
    code_offsets: IntArray,
    alive: IntArray,
    alive_counts: IntArray,
    depth: Any,
    nodes: IntArray,
    room: IntArray,
    row_starts: IntArray,
) -> None:
    """Write into `row_starts` (rows + 1) where each row's children begin; `room` holds the codes of one level."""
    row_starts[0] = 0
    for row in range(nodes.shape[0]):
        n = 0
        if nodes[row] >= 0:
            n = list_children(
                starts, firsts, child_codes, forks, node_offsets, code_offsets, alive, alive_counts, depth, nodes[row],
                room,
            )  # fmt: skip
        row_starts[row + 1] = row_starts[row] + n


@njit
def gather_children(
    starts: IntArray,
    firsts: IntArray,
    child_codes: IntArray,
    forks: IntArray,
    node_offsets: IntArray,
    code_offsets: IntArray,
    alive: IntArray,
    alive_counts: IntArray,
    depth: Any,
    nodes: IntArray,
    row_starts: IntArray,
    codes: IntArray,
) -> None:
    """Write the codes of each node's children to ``codes[row_starts[row]:]``."""
    for row in range(nodes.shape[0]):
        if nodes[row] >= 0:
            list_children(
                starts, firsts, child_codes, forks, node_offsets, code_offsets, alive, alive_counts, depth, nodes[row],
                codes[row_starts[row] :],
            )  # fmt: skip
