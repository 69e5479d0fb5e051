"""What a trie is asked, on its arrays: where a prefix leads, what follows a node, which codes an item has."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from semid.errors import InvalidValueError
from semid.kernels import kernel
from semid.trie.checks import check_depth, check_nodes, check_prefixes, check_ranks
from semid.trie.levels import CodeArray, IntArray, Levels
from semid.trie.restriction import Alive

__all__ = [
    "all_codes",
    "allowed",
    "at_depth",
    "codes_of",
    "first_codes",
    "node_ranges",
    "pieces",
    "prefix_of",
    "rank",
    "room",
    "walk",
]

# IDs that are read at a time when a trie is iterated or compared.
PIECE = 1 << 14


def prefix_of(codes: Any) -> IntArray:
    """Return one prefix as an array; an empty list has the dtype float64, and is a prefix nevertheless."""
    return np.atleast_1d(np.asarray(codes, np.int64 if len(codes) == 0 else None))


def at_depth(levels: Levels, nodes: Any, depth: int) -> IntArray:
    """Return checked nodes that can have children."""
    check_depth(depth, n_levels=levels.n_levels)
    return check_nodes(nodes, depth=depth, n_nodes=levels.n_nodes(depth))


def room(levels: Levels, size: int) -> CodeArray:
    """Return room for the codes of one node's children."""
    return np.empty(size, levels.child_codes.dtype)


def walk(levels: Levels, alive: Alive, prefixes: Any) -> IntArray:
    """Answer `Trie.walk`."""
    rows = check_prefixes(prefixes, n_levels=levels.n_levels)
    out = np.empty(len(rows), np.int64)
    kernel("walk")(*levels, *alive, rows, out)
    return out.reshape(np.shape(prefixes)[:-1])


def rank(levels: Levels, alive: Alive, codes: Any) -> Any:
    """Answer `Trie.rank`."""
    codes = np.asarray(codes)
    if codes.ndim == 0 or codes.shape[-1] != levels.n_levels:
        raise InvalidValueError(
            f"codes have a wrong length: expected {levels.n_levels} levels, got shape {codes.shape}. "
            "Use walk for prefixes."
        )
    ranks = walk(levels, alive, codes)
    return int(ranks) if codes.ndim == 1 else ranks


def codes_of(levels: Levels, ranks: Any) -> CodeArray:
    """Answer `Trie.codes_of`."""
    ranks = check_ranks(ranks, n_items=levels.n_items)
    codes = np.empty((*ranks.shape, levels.n_levels), levels.child_codes.dtype)
    for level in range(levels.n_levels):
        if level < levels.n_explicit:
            firsts = levels.firsts[levels.node_offsets[level + 1] : levels.node_offsets[level + 2]]
            at = np.searchsorted(firsts, ranks, side="right") - 1
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


def first_codes(levels: Levels, nodes: Any, depth: int) -> CodeArray:
    """Answer `Trie.first_codes`."""
    at = at_depth(levels, nodes, depth)
    if depth < levels.n_explicit:
        at = levels.starts[levels.node_offsets[depth] + at]  # a node's first edge
    elif depth == levels.n_explicit:
        at = levels.firsts[levels.node_offsets[depth] + at]  # its first rank
    return levels.child_codes[levels.code_offsets[depth] + at]  # type: ignore[no-any-return]


def node_ranges(levels: Levels, alive: Alive, nodes: Any, depth: int) -> IntArray:
    """Answer `Trie.node_ranges`."""
    if depth != levels.n_levels:
        check_depth(depth, n_levels=levels.n_levels)
    nodes = check_nodes(nodes, depth=depth, n_nodes=levels.n_nodes(depth))
    out = np.empty((len(nodes), 2), np.int64)
    kernel("ranges")(*levels, *alive, depth, nodes, out)
    return out


def allowed(levels: Levels, alive: Alive, nodes: Any, depth: int, size: int) -> tuple[IntArray, CodeArray]:
    """Answer `Trie.allowed`; `size` is the level's codebook's."""
    nodes = at_depth(levels, nodes, depth)
    row_starts = np.empty(len(nodes) + 1, np.int64)
    kernel("count_children")(*levels, *alive, depth, nodes, room(levels, size), row_starts)
    codes = np.empty(row_starts[-1], levels.child_codes.dtype)
    kernel("gather_children")(*levels, *alive, depth, nodes, row_starts, codes)
    return row_starts, codes


def pieces(levels: Levels, alive: Alive) -> Iterator[CodeArray]:
    """Yield the codes of the items that can be reached, in order, some at a time."""
    ranks = np.flatnonzero(alive.mask(levels.n_items))
    for first in range(0, len(ranks), PIECE):
        yield codes_of(levels, ranks[first : first + PIECE])
