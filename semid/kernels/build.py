"""From sorted unique codes to the arrays of a trie, piece by piece of the catalogue."""

from typing import Any

import numpy as np
import numpy.typing as npt

from semid.kernels.compile import njit

__all__ = ["count_forks", "fill_levels", "pack_keys", "unpack_keys"]

IntArray = npt.NDArray[np.integer[Any]]


@njit
def pack_keys(
    codes: IntArray, bits: IntArray, shift: Any, low: Any, high: Any, keys: IntArray, n_keys: IntArray
) -> None:
    """Write each row of codes as one number, `bits` per level, where ``low <= number >> shift < high``.

    ``n_keys[0]`` becomes how many there are; those for which `keys` has no room are only counted.
    """
    n = 0
    for item in range(codes.shape[0]):
        key = np.uint64(codes[item, 0])
        for level in range(1, bits.shape[0]):
            key = (key << np.uint64(bits[level])) | np.uint64(codes[item, level])
        part = np.int64(key >> np.uint64(shift))
        if low <= part < high:
            if n < keys.shape[0]:
                keys[n] = key
            n += 1
    n_keys[0] = n


@njit
def unpack_keys(keys: IntArray, bits: IntArray, rows: IntArray) -> None:
    """Write the codes of each key into a row of `rows`."""
    for item in range(keys.shape[0]):
        key = np.uint64(keys[item])
        for level in range(bits.shape[0] - 1, -1, -1):
            rows[item, level] = key & ((np.uint64(1) << np.uint64(bits[level])) - np.uint64(1))
            key >>= np.uint64(bits[level])


@njit
def count_forks(rows: IntArray, before: IntArray, n_forks: IntArray) -> None:
    """Add to ``n_forks[level]`` the sorted unique `rows` that leave the row before them at this level.

    Each opens one edge there and on every later level. `before` is the row before the first, or empty.
    """
    n_items, n_levels = rows.shape
    for item in range(n_items):
        level = 0
        if item > 0 or before.shape[0] > 0:
            last = rows[item - 1] if item > 0 else before
            while level < n_levels - 1 and rows[item, level] == last[level]:
                level += 1
        n_forks[level] += 1


@njit
def fill_levels(
    rows: IntArray,
    before: IntArray,
    n_explicit: Any,
    first_rank: Any,
    edges: IntArray,
    starts: IntArray,
    firsts: IntArray,
    node_offsets: IntArray,
    child_codes: IntArray,
    code_offsets: IntArray,
    forks: IntArray,
    fork_words: Any,
) -> None:
    """Write sorted unique `rows`, the items from `first_rank` on, into the arrays of a trie (see `nodes`).

    The codes of flat levels are not written: they are columns of `rows`.
    `edges` (n_levels) counts the edges written so far, and is brought up to date. `forks` has `fork_words` words for
    each flat level but the last, all 0 before the first piece.
    """
    n_items, n_levels = rows.shape
    for item in range(n_items):
        rank = first_rank + item
        level = 0
        if rank > 0:
            last = rows[item - 1] if item > 0 else before
            while level < n_levels - 1 and rows[item, level] == last[level]:
                level += 1
        for below in range(level, n_levels):
            if below < n_explicit:
                node = edges[below - 1] - 1 if below > 0 else 0
                if below > level or rank == 0:  # the edge above opened a new node here
                    starts[node_offsets[below] + node] = edges[below]
                firsts[node_offsets[below + 1] + edges[below]] = rank
                child_codes[code_offsets[below] + edges[below]] = rows[item, below]
            elif below < n_levels - 1:
                at = (below - n_explicit) * fork_words + (rank >> 6)
                forks[at] |= np.uint64(1) << np.uint64(rank & 63)
            edges[below] += 1
