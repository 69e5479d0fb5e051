"""From sorted distinct keys to the arrays of a trie."""

from typing import Any

import numpy as np

from semid._arrays import IntArray
from semid.kernels.compile import njit
from semid.kernels.nodes import popcount
from semid.kernels.sorting import fork_level, fork_limits, low_bits

__all__ = ["fill_levels"]


# Items that are written at a time: what is known of them stays in the first-level cache. A multiple of 64.
PIECE = 512
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)


@njit
def fill_levels(
    codes: IntArray,
    bits: IntArray,
    n_key: Any,
    n_low: Any,
    n_position: Any,
    ends: IntArray,
    keys: IntArray,
    n_explicit: Any,
    starts: IntArray,
    firsts: IntArray,
    node_offsets: IntArray,
    child_codes: IntArray,
    code_offsets: IntArray,
    forks: IntArray,
) -> None:
    """Write the items of sorted distinct `keys` (see `sorting`) into the arrays of a trie (see `nodes`).

    The last entries of each depth of `starts` and `firsts`, one past its last node, are not written.
    """
    n_levels, n_items = bits.shape[0], np.int64(ends[-1])
    n_words, limits = (n_items + 63) >> 6, fork_limits(bits, n_key)
    shifts, edges, opens = np.zeros(n_levels, np.int64), np.zeros(n_levels, np.int64), np.zeros(n_levels, np.uint64)
    for level in range(n_key - 2, -1, -1):
        shifts[level] = shifts[level + 1] + bits[level + 1]
    prefixes, rows, forked = np.empty(PIECE, np.uint64), np.zeros(PIECE, np.int64), np.empty(PIECE, np.int64)
    bucket, before, row_before = 0, np.uint64(0), np.int64(0)
    for first in range(0, n_items, PIECE):
        n: Any = min(n_items - first, PIECE)

        # 1. What each item's key says, and where the item leaves the one before.
        at: Any = 0
        while at < n:
            base = np.uint64(bucket) << np.uint64(n_low) if n_low < 64 else np.uint64(0)
            last: Any = min(np.int64(ends[bucket]) - first, n)
            while at < last:
                key = np.uint64(keys[first + at])
                prefixes[at] = base | (key >> np.uint64(n_position))
                if n_position > 0:
                    rows[at] = np.int64(low_bits(key, n_position))
                at += 1
            bucket += at < n
        for at in range(n):
            forked[at] = fork_level(codes, limits, prefixes[at], before, rows[at], row_before)
            before, row_before = prefixes[at], rows[at]
        if first == 0:
            forked[0] = 0

        # 2. The bits of the ranks that open an edge, 64 at a time, and the edges of explicit levels.
        for begin in range(0, n, 64):
            opens[:] = 0
            for at in range(begin, min(begin + 64, n)):
                opens[forked[at]] |= np.uint64(1) << np.uint64(at - begin)
            for level in range(1, n_levels):  # what opens an edge opens one on every later level
                opens[level] |= opens[level - 1]
            for level in range(n_explicit, n_levels - 1):
                forks[(level - n_explicit) * n_words + ((first + begin) >> 6)] = opens[level]
            left = opens[n_explicit - 1] if n_explicit > 0 else np.uint64(0)
            while left != 0:
                at = begin + popcount((left & (~left + np.uint64(1))) - np.uint64(1))
                rank = first + at
                for level in range(forked[at], n_explicit):
                    if level > forked[at] or rank == 0:  # the edge above opened a new node here
                        starts[node_offsets[level] + (edges[level - 1] - 1 if level > 0 else 0)] = edges[level]
                    firsts[node_offsets[level + 1] + edges[level]] = rank
                    child_codes[code_offsets[level] + edges[level]] = (
                        low_bits(prefixes[at] >> np.uint64(shifts[level]), bits[level])
                        if level < n_key
                        else np.uint64(codes[rows[at], level])
                    )
                    edges[level] += 1
                left &= left - np.uint64(1)

        # 3. The codes of flat levels.
        for level in range(n_explicit, n_levels):
            out = child_codes[code_offsets[level] + first : code_offsets[level] + first + n]
            if level < n_key:
                shift, mask = np.uint64(shifts[level]), low_bits(_ONES, bits[level])
                for at in range(n):
                    out[at] = (prefixes[at] >> shift) & mask
            else:
                for at in range(n):
                    out[at] = codes[rows[at], level]
